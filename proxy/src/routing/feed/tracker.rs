//! What is known of the stream, and what follows from it. No I/O: messages, heartbeats and time come in as arguments.
//!
//! The stream is compacted (one message a subject), so gaps in its sequence are normal and prove nothing. What proves that
//! this edge is complete is the relay's heartbeat: it names the stream's incarnation and the last sequence that was
//! published, and the edge has applied that far.

use std::time::Duration;

use authsome_contract::wire::Heartbeat;
use tokio::time::Instant;

/// Three heartbeats, one a second, and some slack for the way.
pub(super) const MISSED: Duration = Duration::from_millis(3300);
/// Longer than any message takes; a consumer that is behind for this long has stopped delivering.
const BEHIND: Duration = Duration::from_secs(1);

/// Why the feed is not relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing heard yet, or the connection or consumer failed.
    Disconnected,
    /// Three heartbeats are missing.
    Silent,
    /// The relay speaks of another stream.
    Incarnation,
    /// The stream's sequence went back.
    WentBack,
    /// The relay has published more than the consumer delivers.
    Behind,
    /// The database was restored.
    Epoch,
}

/// Every reason, as a label.
pub(in crate::routing) const REASONS: [&str; 6] =
    ["disconnected", "silent", "incarnation", "went_back", "behind", "epoch"];

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Everything up to `position` of `epoch` is applied. `anew`: what was read before this may have missed changes.
    Live { epoch: u64, position: u64, anew: bool },
    /// Catching up, or waiting for the first heartbeat; nothing is wrong.
    Wait,
    /// Do not rely on the feed; the consumer may go on.
    Doubt(Reason),
    /// Do not rely on the feed and attach a new consumer.
    Restart(Reason),
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) sequence: u64,
    /// Another stream than before, or the first: what is held must be vouched for anew.
    pub(super) anew: bool,
}

#[derive(Debug)]
pub(super) struct Tracker {
    incarnation: Option<i64>,
    epoch: Option<u64>,
    /// Last sequence that is applied or known not to be of interest.
    applied: u64,
    /// A heartbeat must have got this far before it can vouch for a consumer that began anew.
    baseline: u64,
    /// No heartbeat has vouched for it yet.
    anew: bool,
    /// Begin at the first message of a stream instead of after its last.
    whole: bool,
    last: Option<Heard>,
    behind_since: Option<Instant>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    heartbeat: Heartbeat,
}

