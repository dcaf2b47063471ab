//! What an application has thrown away of the edge's response cache.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most tags with a time of their own. The oldest one past them counts for the whole application.
pub const MOST_TAGS: usize = 64;
/// Longest tag, bytes.
pub const TAG_BYTES: usize = 128;

/// Responses that were asked for before these purges were known are not used. Milliseconds since the Unix epoch by the database's
/// clock, each above all before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachePurges {
    /// Every response of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_ms: Option<i64>,
    /// Responses that carry the tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, i64>,
}

impl CachePurges {
    /// Was nothing ever purged?
    pub fn is_empty(&self) -> bool {
        self.all_ms.is_none() && self.tags.is_empty()
    }

    /// The newest purge. Kept beside a response as it was when the response was asked for; `i64::MIN` before the first.
    pub fn newest(&self) -> i64 {
        self.all_ms.max(self.tags.values().copied().max()).unwrap_or(i64::MIN)
    }

    /// Is a response with these tags thrown away, that was asked for when `known` was the newest purge? Purges are compared with each
    /// other, so no clock but the database's takes part.
    pub fn covers<'t>(&self, known: i64, tags: impl IntoIterator<Item = &'t str>) -> bool {
        self.all_ms.is_some_and(|at| at > known)
            || (!self.tags.is_empty()
                && tags
                    .into_iter()
                    .any(|tag| self.tags.get(tag).is_some_and(|at| *at > known)))
    }

    /// Is every purge of the other one here too, or a later one in its place?
    pub fn includes(&self, other: &Self) -> bool {
        let covered = |at: i64, here: Option<i64>| here >= Some(at) || self.all_ms >= Some(at);
        other.all_ms <= self.all_ms
            && other
                .tags
                .iter()
                .all(|(tag, at)| covered(*at, self.tags.get(tag).copied()))
    }

    /// Adds the purges of another state of the same application, an earlier or a later one. Nothing that either
    /// of them covers is not covered by both together.
    pub fn join(&mut self, other: &Self) {
        self.all_ms = self.all_ms.max(other.all_ms);
        for (tag, at) in &other.tags {
            let here = self.tags.entry(tag.clone()).or_insert(*at);
            *here = (*here).max(*at);
        }
        let all = self.all_ms;
        self.tags.retain(|_, tagged| Some(*tagged) > all);
        self.bound();
    }

    /// Where there are too many tags the oldest purge becomes one of everything: too much is thrown away rather than too little.
    fn bound(&mut self) {
        while self.tags.len() > MOST_TAGS {
            let oldest = self.tags.values().min().copied();
            self.all_ms = self.all_ms.max(oldest);
            self.tags.retain(|_, tagged| Some(*tagged) > oldest);
        }
    }

    /// Everything that was asked for before now. Tags' own times before it say nothing any more.
    pub fn purge_all(&mut self, now_ms: i64) {
        self.all_ms = Some(self.next(now_ms));
        self.tags.clear();
    }

    /// What carries the tag and was asked for before now.
    pub fn purge_tag(&mut self, tag: &str, now_ms: i64) {
        let at = self.next(now_ms);
        self.tags.insert(tag.to_owned(), at);
        self.bound();
    }

    /// Above every purge there was, also where the clock went back or stands still.
    fn next(&self, now_ms: i64) -> i64 {
        now_ms.max(self.newest().saturating_add(1))
    }
}

/// May responses carry this tag? Printable ASCII without spaces and commas, which separate tags in a header.
pub fn is_tag(tag: &str) -> bool {
    (1..=TAG_BYTES).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_purge_covers_what_was_asked_for_before_it_and_nothing_later() {
        let mut purges = CachePurges::default();
        let before = purges.newest();
        assert!(!purges.covers(before, ["users"]));
        purges.purge_tag("users", 100);
        assert_eq!(purges.newest(), 100);
        assert!(purges.covers(before, ["other", "users"]));
        assert!(!purges.covers(before, ["other"]));
        assert!(!purges.covers(100, ["users"]));
        purges.purge_tag("other", 100);
        assert!(purges.covers(100, ["other"]), "in the same millisecond");
        purges.purge_all(50);
        assert!(purges.covers(101, []), "though the clock went back");
        assert!(purges.tags.is_empty(), "the times of tags say nothing any more");
    }

    #[test]
    fn tags_are_what_a_header_can_separate() {
        assert!(is_tag("users:42"));
        for wrong in ["", "a b", "a,b", "a\n", "é", &"x".repeat(TAG_BYTES + 1)] {
            assert!(!is_tag(wrong), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn two_states_together_cover_what_either_covers(
            first in prop::collection::vec((0_u32..80, 0_i64..1_000), 0..100),
            second in prop::collection::vec((0_u32..80, 0_i64..1_000), 0..100),
            all in (any::<bool>(), any::<bool>()),
            known in 0_i64..1_100,
        ) {
            let state = |purged: &[(u32, i64)], all| {
                let mut purges = CachePurges::default();
                for (n, (tag, at)) in purged.iter().enumerate() {
                    purges.purge_tag(&tag.to_string(), *at);
                    if all && n == purged.len() / 2 {
                        purges.purge_all(*at);
                    }
                }
                purges
            };
            let (one, other) = (state(&first, all.0), state(&second, all.1));
            let mut both = one.clone();
            both.join(&other);
            prop_assert!(both.tags.len() <= MOST_TAGS);
            prop_assert!(both.includes(&one) && both.includes(&other));
            for tag in 0..80_u32 {
                let tag = tag.to_string();
                let either = one.covers(known, [tag.as_str()]) || other.covers(known, [tag.as_str()]);
                prop_assert!(!either || both.covers(known, [tag.as_str()]));
            }
            let newest = both.newest();
            prop_assert_eq!(newest, one.newest().max(other.newest()));
            both.join(&one);
            prop_assert!(both.includes(&other) && both.newest() == newest);
        }

        #[test]
        fn however_many_tags_are_purged_nothing_that_was_purged_comes_back(
            purged in prop::collection::vec((0_u32..200, 0_i64..1_000), 1..300),
        ) {
            let mut purges = CachePurges::default();
            let mut known = Vec::new();
            for (tag, at) in &purged {
                known.push((tag.to_string(), purges.newest()));
                purges.purge_tag(&tag.to_string(), *at);
            }
            prop_assert!(purges.tags.len() <= MOST_TAGS);
            for (tag, known) in &known {
                prop_assert!(purges.covers(*known, [tag.as_str()]));
            }
            prop_assert!(!purges.covers(purges.newest(), known.iter().map(|(tag, _)| tag.as_str())));
        }
    }
}
