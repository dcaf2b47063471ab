//! Is the feed alive, how far has it come, and what does that mean for an entry: the few words that every look-up reads.
//!
//! While the feed lives, an entry of the present generation is the truth. While it does not, an entry may be acted on for
//! [`RoutingSettings::stale_bound`](super::RoutingSettings::stale_bound) since it was last confirmed, and after that only
//! when no source answers.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::entry::Freshness;

/// Ends of so many generations are remembered; an entry of an older one counts from its own reading.
const GENERATIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Pulse {
    /// Raised when the feed had to begin anew: what it told before proves nothing about what happened in between.
    generation: AtomicU32,
    /// Wall time until which the last heartbeat stands; 0 while the feed is known not to live.
    live_until_ms: AtomicI64,
    /// Wall time at which the feed was last known to live.
    live_ms: AtomicI64,
    /// For each generation, modulo, the last time it was known to live.
    ended_ms: [AtomicI64; GENERATIONS],
    /// No source answered: until then entries past their bound are served without asking again.
    hold_until_ms: AtomicI64,
    /// Database clock minus ours.
    database_offset_ms: AtomicI64,
    epoch: AtomicU64,
    position: AtomicU64,
    sequence: AtomicU64,
    following: AtomicBool,
    bounds: Bounds,
}

/// How old an entry may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) stale_ms: i64,
    pub(super) max_stale_ms: i64,
}

impl Bounds {
    pub(super) fn new(stale: Duration, max_stale: Duration) -> Self {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 4);
        Self {
            stale_ms: ms(stale),
            max_stale_ms: ms(max_stale),
        }
    }
}

/// What an entry may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Act on it.
    Fresh,
    /// Read it again first; if nothing answers, act on it.
    Stale,
    /// Never act on it.
    Dead,
}

impl Pulse {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            generation: AtomicU32::new(1),
            live_until_ms: AtomicI64::new(0),
            live_ms: AtomicI64::new(0),
            ended_ms: [const { AtomicI64::new(0) }; GENERATIONS],
            hold_until_ms: AtomicI64::new(0),
            database_offset_ms: AtomicI64::new(0),
            epoch: AtomicU64::new(0),
            position: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            following: AtomicBool::new(false),
            bounds,
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn is_live(&self, now_ms: i64) -> bool {
        now_ms < self.live_until_ms.load(Ordering::Acquire)
    }

    /// The common case is three loads: generation, its entry's, and the end of the last heartbeat.
    pub(super) fn is_fresh(&self, freshness: &Freshness, now_ms: i64) -> bool {
        (freshness.generation() == self.generation() && self.is_live(now_ms))
            || self.age(freshness, now_ms) == Age::Fresh
    }

    pub(super) fn age(&self, freshness: &Freshness, now_ms: i64) -> Age {
        let age = now_ms.saturating_sub(self.confirmed_ms(freshness));
        if age < self.bounds.stale_ms {
            Age::Fresh
        } else if age >= self.bounds.max_stale_ms {
            Age::Dead
        } else if now_ms < self.hold_until_ms.load(Ordering::Relaxed) {
            Age::Fresh
        } else {
            Age::Stale
        }
    }

    fn confirmed_ms(&self, freshness: &Freshness) -> i64 {
        let (mine, present) = (freshness.generation(), self.generation());
        let by_feed = if mine == present {
            self.live_ms.load(Ordering::Relaxed)
        } else if present.wrapping_sub(mine) < u32::try_from(GENERATIONS).unwrap_or(u32::MAX) {
            self.ended_ms[mine as usize % GENERATIONS].load(Ordering::Relaxed)
        } else {
            0
        };
        freshness.confirmed_ms().max(by_feed)
    }

    /// A heartbeat showed that everything up to `position` (of `epoch`) is applied.
    pub(super) fn beat(&self, now_ms: i64, stands_for: Duration, epoch: u64, position: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.live_ms.store(now_ms, Ordering::Relaxed);
        let until = now_ms.saturating_add(i64::try_from(stands_for.as_millis()).unwrap_or(0));
        self.live_until_ms.store(until, Ordering::Release);
    }

    /// The feed cannot be relied on from now.
    pub(super) fn silence(&self) {
        self.live_until_ms.store(0, Ordering::Release);
    }

