//! What runs beside the API in every replica: the outbox relay, the usage aggregator, the mailer, and what edges say of themselves and of
//! keys.
//!
//! Each task retries for ever by itself; a dependency that is down costs latency and shows in its metrics. They return
//! when the process stops, and fail only for what no retry can mend.

pub mod aggregator;
pub mod audit_keeper;
pub mod connect;
pub mod edges;
pub mod endings;
pub mod host_checks;
pub mod key_uses;
pub mod mailer;
pub mod operation_feed;
pub mod relay;
pub mod webhooks;

/// Why a task cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The address of Redis is not one.
    #[error("the address of Redis cannot be used: {0}")]
    Redis(#[source] fred::error::Error),
    /// The address of NATS is not one.
    #[error("the address of NATS cannot be used: {0}")]
    Nats(#[source] std::io::Error),
    /// A metric clashes with another of the same name.
    #[error("cannot register a metric: {0}")]
    Metric(#[from] prometheus::Error),
}
