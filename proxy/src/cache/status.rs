//! `Cache-Status` (RFC 9211): how the cache came by a response, for whoever wonders.

use std::time::SystemTime;

use http::HeaderValue;
use pingora::cache::{CacheMeta, CachePhase};

/// `None` where the cache had no part.
pub(super) fn value(phase: CachePhase, meta: Option<&CacheMeta>) -> Option<HeaderValue> {
    let ttl = meta.map_or(0, |meta| seconds_left(meta.fresh_until()));
    let text = match phase {
        CachePhase::Hit | CachePhase::StaleUpdating | CachePhase::Stale => hit(ttl),
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            format!("authsome-edge; hit; fwd=stale; fwd-status=304; ttl={ttl}")
        }
        CachePhase::Miss => format!("authsome-edge; fwd=miss; stored; ttl={ttl}"),
        CachePhase::Expired => format!("authsome-edge; fwd=stale; stored; ttl={ttl}"),
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

/// Of what was not asked for. `ttl` is negative once it is stale.
pub(super) fn hit(ttl: i64) -> String {
    format!("authsome-edge; hit; ttl={ttl}")
}

pub(super) fn seconds_left(until: SystemTime) -> i64 {
    let now = SystemTime::now();
    match until.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(past) => -i64::try_from(past.duration().as_secs()).unwrap_or(i64::MAX),
    }
}
