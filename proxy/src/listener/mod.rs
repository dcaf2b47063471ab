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

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

use crate::config::Limits;
use crate::ctx::Ctx;
use crate::drain::Drain;
use crate::edge::Edge;
use crate::http1::pace::{Pace, PaceRules};
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
    /// Bytes of the body of the request that came so far.
    came: AtomicU64,
    /// When the first of them came.
    first: OnceLock<Instant>,
    /// A request that was decided upon before the library had it.
    judged: Mutex<Option<Box<Ctx>>>,
}

/// No more will come.
const ALL: u64 = u64::MAX;

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

    /// So many bytes more of the body of the request came.
    pub fn body_came(&self, bytes: usize, is_last: bool) {
        if is_last {
            self.came.store(ALL, Ordering::Relaxed);
        } else if self.came.fetch_add(bytes as u64, Ordering::Relaxed) == 0 {
            self.first.get_or_init(Instant::now);
        }
    }

    /// Returns once nothing of the body came for `limit` or longer, or all that comes comes more slowly than `pace` allows; never,
    /// after its last byte. Before the first byte only `limit` counts: the instance may not have been found yet.
    async fn body_stalls(&self, limit: Duration, pace: &PaceRules) {
        let left = |came| {
            let waited = self.first.get().map_or(Duration::ZERO, Instant::elapsed);
            Pace::so_far(came, waited).left(pace)
        };
        let (mut before, mut since) = (self.came.load(Ordering::Relaxed), Instant::now());
        while before != ALL {
            tokio::time::sleep_until((Instant::now() + left(before)).min(since + limit)).await;
            let came = self.came.load(Ordering::Relaxed);
            if came != ALL && (left(came).is_zero() || (came == before && since.elapsed() >= limit)) {
                return;
            }
            if came != before {
                (before, since) = (came, Instant::now());
            }
        }
        std::future::pending::<()>().await;
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const PACE: PaceRules = PaceRules {
        grace: Duration::from_secs(10),
        rate: 100,
        deadline: Duration::from_mins(1),
    };
    const LIMIT: Duration = Duration::from_secs(5);

    /// When a body stalls of which so many bytes come each second, for so many seconds.
    async fn stalls(bytes: usize, seconds: u64) -> Option<Duration> {
        let (accepted, began) = (Accepted::default(), Instant::now());
        let mut stalls = pin!(accepted.body_stalls(LIMIT, &PACE));
        for _ in 0..seconds {
            tokio::select! {
                biased;
                () = &mut stalls => return Some(began.elapsed()),
                () = tokio::time::sleep(Duration::from_secs(1)) => accepted.body_came(bytes, false),
            }
        }
        tokio::select! {
            () = &mut stalls => Some(began.elapsed()),
            () = tokio::time::sleep(Duration::from_mins(10)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_drips_or_never_ends_stalls() {
        let close = |took: Option<Duration>, to: u64| {
            let took = took.expect("it stalls").as_secs();
            assert!(took.abs_diff(to) <= 5, "{took} and not {to}");
        };
        close(stalls(0, 0).await, LIMIT.as_secs());
        close(stalls(1, 100).await, PACE.grace.as_secs());
        close(stalls(50, 100).await, 20);
        close(stalls(1_000_000, 100).await, PACE.deadline.as_secs());
        close(stalls(1_000_000, 20).await, 20 + LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_whole_never_stalls() {
        let accepted = Accepted::default();
        let mut stalls = pin!(accepted.body_stalls(LIMIT, &PACE));
        tokio::select! {
            () = &mut stalls => panic!("it has begun only now"),
            () = tokio::time::sleep(LIMIT / 2) => accepted.body_came(7, true),
        }
        let later = tokio::time::timeout(Duration::from_mins(10), stalls).await;
        assert!(later.is_err());
    }
}
