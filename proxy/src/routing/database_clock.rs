//! The database's clock, as far as this machine can tell it from the times that heartbeats and rows carry.
//!
//! Each carried time was right when it left the database and is late by its way, so the least late of the last minute is
//! nearest. A message that waited somewhere, in a frozen process or a stalled connection, therefore looks as old as it
//! is, and a clock that was set is followed after a minute.

use std::sync::atomic::{AtomicI64, Ordering};

/// Two windows, so that between 30 and 60 s of samples count.
const WINDOW_MS: i64 = 30_000;
const NONE: i64 = i64::MIN;

/// Database time minus ours. Readers and the one writer never wait.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    began_ms: AtomicI64,
    present: AtomicI64,
    previous: AtomicI64,
}

impl DatabaseClock {
    pub(super) fn new() -> Self {
        Self {
            began_ms: AtomicI64::new(0),
            present: AtomicI64::new(NONE),
            previous: AtomicI64::new(NONE),
        }
    }

    /// A message with this time of the database has just come.
    pub(super) fn learn(&self, database_ms: i64, now_ms: i64) {
        let since = now_ms.saturating_sub(self.began_ms.load(Ordering::Relaxed));
        if !(0..WINDOW_MS).contains(&since) {
            let ended = self.present.swap(NONE, Ordering::Relaxed);
            self.previous.store(ended, Ordering::Relaxed);
            self.began_ms.store(now_ms, Ordering::Relaxed);
        }
        self.present
            .fetch_max(database_ms.saturating_sub(now_ms), Ordering::Relaxed);
    }

    /// The database's time; ours where nothing was learned yet.
    pub(super) fn now_ms(&self, now_ms: i64) -> i64 {
        let offset = self
            .present
            .load(Ordering::Relaxed)
            .max(self.previous.load(Ordering::Relaxed));
        now_ms.saturating_add(if offset == NONE { 0 } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_anything_is_known_it_is_our_own_clock() {
        assert_eq!(DatabaseClock::new().now_ms(7), 7);
    }

    #[test]
    fn the_least_late_message_decides() {
        let clock = DatabaseClock::new();
        clock.learn(1_005_000, 1_000_010);
        clock.learn(1_006_000, 1_003_000);
        assert_eq!(clock.now_ms(1_004_000), 1_008_990);
    }

    #[test]
    fn messages_that_waited_for_a_minute_look_a_minute_old() {
        let clock = DatabaseClock::new();
        clock.learn(1_000_000, 1_000_000);
        // The process was frozen; now all that came meanwhile is read at once.
        for second in 1..=60 {
            clock.learn(1_000_000 + second * 1_000, 1_060_500);
        }
        assert_eq!(clock.now_ms(1_060_500), 1_060_500);
    }

    #[test]
    fn a_clock_that_was_set_is_followed_within_a_minute() {
        let clock = DatabaseClock::new();
        clock.learn(1_000_000, 1_000_000);
        for second in 1..=62 {
            // Ours jumped ten seconds ahead.
            clock.learn(1_000_000 + second * 1_000, 1_010_000 + second * 1_000);
        }
        assert_eq!(clock.now_ms(1_072_000), 1_062_000);
    }
}
