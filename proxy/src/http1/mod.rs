//! HTTP/1.1 connections of clients: heads are read and judged here, before the forwarding library sees a byte.
//!
//! Owns the order of the requests on a connection, the deadline for each head (from its first byte to its last, however often
//! a byte arrives), the framing and the least pace of bodies, and the answers to what is not HTTP. The forwarding library is
//! given one whole head at a time and exactly its body; requests that were sent ahead wait and are served in order. Its own
//! refusals, which would not be the platform's, are replaced should one ever occur.

mod alarm;
mod arrival;
pub mod body;
pub(crate) mod date;
mod door;
mod exchange;
pub mod head;
pub mod pace;
mod stream;

use std::sync::Arc;

use bytes::BytesMut;
use pingora::apps::HttpServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

pub(crate) use alarm::Alarm;
pub use door::Door;
pub use exchange::{BodyFault, Exchange};
pub use stream::ClientStream;

use crate::config::Limits;
use crate::edge::Edge;
use crate::error::Refusal;
use crate::lane::{Caller, Lane, Peer, Served};
use crate::listener::Accepted;
use arrival::{Arrival, Waiting};

/// Serves connections.
pub struct Http1 {
    proxy: Arc<HttpProxy<Edge>>,
    /// Takes what is simple; `None` where it is switched off.
    lane: Option<Lane>,
    door: Arc<Door>,
    limits: Limits,
}

impl Http1 {
    /// Hands accepted heads to this proxy, whose modules are set up.
    pub fn new(proxy: Arc<HttpProxy<Edge>>, lane: Option<Lane>, door: Arc<Door>, limits: Limits) -> Self {
        Self {
            proxy,
            lane,
            door,
            limits,
        }
    }

    /// Serves one connection until it ends. `read_ahead` are the bytes that were read already.
    pub async fn serve(&self, stream: Stream, read_ahead: BytesMut, shutdown: &ShutdownWatch) {
        let accepted = Arc::new(Accepted::new(Arc::clone(&self.door)));
        let peer = Peer::of(&stream);
        let mut client = ClientStream::new(stream, Arc::clone(&accepted), self.limits.pace);
        client.buffer = read_ahead;
        let stopping = shutdown.clone();
        let mut waiting = Waiting::new(shutdown.clone());
        // A connection that was just opened owes its head at once.
        let mut idle = self.limits.header_deadline;
        // When the wait for the next head begins, where that is known.
        let mut since = None;
        loop {
            let head = match waiting.head(&mut client, (since.take(), idle), &self.limits).await {
                Arrival::Head(head) => head,
                Arrival::Bad(bad) => return self.refuse(client, Refusal::Head(bad)).await,
                Arrival::Slow => return self.refuse(client, Refusal::RequestTimeout).await,
                Arrival::None => return,
            };
            if let Some(lane) = &self.lane
                && let Some(taken) = lane.take(&client, &head, waiting.scanner.lines())
            {
                let caller = Caller {
                    client: &mut client,
                    alarm: &mut waiting.alarm,
                    peer,
                    accepted: &accepted,
                };
                let served = lane.serve(taken, caller, &head, &stopping);
                match accepted.switch.serve(served).await {
                    Some(Served::Next(ended)) => {
                        (since, idle) = (Some(ended), self.limits.keepalive);
                        continue;
                    }
                    Some(Served::Closed) | None => return,
                    Some(Served::ForLibrary(bytes, judged)) => {
                        accepted.hand_over(judged);
                        let next = self.forward(client, bytes, &accepted, &stopping).await;
                        // Of this request only, whatever the library did with it.
                        drop(accepted.take_over());
                        let Some(next) = next else { return };
                        client = next;
                        idle = self.limits.keepalive;
                        continue;
                    }
                }
            }
            let bytes = client.begin(head.length, head.body);
            let Some(next) = self.forward(client, bytes, &accepted, &stopping).await else {
                if accepted.exchange.was_substituted() {
                    self.door.count_last_resort();
                }
                return;
            };
            client = next;
            idle = self.limits.keepalive;
        }
    }

    /// Has a request served; the connection, if the next request can be found on it.
    async fn forward(
        &self,
        mut client: ClientStream,
        head: BytesMut,
        accepted: &Arc<Accepted>,
        shutdown: &ShutdownWatch,
    ) -> Option<ClientStream> {
        client.hold_head();
        let mut session = ServerSession::new_http1(Box::new(client));
        session.set_pipelined_prefix(head);
        let idle = self.limits.keepalive.as_secs().max(1);
        session.set_keepalive((!*shutdown.borrow()).then_some(idle));
        session.set_read_timeout(Some(self.limits.client_read));
        // How the request on the connection finds it.
        session.set_connection_user_context(Some(Box::new(Arc::clone(accepted))));
        let request = self.proxy.process_new_http(session, shutdown);
        let request = accepted.patience.attend(request);
        let (stream, _settings) = accepted.switch.serve(request).await??.consume();
        let client = *stream.into_any().downcast::<ClientStream>().ok()?;
        client.is_between_requests().then_some(client)
    }

    async fn refuse(&self, client: ClientStream, refusal: Refusal) {
        self.door.refuse(client.inner, client.buffer, refusal).await;
    }
}
