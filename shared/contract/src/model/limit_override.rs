//! The limits of a contract for one application, where they differ from those of the plan.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

/// Highest rate of a contract, requests a second.
pub const MOST_PER_SECOND: u32 = 1_000_000;
/// Highest burst of a contract, requests.
pub const MOST_BURST: u32 = 10_000_000;
/// Most requests of one application in flight at one edge.
pub const MOST_IN_FLIGHT: u32 = 1_000_000;
/// Largest request body of a contract, bytes.
pub const MOST_BODY_BYTES: u64 = 1 << 40;
/// Most requests a calendar month.
pub const MOST_PER_MONTH: u64 = 1_000_000_000_000_000;

/// What a contract sets; what it leaves out follows from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitOverride {
    /// Requests a second for each API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests that a key may send at once after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Requests of the application in flight at one edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<NonZeroU32>,
    /// Bytes of a request's body; 0 allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Requests a calendar month for the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<NonZeroU64>,
}

impl LimitOverride {
    /// Names each field that is out of its bounds, with what is expected of it.
    pub fn check(&self, refuse: &mut dyn FnMut(&str, String)) {
        let ranges = [
            (
                "requestsPerSecond",
                self.requests_per_second.map(|n| u64::from(n.get())),
                u64::from(MOST_PER_SECOND),
            ),
            ("burst", self.burst.map(|n| u64::from(n.get())), u64::from(MOST_BURST)),
            (
                "inFlight",
                self.in_flight.map(|n| u64::from(n.get())),
                u64::from(MOST_IN_FLIGHT),
            ),
            ("bodyBytes", self.body_bytes, MOST_BODY_BYTES),
            (
                "requestsPerMonth",
                self.requests_per_month.map(NonZeroU64::get),
                MOST_PER_MONTH,
            ),
        ];
        for (field, value, most) in ranges {
            if value.is_some_and(|value| value > most) {
                refuse(field, format!("must be at most {most}"));
            }
        }
    }
}
