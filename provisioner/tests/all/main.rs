//! The provisioner against real servers.

mod consumer;
mod database;
mod engine;
mod lease;
mod ledger;
mod provision;
mod redis;
mod script;
