//! The connection for a request that may become a tunnel (a WebSocket).
//!
//! The forwarding library takes the end of the request's empty body for the end of the tunnel if it reads the instance's `101`
//! before it has passed that end on; which of the two it does first is left to chance once both are there. So nothing is read
//! from such a connection until the end of the request was passed on, which the library shows by flushing. Every such request
//! has a connection of its own, which is not kept. A connection that cannot be written to is let go, and the reading fails as
//! it would without this.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The request is on its way.
const HELD: u8 = 1;
/// All of the request was given to the library; its next flush sends the end.
const ENDED: u8 = 2;
/// The answer may be read.
const LET_GO: u8 = 3;
/// The answer is not waited for any more.
const CUT: u8 = 4;

/// Says how far the request on a connection is. The request and its connection are on one task, so no order between threads
/// matters.
#[derive(Debug, Default)]
pub struct Hold {
    /// 0 while the connection is made and TLS agreed on.
    state: AtomicU8,
    /// Who wants to read.
    reader: AtomicWaker,
}

impl Hold {
    /// The request begins: from now on nothing is read.
    pub fn begin(&self) {
        self.state.store(HELD, Ordering::Relaxed);
    }

    /// There is no more of the request.
    pub fn end(&self) {
        self.step(HELD, ENDED);
    }

    /// Ends the connection as if the instance had.
    pub fn cut(&self) {
        self.state.store(CUT, Ordering::Relaxed);
        self.reader.wake();
    }

    /// Was it?
    pub fn is_cut(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CUT
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn is_held(&self) -> bool {
        matches!(self.state.load(Ordering::Relaxed), HELD | ENDED)
    }

    fn flushed(&self) {
        if self.step(ENDED, LET_GO) {
            self.reader.wake();
        }
    }

    fn wrote<T>(&self, written: &Result<T>) {
        if written.is_err() && (self.step(HELD, LET_GO) || self.step(ENDED, LET_GO)) {
            self.reader.wake();
        }
    }
}

/// A connection that is not read while it is held.
#[derive(Debug)]
pub(super) struct Held<S> {
    inner: S,
    hold: Arc<Hold>,
}

impl<S> Held<S> {
    pub(super) fn new(inner: S, hold: Arc<Hold>) -> Self {
        Self { inner, hold }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.hold.reader.register(cx.waker());
        if self.hold.is_held() {
            return Poll::Pending;
        }
        if self.hold.is_cut() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        self.hold.wrote(&written);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.hold.wrote(&flushed);
        self.hold.flushed();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        self.hold.wrote(&written);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl VirtualSocket for Held<TcpStream> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.inner.set_nodelay(true),
            _ => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_only_once_the_end_of_the_request_was_passed_on() {
        let (ours, mut instance) = duplex(1024);
        let hold = Arc::new(Hold::default());
        let mut stream = Held::new(ours, Arc::clone(&hold));
        instance.write_all(b"hello101 Switching").await.unwrap();
        let mut read = [0; 5];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello", "while the connection is made everything is read");

        hold.begin();
        stream.write_all(b"GET /").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut read).now_or_never().map(Result::unwrap), None);
        hold.end();
        assert_eq!(stream.read(&mut read).now_or_never().map(Result::unwrap), None);
        stream.flush().await.unwrap();
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"101 S");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_answer_is_woken_when_it_may_be_read() {
        let (ours, mut instance) = duplex(1024);
        let hold = Arc::new(Hold::default());
        let (mut reading, mut writing) = tokio::io::split(Held::new(ours, Arc::clone(&hold)));
        instance.write_all(b"101").await.unwrap();
        hold.begin();
        let waiting = tokio::spawn(async move { reading.read_u8().await });
        tokio::task::yield_now().await;
        hold.end();
        writing.flush().await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), b'1');
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_written_to_is_read_to_its_end() {
        let (ours, instance) = duplex(1024);
        let hold = Arc::new(Hold::default());
        let mut stream = Held::new(ours, Arc::clone(&hold));
        hold.begin();
        drop(instance);
        stream.write_all(b"GET /").await.unwrap_err();
        assert_eq!(stream.read(&mut [0; 5]).await.unwrap(), 0);
    }
}
