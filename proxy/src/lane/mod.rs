//! The lane: our own forwarding path for simple requests of HTTP/1.1, at a fraction of the forwarding library's cost.
//!
//! Owns the reading of such requests (`choice`), the bytes of one exchange (`flow`), the reading of answers (`reply`), and the
//! connections to instances (`pool`). Everything that is decided about a request (the gate, limits, header rules, retries,
//! counting) is the same code as on the library's path: `steps`, `intake`, `upstream`. What is not
//! simple, or turns out to be for the cache, goes to the library, on the same connection and with what was decided so far.
//! Heads are written anew from their parts, never copied. An instance that fails is answered with 502 or 504, as there.

mod answer;
mod choice;
mod connection;
mod desk;
mod flow;
mod forward;
mod kept;
mod lines;
mod pool;
mod reply;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authsome_core::config::Reader;
use bytes::BytesMut;
use http::Method;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType, Result};
use tokio::io::AsyncWriteExt;

use crate::answer::Connection;
use crate::books::Closing;
use crate::ctx::{Ctx, Forwarding};
use crate::edge::Edge;
use crate::http1::body::{Body, Length};
use crate::http1::head::{Head, LineAt};
use crate::http1::{Alarm, ClientStream};
use crate::intake::{Incoming, Verdict};
use crate::listener::Accepted;
use crate::metrics::By;
use crate::steps::Question;

pub use choice::LONGEST_BODY;

use choice::Chosen;
use desk::Desk;
use forward::Said;
use lines::HeadLines;
use pool::Pool;
use reply::Ending;

/// What is configured.
#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// `lane.enabled`: without it the forwarding library serves every request.
    pub enabled: bool,
}

impl LaneSettings {
    /// Reads them.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.or("lane.enabled", true),
        }
    }
}

/// Is this a whole answer that the lane passes on as it is?
pub(crate) fn is_plain_reply(bytes: &[u8]) -> bool {
    let mut lines = HeadLines::default();
    let Ok(Some(reply)) = reply::read(bytes, false, &mut lines) else {
        return false;
    };
    let body = &bytes[reply.length..];
    let is_whole = match reply.body {
        // A body that none may follow is the beginning of an answer to nothing.
        Ending::Length(length) => body.len() as u64 == length,
        Ending::Chunked => {
            let mut chunks = Body::new(Length::Chunked);
            chunks.take(body) == Ok(body.len()) && chunks.is_done()
        }
        Ending::Close => true,
    };
    // Library and lane close after these at different times, which another request on the connection could see.
    let keeps = !reply.is_last || reply.body == Ending::Close;
    // A body that must not be there, and each path passes over in its own way.
    let is_odd = reply.status == 204 && reply.says_body;
    is_whole && keeps && !is_odd && (200..600).contains(&reply.status)
}

/// Does the instance close the connection behind this answer?
pub(crate) fn ends_with_connection(bytes: &[u8]) -> bool {
    let mut lines = HeadLines::default();
    matches!(reply::read(bytes, false, &mut lines), Ok(Some(reply)) if reply.is_last)
}

/// For the last bytes to a client whose connection is closed.
const LEAVING: Duration = Duration::from_secs(2);

/// The lane.
pub struct Lane {
    edge: Edge,
    pool: Arc<Pool>,
    /// Makes connections with TLS.
    secure: Arc<TransportConnector>,
}

/// The client's end of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: Option<IpAddr>,
    /// Is the connection TLS?
    pub(crate) is_tls: bool,
}

impl Peer {
    /// At the other end of this stream.
    pub(crate) fn of(stream: &Stream) -> Self {
        let digest = stream.get_socket_digest();
        let address = digest.and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        Self {
            address,
            is_tls: stream.get_ssl_digest().is_some(),
        }
    }
}

/// Whose request it is.
pub(crate) struct Caller<'a> {
    /// The connection.
    pub(crate) client: &'a mut ClientStream,
    /// For its deadlines.
    pub(crate) alarm: &'a mut Alarm,
    /// Its other end.
    pub(crate) peer: Peer,
    /// What is shared with whoever may close it.
    pub(crate) accepted: &'a Arc<Accepted>,
}

/// A request for the lane, with the space that it is worked on in.
pub(crate) struct Taken {
    chosen: Chosen,
    desk: Box<Desk>,
}

/// What became of a request.
pub(crate) enum Served {
    /// It was answered by then, and the next head can be read.
    Next(tokio::time::Instant),
    /// The connection is over.
    Closed,
    /// It was decided upon, and is for the cache: the library goes on with it. These are the bytes of its head.
    ForLibrary(BytesMut, Box<Ctx>),
}

/// One request in the lane.
struct Job<'a> {
    client: &'a mut ClientStream,
    desk: &'a mut Desk,
    alarm: &'a mut Alarm,
    ctx: Ctx,
    chosen: Chosen,
    /// Of the body of the request.
    body_bytes: u64,
    /// The client's connection is not used again.
    closes: bool,
    /// What the client was told.
    said: Said,
    /// When all of that was said, if it is known.
    ended: Option<Instant>,
}

