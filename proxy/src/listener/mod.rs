//! The client's connection, from the listening socket to the protocol that is spoken on it.
//!
//! Owns the listening sockets (`bind`, [`Listening`]) and the choice of the protocol: what TLS negotiated, or on a plain
//! connection HTTP/2 where the client begins with its preface, else HTTP/1.1, which has [a module of its own](crate::http1).
//! While the edge stops, nothing here depends on anything but the [stage](crate::drain::Stage) that the process is in.

mod accept;
mod bind;
mod http2;
mod metrics;
mod preface;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use crate::config::Limits;
use crate::ctx::Ctx;
use crate::drain::Drain;
use crate::edge::Edge;
use crate::http1::{Door, Exchange, Http1};
use crate::lane::Lane;
use crate::live::KillSwitch;
use crate::upstream::Patience;

pub use accept::{Listening, Port};
pub use bind::{BindError, bind};
pub use http2::Http2;
pub use metrics::ListenerMetrics;

use metrics::Protocol;
use preface::First;

/// What a request shares with the stream that carries it: a connection of HTTP/1.1, or one stream of an HTTP/2 connection.
#[derive(Debug, Default)]
pub struct Accepted {
    /// The request that is on it.
    pub exchange: Exchange,
    /// Ends it.
    pub switch: KillSwitch,
    /// How long its answer is waited for.
    pub patience: Patience,
    door: Option<Arc<Door>>,
    /// The client left before it had its answer.
    left: AtomicBool,
    /// A request that was decided upon before the library had it.
    judged: Mutex<Option<Box<Ctx>>>,
}

impl Accepted {
    /// Of a connection whose bad heads are answered there.
    pub fn new(door: Arc<Door>) -> Self {
        Self {
            door: Some(door),
            ..Self::default()
        }
    }

    /// What is sent in place of an answer that is not the platform's.
    pub(crate) fn refusal_of_last_resort(&self) -> Vec<u8> {
        self.door.as_ref().map_or_else(Vec::new, |door| door.last_resort())
    }

    /// The request that the library is about to read was decided upon already.
    pub(crate) fn hand_over(&self, judged: Box<Ctx>) {
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
    }

    /// What was decided upon the request, if that was before the library had it.
    pub(crate) fn take_over(&self) -> Option<Box<Ctx>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The client left before it had its answer.
    pub fn client_left(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    fn has_client_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

/// The application on the traffic ports: hands each connection to what speaks its protocol.
pub struct Front {
    proxy: Arc<HttpProxy<Edge>>,
    http1: Http1,
    limits: Limits,
    http2: Http2,
    drain: Drain,
    metrics: ListenerMetrics,
}

impl Front {
    /// In front of this proxy, whose modules are set up.
    pub fn new(
        proxy: HttpProxy<Edge>,
        lane: Option<Lane>,
        door: Door,
        limits: Limits,
        http2: Http2,
        drain: Drain,
        metrics: ListenerMetrics,
    ) -> Self {
        let proxy = Arc::new(proxy);
        Self {
            http1: Http1::new(Arc::clone(&proxy), lane, Arc::new(door), limits),
            proxy,
            limits,
            http2,
            drain,
            metrics,
        }
    }

    /// Which protocol the client speaks. `None`: it went, or did not show it in time.
    async fn first(&self, stream: Stream, mut stopping: ShutdownWatch) -> Option<First> {
        match stream.selected_alpn_proto() {
            Some(ALPN::H2) => return Some(First::Preface(stream)),
            // Negotiated or not: HTTP/2 without ALPN exists on plain connections only (RFC 9113, section 3.3).
            _ if stream.get_ssl_digest().is_some() => return Some(First::Other(stream, BytesMut::new())),
            _ if !self.http2.cleartext => return Some(First::Other(stream, BytesMut::new())),
            _ => {}
        }
        tokio::select! {
            biased;
            looked = tokio::time::timeout(self.limits.header_deadline, preface::look(stream)) => looked.ok()?.ok(),
            _ = stopping.wait_for(|stop| *stop) => None,
        }
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        match self.first(stream, shutdown.clone()).await? {
            First::Other(stream, read_ahead) => {
                let _open = self.metrics.opened(Protocol::Http1);
                self.http1.serve(stream, read_ahead, shutdown).await;
            }
            First::Preface(stream) => {
                let _open = self.metrics.opened(Protocol::Http2);
                self.serve_http2(stream, shutdown).await;
            }
        }
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
