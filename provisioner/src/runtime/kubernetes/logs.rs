//! What the pods of an application wrote, as the cluster keeps it.
//!
//! A cursor is a time for each pod: the cluster puts one before every line. A pod that is gone has no lines any more; a pod
//! that is new is read from its beginning.

use std::collections::BTreeMap;

use authsome_contract::wire::{LogEntry, LogPage};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::api::LogParams;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cluster::Cluster;
use super::manifest::NAME;
use crate::instance_logs::{From, LogQuery, entry, page};
use crate::runtime::RuntimeError;

/// What is read for one question at most, in bytes over all pods.
const WORK: usize = 8 * 1024 * 1024;
/// Lines of a pod that are read where some of them may be left out.
const LINES: i64 = 5_000;

/// Up to when each pod's log was read.
type Times = BTreeMap<String, OffsetDateTime>;

struct Line {
    entry: LogEntry,
    pod: String,
    /// When the cluster took it.
    at: OffsetDateTime,
}

/// Lines of these pods.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    pods: &[String],
    query: &LogQuery,
) -> Result<LogPage, RuntimeError> {
    let mut times = match &query.from {
        From::After(cursor) => times(cursor)?,
        From::Start | From::End => Times::new(),
    };
    let newest = query.from == From::End;
    let tail = if query.level.is_some() {
        LINES
    } else {
        i64::try_from(query.limit).unwrap_or(LINES)
    };
    let share = i64::try_from(WORK / pods.len().max(1)).unwrap_or(i64::MAX);
    let (mut lines, mut more) = (Vec::new(), false);
    for pod in pods {
        let since = times.get(pod).copied().or(query.since);
        let parameters = LogParams {
            container: Some(NAME.to_owned()),
            timestamps: true,
            limit_bytes: Some(share),
            tail_lines: newest.then_some(tail),
            since_time: since.and_then(|since| since.format(&Rfc3339).ok()?.parse().ok()),
            ..LogParams::default()
        };
        let text = match cluster.lines(namespace, pod, &parameters).await {
            Ok(text) => text,
            // Gone this moment, or without a container yet.
            Err(error) if error.is_absent() => continue,
            Err(error) => return Err(error.into()),
        };
        let after = times.get(pod).copied();
        let found = parse(&text, pod, after);
        more |= if newest {
            i64::try_from(found.len()).unwrap_or(i64::MAX) >= tail
        } else {
            i64::try_from(text.len()).unwrap_or(i64::MAX) >= share
        };
        lines.extend(found);
    }
    lines.sort_by_key(|line| line.at);
    let entries = if newest {
        for line in &lines {
            times.insert(line.pod.clone(), line.at);
        }
        let taken = lines
            .into_iter()
            .map(|line| line.entry)
            .filter(|entry| query.takes(entry));
        let (entries, left_out) = page::last(taken.collect(), query.limit);
        more |= left_out;
        entries
    } else {
        let fit = page::fitting(
            lines.iter().map(|line| &line.entry).filter(|entry| query.takes(entry)),
            query.limit,
        );
        let mut entries = Vec::with_capacity(fit);
        for line in lines {
            let taken = query.takes(&line.entry);
            if taken && entries.len() == fit {
                more = true;
                break;
            }
            times.insert(line.pod, line.at);
            if taken {
                entries.push(line.entry);
            }
        }
        entries
    };
    times.retain(|pod, _| pods.contains(pod));
    Ok(LogPage {
        entries,
        cursor: cursor(&times),
        has_more: more,
    })
}

/// Whole lines that the cluster took after `after`. A line without a time is the end of a cut answer.
fn parse(text: &str, pod: &str, after: Option<OffsetDateTime>) -> Vec<Line> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .filter_map(|line| {
            let (at, said) = line.split_once(' ').unwrap_or((line, ""));
            let at = OffsetDateTime::parse(at, &Rfc3339).ok()?;
            after.is_none_or(|after| at > after).then(|| Line {
                entry: entry::parse(said, Some(at)),
                pod: pod.to_owned(),
                at,
            })
        })
        .collect()
}

fn cursor(times: &Times) -> String {
    let text: Vec<String> = times
        .iter()
        .map(|(pod, at)| format!("{pod}={}", at.unix_timestamp_nanos()))
        .collect();
    URL_SAFE_NO_PAD.encode(text.join(","))
}

fn times(cursor: &str) -> Result<Times, RuntimeError> {
    let text = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| RuntimeError::Cursor)?;
    let text = str::from_utf8(&text).map_err(|_| RuntimeError::Cursor)?;
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (pod, nanos) = part.split_once('=').ok_or(RuntimeError::Cursor)?;
            let nanos = nanos.parse().map_err(|_| RuntimeError::Cursor)?;
            let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| RuntimeError::Cursor)?;
            Ok((pod.to_owned(), at))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_behind_their_time_and_each_once() {
        let text = "2026-01-31T12:00:00.000000001Z {\"level\":\"warn\",\"msg\":\"slow\"}\n\
                    2026-01-31T12:00:00.000000002Z plain\n2026-01-31T12:00:01Z cut off";
        let lines = parse(text, "pod", None);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[0].entry.message.as_str(), lines[1].entry.message.as_str()),
            ("slow", "plain")
        );
        assert_eq!(lines[1].entry.timestamp, Some(lines[1].at));
        assert_eq!(parse(text, "pod", Some(lines[0].at)).len(), 1);
        let read = Times::from([("pod".to_owned(), lines[1].at)]);
        assert_eq!(times(&cursor(&read)).unwrap(), read);
        for text in ["!", "AAAA", "cG9k"] {
            assert!(matches!(times(text), Err(RuntimeError::Cursor)), "{text}");
        }
    }
}
