//! What an application has thrown away of the edge's response cache.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most tags with a time of their own. The oldest one past them counts for the whole application.
pub const MOST_TAGS: usize = 64;
/// Longest tag, bytes.
pub const TAG_BYTES: usize = 128;

/// Responses stored at or before these times are not used. Milliseconds since the Unix epoch by the database's clock,
/// which the edge follows from the relay's heartbeats; a response is stamped with that clock too.
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

    /// Is a response that was stored at `stored_ms` with these tags thrown away?
    pub fn covers<'t>(&self, stored_ms: i64, tags: impl IntoIterator<Item = &'t str>) -> bool {
        self.all_ms.is_some_and(|at| stored_ms <= at)
            || (!self.tags.is_empty()
                && tags
                    .into_iter()
                    .any(|tag| self.tags.get(tag).is_some_and(|at| stored_ms <= *at)))
    }

    /// Everything stored until now. Times of tags before it say nothing any more.
    pub fn purge_all(&mut self, now_ms: i64) {
        let at = self.all_ms.map_or(now_ms, |before| before.max(now_ms));
        self.all_ms = Some(at);
        self.tags.retain(|_, tagged| *tagged > at);
    }

    /// What carries the tag and was stored until now. Where there are too many tags the oldest purge becomes one of
    /// everything: too much is thrown away rather than too little.
    pub fn purge_tag(&mut self, tag: &str, now_ms: i64) {
        let at = self.tags.entry(tag.to_owned()).or_insert(now_ms);
        *at = (*at).max(now_ms);
        while self.tags.len() > MOST_TAGS {
            let Some(oldest) = self.tags.values().min().copied() else {
                return;
            };
            self.purge_all(oldest);
        }
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
    fn a_purge_covers_what_was_stored_before_it_and_nothing_later() {
        let mut purges = CachePurges::default();
        assert!(!purges.covers(0, ["users"]));
        purges.purge_tag("users", 100);
        assert!(purges.covers(100, ["other", "users"]));
        assert!(!purges.covers(101, ["users"]));
        assert!(!purges.covers(50, ["other"]));
        purges.purge_all(120);
        assert!(purges.covers(120, []));
        assert!(purges.tags.is_empty(), "the time of the tag says nothing any more");
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
        fn however_many_tags_are_purged_nothing_that_was_purged_comes_back(
            purged in prop::collection::vec((0_u32..200, 0_i64..1_000), 1..300),
        ) {
            let mut purges = CachePurges::default();
            for (tag, at) in &purged {
                purges.purge_tag(&tag.to_string(), *at);
            }
            prop_assert!(purges.tags.len() <= MOST_TAGS);
            for (tag, at) in &purged {
                prop_assert!(purges.covers(*at, [tag.to_string().as_str()]));
            }
        }
    }
}
