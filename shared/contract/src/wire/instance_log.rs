//! What instances wrote to their logs, asked by control of the provisioner of the application's region, which alone can reach
//! them. Request and reply over core NATS: nothing is stored, and an answer that is lost is asked for again by the client.

use authsome_core::id::ApplicationId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::model::closed::closed_set;

closed_set! {
    /// How much a line matters, in order.
    LogLevel, "log level" {
        /// For whoever works on the program.
        Trace = "trace",
        /// For whoever looks for a fault.
        Debug = "debug",
        /// What happens.
        Info = "info",
        /// What should not happen.
        Warn = "warn",
        /// What failed.
        Error = "error",
    }
}

/// Which lines are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    /// The application.
    pub application_id: ApplicationId,
    /// Not before.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// At least of this level; lines without one count as [`LogLevel::Info`].
    #[serde(default)]
    pub level: Option<LogLevel>,
    /// At most so many: the last ones, or the first ones after the cursor.
    pub limit: u32,
    /// From [`LogPage::cursor`], or [`LogRequest::START`]; the newest lines without one.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl LogRequest {
    /// The cursor before the oldest line that is kept.
    pub const START: &'static str = "start";
    /// The largest [`LogRequest::limit`].
    pub const LIMIT_MAX: u32 = 1_000;
    /// The longest cursor, in bytes.
    pub const CURSOR_MAX: usize = 512;
}

/// One line, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// When it was written; `None` where neither it nor a line before it says.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub timestamp: Option<OffsetDateTime>,
    /// Its level, if it has one.
    #[serde(default)]
    pub level: Option<LogLevel>,
    /// What it says.
    pub message: String,
    /// Everything else in it.
    #[serde(default)]
    pub fields: Map<String, Value>,
}

/// Lines in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// At most [`LogRequest::limit`], and together under [`LogPage::BYTES_MAX`].
    pub entries: Vec<LogEntry>,
    /// For what comes after them.
    pub cursor: String,
    /// Asked with a cursor: there is more after them already. Without: there are older ones.
    pub has_more: bool,
}

impl LogPage {
    /// Messages and fields of one page, in bytes of JSON: with what is around them well under NATS's 1 MiB.
    pub const BYTES_MAX: usize = 512 * 1024;
}

/// Why there are no lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogRefusal {
    /// The cursor is none of this application's.
    Cursor,
    /// Not now: what holds the lines, or what is needed to take secrets out of them, is away.
    Unavailable,
}

/// The answer to a [`LogRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogReply {
    /// The lines.
    Page(LogPage),
    /// Why there are none.
    Refused(LogRefusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_in_order() {
        assert!(LogLevel::ALL.is_sorted());
    }

    #[test]
    fn a_question_of_a_newer_release_is_understood() {
        let text = r#"{"applicationId":"app_01h455vb4pex5vsknk084sn02q","limit":5,"colour":"red"}"#;
        let request: LogRequest = serde_json::from_str(text).unwrap();
        assert_eq!((request.limit, request.level, request.cursor), (5, None, None));
    }
}
