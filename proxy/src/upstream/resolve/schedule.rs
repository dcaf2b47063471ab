//! When a name is asked for again, and what an answer changes.
//!
//! Pure. Records are believed for as long as they say, within bounds. A resolver that fails changes nothing: the last good
//! addresses stay, since instances seldom move while their resolver is away. A resolver that says twice in a row that there is
//! no address is believed: an address that was given back may be another tenant's by now.

use std::time::Duration;

use authsome_core::entropy::Entropy;

/// How often names are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RefreshBounds {
    /// Not more often, however short the records live; also the first pause after a failure.
    pub(super) min: Duration,
    /// Not less often, however long they live; also the longest pause after failures.
    pub(super) max: Duration,
}

/// What the resolver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Addresses, to be believed for this long.
    Addresses(Duration),
    /// That there is none.
    Nothing,
    /// It did not answer, or not with sense.
    Failed,
}

/// What becomes of the addresses so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The new ones take their place.
    Replace,
    /// There are none any more.
    Clear,
    /// They stay.
    Keep,
}

/// The history of one name, as far as it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    failures: u32,
    nothings: u32,
}

/// Answers of "nothing" in a row that are believed.
const BELIEVED: u32 = 2;

impl Schedule {
    /// What an answer changes, and how long until the next question.
    pub(super) fn after(&mut self, said: Said, bounds: &RefreshBounds, entropy: &dyn Entropy) -> (Change, Duration) {
        let (change, pause) = match said {
            Said::Addresses(lifetime) => {
                *self = Self::default();
                (Change::Replace, lifetime)
            }
            Said::Nothing => {
                self.failures = 0;
                self.nothings = self.nothings.saturating_add(1);
                let change = if self.nothings >= BELIEVED {
                    Change::Clear
                } else {
                    Change::Keep
                };
                (change, doubled(bounds.min, self.nothings - 1))
            }
            Said::Failed => {
                self.failures = self.failures.saturating_add(1);
                (Change::Keep, doubled(bounds.min, self.failures - 1))
            }
        };
        let pause = pause.clamp(bounds.min, bounds.max);
        (change, spread(pause, entropy))
    }
}

fn doubled(pause: Duration, times: u32) -> Duration {
    pause.saturating_mul(1_u32.checked_shl(times.min(31)).unwrap_or(u32::MAX))
}

/// Up to a tenth longer, so that names which were asked for together drift apart.
fn spread(pause: Duration, entropy: &dyn Entropy) -> Duration {
    let tenth = u64::try_from(pause.as_micros() / 10).unwrap_or(u64::MAX);
    pause + Duration::from_micros(entropy.next_u64() % tenth.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: RefreshBounds = RefreshBounds {
        min: Duration::from_secs(5),
        max: Duration::from_mins(1),
    };

    fn about(pause: Duration, expected: Duration) -> bool {
        pause >= expected && pause <= expected + expected / 10
    }

    #[test]
    fn records_are_believed_for_as_long_as_they_say_within_the_bounds() {
        let entropy = SeededEntropy::new(1);
        for (lifetime, expected) in [(0, 5), (1, 5), (30, 30), (86_400, 60)] {
            let said = Said::Addresses(Duration::from_secs(lifetime));
            let (change, pause) = Schedule::default().after(said, &BOUNDS, &entropy);
            assert_eq!(change, Change::Replace);
            assert!(about(pause, Duration::from_secs(expected)), "{lifetime}: {pause:?}");
        }
    }

    #[test]
    fn a_resolver_that_fails_changes_nothing_and_is_asked_less_and_less_often() {
        let (mut schedule, entropy) = (Schedule::default(), SeededEntropy::new(1));
        for expected in [5, 10, 20, 40, 60, 60] {
            let (change, pause) = schedule.after(Said::Failed, &BOUNDS, &entropy);
            assert_eq!(change, Change::Keep);
            assert!(about(pause, Duration::from_secs(expected)), "{pause:?}");
        }
        for _ in 0..100 {
            assert_eq!(schedule.after(Said::Failed, &BOUNDS, &entropy).0, Change::Keep);
        }
    }

    #[test]
    fn that_there_is_nothing_is_believed_the_second_time() {
        let (mut schedule, entropy) = (Schedule::default(), SeededEntropy::new(1));
        let mut say = |said| schedule.after(said, &BOUNDS, &entropy).0;
        assert_eq!(say(Said::Nothing), Change::Keep);
        assert_eq!(say(Said::Failed), Change::Keep);
        assert_eq!(say(Said::Nothing), Change::Clear);
        assert_eq!(say(Said::Addresses(Duration::ZERO)), Change::Replace);
        assert_eq!(say(Said::Nothing), Change::Keep);
        assert_eq!(say(Said::Nothing), Change::Clear);
        assert_eq!(say(Said::Nothing), Change::Clear);
    }

    proptest! {
        #[test]
        fn every_pause_is_within_the_bounds(said in prop::collection::vec(0..4_u8, 1..100), seed: u64) {
            let (mut schedule, entropy) = (Schedule::default(), SeededEntropy::new(seed));
            for said in said {
                let said = match said {
                    0 => Said::Failed,
                    1 => Said::Nothing,
                    2 => Said::Addresses(Duration::ZERO),
                    _ => Said::Addresses(Duration::MAX),
                };
                let (_, pause) = schedule.after(said, &BOUNDS, &entropy);
                prop_assert!(pause >= BOUNDS.min && pause <= BOUNDS.max + BOUNDS.max / 10);
            }
        }
    }
}
