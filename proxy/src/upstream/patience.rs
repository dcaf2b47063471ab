//! How long an instance may take to begin its answer, once it has all of the request.
//!
//! The forwarding library knows one bound for every wait of the way, so a bound of its own for the first byte is kept here: by
//! the task that serves the request, which shuts the connection to the instance when the time is over. The attempt then fails
//! like any whose instance hung up, and is told apart by [`Patience::is_lost`]. Where both bounds are the same, as they are by
//! default, nothing here has work to do.

use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::time::{Instant, Sleep};

use super::tunnel::Hold;

/// Nobody waits for an answer.
const IDLE: u8 = 0;
/// An answer is waited for.
const WAITING: u8 = 1;
/// It did not begin in time.
const LOST: u8 = 2;

/// The connection of an attempt.
#[derive(Debug, Clone)]
pub enum Line {
    /// A socket. It is open for as long as the attempt's answer has not begun.
    Socket(RawFd),
    /// One that may become a tunnel.
    Held(Arc<Hold>),
}

impl Line {
    fn cut(self) {
        match self {
            Self::Socket(socket) => {
                // One that is closed already ends the attempt by itself.
                let _ = shutdown(socket, Shutdown::Both);
            }
            Self::Held(hold) => hold.cut(),
        }
    }
}

/// The wait for the answer to the request that is on a connection. The request and whoever [attends](Self::attend) to it are
/// one task.
#[derive(Debug, Default)]
pub struct Patience {
    state: AtomicU8,
    wait: Mutex<Option<Wait>>,
}

#[derive(Debug)]
struct Wait {
    until: Instant,
    allowed: Duration,
    line: Line,
}

impl Patience {
    /// The instance has all of the request; its answer must begin within this time.
    pub fn wait(&self, allowed: Duration, line: Line) {
        let wait = Wait {
            until: Instant::now() + allowed,
            allowed,
            line,
        };
        *self.locked() = Some(wait);
        self.state.store(WAITING, Ordering::Relaxed);
    }

    /// The instance said that it is still there: its time begins anew.
    pub fn again(&self) {
        if let Some(wait) = &mut *self.locked() {
            wait.until = Instant::now() + wait.allowed;
        }
    }

    /// The answer began, or the attempt is over. To be called before its connection can be another's.
    pub fn over(&self) {
        if self.state.swap(IDLE, Ordering::Relaxed) != IDLE {
            *self.locked() = None;
        }
    }

    /// Did the attempt fail because its answer did not begin in time?
    pub fn is_lost(&self) -> bool {
        self.state.load(Ordering::Relaxed) == LOST
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Wait>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self) -> Option<Instant> {
        if self.state.load(Ordering::Relaxed) != WAITING {
            return None;
        }
        self.locked().as_ref().map(|wait| wait.until)
    }

    fn lose(&self) {
        let wait = self.locked().take();
        self.state.store(LOST, Ordering::Relaxed);
        if let Some(wait) = wait {
            wait.line.cut();
        }
    }

    /// Serves the request, and ends the wait for its answer when it has taken too long.
    pub async fn attend<T>(&self, request: impl Future<Output = T>) -> T {
        let mut request = pin!(request);
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = request.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            while let Some(until) = self.until() {
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                ready!(timer.as_mut().poll(cx));
                // The request is woken by what happens to its connection.
                self.lose();
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_secs(5);

    fn held() -> (Arc<Hold>, Line) {
        let hold = Arc::new(Hold::default());
        (Arc::clone(&hold), Line::Held(hold))
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_whose_answer_does_not_begin_in_time_is_lost() {
        let (patience, (hold, line)) = (Patience::default(), held());
        let began = Instant::now();
        patience
            .attend(async {
                tokio::time::sleep(Duration::from_mins(1)).await;
                patience.wait(ALLOWED, line);
                tokio::time::sleep(ALLOWED * 2).await;
            })
            .await;
        assert!(patience.is_lost() && hold.is_cut());
        assert_eq!(began.elapsed(), Duration::from_mins(1) + ALLOWED * 2);
        patience.over();
        assert!(!patience.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_began_may_take_its_time() {
        let (patience, (hold, line)) = (Patience::default(), held());
        patience
            .attend(async {
                patience.wait(ALLOWED, line);
                tokio::time::sleep(ALLOWED / 2).await;
                patience.again();
                tokio::time::sleep(ALLOWED * 2 / 3).await;
                patience.over();
                tokio::time::sleep(ALLOWED * 10).await;
            })
            .await;
        assert!(!patience.is_lost() && !hold.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_attempt_has_a_time_of_its_own() {
        let (patience, (first, line), (second, other)) = (Patience::default(), held(), held());
        patience
            .attend(async {
                patience.wait(ALLOWED, line);
                tokio::time::sleep(ALLOWED / 2).await;
                patience.over();
                patience.wait(ALLOWED, other);
                tokio::time::sleep(ALLOWED * 2).await;
            })
            .await;
        assert!(!first.is_cut() && second.is_cut());
    }
}
