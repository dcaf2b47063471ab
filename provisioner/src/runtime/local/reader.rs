//! Reading the log files of an application's instances: bounded in work, and able to go on where it stopped.
//!
//! A cursor is a place in each file, by replica. Places stay what they are when a log loses its beginning, when an instance
//! starts again and when the provisioner does; a file that is shorter than its place was made anew, and is read from its
//! beginning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use authsome_contract::wire::{LogEntry, LogPage};
use authsome_core::id::ApplicationId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use super::{RuntimeError, log};
use crate::instance_logs::{From, LogQuery, entry, page};

/// What is read for one question at most, in bytes over all files.
const WORK: u64 = 8 * 1024 * 1024;
/// What is read first of the end of a file: enough for most questions.
const FIRST: u64 = 256 * 1024;

/// A place in each replica's log.
type Places = BTreeMap<usize, u64>;

/// A line of a log.
struct Line {
    entry: LogEntry,
    /// Its time, or the latest one before it, so that lines of one file stay in their order.
    at: Option<OffsetDateTime>,
    replica: usize,
    /// Where its file goes on after it.
    end: u64,
    /// It is asked for.
    taken: bool,
}

/// Lines of the log files in `directory`.
pub(super) fn read(directory: &Path, application: ApplicationId, query: &LogQuery) -> Result<LogPage, RuntimeError> {
    let logs = Log::open_all(directory, application)?;
    let share = WORK / u64::try_from(logs.len().max(1)).unwrap_or(1);
    match &query.from {
        From::End => newest(&logs, share, query),
        From::Start => after(&logs, &Places::new(), share, query),
        From::After(text) => after(&logs, &places(text)?, share, query),
    }
}

/// The newest lines.
fn newest(logs: &[Log], share: u64, query: &LogQuery) -> Result<LogPage, RuntimeError> {
    let (mut lines, mut ends, mut older) = (Vec::new(), Places::new(), false);
    for log in logs {
        let beginning = log.data_from(0);
        let mut work = FIRST.min(share);
        let (found, end) = loop {
            let start = log.data_from(log.length.saturating_sub(work)).max(beginning);
            let (found, end) = log.lines(start, log.length, start > 0, query)?;
            let enough = found.iter().filter(|line| line.taken).count() >= query.limit;
            if enough || start <= beginning || work >= share {
                older |= start > beginning;
                break (found, end);
            }
            work = (work * 2).min(share);
        };
        ends.insert(log.replica, end);
        lines.extend(found.into_iter().filter(|line| line.taken));
    }
    lines.sort_by_key(|line| line.at);
    let (entries, left_out) = page::last(lines.into_iter().map(|line| line.entry).collect(), query.limit);
    Ok(LogPage {
        entries,
        cursor: cursor(&ends),
        has_more: left_out || older,
    })
}

/// The first lines after these places.
fn after(logs: &[Log], from: &Places, share: u64, query: &LogQuery) -> Result<LogPage, RuntimeError> {
    let (mut lines, mut places, mut ends, mut more) = (Vec::new(), Places::new(), Places::new(), false);
    for log in logs {
        let place = from.get(&log.replica).copied().filter(|place| *place <= log.length);
        let place = place.unwrap_or(0);
        let start = log.data_from(place);
        let stop = log.length.min(start.saturating_add(share));
        let (found, end) = log.lines(start, stop, start > place, query)?;
        more |= stop < log.length;
        places.insert(log.replica, start);
        ends.insert(log.replica, end);
        lines.extend(found);
    }
    lines.sort_by_key(|line| line.at);
    let fit = page::fitting(
        lines.iter().filter(|line| line.taken).map(|line| &line.entry),
        query.limit,
    );
    let mut entries = Vec::with_capacity(fit);
    let mut whole = true;
    for line in lines {
        if line.taken && entries.len() == fit {
            whole = false;
            break;
        }
        places.insert(line.replica, line.end);
        if line.taken {
            entries.push(line.entry);
        }
    }
    Ok(LogPage {
        entries,
        cursor: cursor(if whole { &ends } else { &places }),
        has_more: more || !whole,
    })
}

/// One log file.
struct Log {
    replica: usize,
    path: PathBuf,
    file: File,
    /// When it was opened; what is written later is for another question.
    length: u64,
}

