//! Webhooks: signed requests to servers of customers.
//!
//! Owns the events there are, the signature (Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`), the times of
//! retries, which addresses are refused, and the way to a server. What is sent is queued in Postgres in the transaction of what
//! happened; a server that is away delays nothing else.

pub mod address;
pub mod client;
pub mod signature;

use std::time::Duration;

/// Every event.
pub const EVENTS: [&str; 13] = [
    "application.provisioned",
    "application.failed",
    "application.updated",
    "application.restarted",
    "application.suspended",
    "application.resumed",
    "application.deleted",
    "application.undeleted",
    "key.leaked",
    "usage.threshold",
    "host.verified",
    "host.missing",
    "host.lost",
];

/// The waits after failed attempts; after the last the delivery has failed. About a day in all.
const WAITS: [Duration; 11] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(2),
    Duration::from_hours(4),
    Duration::from_hours(5),
    Duration::from_hours(5),
    Duration::from_hours(6),
];

/// The wait after this many attempts; `None`: no more.
pub fn wait_after(attempts: i32) -> Option<Duration> {
    usize::try_from(attempts - 1)
        .ok()
        .and_then(|nth| WAITS.get(nth))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_tried_for_about_a_day_with_growing_waits() {
        let total: Duration = WAITS.iter().sum();
        assert!(
            (Duration::from_hours(23)..Duration::from_hours(25)).contains(&total),
            "{total:?}"
        );
        assert!(WAITS.is_sorted());
        assert_eq!(wait_after(1), Some(Duration::from_secs(5)));
        assert_eq!(wait_after(12), None);
        assert_eq!(wait_after(0), None);
    }
}
