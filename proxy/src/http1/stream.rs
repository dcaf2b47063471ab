//! A client's connection as the forwarding library sees it: one request at a time, and not a byte of the next.
//!
//! Owns the accepted stream, the bytes that were read ahead, and the limits on the body. A client may send its next request
//! before it has its answer; the bytes wait here. A body that comes too slowly or is malformed fails the read, and the reason is
//! left in the [`Exchange`](super::Exchange). Once the connection is a tunnel everything passes untouched. When the connection's
//! switch is thrown every read and write fails.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::body::{BadChunks, Body, Length};
use super::exchange::BodyFault;
use super::pace::{Pace, PaceRules};
use crate::listener::Accepted;
use crate::trailers::{Follower, Inserter};

/// Of the next requests so much is read while one is answered; it shows whether the client is still there.
const READ_AHEAD: usize = 8 * 1024;

/// A client's connection.
pub struct ClientStream {
    pub(super) inner: Stream,
    accepted: Arc<Accepted>,
    rules: PaceRules,
    /// Read from the client, and not handed on.
    pub(super) buffer: BytesMut,
    body: Body,
    pace: Pace,
    /// Since when the client is waited for.
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// What is sent when the forwarding library answers a head by itself, and how much of it was.
    substitute: (Vec<u8>, usize),
    /// Puts trailers into the answer.
    answer: Option<Box<Inserter>>,
    held: HeldHead,
}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientStream")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl ClientStream {
    pub(super) fn new(inner: Stream, accepted: Arc<Accepted>, rules: PaceRules) -> Self {
        Self {
            inner,
            accepted,
            rules,
            buffer: BytesMut::new(),
            body: Body::new(Length::Bytes(0)),
            pace: Pace::default(),
            waiting: None,
            timer: None,
            substitute: (Vec::new(), 0),
            answer: None,
            held: HeldHead::default(),
        }
    }

    /// What answers now writes head and body one after the other: both are to leave together.
    pub(super) fn hold_head(&mut self) {
        self.held.is_awaited = true;
    }

    /// The head is complete: takes it out of what was read, and expects its body.
    pub(crate) fn begin(&mut self, head: usize, body: Length) -> BytesMut {
        self.accepted.exchange.begin();
        self.body = Body::new(body);
        self.pace = Pace::default();
        self.waiting = None;
        self.timer = None;
        self.substitute = (Vec::new(), 0);
        self.answer = None;
        self.held.is_awaited = false;
        if head == self.buffer.len() {
            // Not split: that would make the allocation a shared one.
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(head)
        }
    }

    /// Was all of the request read?
    pub(crate) fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    /// What was read and not handed on: the next head, once it is there.
    pub(crate) fn read_ahead(&self) -> &[u8] {
        &self.buffer
    }

    /// Appends what is here of the body; how many bytes that is. For bodies with a stated length, whose bytes are all data.
    pub(crate) fn take_body(&mut self, out: &mut Vec<u8>) -> u64 {
        let taken = self.body.take(&self.buffer).unwrap_or(0);
        out.extend_from_slice(&self.buffer[..taken]);
        self.buffer.advance(taken);
        self.pace.received(taken, Duration::ZERO);
        taken as u64
    }

    /// Lets the space of a head be used for the next one.
    pub(crate) fn give_back(&mut self, mut space: BytesMut) {
        if self.buffer.capacity() == 0 {
            space.clear();
            self.buffer = space;
        }
    }

    /// Where the next request begins is known.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.body.is_done() && !self.accepted.exchange.is_tunnel()
    }

    fn failed(&mut self, fault: BodyFault) -> Error {
        self.accepted.exchange.body_failed(fault);
        match fault {
            BodyFault::Slow => Error::new(ErrorKind::TimedOut, "the request body comes too slowly"),
            BodyFault::Malformed => Error::new(ErrorKind::InvalidData, "the chunks of the request body are malformed"),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if !self.buffer.is_empty() {
            let here = self.buffer.len().min(buf.remaining());
            let Ok(taken) = take(&mut self.body, &self.accepted, &self.buffer[..here]) else {
                return Poll::Ready(Err(self.failed(BodyFault::Malformed)));
            };
            buf.put_slice(&self.buffer[..taken]);
            self.buffer.advance(taken);
            self.pace.received(taken, Duration::ZERO);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => {
                let since = *self.waiting.get_or_insert_with(Instant::now);
                let until = since + self.pace.left(&self.rules);
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Err(self.failed(BodyFault::Slow)))
            }
            Poll::Ready(read) => {
                read?;
                let waited = self.waiting.take().map_or(Duration::ZERO, |since| since.elapsed());
                let read = buf.filled().len() - before;
                let Ok(taken) = take(&mut self.body, &self.accepted, &buf.filled()[before..]) else {
                    buf.set_filled(before);
                    return Poll::Ready(Err(self.failed(BodyFault::Malformed)));
                };
                self.buffer.extend_from_slice(&buf.filled()[before + taken..]);
                buf.set_filled(before + taken);
                self.pace.received(read, waited);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The request is complete. Reports only that the client is gone; the next request waits.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.buffer.len() < READ_AHEAD {
            let mut space = [std::mem::MaybeUninit::uninit(); 1024];
            let mut space = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.buffer.extend_from_slice(space.filled());
        }
        // Nobody is to be woken: it goes on with the answer.
        Poll::Pending
    }

    /// As [`AsyncWrite::poll_write`], with trailers where they are passed on.
    fn poll_answer(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let trailers = self.accepted.exchange.trailers();
        // What puts trailers behind an answer reads it from its beginning.
        if trailers.is_none() && !self.accepted.exchange.is_tunnel() && self.held.takes(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        if !self.held.bytes.is_empty() {
            let taken = trailers.is_none() && self.held.joins(buf);
            let drained = self.held.poll_drain(&mut self.inner, cx);
            if taken && !matches!(drained, Poll::Ready(Err(_))) {
                // What could not be sent yet is sent with what follows, or at the flush.
                return Poll::Ready(Ok(buf.len()));
            }
            ready!(drained)?;
        }
        let Some(trailers) = trailers else {
            return Pin::new(&mut self.inner).poll_write(cx, buf);
        };
        let answer = self
            .answer
            .get_or_insert_with(|| Box::new(Inserter::new(Follower::answer())));
        answer.poll_write(Pin::new(&mut self.inner), cx, buf, || trailers.for_client())
    }

    /// Sends our refusal in place of what the forwarding library would say.
    fn poll_substitute(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.accepted.exchange.was_substituted() {
            self.accepted.exchange.substituted();
            self.substitute = (self.accepted.refusal_of_last_resort(), 0);
        }
        while let Some(rest) = self
            .substitute
            .0
            .get(self.substitute.1..)
            .filter(|rest| !rest.is_empty())
        {
            self.substitute.1 += ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The head of an answer, kept until the beginning of its body can be sent with it: the forwarding library writes the two apart,
/// and flushes what it does not want to wait. Sent apart, they cost a system call and a packet more. Nothing but a head is
/// ever kept, and not for longer than until somebody waits: nothing is later than without this.
#[derive(Debug, Default)]
struct HeldHead {
    /// What is written next is a head.
    is_awaited: bool,
    bytes: Vec<u8>,
    sent: usize,
}

impl HeldHead {
    /// Longest head, and most of a body behind it.
    const MOST: usize = 16 * 1024;

    /// Is this the head, and kept?
    fn takes(&mut self, bytes: &[u8]) -> bool {
        // Behind an interim one there is another head.
        let is_interim = bytes.starts_with(b"HTTP/1.1 1");
        if !self.is_awaited || is_interim {
            return false;
        }
        self.is_awaited = false;
        self.bytes.is_empty() && self.joins(bytes)
    }

    /// Takes what is sent behind what is kept, if there is room.
    fn joins(&mut self, bytes: &[u8]) -> bool {
        let fits = self.bytes.len() + bytes.len() <= Self::MOST;
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// Sends what is kept.
    fn poll_drain(&mut self, inner: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.bytes = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// How many of these bytes are the body of the request.
fn take(body: &mut Body, accepted: &Accepted, bytes: &[u8]) -> std::result::Result<usize, BadChunks> {
    match accepted.exchange.trailers() {
        None => body.take(bytes),
        Some(trailers) => body.take_with_trailers(bytes, &mut trailers.of_request()),
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.accepted.switch.check()?;
        if self.accepted.exchange.is_tunnel() {
            if self.buffer.is_empty() {
                return Pin::new(&mut self.inner).poll_read(cx, buf);
            }
            let here = self.buffer.len().min(buf.remaining());
            buf.put_slice(&self.buffer[..here]);
            self.buffer.advance(here);
            return Poll::Ready(Ok(()));
        }
        if !self.accepted.exchange.is_forwarding() {
            // The head was handed over whole; a reader that wants more of it read it differently.
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "the head is complete")));
        }
        if !self.held.bytes.is_empty() {
            // Whoever waits for the client has nothing more to say for now.
            let this = &mut *self;
            if let Poll::Ready(Err(error)) = this.held.poll_drain(&mut this.inner, cx) {
                return Poll::Ready(Err(error));
            }
        }
        if self.body.is_done() {
            return self.poll_gone(cx);
        }
        self.poll_body(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.accepted.switch.check()?;
        if !self.accepted.exchange.is_forwarding() {
            ready!(self.poll_substitute(cx))?;
            return Poll::Ready(Ok(buf.len()));
        }
        self.poll_answer(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.accepted.switch.check()?;
        let this = &mut *self;
        ready!(this.held.poll_drain(&mut this.inner, cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.accepted.switch.check()?;
        let this = &mut *self;
        ready!(this.held.poll_drain(&mut this.inner, cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.accepted.switch.check()?;
        if !self.accepted.exchange.is_forwarding() {
            ready!(self.poll_substitute(cx))?;
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        if self.held.is_awaited || !self.held.bytes.is_empty() || self.accepted.exchange.trailers().is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_answer(cx, first.map_or(&[], |buf| buf));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // A client that takes no bytes would be waited for.
        if !self.accepted.switch.is_thrown() {
            // Whoever is gone is told nothing.
            let _ = std::future::poll_fn(|cx| self.held.poll_drain(&mut self.inner, cx)).await;
            self.inner.shutdown().await;
        }
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for ClientStream {
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

impl GetTimingDigest for ClientStream {
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

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

/// Not supported: what was read ahead is not in the inner stream any more.
impl Peek for ClientStream {}

#[cfg(test)]
mod tests;
