//! What every program of the platform shares: ids, API keys, sealing, errors, configuration, lifecycle and telemetry.
//!
//! Nothing in this crate opens a connection. Time and randomness are parameters ([`clock::Clock`], [`entropy::Entropy`]),
//! so that everything built on it can be driven by a test.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod error;
pub mod id;
pub mod key;
pub mod lifecycle;
#[cfg(feature = "nats")]
pub mod nats;
pub mod retry;
pub mod seal;
pub mod secret;
pub mod telemetry;
