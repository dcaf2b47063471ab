//! The connection for a request whose trailers, or those of its answer, are passed on.
//!
//! Puts the request's into what the forwarding library writes, and takes the answer's out of what it reads. Below TLS there is
//! nothing to read, so instances with TLS have none of this. Every such request has a connection of its own, which is not kept.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tunnel::Held;
use crate::http1::body::Length;
use crate::http1::trailers::{Follower, Inserter, Trailers};

/// A connection on which one request is sent and answered.
#[derive(Debug)]
pub(super) struct Relay<S> {
    inner: S,
    trailers: Arc<Trailers>,
    request: Inserter,
    answer: Follower,
}

impl<S> Relay<S> {
    pub(super) fn new(inner: S, trailers: Arc<Trailers>) -> Self {
        Self {
            inner,
            trailers,
            // Where there is a length, or nothing, no chunk is found.
            request: Inserter::new(Follower::request(Length::Chunked)),
            answer: Follower::answer(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Relay<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let Self { answer, trailers, .. } = &mut *self;
        answer.read(&buf.filled()[before..], trailers);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Relay<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let Self {
            inner,
            trailers,
            request,
            ..
        } = &mut *self;
        request.poll_write(Pin::new(inner), cx, buf, || trailers.for_instance())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl VirtualSocket for Relay<Held<TcpStream>> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> Result<()> {
        self.inner.set_socket_option(option)
    }
}
