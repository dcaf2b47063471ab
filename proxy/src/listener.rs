//! The client's connection: deadlines that the forwarding library does not have.
//!
//! Owns the accepted stream. A client that sends its head byte by byte is cut off at one deadline for the whole head, however
//! often a byte arrives; an idle connection is closed after its keepalive time. Once the head is read, and while an answer is
//! written, reads pass through untouched, until the connection's switch is thrown: then every read and write fails.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::tls::TlsRef;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::config::Limits;
use crate::edge::Edge;
use crate::live::KillSwitch;

/// What an accepted stream shares with the requests on it.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Which part of a request it is in.
    pub clock: HeadClock,
    /// Ends it.
    pub switch: KillSwitch,
}

/// Which part of a request a connection is in.
#[derive(Debug, Default)]
pub struct HeadClock {
    /// Even: a head is awaited or read. Odd: a request is being answered.
    phase: AtomicU64,
}

impl HeadClock {
    /// The head is complete.
    pub fn head_ends(&self) {
        self.phase.fetch_or(1, Ordering::Relaxed);
    }

    /// The request is answered; the next head may come.
    pub fn head_begins(&self) {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase % 2 == 1 {
            self.phase.store(phase.wrapping_add(1), Ordering::Relaxed);
        }
    }

    fn phase(&self) -> u64 {
        self.phase.load(Ordering::Relaxed)
    }
}

/// An accepted stream with a deadline for each head.
struct Watched {
    inner: Stream,
    accepted: Arc<Accepted>,
    limit: Duration,
    /// The head being read: its phase, and when its first byte came.
    began: Option<(u64, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Watched {
    /// When the head that is being read must be complete.
    fn deadline(&mut self) -> Option<Instant> {
        let phase = self.accepted.clock.phase();
        match self.began {
            Some((of, began)) if of == phase => Some(began + self.limit),
            _ => {
                self.began = None;
                self.timer = None;
                None
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.accepted.switch.check()?;
        let phase = self.accepted.clock.phase();
        if phase % 2 == 1 {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let deadline = self.deadline();
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the request head took too long")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        match (&read, deadline) {
            (Poll::Pending, Some(deadline)) => {
                ready!(self.poll_deadline(cx, deadline));
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the request head took too long")))
            }
            (Poll::Ready(Ok(())), None) => {
                if buf.filled().len() > before {
                    self.began = Some((phase, Instant::now()));
                }
                read
            }
            _ => read,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.accepted.switch.check()?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.accepted.switch.check()?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.accepted.switch.check()?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.accepted.switch.check()?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Watched {
    async fn shutdown(&mut self) {
        // A client that takes no bytes would be waited for.
        if !self.accepted.switch.is_thrown() {
            self.inner.shutdown().await;
        }
    }
}

impl UniqueID for Watched {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Watched {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Watched {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for Watched {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Watched {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[async_trait]
impl Peek for Watched {
    async fn try_peek(&mut self, buf: &mut [u8]) -> Result<bool> {
        self.inner.try_peek(buf).await
    }
}

/// The application on the traffic port: watches each connection and hands its requests to the forwarding library.
pub struct Front {
    proxy: Arc<HttpProxy<Edge>>,
    limits: Limits,
}

impl Front {
    /// In front of this proxy, whose modules are set up.
    pub fn new(proxy: HttpProxy<Edge>, limits: Limits) -> Self {
        Self {
            proxy: Arc::new(proxy),
            limits,
        }
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let accepted = Arc::new(Accepted::default());
        let watched = Watched {
            inner: stream,
            accepted: Arc::clone(&accepted),
            limit: self.limits.header_deadline,
            began: None,
            timer: None,
        };
        let mut session = ServerSession::new_http1(Box::new(watched));
        let idle = self.limits.keepalive.as_secs().max(1);
        session.set_keepalive((!*shutdown.borrow()).then_some(idle));
        session.set_read_timeout(Some(self.limits.client_read));
        loop {
            // How the request on the connection finds it.
            session.set_connection_user_context(Some(Box::new(Arc::clone(&accepted))));
            let request = self.proxy.process_new_http(session, shutdown);
            let (stream, settings) = accepted.switch.serve(request).await??.consume();
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            session.set_read_timeout(Some(self.limits.client_read));
        }
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn watched() -> (Watched, DuplexStream, Arc<Accepted>) {
        let accepted = Arc::new(Accepted::default());
        let (ours, theirs) = duplex(1024);
        let watched = Watched {
            inner: Box::new(ours),
            accepted: Arc::clone(&accepted),
            limit: LIMIT,
            began: None,
            timer: None,
        };
        (watched, theirs, accepted)
    }

    /// Writes a byte each second until the other side is gone; how many there were.
    async fn drip(mut client: DuplexStream) -> u32 {
        let mut sent = 0;
        while client.write_all(b"x").await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        sent
    }

    async fn read_all(mut stream: Watched) -> std::io::Result<usize> {
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_cut_off_at_one_deadline() {
        let (stream, client, _accepted) = watched();
        let dripping = tokio::spawn(drip(client));
        let began = Instant::now();
        assert_eq!(read_all(stream).await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(
            began.elapsed() <= LIMIT + Duration::from_millis(10),
            "{:?}",
            began.elapsed()
        );
        assert!(dripping.await.unwrap() <= 11);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_stops_halfway_is_cut_off_too() {
        let (stream, mut client, _accepted) = watched();
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(read_all(stream).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_begins_with_the_first_byte() {
        let (mut stream, mut client, _accepted) = watched();
        let reading = tokio::spawn(async move {
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).await.map(|_| ())
        });
        tokio::time::sleep(5 * LIMIT).await;
        client.write_all(b"x").await.unwrap();
        assert!(reading.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_not_a_slow_head() {
        let (mut stream, mut client, accepted) = watched();
        client.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        accepted.clock.head_ends();
        let dripping = tokio::spawn(async move {
            for _ in 0..60 {
                client.write_all(b"x").await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(read_all(stream).await.unwrap(), 60);
        dripping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn every_head_on_a_connection_has_a_deadline_of_its_own() {
        let (mut stream, mut client, accepted) = watched();
        for _ in 0..3 {
            client.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            tokio::time::sleep(LIMIT.mul_f32(0.9)).await;
            accepted.clock.head_ends();
            accepted.clock.head_begins();
        }
        client.write_all(b"x").await.unwrap();
        assert_eq!(read_all(stream).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
