//! What follows from what is known of the stream, in words that the feed acts on.

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
