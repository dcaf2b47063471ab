//! Requests that fall due at a fixed rate, and how long after that they were answered.
//!
//! Times count from when a request was due, not from when it was sent: a contender that stalls makes requests wait for a
//! connection, and that is its latency too (leaving it out is known as coordinated omission). Requests fall due evenly
//! spaced; the clock behind it is a `timerfd` where there is one, since tokio's own has steps of a millisecond.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use super::{Latencies, histogram};

/// Shared by the connections of one thread.
pub(super) struct Arrivals {
    due: RefCell<VecDeque<Instant>>,
    /// One permit for each that is due; closed when no more will be.
    ready: Semaphore,
    times: RefCell<Histogram<u64>>,
    answered: Cell<u64>,
    under_way: RefCell<Vec<Instant>>,
    from: Instant,
    until: Instant,
}

impl Arrivals {
    /// Of which those in the window from this moment on count.
    pub(super) fn new(from: Instant, window: Duration) -> Self {
        Self {
            due: RefCell::default(),
            ready: Semaphore::new(0),
            times: RefCell::new(histogram()),
            answered: Cell::new(0),
            under_way: RefCell::default(),
            from,
            until: from + window,
        }
    }

    /// Makes requests fall due from now until the end of the window.
    pub(super) async fn pace(&self, rate: f64) {
        let clock = Clock::new();
        let began = Instant::now();
        for n in 0_u32.. {
            let due = began + Duration::from_secs_f64(f64::from(n) / rate);
            if due >= self.until {
                break;
            }
            clock.sleep_until(due).await;
            self.due.borrow_mut().push_back(due);
            self.ready.add_permits(1);
        }
        // Those that wait are still handed out.
        while !self.due.borrow().is_empty() && self.until.elapsed() < super::PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.ready.close();
    }

    /// When the next request was due; nothing when there will be none.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.ready.acquire().await.ok()?.forget();
        let due = self.due.borrow_mut().pop_front()?;
        self.under_way.borrow_mut().push(due);
        Some(due)
    }

    /// The answer to the one that was due then is here.
    pub(super) fn answered(&self, due: Instant) {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(at) = under_way.iter().position(|other| *other == due) {
            under_way.swap_remove(at);
        }
        if self.counts(due) {
            self.answered.set(self.answered.get() + 1);
            self.record(due);
        }
    }

    fn counts(&self, due: Instant) -> bool {
        (self.from..self.until).contains(&due)
    }

    fn record(&self, due: Instant) {
        let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.times.borrow_mut().saturating_record(nanos);
    }

    /// All that was found, with those that were never answered.
    pub(super) fn read(&self, window: Duration) -> Latencies {
        let mut unanswered = 0;
        for due in self.due.borrow().iter().chain(self.under_way.borrow().iter()) {
            if self.counts(*due) {
                self.record(*due);
                unanswered += 1;
            }
        }
        Latencies {
            histogram: self.times.borrow().clone(),
            achieved: self.answered.get() as f64 / window.as_secs_f64(),
            unanswered,
        }
    }
}

#[cfg(target_os = "linux")]
mod clock {
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Instant;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    struct Timer(TimerFd);

    impl AsRawFd for Timer {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    pub(super) struct Clock(AsyncFd<Timer>);

    impl Clock {
        #[expect(
            deprecated,
            reason = "the registration that replaces it is unsafe; this timer owns its descriptor and never gives out another"
        )]
        pub(super) fn new() -> Self {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).unwrap();
            Self(AsyncFd::with_interest(Timer(timer), Interest::READABLE).unwrap())
        }

        pub(super) async fn sleep_until(&self, due: Instant) {
            let mut left = due.saturating_duration_since(Instant::now());
            while !left.is_zero() {
                let after = Expiration::OneShot(TimeSpec::from_duration(left));
                self.0.get_ref().0.set(after, TimerSetTimeFlags::empty()).unwrap();
                let mut ready = self.0.readable().await.unwrap();
                // What expired is taken, and the next expiry waited for.
                let _ = ready.get_inner().0.wait();
                ready.clear_ready();
                left = due.saturating_duration_since(Instant::now());
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod clock {
    pub(super) struct Clock;

    impl Clock {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) async fn sleep_until(&self, due: std::time::Instant) {
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

use clock::Clock;
