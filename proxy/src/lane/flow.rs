//! Bytes in both directions of one exchange: the request to the instance, its answer back, and an eye on the client meanwhile.
//!
//! Whoever waits for the instance waits here, and here alone: what is left of the request is sent at the same time, a client
//! that leaves ends the wait, and so does every deadline. Nothing of the request is forgotten before the exchange is over, so
//! that another attempt can send all of it again.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::connection::Connection;
use super::desk::{FIRST_READ, LARGEST_READ};
use crate::http1::{Alarm, ClientStream};

/// Of a request's body, read at once.
const BODY_READ: usize = 8 * 1024;

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the end of the request to the first byte of its answer.
    pub(super) first_byte: Duration,
    /// Between two reads of the answer.
    pub(super) read: Duration,
    /// For one write to the instance.
    pub(super) write: Duration,
    /// Between two reads of the request's body.
    pub(super) client_read: Duration,
}

/// One attempt.
pub(super) struct Flow<'a> {
    pub(super) client: &'a mut ClientStream,
    pub(super) instance: &'a mut Connection,
    pub(super) alarm: &'a mut Alarm,
    /// The whole request, as far as it was read.
    pub(super) out: &'a mut Vec<u8>,
    /// What was read from the instance and not used yet.
    pub(super) input: &'a mut BytesMut,
    /// Bytes of the body read so far, over all attempts.
    pub(super) body_bytes: &'a mut u64,
    patience: Patience,
    /// When the instance could be sent something, if what is waited for first is its answer.
    ready: Option<Instant>,
    sent: usize,
    flushed: bool,
    /// The instance takes no more; it may have answered all the same.
    refused: bool,
    /// The head of the answer is there.
    began: bool,
    /// The last read filled the space that it had.
    was_full: bool,
    read_by: Option<Instant>,
    write_by: Option<Instant>,
    client_by: Option<Instant>,
}

impl<'a> Flow<'a> {
    /// Nothing is sent yet over a connection that is ready since then.
    pub(super) fn new(
        client: &'a mut ClientStream,
        instance: &'a mut Connection,
        alarm: &'a mut Alarm,
        (out, input): (&'a mut Vec<u8>, &'a mut BytesMut),
        body_bytes: &'a mut u64,
        (patience, ready): (Patience, Option<std::time::Instant>),
    ) -> Self {
        input.clear();
        Self {
            client,
            instance,
            alarm,
            out,
            input,
            body_bytes,
            patience,
            ready: ready.map(Instant::from_std),
            sent: 0,
            flushed: false,
            refused: false,
            began: false,
            was_full: false,
            read_by: None,
            write_by: None,
            client_by: None,
        }
    }

    /// The head of the answer is there.
    pub(super) fn answer_began(&mut self) {
        self.began = true;
        self.ready = None;
    }

    /// Has the instance been sent anything?
    pub(super) fn has_begun(&self) -> bool {
        self.sent > 0
    }

    /// Has it been sent the whole request?
    pub(super) fn is_sent(&self) -> bool {
        self.flushed && self.sent == self.out.len() && self.client.is_body_done()
    }

    /// Waits for more from the instance; false at the end of what it sends.
    ///
    /// # Errors
    /// Whoever failed or was too slow, as the forwarding library says it.
    pub(super) async fn more(&mut self) -> Result<bool> {
        self.read_by = None;
        poll_fn(|cx| self.poll_more(cx)).await
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        loop {
            self.poll_send(cx);
            if let Poll::Ready(read) = self.poll_instance(cx) {
                return Poll::Ready(read);
            }
            match self.poll_client(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => return self.poll_deadlines(cx),
            }
        }
    }

