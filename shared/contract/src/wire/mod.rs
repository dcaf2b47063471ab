//! Messages between the programs, and every name they meet under.
//!
//! Messages are JSON. Readers ignore fields they do not know; a message that cannot be read is counted, logged once and
//! acknowledged away, never retried for ever.

pub mod change;
pub mod edge;
pub mod instance_log;
pub mod job;
pub mod key_use;
pub mod names;
pub mod usage;

pub use change::{Change, Heartbeat, Mark, Versioned};
pub use edge::{EdgeReport, FeedState, TableSize};
pub use instance_log::{LogEntry, LogLevel, LogPage, LogRefusal, LogReply, LogRequest};
pub use job::Job;
pub use key_use::{KeyUse, KeyUses};
pub use usage::{UsageConfirmation, UsageCounter, UsageReport};
