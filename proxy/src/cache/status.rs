//! `Cache-Status` (RFC 9211): how the cache came by a response, for whoever wonders.

use std::time::SystemTime;

use http::HeaderValue;
use pingora::cache::{CacheMeta, CachePhase};

use crate::filter::short::Short;

/// `None` where the cache had no part.
pub(super) fn value(phase: CachePhase, meta: Option<&CacheMeta>) -> Option<HeaderValue> {
    let ttl = meta.map_or(0, |meta| seconds_left(meta.fresh_until(), SystemTime::now()));
    let text = match phase {
        CachePhase::Hit | CachePhase::StaleUpdating | CachePhase::Stale => {
            return HeaderValue::from_str(&hit(ttl)).ok();
        }
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            format!("authsome-edge; hit; fwd=stale; fwd-status=304; ttl={ttl}")
        }
        CachePhase::Miss => format!("authsome-edge; fwd=miss; stored; ttl={ttl}"),
        CachePhase::Expired => format!("authsome-edge; fwd=stale; stored; ttl={ttl}"),
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

/// Bytes of [`hit`] with the largest number.
pub(super) const LONGEST_HIT: usize = 48;

/// Of what was not asked for. `ttl` is negative once it is stale.
pub(super) fn hit(ttl: i64) -> Short<LONGEST_HIT> {
    Short::default()
        .with("authsome-edge; hit; ttl=")
        .with(itoa::Buffer::new().format(ttl))
}

pub(super) fn seconds_left(until: SystemTime, now: SystemTime) -> i64 {
    match until.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(past) => -i64::try_from(past.duration().as_secs()).unwrap_or(i64::MAX),
    }
}