    /// Sends what there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) {
        while !self.refused && self.sent < self.out.len() {
            match Pin::new(&mut *self.instance).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.sent += written;
                    self.flushed = false;
                    self.write_by = None;
                    self.read_by = None;
                }
                Poll::Ready(Ok(0) | Err(_)) => self.refused = true,
                Poll::Pending => {
                    self.write_by
                        .get_or_insert_with(|| Instant::now() + self.patience.write);
                    return;
                }
            }
        }
        if !self.flushed && !self.refused {
            match Pin::new(&mut *self.instance).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.flushed = true;
                    self.write_by = None;
                }
                Poll::Ready(Err(_)) => self.refused = true,
                Poll::Pending => {
                    self.write_by
                        .get_or_insert_with(|| Instant::now() + self.patience.write);
                }
            }
        }
    }

    fn poll_instance(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let least = if self.was_full { LARGEST_READ } else { FIRST_READ };
        if self.input.capacity() - self.input.len() < least {
            self.input.reserve(least);
        }
        let space = self.input.capacity() - self.input.len();
        let read = std::task::ready!(poll_read_buf(Pin::new(&mut *self.instance), cx, self.input));
        let failed = |etype| Error::new_up(if self.refused { ErrorType::WriteError } else { etype });
        Poll::Ready(match read {
            Ok(0) if self.refused => Err(failed(ErrorType::WriteError)),
            Ok(0) => Ok(false),
            Ok(read) => {
                self.was_full = read == space;
                Ok(true)
            }
            Err(_) => Err(failed(ErrorType::ReadError)),
        })
    }

    /// Ready: there is more to send.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        if self.client.is_body_done() {
            let mut space = [MaybeUninit::uninit(); 1];
            return match Pin::new(&mut *self.client).poll_read(cx, &mut ReadBuf::uninit(&mut space)) {
                // Its next request waits; only that it left is reported.
                Poll::Ready(_) => Err(Error::new_down(ErrorType::ConnectionClosed)),
                Poll::Pending => Ok(Poll::Pending),
            };
        }
        let mut space = [MaybeUninit::uninit(); BODY_READ];
        let mut space = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *self.client).poll_read(cx, &mut space) {
            Poll::Ready(Ok(())) if space.filled().is_empty() => Err(Error::new_down(ErrorType::ConnectionClosed)),
            Poll::Ready(Ok(())) => {
                self.client_by = None;
                self.out.extend_from_slice(space.filled());
                *self.body_bytes += space.filled().len() as u64;
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(_)) => Err(Error::new_down(ErrorType::ReadError)),
            Poll::Pending => {
                self.client_by
                    .get_or_insert_with(|| Instant::now() + self.patience.client_read);
                Ok(Poll::Pending)
            }
        }
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        if self.is_sent() {
            // Before that the instance cannot know what it is asked.
            let patience = if self.began {
                self.patience.read
            } else {
                self.patience.first_byte
            };
            let ready = self.ready.take();
            self.read_by
                .get_or_insert_with(|| ready.unwrap_or_else(Instant::now) + patience);
        } else {
            // It goes on later.
            self.ready = None;
        }
        let deadlines = [self.read_by, self.write_by, self.client_by];
        let Some(first) = deadlines.into_iter().flatten().min() else {
            return Poll::Pending;
        };
        std::task::ready!(self.alarm.poll(cx, first));
        Poll::Ready(Err(if self.client_by == Some(first) {
            Error::new_down(ErrorType::ReadTimedout)
        } else if self.write_by == Some(first) {
            Error::new_up(ErrorType::WriteTimedout)
        } else {
            Error::new_up(ErrorType::ReadTimedout)
        }))
    }
}

/// Sends to the client; at most `limit` for each write.
///
/// # Errors
/// The client is gone, takes nothing, or is no longer allowed.
pub(super) async fn send(client: &mut ClientStream, alarm: &mut Alarm, limit: Duration, bytes: &[u8]) -> Result<()> {
    let (mut sent, mut by) = (0, None);
    poll_fn(|cx| {
        loop {
            let step = match bytes.get(sent..).filter(|rest| !rest.is_empty()) {
                Some(rest) => Pin::new(&mut *client).poll_write(cx, rest),
                None => Pin::new(&mut *client).poll_flush(cx).map_ok(|()| 0),
            };
            match step {
                Poll::Ready(Ok(0)) if sent == bytes.len() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(written @ 1..)) => {
                    sent += written;
                    by = None;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Error::new_down(ErrorType::WriteError))),
                Poll::Pending => {
                    let by = *by.get_or_insert_with(|| Instant::now() + limit);
                    std::task::ready!(alarm.poll(cx, by));
                    return Poll::Ready(Err(Error::new_down(ErrorType::WriteTimedout)));
                }
            }
        }
    })
    .await
}
