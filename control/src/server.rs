//! HTTP below the handlers: connections, and what every request has in common.

mod client_address;
pub mod envelope;
pub mod extract;
pub mod listener;

pub use client_address::ClientAddress;
pub use envelope::RequestContext;
