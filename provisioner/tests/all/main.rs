//! The provisioner against real servers.

mod consumer;
mod engine;
mod lease;
mod ledger;
mod provision;
mod script;
