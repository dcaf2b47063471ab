//! The wait for the next head on a connection.
//!
//! Owns the deadlines of idle connections and of heads that were begun, and that idle connections are given up while the edge
//! stops. Deadlines and the signal are kept over all requests of a connection: setting them up and taking them down for each
//! would cost more than reading a head does.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora::server::ShutdownWatch;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::alarm::Alarm;
use super::head::{Head, HeadScanner};
use super::stream::ClientStream;
use crate::config::Limits;
use crate::filter::normalise::BadHead;

/// Most heads fit.
const FIRST_READ: usize = 4 * 1024;

/// How a wait for a head ends.
#[derive(Debug)]
pub(super) enum Arrival {
    /// With a whole one.
    Head(Head),
    /// With one that is refused.
    Bad(BadHead),
    /// It was begun and not finished in time.
    Slow,
    /// Without one: the client left, was idle for too long, or the edge stops.
    None,
}

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What ends a wait, over all waits of a connection.
pub(super) struct Waiting {
    pub(super) alarm: Alarm,
    /// What the last head was read with.
    pub(super) scanner: HeadScanner,
    stopping: ShutdownWatch,
    /// Ready when the edge stops, and the task that it wakes.
    signal: Option<(Signal, Waker)>,
}

impl Waiting {
    pub(super) fn new(stopping: ShutdownWatch) -> Self {
        Self {
            alarm: Alarm::default(),
            scanner: HeadScanner::default(),
            stopping,
            signal: None,
        }
    }

    /// Waits for a head; at most `idle` for its first byte, from `since` on or from now.
    pub(super) async fn head(
        &mut self,
        client: &mut ClientStream,
        (since, idle): (Option<Instant>, Duration),
        limits: &Limits,
    ) -> Arrival {
        let bounds = limits.head();
        self.scanner.begin();
        // Each is set when it is first waited for.
        let (mut idle_until, mut head_until) = (None, None);
        loop {
            if head_until.is_none() {
                skip_empty_lines(&mut client.buffer);
            }
            let has_begun = !client.buffer.is_empty();
            if has_begun {
                match self.scanner.scan(&client.buffer, &bounds) {
                    Ok(Some(head)) => return Arrival::Head(head),
                    Ok(None) => {}
                    Err(bad) => return Arrival::Bad(bad),
                }
            }
            let until = if has_begun {
                *head_until.get_or_insert_with(|| Instant::now() + limits.header_deadline)
            } else {
                *idle_until.get_or_insert_with(|| since.unwrap_or_else(Instant::now) + idle)
            };
            client.buffer.reserve(FIRST_READ);
            let read = poll_fn(|cx| {
                // What has arrived is served, even while stopping.
                if let Poll::Ready(read) = poll_read_buf(Pin::new(&mut client.inner), cx, &mut client.buffer) {
                    return Poll::Ready(Some(read));
                }
                if !has_begun && self.poll_stop(cx).is_ready() {
                    return Poll::Ready(Some(Ok(0)));
                }
                self.alarm.poll(cx, until).map(|()| None)
            });
            match read.await {
                Some(Ok(1..)) => {}
                None if has_begun => return Arrival::Slow,
                Some(Ok(0) | Err(_)) | None => return Arrival::None,
            }
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if *self.stopping.borrow() {
            return Poll::Ready(());
        }
        if let Some((_, task)) = &self.signal
            && task.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        let mut stopping = self.stopping.clone();
        let mut signal: Signal = Box::pin(async move {
            // That nobody can stop the edge any more stops it too.
            let _ = stopping.wait_for(|stop| *stop).await;
        });
        let stops = signal.as_mut().poll(cx);
        self.signal = Some((signal, cx.waker().clone()));
        stops
    }
}

/// RFC 9112 section 2.2: old clients end a body with a line end that is not part of it.
fn skip_empty_lines(buffer: &mut BytesMut) {
    while buffer.starts_with(b"\r\n") {
        buffer.advance(2);
    }
}
