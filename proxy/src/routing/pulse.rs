//! Is the feed alive, how far has it come, and what does that mean for an entry: the few words that every look-up reads.
//!
//! While the feed lives, or Postgres was asked a moment ago for what has changed, an entry of the present generation is the
//! truth. Otherwise an entry may be acted on for [`RoutingSettings::stale_bound`](super::RoutingSettings::stale_bound)
//! since it was last confirmed, and after that only when no source answers.
//!
//! A generation is grounded once it is known from which position on it is complete. Before that, Redis cannot be compared
//! with it and changes cannot be asked for.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::claim::Claim;
use super::database_clock::DatabaseClock;
use super::freshness::Freshness;

/// Ends of so many generations are remembered; an entry of an older one counts from its own reading.
const GENERATIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Pulse {
    /// Raised when the feed had to begin anew: what it told before proves nothing about what happened in between.
    generation: AtomicU32,
    /// Wall time until which the last heartbeat stands; 0 while the feed is known not to live.
    live_until_ms: AtomicI64,
    /// Wall time at which the last heartbeat that counted was heard; 0 before the first.
    heard_ms: AtomicI64,
    /// Wall time until which the last answer of Postgres to what has changed stands.
    asked_until_ms: AtomicI64,
    /// The first generation has no feed before it, so there is nothing that it must not fall behind.
    grounded: AtomicBool,
    /// Held by whoever begins, grounds or vouches for a generation, so that none is vouched for by mistake.
    turn: Mutex<()>,
    /// Wall time at which the present generation was last known to be the truth.
    live_ms: AtomicI64,
    /// For each generation, modulo, the last time it was known to live.
    ended_ms: [AtomicI64; GENERATIONS],
    /// No source answered: until then entries past their bound are served without asking again.
    hold_until_ms: AtomicI64,
    database: DatabaseClock,
    /// The database's time in the last heartbeat that proved the table complete; 0 before the first.
    vouched_ms: AtomicI64,
    /// Of the stream that the last heartbeat was about.
    incarnation: AtomicI64,
    /// How far every change is applied; read a few times a second.
    claim: Claim,
    /// A key died and the table has it: whoever reports should do so now.
    key_died: Notify,
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
            heard_ms: AtomicI64::new(0),
            asked_until_ms: AtomicI64::new(0),
            grounded: AtomicBool::new(false),
            turn: Mutex::new(()),
            live_ms: AtomicI64::new(0),
            ended_ms: [const { AtomicI64::new(0) }; GENERATIONS],
            hold_until_ms: AtomicI64::new(0),
            database: DatabaseClock::new(),
            vouched_ms: AtomicI64::new(0),
            incarnation: AtomicI64::new(0),
            claim: Claim::default(),
            key_died: Notify::new(),
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

    /// For how long an entry is good while nothing vouches for it, milliseconds.
    pub(super) fn stale_bound_ms(&self) -> i64 {
        self.bounds.stale_ms
    }

    /// From this age on an entry is never acted on, milliseconds.
    pub(super) fn max_staleness_ms(&self) -> i64 {
        self.bounds.max_stale_ms
    }

    /// Is the feed itself alive?
    pub(super) fn is_live(&self, now_ms: i64) -> bool {
        now_ms < self.live_until_ms.load(Ordering::Acquire)
    }

    /// Is the next heartbeat later than this after the last?
    pub(super) fn is_late(&self, now_ms: i64, after: Duration) -> bool {
        let since = now_ms.saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        since >= i64::try_from(after.as_millis()).unwrap_or(i64::MAX)
    }

    /// Does anything vouch for the present generation?
    fn is_vouched(&self, now_ms: i64) -> bool {
        self.is_live(now_ms) || now_ms < self.asked_until_ms.load(Ordering::Acquire)
    }

    /// Is it known from which position on the present generation is complete?
    pub(super) fn is_grounded(&self) -> bool {
        self.grounded.load(Ordering::Acquire)
    }

    /// May Redis be compared with what this edge has applied? Not after a new beginning until it is known where it stands.
    pub(super) fn is_comparable(&self) -> bool {
        self.is_grounded() || self.generation() == 1
    }

    /// The common case is three loads: generation, its entry's, and the end of the last heartbeat.
    pub(super) fn is_fresh(&self, freshness: &Freshness, now_ms: i64) -> bool {
        (freshness.generation() == self.generation() && self.is_vouched(now_ms))
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

    /// Wall time at which the entry was last known to be the truth, milliseconds since the Unix epoch.
    pub(super) fn confirmed_ms(&self, freshness: &Freshness) -> i64 {
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
        let _turn = self.turn();
        self.stand(now_ms, epoch, position);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
        self.live_until_ms.store(after(now_ms, stands_for), Ordering::Release);
    }

    /// Postgres was asked at `now_ms` for everything past what `generation` covered, and all of it is applied. Returns
    /// false, and changes nothing, when another generation has begun meanwhile.
    pub(super) fn asked(&self, generation: u32, now_ms: i64, stands_for: Duration, epoch: u64, position: u64) -> bool {
        let _turn = self.turn();
        if self.generation() != generation {
            return false;
        }
        self.stand(now_ms, epoch, position);
        self.asked_until_ms.store(after(now_ms, stands_for), Ordering::Release);
        true
    }

    fn stand(&self, now_ms: i64, epoch: u64, position: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.live_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.grounded.store(true, Ordering::Release);
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The feed cannot be relied on from now.
    pub(super) fn silence(&self) {
        self.live_until_ms.store(0, Ordering::Release);
    }

    /// The table begins anew: nothing that was read so far is vouched for from now on. Silent and not grounded until
    /// something vouches. Returns the new generation.
    pub(super) fn next_generation(&self) -> u32 {
        let _turn = self.turn();
        self.silence();
        self.asked_until_ms.store(0, Ordering::Release);
        self.grounded.store(false, Ordering::Release);
        let ended = self.generation();
        self.ended_ms[ended as usize % GENERATIONS].store(self.live_ms.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.ended_ms[ended.wrapping_add(1) as usize % GENERATIONS].store(0, Ordering::Relaxed);
        self.generation.store(ended.wrapping_add(1), Ordering::Release);
        ended.wrapping_add(1)
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
        self.database.learn(database_ms, now_ms);
    }

    pub(super) fn database_now_ms(&self, now_ms: i64) -> i64 {
        self.database.now_ms(now_ms)
    }

    /// A heartbeat of this time of the database proved that the table is complete.
    pub(super) fn vouch(&self, incarnation: i64, database_ms: i64) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.vouched_ms.store(database_ms, Ordering::Relaxed);
    }

    /// Age of the last heartbeat that proved the table complete; `None` before the first.
    pub(super) fn heartbeat_age_ms(&self, now_ms: i64) -> Option<i64> {
        let vouched_ms = self.vouched_ms.load(Ordering::Relaxed);
        (vouched_ms != 0).then(|| self.database_now_ms(now_ms).saturating_sub(vouched_ms).max(0))
    }

    pub(super) fn incarnation(&self) -> i64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// How far the edge may say that it is.
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(super) fn key_died(&self) -> &Notify {
        &self.key_died
    }
}

fn after(now_ms: i64, stands_for: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(stands_for.as_millis()).unwrap_or(0))
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
    fn the_age_of_a_heartbeat_is_told_by_the_database_and_is_unknown_before_the_first() {
        let pulse = pulse();
        assert_eq!(pulse.heartbeat_age_ms(1_000), None);
        // The database is five seconds ahead of us.
        pulse.learn_database_time(1_005_000, 1_000_000);
        pulse.vouch(7, 1_005_000);
        assert_eq!(pulse.heartbeat_age_ms(1_000_000), Some(0));
        assert_eq!(pulse.heartbeat_age_ms(1_003_000), Some(3_000));
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
        assert!(pulse.is_grounded());
        pulse.next_generation();
        assert!(!pulse.is_grounded());
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
    fn an_answer_of_postgres_vouches_for_the_generation_that_asked_and_for_no_other() {
        let pulse = pulse();
        pulse.beat(50_000_000, BEAT, 1, 7);
        pulse.silence();
        let entry = Freshness::new(1, 0);
        assert!(pulse.asked(1, 50_020_000, BEAT, 1, 9));
        assert!(pulse.is_fresh(&entry, 50_023_000));
        assert!(!pulse.is_live(50_021_000), "the feed is silent all the same");
        assert_eq!(pulse.covered(), (1, 9));
        pulse.next_generation();
        assert!(!pulse.asked(1, 50_031_000, BEAT, 1, 12), "another one has begun");
        assert!(!pulse.is_fresh(&entry, 50_031_000));
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
