//! How many lines one answer holds: at most the limit, and not more bytes than a message may have. Pure.

use authsome_contract::wire::{LogEntry, LogPage};

/// The last of `entries` that fit, and whether older ones were left out.
pub fn last(mut entries: Vec<LogEntry>, limit: usize) -> (Vec<LogEntry>, bool) {
    let fit = fitting(entries.iter().rev(), limit);
    let left_out = entries.len() - fit;
    entries.drain(..left_out);
    (entries, left_out > 0)
}

/// How many of `entries` fit, from the first on. At least one, so that whoever goes on after them gets anywhere.
pub fn fitting<'a>(entries: impl Iterator<Item = &'a LogEntry>, limit: usize) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for entry in entries.take(limit) {
        bytes += size(entry);
        if count > 0 && bytes > LogPage::BYTES_MAX {
            break;
        }
        count += 1;
    }
    count
}

fn size(entry: &LogEntry) -> usize {
    // An entry consists of text and JSON: it can be written.
    serde_json::to_string(entry).map_or(0, |text| text.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize, length: usize) -> Vec<LogEntry> {
        (0..count)
            .map(|number| LogEntry {
                timestamp: None,
                level: None,
                message: format!("{number} {}", "x".repeat(length)),
                fields: serde_json::Map::new(),
            })
            .collect()
    }

    #[test]
    fn the_last_ones_stay_in_their_order() {
        let (kept, more) = last(entries(5, 1), 2);
        assert_eq!(
            kept.iter().map(|entry| &entry.message[..1]).collect::<Vec<_>>(),
            ["3", "4"]
        );
        assert!(more && !last(entries(2, 1), 2).1 && last(Vec::new(), 2).0.is_empty());
    }

    #[test]
    fn an_answer_never_outgrows_a_message() {
        let (kept, more) = last(entries(1_000, 8 * 1024), 1_000);
        assert!(more && kept.last().unwrap().message.starts_with("999 "));
        assert!(serde_json::to_string(&kept).unwrap().len() <= LogPage::BYTES_MAX + 2);
        assert_eq!(fitting(entries(1, LogPage::BYTES_MAX).iter(), 10), 1);
        assert_eq!(fitting(entries(3, 1).iter(), 0), 0);
    }
}
