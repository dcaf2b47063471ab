//! One line of a log. Pure.
//!
//! An instance writes JSON objects, a line each; what is none, such as the words of a program that cannot start, is a message
//! by itself.

use authsome_contract::wire::{LogEntry, LogLevel};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The longest message, in bytes; the rest is cut off.
const MESSAGE_MAX: usize = 8 * 1024;
/// The largest fields, in bytes of JSON; beyond it they are left out.
const FIELDS_MAX: usize = 8 * 1024;

const TIMES: [&str; 4] = ["timestamp", "time", "ts", "@timestamp"];
const LEVELS: [&str; 3] = ["level", "severity", "lvl"];
const MESSAGES: [&str; 2] = ["message", "msg"];

/// Reads a line. `before` is the time of the line before it, which stands for its own where it tells none.
pub fn parse(line: &str, before: Option<OffsetDateTime>) -> LogEntry {
    let line = line.trim_end_matches(['\r', '\n']);
    let object = line.trim_start().starts_with('{').then(|| serde_json::from_str(line));
    let Some(Ok(Value::Object(mut fields))) = object else {
        return LogEntry {
            timestamp: before,
            level: None,
            message: shortened(line),
            fields: Map::new(),
        };
    };
    let timestamp = take(&mut fields, &TIMES, time);
    let level = take(&mut fields, &LEVELS, level);
    let message = take(&mut fields, &MESSAGES, |value| value.as_str().map(shortened)).unwrap_or_default();
    if serde_json::to_string(&fields).is_ok_and(|text| text.len() > FIELDS_MAX) {
        fields = Map::from_iter([("truncated".to_owned(), Value::Bool(true))]);
    }
    LogEntry {
        timestamp: timestamp.or(before),
        level,
        message,
        fields,
    }
}

/// Takes the first member of these names that can be read out of the object.
fn take<T>(fields: &mut Map<String, Value>, names: &[&str], read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    names.iter().find_map(|name| {
        let found = read(fields.get(*name)?)?;
        fields.remove(*name);
        Some(found)
    })
}

/// RFC 3339, or seconds or milliseconds since 1970.
fn time(value: &Value) -> Option<OffsetDateTime> {
    /// Seconds stay below it until the year 5138, and milliseconds were above it in 1973.
    const MILLISECONDS: f64 = 1e11;
    match value {
        Value::String(text) => OffsetDateTime::parse(text, &Rfc3339).ok(),
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| *number >= 0.0)?;
            let seconds = if number >= MILLISECONDS { number / 1e3 } else { number };
            // Milliseconds are exact in a float for longer than a date can be.
            let offset = time::Duration::checked_seconds_f64(seconds)?;
            OffsetDateTime::UNIX_EPOCH.checked_add(offset)
        }
        _ => None,
    }
}

fn level(value: &Value) -> Option<LogLevel> {
    Some(match value.as_str()?.to_ascii_lowercase().as_str() {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "info" | "information" | "notice" => LogLevel::Info,
        "warn" | "warning" => LogLevel::Warn,
        "error" | "err" | "fatal" | "panic" | "dpanic" | "critical" => LogLevel::Error,
        _ => return None,
    })
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut message: String = text[..end].chars().filter(|c| *c == '\t' || !c.is_control()).collect();
    if end < text.len() {
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lines_of_every_kind_of_instance_are_understood() {
        let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        for (line, timestamp, level, message, fields) in [
            (
                r#"{"timestamp":"2023-11-14T22:13:20Z","level":"INFO","message":"listening","port":8080}"#,
                Some(at),
                Some(LogLevel::Info),
                "listening",
                json!({ "port": 8080 }),
            ),
            (
                r#"{"ts":1700000000,"lvl":"warning","msg":"slow"}"#,
                Some(at),
                Some(LogLevel::Warn),
                "slow",
                json!({}),
            ),
            (
                r#"{"time":1700000000000,"severity":"FATAL"}"#,
                Some(at),
                Some(LogLevel::Error),
                "",
                json!({}),
            ),
            ("panic: oh no\r\n", None, None, "panic: oh no", json!({})),
            (
                r#"{"level":"loud","message":3}"#,
                None,
                None,
                "",
                json!({ "level": "loud", "message": 3 }),
            ),
            ("{not json", None, None, "{not json", json!({})),
            ("[1]", None, None, "[1]", json!({})),
            ("", None, None, "", json!({})),
        ] {
            let read = parse(line, None);
            assert_eq!(
                (
                    read.timestamp,
                    read.level,
                    read.message.as_str(),
                    Value::Object(read.fields)
                ),
                (timestamp, level, message, fields),
                "{line}"
            );
        }
        assert_eq!(parse("goroutine 1:", Some(at)).timestamp, Some(at));
    }

    #[test]
    fn what_is_too_large_is_cut() {
        let long = "ä".repeat(MESSAGE_MAX);
        let message = parse(&long, None).message;
        assert!(message.len() <= MESSAGE_MAX + '…'.len_utf8() && message.ends_with('…'));
        let wide = json!({ "message": "x", "blob": "y".repeat(FIELDS_MAX) }).to_string();
        assert_eq!(Value::Object(parse(&wide, None).fields), json!({ "truncated": true }));
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reader(line in "\\PC{0,200}", number in any::<f64>()) {
            parse(&line, None);
            parse(&json!({ "ts": number, "message": line }).to_string(), None);
        }
    }
}
