//! The three tokens of a stop, for tasks to watch and for anyone to set off.

use tokio_util::sync::CancellationToken;

/// Where a process stands between running and gone. Clones are the same.
#[derive(Debug, Clone)]
pub struct Shutdown {
    draining: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// A process that is running. Programs take the one of their [`Lifecycle`](super::Lifecycle).
    pub fn new() -> Self {
        Self {
            draining: CancellationToken::new(),
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
        }
    }

    /// Cancelled when readiness goes off.
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when nothing new is to be accepted.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when everything is to be dropped.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Whether the process is to end: readiness is off.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Sets off an orderly stop: draining now, the rest follows.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Goes on to the soft stop. For a process whose stop is timed elsewhere.
    pub fn stop_softly(&self) {
        self.draining.cancel();
        self.soft.cancel();
    }

    /// Goes on to the hard stop. For a process whose stop is timed elsewhere.
    pub fn stop_hard(&self) {
        self.stop_softly();
        self.hard.cancel();
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}
