//! Usage counters between the edge and the aggregator. Values are absolute and only grow, so the greatest one seen is right
//! whatever was lost, doubled or reordered on the way.

use authsome_core::id::ApplicationId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The present values of some of a writer's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// Random id of the counter file.
    pub writer: Uuid,
    /// The counters; at most [`UsageReport::MAX_COUNTERS`].
    pub counters: Vec<UsageCounter>,
}

impl UsageReport {
    /// Counters in one message: about 100 KB of JSON, well under NATS's 1 MiB.
    pub const MAX_COUNTERS: usize = 512;
}

/// One application's hour at one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageCounter {
    /// The application.
    pub application_id: ApplicationId,
    /// Hours since the Unix epoch, UTC.
    pub hour: u32,
    /// Requests that were admitted, counted before they are forwarded.
    pub requests: u64,
    /// Of those, answered with 5xx.
    pub errors: u64,
    /// Bytes of request bodies and heads received.
    pub bytes_in: u64,
    /// Bytes of response bodies and heads sent.
    pub bytes_out: u64,
    /// The hour is over at this writer: the value will not change any more.
    #[serde(rename = "final", default)]
    pub is_final: bool,
}

/// What the aggregator has committed. The writer may free a final counter whose values these are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageConfirmation {
    /// The counters as they now are in Postgres.
    pub counters: Vec<UsageCounter>,
}
