//! What an application's plan and contract allow.
//!
//! Worked out once for a record and kept beside it. Values outside the bounds of [`Allowance`] are cut to them.

use std::num::NonZeroU32;

use authsome_contract::model::AppRecord;
use http::HeaderValue;

use super::gcra::Allowance;

/// A burst is never smaller: a page that loads ten things at once must load with the smallest rate too.
pub const LEAST_BURST: u32 = 10;

const ONE: NonZeroU32 = NonZeroU32::MIN;

/// The limits of one application, as its requests need them.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// For each key, and for all requests without a key together.
    pub each: Allowance,
    /// For one address among the requests without a key: half of it.
    pub keyless_address: Allowance,
    /// Bytes of a request body, before the edge's own bound.
    pub body_bytes: u64,
    /// `RateLimit-Policy` of requests with a key, and of those without.
    pub policies: [HeaderValue; 2],
}

impl Allowed {
    /// By the contract where it says something, and by the plan otherwise.
    pub fn of(record: &AppRecord) -> Self {
        let plan = record.plan.edge_limits();
        let contract = record.limits.unwrap_or_default();
        let per_second = contract
            .requests_per_second
            .or(NonZeroU32::new(plan.requests_per_second))
            .unwrap_or(ONE);
        let least = NonZeroU32::new(LEAST_BURST).unwrap_or(ONE);
        let burst = contract.burst.unwrap_or_else(|| per_second.max(least));
        let each = Allowance::new(per_second, burst);
        let half = |whole: NonZeroU32| NonZeroU32::new(whole.get().div_ceil(2)).unwrap_or(ONE);
        Self {
            each,
            keyless_address: Allowance::new(half(per_second), half(burst)),
            body_bytes: contract.body_bytes.unwrap_or(plan.body_bytes),
            policies: [policy("key", each), policy("application", each)],
        }
    }
}

fn policy(name: &str, allowance: Allowance) -> HeaderValue {
    let text = format!("\"{name}\";q={};w={}", allowance.burst(), allowance.window_seconds());
    // Digits and the names above are a header's characters.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
