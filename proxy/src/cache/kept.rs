//! Answers from what is kept, for a path that has the request and nothing of the forwarding library.
//!
//! Owns the simple case alone: a plain request for the whole of something that is fresh. What is stale, asked for in part or on
//! a condition, to be confirmed first, or kept in several variants is the library's. What comes of it is the same as there, by the same
//! rules and out of the same memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use authsome_contract::model::AppRecord;
use authsome_core::id::IdText;

use super::metrics::Outcome;
use super::storage::Object;
use super::{Part, ResponseCache, status};
use crate::filter::lines::Fields;
use crate::filter::short::Short;

/// Longer bodies gain nothing.
const LONGEST: usize = 64 * 1024;

/// A response that can be sent.
#[derive(Debug)]
pub(crate) struct Kept {
    object: Arc<Object>,
    now: SystemTime,
}

impl ResponseCache {
    /// What is kept for this request, if it can be sent as it is.
    pub(crate) fn kept(
        &self,
        part: &Part,
        app: &AppRecord,
        request: &impl Fields,
        key_id: impl FnOnce() -> Option<IdText>,
    ) -> Option<Kept> {
        if part.usage.partial || part.usage.validate {
            return None;
        }
        let object = self.memory.find(&part.key)?;
        let fits = object.body().len() <= LONGEST && object.says_length() && object.header().status == 200;
        let now = at(part.asked_ms);
        if !fits || object.fresh_until() < now {
            return None;
        }
        // Nothing was waited for since the part was made, so what it knew is still all there is to know.
        if part.purge_known > object.origin().purge_known && self.is_purged(app, object.origin()) {
            return None;
        }
        // Another variant than the first is looked for by the library.
        let variance = if object.varies() {
            Part::variance_of(&object.header().headers, request, key_id().as_deref())
        } else {
            None
        };
        (variance == object.variance()).then_some(Kept { object, now })
    }

    /// It was sent.
    pub(crate) fn sent_kept(&self) {
        self.metrics.answered(Outcome::Hit);
    }
}

fn at(unix_ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0))
}

impl Kept {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.object.header().status.as_u16()
    }

    /// What the instance calls it.
    pub(crate) fn reason(&self) -> &str {
        self.object.header().get_reason_phrase().unwrap_or_default()
    }

    /// Its lines as they were sent by the instance.
    pub(crate) fn lines(&self) -> &[u8] {
        self.object.lines()
    }

    /// Seconds since it was made.
    pub(crate) fn age(&self) -> u64 {
        self.now
            .duration_since(self.object.epoch())
            .map_or(0, |age| age.as_secs())
    }

    /// `Cache-Status`.
    pub(crate) fn cache_status(&self) -> Short<{ status::LONGEST_HIT }> {
        status::hit(status::seconds_left(self.object.fresh_until(), self.now))
    }

    /// All of the body.
    pub(crate) fn body(&self) -> &[u8] {
        self.object.body()
    }
}