    /// The feed begins anew and vouches from `position` of `epoch` on; entries must be read again. Silent until the next
    /// [`Self::beat`]. The position is set first: a fill of the new generation must not trust a Redis that is behind it.
    pub(super) fn next_generation(&self, epoch: u64, position: u64) {
        self.silence();
        self.epoch.store(epoch, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        let ended = self.generation();
        self.ended_ms[ended as usize % GENERATIONS].store(self.live_ms.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.ended_ms[ended.wrapping_add(1) as usize % GENERATIONS].store(0, Ordering::Relaxed);
        self.generation.store(ended.wrapping_add(1), Ordering::Release);
    }

    /// No source answered: serve what is there until `until_ms` without asking.
    pub(super) fn hold(&self, until_ms: i64) {
        self.hold_until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// A source answers again.
    pub(super) fn release(&self) {
        self.hold_until_ms.store(0, Ordering::Relaxed);
    }

    /// (epoch, position) up to which this edge has applied the feed; zeros before the first heartbeat.
    pub(super) fn covered(&self) -> (u64, u64) {
        (
            self.epoch.load(Ordering::Relaxed),
            self.position.load(Ordering::Relaxed),
        )
    }

    pub(super) fn set_sequence(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    pub(super) fn set_following(&self, following: bool) {
        self.following.store(following, Ordering::Relaxed);
    }

    pub(super) fn is_following(&self) -> bool {
        self.following.load(Ordering::Relaxed)
    }

    pub(super) fn learn_database_time(&self, database_ms: i64, now_ms: i64) {
        self.database_offset_ms
            .store(database_ms.saturating_sub(now_ms), Ordering::Relaxed);
    }

    pub(super) fn database_now_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.database_offset_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_millis(3500);

    fn pulse() -> Pulse {
        Pulse::new(Bounds {
            stale_ms: 10_000,
            max_stale_ms: 86_400_000,
        })
    }

    #[test]
    fn a_living_feed_keeps_its_generation_fresh_however_old_the_reading() {
        let pulse = pulse();
        let entry = Freshness::new(1, 0);
        pulse.beat(50_000_000, BEAT, 1, 7);
        assert!(pulse.is_fresh(&entry, 50_001_000));
        assert_eq!(pulse.covered(), (1, 7));
    }

    #[test]
    fn a_silent_feed_leaves_ten_seconds_from_its_last_word() {
        let pulse = pulse();
        let entry = Freshness::new(1, 0);
        pulse.beat(50_000_000, BEAT, 1, 7);
        pulse.silence();
        assert_eq!(pulse.age(&entry, 50_009_999), Age::Fresh);
        assert_eq!(pulse.age(&entry, 50_010_000), Age::Stale);
        assert_eq!(pulse.age(&entry, 50_000_000 + 86_400_000), Age::Dead);
    }

    #[test]
    fn a_new_generation_keeps_the_time_at_which_the_old_one_ended() {
        let pulse = pulse();
        let entry = Freshness::new(1, 0);
        pulse.beat(50_000_000, BEAT, 1, 7);
        pulse.next_generation(1, 8);
        pulse.beat(50_005_000, BEAT, 1, 9);
        assert_eq!(pulse.age(&entry, 50_009_000), Age::Fresh);
        assert_eq!(
            pulse.age(&entry, 50_010_000),
            Age::Stale,
            "the new feed does not vouch for what it did not see"
        );
        entry.confirm(pulse.generation(), 50_010_000);
        pulse.beat(50_100_000, BEAT, 1, 9);
        assert!(pulse.is_fresh(&entry, 50_100_000));
    }

    #[test]
    fn holding_spares_the_sources_but_never_passes_the_last_bound() {
        let pulse = pulse();
        let entry = Freshness::new(1, 1_000);
        pulse.hold(40_000);
        assert_eq!(pulse.age(&entry, 39_999), Age::Fresh);
        assert_eq!(pulse.age(&entry, 40_000), Age::Stale);
        pulse.hold(i64::MAX);
        assert_eq!(pulse.age(&entry, 1_000 + 86_400_000), Age::Dead);
        pulse.release();
        assert_eq!(pulse.age(&entry, 40_000), Age::Stale);
    }
}
