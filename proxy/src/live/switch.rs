//! Closes a connection from another thread, whatever it is waiting for.
//!
//! A connection that is on the list lets itself be woken; its next read or write then fails, and the request ends, is counted
//! and logged like any that broke off. One that waits for something else (an instance that takes no bytes) is dropped after
//! a moment. Ordinary requests pay one load for each read and write.

use std::io::{Error, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::Sleep;

/// How long a connection may take to end by itself.
const GRACE: Duration = Duration::from_millis(300);

/// Of one connection. Once thrown it stays so.
#[derive(Debug, Default)]
pub struct KillSwitch {
    armed: AtomicBool,
    thrown: AtomicBool,
    task: AtomicWaker,
}

impl KillSwitch {
    /// From now on it may be thrown. To be called by the task that serves the connection.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Ends the connection.
    pub(super) fn throw(&self) {
        self.thrown.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Was it thrown?
    pub fn is_thrown(&self) -> bool {
        self.thrown.load(Ordering::Acquire)
    }

    /// For every read and write on the connection.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionAborted`] once it was thrown.
    pub fn check(&self) -> std::io::Result<()> {
        if self.is_thrown() {
            return Err(Error::new(
                ErrorKind::ConnectionAborted,
                "the connection is no longer allowed",
            ));
        }
        Ok(())
    }

    /// Serves the connection; `None` if the switch was thrown and the work did not end by itself.
    pub async fn serve<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut grace: Option<Pin<Box<Sleep>>> = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if !self.armed.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            self.task.register(cx.waker());
            if !self.is_thrown() {
                return Poll::Pending;
            }
            let grace = grace.get_or_insert_with(|| {
                // It may have been thrown after the work looked at its stream: it must look once more.
                cx.waker().wake_by_ref();
                Box::pin(tokio::time::sleep(GRACE))
            });
            grace.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}