impl Lane {
    /// A lane for this edge, with one shelf of at most `idle` connections to instances for each of `threads`.
    pub fn new(edge: Edge, threads: usize, idle: usize) -> Self {
        let pool = Pool::new(threads, idle, edge.upstreams.settings().timeouts.idle);
        let secure = Arc::clone(edge.upstreams.secure());
        Self { edge, pool, secure }
    }

    /// Looks at the request whose head was read, with these lines. `None`: it is not one for the lane, and nothing was done.
    pub(crate) fn take(&self, client: &ClientStream, head: &Head, lines: &[LineAt]) -> Option<Taken> {
        let mut desk = self.pool.desk();
        if let Some(chosen) = choice::choose(client.read_ahead(), head, lines, &mut desk.request) {
            return Some(Taken { chosen, desk });
        }
        self.pool.give_back(desk);
        None
    }

    /// Serves a request that was taken. Boxed: a connection that is idle does not carry the space of a request.
    pub(crate) fn serve<'a>(
        &'a self,
        taken: Taken,
        caller: Caller<'a>,
        head: &'a Head,
        stopping: &'a ShutdownWatch,
    ) -> Pin<Box<impl Future<Output = Served> + 'a>> {
        Box::pin(async move {
            let Taken { chosen, mut desk } = taken;
            let Caller {
                client,
                alarm,
                peer,
                accepted,
            } = caller;
            let bytes = client.begin(head.length, head.body);
            accepted.exchange.head_accepted();
            let closes = chosen.is_last || *stopping.borrow() || self.edge.probes.is_draining();
            // Nothing large gets a name of its own here, not even for a line: the future would keep a place for it, and is moved.
            let mut job = Job {
                client,
                desk: &mut desk,
                alarm,
                ctx: self.edge.begin(),
                chosen,
                body_bytes: 0,
                closes,
                said: Said::default(),
                ended: None,
            };
            job.ctx.accepted = Some(Arc::clone(accepted));
            job.ctx.head_bytes = head.length;
            self.edge
                .find_client(peer.address, peer.is_tls, &job.desk.request, &mut job.ctx);
            let incoming = Incoming {
                method: &job.chosen.method,
                target: job.desk.request.at(job.chosen.target),
                host: job.desk.request.text_at(job.chosen.host),
                headers: &job.desk.request,
                upgrades: false,
                in_background: false,
            };
            match self.edge.consider(&incoming, &mut job.ctx).await {
                Verdict::Forward => {
                    let streams = job
                        .ctx
                        .forward
                        .as_ref()
                        .is_some_and(|forward| forward.way.is_streaming());
                    let question = question(&job.chosen, &job.desk.request, None);
                    job.ctx.part = self.edge.part(&question, &job.desk.request, &job.ctx);
                    let kept = if streams { None } else { self.kept(&job) };
                    if streams || (job.ctx.part.is_some() && kept.is_none()) {
                        let ctx = Box::new(job.ctx);
                        self.pool.give_back(desk);
                        return Served::ForLibrary(bytes, ctx);
                    }
                    match (self.edge.set_out(&mut job.ctx).await, kept) {
                        (Ok(()), None) => self.forward(&mut job, stopping).await,
                        (Ok(()), Some(kept)) => self.answer_kept(&mut job, &kept, stopping).await,
                        (Err(refusal), _) => self.refuse(&mut job, refusal, Connection::Keep).await,
                    }
                }
                Verdict::Preflight => self.preflight(&mut job).await,
                Verdict::Refuse(refusal, connection) => self.refuse(&mut job, refusal, connection).await,
            }
            let ended = job.ended.unwrap_or_else(Instant::now);
            let goes_on = self.finish(&mut job, ended).await;
            drop(job);
            self.pool.give_back(desk);
            if !goes_on {
                return Served::Closed;
            }
            client.give_back(bytes);
            Served::Next(ended.into())
        })
    }

    /// Counts the request, which ended then. Can the connection be used again?
    async fn finish(&self, job: &mut Job<'_>, ended: Instant) -> bool {
        let closing = Closing {
            method: job.chosen.method.as_str(),
            protocol: "1.1",
            status: job.said.status,
            bytes_in: job.ctx.head_bytes as u64 + job.body_bytes,
            bytes_out: job.said.bytes,
            failure: job.ctx.failure,
        };
        self.edge.books.close(&job.ctx, &closing, By::Lane, ended);
        job.ctx.is_over();
        if job.closes && job.ctx.failure.is_none() {
            // However it ends, the connection is closed now.
            let _ = tokio::time::timeout(LEAVING, job.client.shutdown()).await;
        }
        !job.closes && job.client.is_between_requests()
    }
}

impl Job<'_> {
    fn forwarding(&mut self) -> Result<&mut Forwarding> {
        let forward = self.ctx.forward.as_mut();
        forward.ok_or_else(|| Error::new(ErrorType::InternalError))
    }

    fn is_head(&self) -> bool {
        self.chosen.method == Method::HEAD
    }
}

fn question<'a>(chosen: &'a Chosen, request: &'a HeadLines, answered: Option<u16>) -> Question<'a> {
    Question {
        method: &chosen.method,
        host: request.at(chosen.host),
        protocol: "1.1",
        answered,
        by: By::Lane,
    }
}
