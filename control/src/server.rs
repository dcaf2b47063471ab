//! HTTP below the handlers: connections, and what every request has in common.

mod arrival;
pub mod body;
mod client_address;
pub mod conditional;
pub mod cors;
pub mod document;
pub mod envelope;
pub mod extract;
mod gcra;
pub mod idempotency;
pub mod limiter;
pub mod listener;
pub mod rate_limit;
pub mod unread;

pub use client_address::{ClientAddress, network_of};
pub use envelope::RequestContext;
pub use idempotency::FirstId;
