//! The connection for a request whose trailers, or those of its answer, are passed on.
//!
//! Puts the request's into what the forwarding library writes, and takes the answer's out of what it reads: above TLS where the
//! instance speaks it. Every such request has a connection of its own, which is not kept.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::connectors::TransportConnector;
use pingora::connectors::l4::Connect;
use pingora::protocols::Stream;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tunnel::{Held, Hold};
use crate::http1::body::Length;
use crate::trailers::{Follower, Inserter, Trailers};

/// Makes connections with TLS whose trailers are passed on.
pub(super) struct AboveTls {
    /// Whom the connection is to, and with which deadlines.
    pub(super) peer: HttpPeer,
    pub(super) connector: Arc<TransportConnector>,
    pub(super) hold: Arc<Hold>,
    pub(super) trailers: Arc<Trailers>,
}

impl std::fmt::Debug for AboveTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AboveTls")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Connect for AboveTls {
    async fn connect(&self, _: &SocketAddr) -> pingora::Result<Socket> {
        let secure = self.connector.new_stream(&self.peer).await?;
        let held = Held::new(secure, Arc::clone(&self.hold));
        let relay = Relay::new(held, Arc::clone(&self.trailers));
        Ok(Socket::from(VirtualSocketStream::new(Box::new(relay))))
    }
}

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

impl VirtualSocket for Relay<Held<Stream>> {
    fn set_socket_option(&self, _: VirtualSockOpt) -> Result<()> {
        // Set below TLS, when the connection was made.
        Ok(())
    }
}