impl Tracker {
    /// `whole`: a stream is read from its first message on, so that it brings the whole table.
    pub(super) fn new(whole: bool) -> Self {
        Self {
            whole,
            incarnation: None,
            epoch: None,
            applied: 0,
            baseline: 0,
            anew: true,
            last: None,
            behind_since: None,
        }
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// The stream as it is now. The consumer goes on after the last applied message when this is still the same stream;
    /// otherwise it begins at the stream's first message, or at its end, and nothing held is vouched for.
    pub(super) fn attach(&mut self, incarnation: i64, last_sequence: u64) -> Start {
        let anew = self.incarnation != Some(incarnation) || last_sequence < self.applied;
        if anew {
            self.incarnation = Some(incarnation);
            self.applied = if self.whole { 0 } else { last_sequence };
            self.baseline = last_sequence;
            self.anew = true;
        }
        self.last = None;
        self.behind_since = None;
        Start {
            sequence: self.applied + 1,
            anew,
        }
    }

    /// Is everything applied that the stream held when it was begun with?
    pub(super) fn is_caught_up(&self) -> bool {
        self.incarnation.is_some() && self.applied >= self.baseline
    }

    /// The new consumer has nothing to deliver: the stream holds nothing between what was applied and its end.
    pub(super) fn nothing_pending(&mut self, last_sequence: u64) {
        self.applied = self.applied.max(last_sequence);
    }

    /// A message was delivered and is applied.
    pub(super) fn delivered(&mut self, sequence: u64, now: Instant) -> Verdict {
        if sequence > self.applied {
            self.applied = sequence;
            // Behind, and on its way.
            self.behind_since = None;
        }
        self.verdict(now)
    }

    pub(super) fn heard(&mut self, heartbeat: Heartbeat, now: Instant) -> Verdict {
        if self.incarnation != Some(heartbeat.incarnation) {
            return Verdict::Restart(Reason::Incarnation);
        }
        if self
            .epoch
            .replace(heartbeat.epoch)
            .is_some_and(|before| before != heartbeat.epoch)
        {
            self.incarnation = None;
            return Verdict::Restart(Reason::Epoch);
        }
        if let Some(Heard { heartbeat: before, .. }) = &self.last {
            // Positions and sequences only grow; a relay that lost some would let changes pass unseen.
            if heartbeat.sequence < before.sequence || heartbeat.position < before.position {
                self.incarnation = None;
                return Verdict::Restart(Reason::WentBack);
            }
        }
        self.last = Some(Heard { at: now, heartbeat });
        self.verdict(now)
    }

    /// Time passes.
    pub(super) fn verdict(&mut self, now: Instant) -> Verdict {
        let Some(Heard { at, heartbeat }) = &self.last else {
            return Verdict::Wait;
        };
        if now.duration_since(*at) >= MISSED {
            return Verdict::Doubt(Reason::Silent);
        }
        if self.applied < heartbeat.sequence {
            let since = *self.behind_since.get_or_insert(now);
            return if now.duration_since(since) >= BEHIND {
                Verdict::Restart(Reason::Behind)
            } else {
                Verdict::Wait
            };
        }
        self.behind_since = None;
        if self.anew && heartbeat.sequence < self.baseline {
            return Verdict::Wait;
        }
        let anew = std::mem::take(&mut self.anew);
        Verdict::Live {
            epoch: heartbeat.epoch,
            position: heartbeat.position,
            anew,
        }
    }

    /// Incarnation and database time of the last heartbeat.
    pub(super) fn vouching(&self) -> Option<(i64, i64)> {
        let heartbeat = &self.last.as_ref()?.heartbeat;
        Some((heartbeat.incarnation, heartbeat.database_time_ms))
    }

    /// How long ago the last heartbeat was heard.
    pub(super) fn since_heartbeat(&self, now: Instant) -> Duration {
        self.last.as_ref().map_or(MISSED, |heard| now.duration_since(heard.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(incarnation: i64, sequence: u64) -> Heartbeat {
        Heartbeat {
            epoch: 1,
            incarnation,
            position: sequence * 2,
            sequence,
            database_time_ms: 0,
        }
    }

    fn attached(now: Instant) -> Tracker {
        let mut tracker = Tracker::new(false);
        assert_eq!(
            tracker.attach(7, 100),
            Start {
                sequence: 101,
                anew: true
            }
        );
        assert_eq!(
            tracker.heard(beat(7, 100), now),
            Verdict::Live {
                epoch: 1,
                position: 200,
                anew: true
            }
        );
        tracker
    }

    #[test]
    fn it_lives_only_after_a_heartbeat_that_covers_where_it_began() {
        let now = Instant::now();
        let mut tracker = Tracker::new(false);
        tracker.attach(7, 100);
        assert_eq!(tracker.verdict(now), Verdict::Wait);
        assert_eq!(
            tracker.heard(beat(7, 99), now),
            Verdict::Wait,
            "older than the end of the stream that was seen"
        );
        assert_eq!(
            tracker.heard(beat(7, 101), now),
            Verdict::Wait,
            "101 is not delivered yet"
        );
        assert_eq!(
            tracker.delivered(101, now),
            Verdict::Live {
                epoch: 1,
                position: 202,
                anew: true
            }
        );
        assert_eq!(
            tracker.verdict(now),
            Verdict::Live {
                epoch: 1,
                position: 202,
                anew: false
            }
        );
    }

    #[test]
    fn a_whole_stream_is_read_from_its_first_message_and_slow_reading_is_not_standing_still() {
        let now = Instant::now();
        let mut tracker = Tracker::new(true);
        assert_eq!(
            tracker.attach(7, 100),
            Start {
                sequence: 1,
                anew: true
            }
        );
        assert_eq!(tracker.heard(beat(7, 100), now), Verdict::Wait);
        let (half, later) = (BEHIND / 2, BEHIND + BEHIND / 4);
        assert_eq!(tracker.delivered(40, now + half), Verdict::Wait);
        assert_eq!(tracker.delivered(90, now + later), Verdict::Wait);
        assert!(!tracker.is_caught_up());
        assert_eq!(
            tracker.delivered(100, now + later),
            Verdict::Live {
                epoch: 1,
                position: 200,
                anew: true
            }
        );
        assert!(tracker.is_caught_up());
        // The same stream after a lost connection: nothing is read twice.
        assert_eq!(
            tracker.attach(7, 120),
            Start {
                sequence: 101,
                anew: false
            }
        );
    }

    #[test]
    fn gaps_in_the_sequence_are_normal() {
        let now = Instant::now();
        let mut tracker = attached(now);
        assert_eq!(
            tracker.delivered(150, now),
            Verdict::Live {
                epoch: 1,
                position: 200,
                anew: false
            }
        );
        assert_eq!(
            tracker.heard(beat(7, 150), now),
            Verdict::Live {
                epoch: 1,
                position: 300,
                anew: false
            }
        );
    }

    #[test]
    fn three_missed_heartbeats_are_doubt_and_the_next_one_ends_it() {
        let now = Instant::now();
        let mut tracker = attached(now);
        assert_eq!(tracker.verdict(now + MISSED), Verdict::Doubt(Reason::Silent));
        let later = now + MISSED * 2;
        assert_eq!(
            tracker.heard(beat(7, 100), later),
            Verdict::Live {
                epoch: 1,
                position: 200,
                anew: false
            }
        );
    }

    #[test]
    fn a_consumer_that_stays_behind_is_replaced_and_goes_on_where_it_was() {
        let now = Instant::now();
        let mut tracker = attached(now);
        assert_eq!(tracker.heard(beat(7, 103), now), Verdict::Wait);
        assert_eq!(tracker.verdict(now + BEHIND), Verdict::Restart(Reason::Behind));
        assert_eq!(
            tracker.attach(7, 103),
            Start {
                sequence: 101,
                anew: false
            }
        );
        tracker.nothing_pending(103);
        let verdict = tracker.heard(beat(7, 103), now + BEHIND);
        assert_eq!(
            verdict,
            Verdict::Live {
                epoch: 1,
                position: 206,
                anew: false
            }
        );
    }

    #[test]
    fn another_stream_makes_everything_be_read_again() {
        let now = Instant::now();
        let mut tracker = attached(now);
        assert_eq!(tracker.heard(beat(8, 3), now), Verdict::Restart(Reason::Incarnation));
        assert_eq!(
            tracker.attach(8, 3),
            Start {
                sequence: 4,
                anew: true
            }
        );
        assert_eq!(
            tracker.heard(beat(8, 3), now),
            Verdict::Live {
                epoch: 1,
                position: 6,
                anew: true
            }
        );
    }

    #[test]
    fn a_sequence_that_goes_back_makes_everything_be_read_again() {
        let now = Instant::now();
        let mut tracker = attached(now);
        assert_eq!(tracker.heard(beat(7, 90), now), Verdict::Restart(Reason::WentBack));
        assert_eq!(
            tracker.attach(7, 90),
            Start {
                sequence: 91,
                anew: true
            }
        );
        assert_eq!(
            tracker.heard(beat(7, 90), now),
            Verdict::Live {
                epoch: 1,
                position: 180,
                anew: true
            }
        );
        // Seen first when attaching: the stream was restored from a copy.
        assert_eq!(
            tracker.attach(7, 80),
            Start {
                sequence: 81,
                anew: true
            }
        );
        assert_eq!(
            tracker.heard(beat(7, 80), now),
            Verdict::Live {
                epoch: 1,
                position: 160,
                anew: true
            }
        );
    }

    #[test]
    fn a_raised_epoch_makes_everything_be_read_again() {
        let now = Instant::now();
        let mut tracker = attached(now);
        let raised = Heartbeat {
            epoch: 2,
            ..beat(7, 100)
        };
        assert_eq!(tracker.heard(raised.clone(), now), Verdict::Restart(Reason::Epoch));
        tracker.attach(7, 100);
        assert_eq!(
            tracker.heard(raised, now),
            Verdict::Live {
                epoch: 2,
                position: 200,
                anew: true
            }
        );
    }
}
