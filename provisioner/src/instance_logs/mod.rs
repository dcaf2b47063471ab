//! What instances wrote to their logs, for those who may read it.
//!
//! Owns how a line is read ([`entry`]), how many of them one answer holds ([`page`]), and the answers to control
//! ([`LogServer`]). Where lines are kept is the runtime's. Without the control database there are no lines: what an
//! application's secrets are, and so what must be taken out, is known there only.

pub mod entry;
pub mod page;
mod server;

use authsome_contract::wire::LogLevel;
use time::OffsetDateTime;

pub(crate) use server::known_secrets;
pub use server::{LogServer, logs_of};

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At the newest lines.
    End,
    /// At the oldest line that is kept.
    Start,
    /// After this cursor, which a page of the same runtime told.
    After(String),
}

/// Which lines are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Where to begin.
    pub from: From,
    /// Not before.
    pub since: Option<OffsetDateTime>,
    /// At least of this level.
    pub level: Option<LogLevel>,
    /// At most so many.
    pub limit: usize,
}

impl LogQuery {
    /// Is it one of the lines? A line without a level counts as [`LogLevel::Info`]; one without a time is never since a time.
    pub fn takes(&self, entry: &authsome_contract::wire::LogEntry) -> bool {
        let level = entry.level.unwrap_or(LogLevel::Info);
        self.level.is_none_or(|least| level >= least)
            && self
                .since
                .is_none_or(|since| entry.timestamp.is_some_and(|timestamp| timestamp >= since))
    }
}
