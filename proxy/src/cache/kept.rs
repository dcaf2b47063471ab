//! Answers from what is kept, for a path that has the request and nothing of the forwarding library.
//!
//! Owns the simple case alone: a plain request for the whole of something that is fresh. What is stale, asked for in part or on
//! a condition, to be confirmed first, or kept in several variants is the library's. What comes of it is the same as there, by the same
//! rules and out of the same memory.

use std::sync::Arc;
use std::time::SystemTime;

use authsome_contract::model::AppRecord;

use super::metrics::Outcome;
use super::storage::Object;
use super::{Part, ResponseCache, status};
use crate::filter::lines::Fields;

/// Longer bodies gain nothing.
const LONGEST: usize = 64 * 1024;

/// A response that can be sent.
#[derive(Debug)]
pub(crate) struct Kept(Arc<Object>);

impl ResponseCache {
    /// What is kept for this request, if it can be sent as it is.
    pub(crate) fn kept(
        &self,
        part: &Part,
        app: &AppRecord,
        request: &impl Fields,
        key_id: Option<&str>,
    ) -> Option<Kept> {
        if part.usage.partial || part.usage.validate {
            return None;
        }
        let object = self.memory.find(&part.key)?;
        let fits = object.body().len() <= LONGEST && object.says_length() && object.header().status == 200;
        let is_fresh = object.fresh_until() >= SystemTime::now();
        if !fits || !is_fresh || self.is_purged(app, object.origin()) {
            return None;
        }
        // Another variant than the first is looked for by the library.
        let is_this_variant = Part::variance_of(&object.header().headers, request, key_id) == object.variance();
        is_this_variant.then_some(Kept(object))
    }

    /// It was sent.
    pub(crate) fn sent_kept(&self) {
        self.metrics.answered(Outcome::Hit);
    }
}

impl Kept {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.0.header().status.as_u16()
    }

    /// What the instance calls it.
    pub(crate) fn reason(&self) -> &str {
        self.0.header().get_reason_phrase().unwrap_or_default()
    }

    /// Its lines as they were sent by the instance.
    pub(crate) fn lines(&self) -> &[u8] {
        self.0.lines()
    }

    /// Seconds since it was made.
    pub(crate) fn age(&self) -> u64 {
        SystemTime::now()
            .duration_since(self.0.epoch())
            .map_or(0, |age| age.as_secs())
    }

    /// `Cache-Status`.
    pub(crate) fn cache_status(&self) -> String {
        status::hit(status::seconds_left(self.0.fresh_until()))
    }

    /// All of the body.
    pub(crate) fn body(&self) -> &[u8] {
        self.0.body()
    }
}
