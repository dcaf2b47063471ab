//! Paths whose responses may not be kept, as was seen: requests for them pass the cache by, at the cost of one look-up, and
//! never wait for each other.
//!
//! A row of numbers, each made of a path's hash and of when it is forgotten: a look-up reads one line of memory, where a
//! cache that knows what is used costs ten times as much. Two paths that look alike cost at most a response that is not
//! kept; one that is pushed out is asked for over the cache once more.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authsome_core::id::ApplicationId;
use foldhash::quality::RandomState;

/// A row of them is one line of memory.
const ROW: usize = 8;
/// 2 MiB.
const ROWS: usize = 1 << 15;
/// An instance may change its mind.
const MEMORY: Duration = Duration::from_mins(5);
/// Of a number, what says when it is forgotten: seconds, which begin anew after 194 days. Whoever was noted so long ago is
/// believed once more for as long as [`MEMORY`].
const TIME_BITS: u32 = 24;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// An application's path, by a seeded hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path(u64);

impl Path {
    pub(super) fn of(app: &ApplicationId, tail: &str) -> Self {
        static SEED: OnceLock<RandomState> = OnceLock::new();
        Self(
            SEED.get_or_init(RandomState::default)
                .hash_one((app.uuid().as_u128(), tail)),
        )
    }
}

pub(super) struct Unlikely(Box<[Row]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Row([AtomicU64; ROW]);

impl Unlikely {
    pub(super) fn new() -> Self {
        Self((0..ROWS).map(|_| Row::default()).collect())
    }

    /// Was it noted lately, at this time in milliseconds?
    pub(super) fn contains(&self, path: Path, now_ms: i64) -> bool {
        self.of(path)
            .iter()
            .any(|place| is_valid(place.load(Ordering::Relaxed), path, seconds(now_ms)))
    }

    /// Notes it from this time on.
    pub(super) fn note(&self, path: Path, now_ms: i64) {
        let (row, now) = (self.of(path), seconds(now_ms));
        let left = |place: &&AtomicU64| left(place.load(Ordering::Relaxed), now);
        let same = row.iter().find(|place| is_of(place.load(Ordering::Relaxed), path));
        // The one that is forgotten next makes room.
        if let Some(place) = same.or_else(|| row.iter().min_by_key(left)) {
            let until = now + MEMORY.as_secs();
            place.store((path.0 & !TIME) | (until & TIME), Ordering::Relaxed);
        }
    }

    fn of(&self, path: Path) -> &[AtomicU64; ROW] {
        // Of the bits that the number does not hold.
        let index = usize::try_from(path.0 & TIME).unwrap_or(0) % ROWS;
        &self.0[index].0
    }
}

fn seconds(now_ms: i64) -> u64 {
    u64::try_from(now_ms.div_euclid(1000)).unwrap_or(0)
}

fn is_of(number: u64, path: Path) -> bool {
    (number ^ path.0) & !TIME == 0
}

/// Seconds until it is forgotten; 0 if it is. More than was ever given to one is from before the seconds began anew.
fn left(number: u64, now: u64) -> u64 {
    let left = number.wrapping_sub(now) & TIME;
    if left <= MEMORY.as_secs() { left } else { 0 }
}

fn is_valid(number: u64, path: Path, now: u64) -> bool {
    is_of(number, path) && left(number, now) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const FOR: i64 = 300_000;

    /// In the same row as others of the same `row`.
    fn path(row: u64, n: u64) -> Path {
        Path(n << TIME_BITS | row)
    }

    #[test]
    fn what_was_noted_is_known_for_five_minutes_from_the_last_time_on() {
        let unlikely = Unlikely::new();
        let (one, other) = (path(1, 7), path(1, 8));
        assert!(!unlikely.contains(one, NOW));
        unlikely.note(one, NOW);
        assert!(unlikely.contains(one, NOW) && unlikely.contains(one, NOW + FOR - 1000));
        assert!(!unlikely.contains(one, NOW + FOR));
        assert!(!unlikely.contains(other, NOW));
        unlikely.note(one, NOW + 100_000);
        assert!(unlikely.contains(one, NOW + FOR));
        assert_eq!(
            unlikely.0[1]
                .0
                .iter()
                .filter(|place| place.load(Ordering::Relaxed) != 0)
                .count(),
            1
        );
        assert!(!unlikely.contains(one, NOW - FOR), "the clock was set back");
    }

    #[test]
    fn a_full_row_gives_up_what_is_forgotten_next() {
        let unlikely = Unlikely::new();
        for (n, at) in (1..=ROW as u64).zip([0, 1, 2, 3, 4, 5, 6, 7]) {
            unlikely.note(path(5, n), NOW + 1000 * at);
        }
        unlikely.note(path(5, 100), NOW + 20_000);
        assert!(!unlikely.contains(path(5, 1), NOW + 20_000));
        for n in 1..ROW as u64 {
            assert!(unlikely.contains(path(5, n + 1), NOW + 20_000));
        }
        assert!(unlikely.contains(path(5, 100), NOW + 20_000));
    }

    #[test]
    fn paths_of_two_applications_are_apart() {
        let of = |n: u128, tail| Path::of(&ApplicationId::from_uuid(uuid::Uuid::from_u128(n)), tail);
        assert_eq!(of(1, "/a"), of(1, "/a"));
        assert_ne!(of(1, "/a"), of(2, "/a"));
        assert_ne!(of(1, "/a"), of(1, "/b"));
    }
}