impl Log {
    /// The logs of an application, in the order of its replicas.
    fn open_all(directory: &Path, application: ApplicationId) -> Result<Vec<Self>, RuntimeError> {
        let mut logs = Vec::new();
        for (replica, path) in log::all(directory, application)? {
            let io = |doing: &str, source| RuntimeError::Io {
                doing: format!("{doing} {}", path.display()),
                source,
            };
            match File::open(&path) {
                Ok(file) => {
                    let length = file.metadata().map_err(|error| io("look at", error))?.len();
                    logs.push(Self {
                        replica,
                        path,
                        file,
                        length,
                    });
                }
                // Removed this moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io("open", error)),
            }
        }
        logs.sort_by_key(|log| log.replica);
        Ok(logs)
    }

    fn data_from(&self, place: u64) -> u64 {
        log::data_from(&self.file, place, self.length)
    }

    /// The whole lines between two places, and where the last of them ends. `cut`: the first one began before `start`, and is
    /// left out. A line that is longer than all that is read is taken as it is.
    fn lines(&self, start: u64, stop: u64, cut: bool, query: &LogQuery) -> Result<(Vec<Line>, u64), RuntimeError> {
        let bytes = self.bytes(start, stop)?;
        let mut from = if cut {
            let line = bytes.iter().position(|byte| *byte == b'\n');
            line.map_or(bytes.len(), |at| at + 1)
        } else {
            0
        };
        let (mut lines, mut before, mut latest) = (Vec::new(), None, None);
        while from < bytes.len() {
            let rest = &bytes[from..];
            let length = match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => at + 1,
                None if from == 0 && stop < self.length => rest.len(),
                None => break,
            };
            let entry = entry::parse(&String::from_utf8_lossy(&rest[..length]), before);
            from += length;
            before = entry.timestamp;
            latest = latest.max(before);
            lines.push(Line {
                taken: query.takes(&entry),
                entry,
                at: latest,
                replica: self.replica,
                end: start + as_u64(from),
            });
        }
        Ok((lines, start + as_u64(from)))
    }

    fn bytes(&self, start: u64, stop: u64) -> Result<Vec<u8>, RuntimeError> {
        let read = || {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(stop.saturating_sub(start)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| RuntimeError::Io {
            doing: format!("read {}", self.path.display()),
            source,
        })
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// `0:17,1:0` in base64, so that nobody takes it for something to calculate with.
fn cursor(places: &Places) -> String {
    let text: Vec<String> = places
        .iter()
        .map(|(replica, place)| format!("{replica}:{place}"))
        .collect();
    URL_SAFE_NO_PAD.encode(text.join(","))
}

fn places(cursor: &str) -> Result<Places, RuntimeError> {
    let text = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| RuntimeError::Cursor)?;
    let text = str::from_utf8(&text).map_err(|_| RuntimeError::Cursor)?;
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (replica, place) = part.split_once(':').ok_or(RuntimeError::Cursor)?;
            let number = |_| RuntimeError::Cursor;
            Ok((replica.parse().map_err(number)?, place.parse().map_err(number)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use authsome_contract::wire::LogLevel;

    use super::*;

    struct Logs {
        directory: tempfile::TempDir,
        id: ApplicationId,
    }

    impl Logs {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                id: ApplicationId::from_uuid(uuid::Uuid::from_u128(7)),
            }
        }

        fn write(&self, replica: usize, text: &str) {
            let path = log::path(self.directory.path(), self.id, replica);
            log::open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }

        /// `seconds` after 1970, as an instance writes it.
        fn line(&self, replica: usize, seconds: u32, level: &str, message: &str) {
            let line = serde_json::json!({ "ts": seconds, "level": level, "message": message });
            self.write(replica, &format!("{line}\n"));
        }

        fn ask(&self, query: &LogQuery) -> LogPage {
            read(self.directory.path(), self.id, query).unwrap()
        }
    }

    fn newest(limit: usize) -> LogQuery {
        LogQuery {
            from: From::End,
            since: None,
            level: None,
            limit,
        }
    }

    fn after(page: &LogPage, limit: usize) -> LogQuery {
        LogQuery {
            from: From::After(page.cursor.clone()),
            ..newest(limit)
        }
    }

    fn said(page: &LogPage) -> Vec<&str> {
        page.entries.iter().map(|entry| entry.message.as_str()).collect()
    }

    #[test]
    fn lines_of_several_instances_come_in_their_order_and_each_once() {
        let logs = Logs::new();
        for number in 0..10 {
            logs.line(number % 2, u32::try_from(number).unwrap(), "info", &number.to_string());
        }
        let page = logs.ask(&newest(4));
        assert_eq!((said(&page), page.has_more), (vec!["6", "7", "8", "9"], true));
        assert!(!logs.ask(&newest(10)).has_more);

        // Nothing new, then something, then something in the middle of a line.
        let nothing = logs.ask(&after(&page, 10));
        assert_eq!((said(&nothing).len(), nothing.has_more), (0, false));
        logs.line(1, 11, "info", "11");
        logs.line(0, 12, "info", "12");
        logs.write(0, "half of");
        let new = logs.ask(&after(&nothing, 10));
        assert_eq!(said(&new), ["11", "12"]);
        logs.write(0, " a line\n");
        assert_eq!(said(&logs.ask(&after(&new, 10))), ["half of a line"]);

        // From the beginning, in pages of three.
        let mut query = LogQuery {
            from: From::Start,
            ..newest(3)
        };
        let mut all = Vec::new();
        loop {
            let page = logs.ask(&query);
            all.extend(said(&page).into_iter().map(str::to_owned));
            query = after(&page, 3);
            if !page.has_more {
                break;
            }
        }
        let expected = [
            "0",
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "8",
            "9",
            "11",
            "12",
            "half of a line",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn level_and_time_leave_lines_out() {
        let logs = Logs::new();
        logs.write(0, "no time at all\n");
        for (seconds, level) in [(1, "debug"), (2, "info"), (3, "warn"), (4, "error")] {
            logs.line(0, seconds, level, level);
        }
        logs.write(0, "a stack trace\n");
        let at_least = |level| {
            let query = LogQuery {
                level: Some(level),
                ..newest(10)
            };
            logs.ask(&query).entries.len()
        };
        assert_eq!((at_least(LogLevel::Error), at_least(LogLevel::Warn)), (1, 2));
        assert_eq!((at_least(LogLevel::Info), at_least(LogLevel::Debug)), (5, 6));
        let since = LogQuery {
            since: OffsetDateTime::from_unix_timestamp(3).ok(),
            ..newest(10)
        };
        assert_eq!(said(&logs.ask(&since)), ["warn", "error", "a stack trace"]);
    }

    #[test]
    fn a_place_means_the_same_after_a_log_has_lost_its_beginning() {
        let logs = Logs::new();
        logs.line(0, 1, "info", "old");
        let old = logs.ask(&newest(1));
        let filler = "x".repeat(1_000);
        for _ in 0..17 {
            logs.write(0, &format!("{filler}\n").repeat(1_048));
        }
        logs.line(0, 2, "info", "before");
        let before = logs.ask(&newest(1));
        assert_eq!(said(&before), ["before"]);
        // Opening it is what shortens it.
        logs.line(0, 3, "info", "after");
        assert_eq!(said(&logs.ask(&after(&before, 10))), ["after"]);
        // What is gone is left out, and what is cut in its middle as well.
        let query = LogQuery {
            from: From::After(old.cursor),
            ..newest(1)
        };
        let page = logs.ask(&query);
        assert!(
            said(&page)[0].is_empty() || said(&page) == [filler.as_str()],
            "{page:?}"
        );
        assert!(page.has_more);
    }

    #[test]
    fn a_log_that_was_made_anew_is_read_from_its_beginning() {
        let logs = Logs::new();
        logs.line(0, 1, "info", "a long first life of the application");
        let page = logs.ask(&newest(1));
        log::remove(logs.directory.path(), logs.id).unwrap();
        assert_eq!(logs.ask(&newest(1)).entries, []);
        logs.line(0, 2, "info", "x");
        assert_eq!(said(&logs.ask(&after(&page, 10))), ["x"]);
    }

    #[test]
    fn a_cursor_of_somebody_else_is_refused() {
        let logs = Logs::new();
        for text in ["!", "AAAA", "MQ", "YTpi", "MDotMQ"] {
            let query = LogQuery {
                from: From::After(text.to_owned()),
                ..newest(1)
            };
            let refused = read(logs.directory.path(), logs.id, &query);
            assert!(matches!(refused, Err(RuntimeError::Cursor)), "{text}");
        }
    }

    #[test]
    fn work_is_bounded_and_a_reader_still_gets_on() {
        let logs = Logs::new();
        // One line that is longer than all that one question reads, and one behind it.
        logs.write(0, &"x".repeat(9 * 1024 * 1024));
        logs.write(0, "\n");
        logs.line(0, 1, "info", "behind");
        let mut query = LogQuery {
            from: From::Start,
            ..newest(10)
        };
        for _ in 0..5 {
            let page = logs.ask(&query);
            if said(&page).contains(&"behind") {
                return;
            }
            assert!(page.has_more);
            query = after(&page, 10);
        }
        panic!("never got there");
    }
}
