//! How far the table has come, exactly: the outbox position up to which every change is applied. Pure.
//!
//! A message says which position it covers, which is sooner than the next heartbeat. That holds only for a reader that has
//! all messages before it, and the stream is compacted: what is missing between two sequences was replaced by something
//! later, which may not be here yet. So a gap suspends all claims until a message comes behind which nothing waits.

/// Begins with nothing; made anew with each consumer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// A heartbeat has shown that everything before is applied.
    founded: bool,
    /// Something was replaced by what may not be here yet.
    gap: bool,
    position: u64,
}

/// A message that was applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    pub(super) sequence: u64,
    /// The last sequence applied before it.
    pub(super) previous: u64,
    /// Messages that wait behind it.
    pub(super) pending: u64,
    /// What the message says that it covers.
    pub(super) covers: Option<u64>,
}

impl Progress {
    /// Returns the position that is now proven, if it moved.
    pub(super) fn delivered(&mut self, message: Delivered) -> Option<u64> {
        if message.pending == 0 {
            self.gap = false;
        } else if message.sequence > message.previous.saturating_add(1) {
            self.gap = true;
        }
        let covers = message.covers.filter(|_| self.founded && !self.gap)?;
        self.advance(covers)
    }

    /// A heartbeat vouches for everything up to `position`.
    pub(super) fn vouched(&mut self, position: u64) -> Option<u64> {
        if self.gap {
            return None;
        }
        self.founded = true;
        self.advance(position)
    }

    fn advance(&mut self, position: u64) -> Option<u64> {
        if position <= self.position {
            return None;
        }
        self.position = position;
        Some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, pending: u64, covers: u64) -> Delivered {
        Delivered {
            sequence,
            previous: sequence - 1,
            pending,
            covers: Some(covers),
        }
    }

    #[test]
    fn nothing_is_claimed_before_the_first_heartbeat() {
        let mut progress = Progress::default();
        assert_eq!(progress.delivered(message(5, 0, 50)), None);
        assert_eq!(progress.vouched(60), Some(60));
        assert_eq!(progress.delivered(message(6, 0, 61)), Some(61));
    }

    #[test]
    fn a_position_never_goes_back() {
        let mut progress = Progress::default();
        progress.vouched(60);
        assert_eq!(progress.delivered(message(6, 0, 59)), None);
        assert_eq!(progress.vouched(60), None);
        assert_eq!(progress.delivered(message(7, 0, 61)), Some(61));
        assert_eq!(progress.vouched(60), None);
    }

    #[test]
    fn a_gap_claims_nothing_until_nothing_waits_behind_a_message() {
        let mut progress = Progress::default();
        progress.vouched(60);
        let jump = Delivered {
            sequence: 12,
            previous: 9,
            pending: 2,
            covers: Some(66),
        };
        assert_eq!(
            progress.delivered(jump),
            None,
            "10 or 11 may be one of the two that wait"
        );
        assert_eq!(progress.delivered(message(13, 1, 67)), None);
        assert_eq!(progress.vouched(67), None);
        assert_eq!(progress.delivered(message(14, 0, 68)), Some(68));
    }

    #[test]
    fn a_message_that_covers_nothing_moves_nothing() {
        let mut progress = Progress::default();
        progress.vouched(60);
        let folded = Delivered {
            covers: None,
            ..message(10, 0, 0)
        };
        assert_eq!(progress.delivered(folded), None);
    }
}
