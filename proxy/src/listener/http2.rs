//! Requests of HTTP/2: many at a time on one connection.
//!
//! Each stream is a request of its own, with its own key and its own switch: a revoked key ends its streams and no others.
//! The connection itself has no key. It is told to go (GOAWAY) when the edge stops or nothing was asked for the keepalive
//! time; it is dropped when a ping is not answered; and it is ended with `ENHANCE_YOUR_CALM` when its client takes most of
//! its requests back before they are answered (rapid reset, CVE-2023-44487), or sends too many that are malformed.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use authsome_core::config::Reader;
use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong, Reason};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{Digest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::metrics::Ended;
use super::{Accepted, Front};
use crate::drain::Entered;
use crate::edge::Edge;
use crate::http2::Session;

/// What of one request's body the client may send ahead.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What of all bodies on a connection the client may send ahead: the bound of what a connection can make the edge hold.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of one answer waits for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// From GOAWAY to the end, when no stream is left.
const LEAVING: Duration = Duration::from_secs(1);

/// How HTTP/2 is spoken with clients.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// `http2.cleartext`: on the plain listener too, with clients that know beforehand.
    pub cleartext: bool,
    /// `http2.streams`: requests of one connection at once.
    pub streams: u32,
    /// `http2.ping_interval`: between two pings.
    pub ping_interval: Duration,
    /// `http2.ping_timeout`: for the answer to one.
    pub ping_timeout: Duration,
}

impl Http2 {
    /// Reads the section.
    pub fn read(reader: &mut Reader) -> Self {
        let read = Self {
            cleartext: reader.or("http2.cleartext", true),
            streams: reader.or("http2.streams", 100),
            ping_interval: reader.or("http2.ping_interval", Duration::from_secs(20)),
            ping_timeout: reader.or("http2.ping_timeout", Duration::from_secs(10)),
        };
        reader.check(
            "http2.streams",
            (1..=10_000).contains(&read.streams),
            "must be 1 to 10000",
        );
        for (key, duration) in [
            ("http2.ping_interval", read.ping_interval),
            ("http2.ping_timeout", read.ping_timeout),
        ] {
            reader.check(key, !duration.is_zero(), "must be greater than 0");
        }
        read
    }
}

/// What a client did on its connection so far.
#[derive(Debug, Default)]
struct Conduct {
    opened: u64,
    taken_back: u64,
    malformed: u64,
}

impl Conduct {
    /// A client may change its mind this often, whatever it does otherwise.
    const TAKEN_BACK: u64 = 100;
    const MALFORMED: u64 = 32;

    fn is_abusive(&self) -> bool {
        self.malformed >= Self::MALFORMED || (self.taken_back >= Self::TAKEN_BACK && self.taken_back * 2 > self.opened)
    }
}

impl Front {
    pub(super) async fn serve_http2(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let mut options = Builder::new();
        options
            .max_concurrent_streams(self.http2.streams)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER);
        let handshake = tokio::time::timeout(self.limits.header_deadline, options.handshake(stream));
        let Ok(Ok(connection)) = handshake.await else { return };
        self.converse(connection, digest, shutdown).await;
    }

    async fn converse(&self, mut connection: Connection<Stream, Bytes>, digest: Arc<Digest>, shutdown: &ShutdownWatch) {
        let mut pings = pin!(unanswered(connection.ping_pong(), self.http2));
        let mut closing = pin!(self.drain.closing());
        let mut idle = pin!(sleep_until(Instant::now() + self.limits.keepalive));
        // Yields whether the client took the request back.
        let mut streams: JoinSet<bool> = JoinSet::new();
        let mut conduct = Conduct::default();
        let mut leaving: Option<Leaving> = None;
        loop {
            tokio::select! {
                biased;
                () = &mut closing, if leaving.is_none() => {
                    connection.graceful_shutdown();
                    leaving = Some(Leaving::new(self));
                }
                Some(ended) = streams.join_next() => {
                    conduct.taken_back += u64::from(matches!(ended, Ok(true)));
                    if streams.is_empty() {
                        idle.as_mut().reset(Instant::now() + self.limits.keepalive);
                        if let Some(leaving) = &mut leaving {
                            leaving.by.as_mut().reset(Instant::now() + LEAVING);
                        }
                    }
                }
                accepted = connection.accept() => {
                    let Some(Ok(stream)) = accepted else { break };
                    match Session::begin(stream, Arc::clone(&digest), self.limits.pace) {
                        Some((session, accepted)) => {
                            conduct.opened += 1;
                            let request = serve_stream(Arc::clone(&self.proxy), session, accepted, shutdown.clone());
                            streams.spawn_on(request, &pingora_runtime::current_handle());
                        }
                        None => conduct.malformed += 1,
                    }
                },
                () = &mut pings, if leaving.is_none() => {
                    self.metrics.ended(Ended::Ping);
                    break;
                }
                () = &mut idle, if streams.is_empty() && leaving.is_none() => {
                    self.metrics.ended(Ended::Idle);
                    connection.graceful_shutdown();
                    leaving = Some(Leaving::new(self));
                }
                () = over(&mut leaving), if streams.is_empty() && leaving.is_some() => break,
            }
            if conduct.is_abusive() {
                self.metrics.ended(Ended::Abuse);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let told = std::future::poll_fn(|cx| connection.poll_closed(cx));
                // A client that does not hear it is closed all the same.
                let _ = tokio::time::timeout(LEAVING, told).await;
                break;
            }
        }
        // What is still running hears of the end from its stream, and is counted and logged.
        streams.detach_all();
    }
}

/// A connection that was told to go, and counts as being closed until it has.
struct Leaving {
    by: Pin<Box<Sleep>>,
    _counted: Entered,
}

impl Leaving {
    fn new(front: &Front) -> Self {
        Self {
            by: Box::pin(sleep_until(Instant::now() + LEAVING)),
            _counted: front.drain.leave(),
        }
    }
}

async fn over(leaving: &mut Option<Leaving>) {
    match leaving {
        Some(leaving) => leaving.by.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Serves one request. True if the client took it back.
async fn serve_stream(
    proxy: Arc<HttpProxy<Edge>>,
    session: Session,
    accepted: Arc<Accepted>,
    shutdown: ShutdownWatch,
) -> bool {
    let request = proxy.process_new_http(ServerSession::new_custom(Box::new(session)), &shutdown);
    // Dropped, the request resets its stream.
    accepted.switch.serve(accepted.patience.attend(request)).await;
    accepted.has_client_left()
}

/// Pings the client again and again; returns once it does not answer.
async fn unanswered(pings: Option<PingPong>, settings: Http2) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(settings.ping_interval).await;
        match tokio::time::timeout(settings.ping_timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_most_of_its_requests_back_is_abusive_and_one_that_sometimes_does_is_not() {
        for (opened, taken_back, malformed, expected) in [
            (0, 0, 0, false),
            (99, 99, 0, false),
            (100, 100, 0, true),
            (199, 100, 0, true),
            (200, 100, 0, false),
            (1_000_000, 400_000, 31, false),
            (1_000_000, 500_001, 0, true),
            (1_000_000, 0, 32, true),
        ] {
            let conduct = Conduct {
                opened,
                taken_back,
                malformed,
            };
            assert_eq!(conduct.is_abusive(), expected, "{conduct:?}");
        }
    }
}
