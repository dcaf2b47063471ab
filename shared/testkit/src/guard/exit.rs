//! How a child ended.

use std::fmt;

/// How a guarded process ended, as a shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub(super) i32);

impl Exit {
    /// What is known of a process whose guard was killed before it said how the child ended.
    pub(super) const UNKNOWN: Self = Self(128 + 9);

    /// Whether it ended by itself with status 0.
    pub fn success(self) -> bool {
        self.0 == 0
    }

    /// Its exit code, unless a signal ended it.
    pub fn code(self) -> Option<i32> {
        (0..=128).contains(&self.0).then_some(self.0)
    }

    /// The number of the signal that ended it.
    pub fn signal(self) -> Option<i32> {
        (self.0 > 128).then(|| self.0 - 128)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "signal {signal}"),
            None => write!(f, "exit code {}", self.0),
        }
    }
}
