//! The provisioner against real servers.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
#![expect(
    unreachable_pub,
    reason = "what tests share is public within the one binary they are"
)]

mod api_double;
mod bootstrap;
mod captured;
mod consumer;
mod database;
mod drift;
mod engine;
mod instance_logs;
mod kubernetes;
mod lease;
mod ledger;
mod lifeline;
// Finds processes in /proc.
#[cfg(target_os = "linux")]
mod local_runtime;
mod program;
mod provision;
mod redis;
mod rotation;
mod schema;
mod script;
mod steps;
mod upgrade;
mod verbs;
