//! What is known of the stream, and what follows from it. No I/O: messages, heartbeats and time come in as arguments.
//!
//! The stream is compacted (one message a subject), so gaps in its sequence are normal and prove nothing. What proves that
//! this edge is complete is the relay's heartbeat: it names the stream's incarnation and the last sequence that was
//! published, and the edge has applied that far.

use std::time::Duration;

use authsome_contract::wire::Heartbeat;
use tokio::time::Instant;

use super::verdict::{Reason, Verdict};

/// Three heartbeats, one a second, and some slack for the way.
pub(super) const MISSED: Duration = Duration::from_millis(3300);
/// Longer than any message takes; a consumer that is behind for this long has stopped delivering.
const BEHIND: Duration = Duration::from_secs(1);

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
mod tests;
