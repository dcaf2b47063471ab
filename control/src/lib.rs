//! The control plane: REST API, dashboard, outbox relay, usage aggregation.
//!
//! Requests change Postgres and nothing else; what other programs must learn travels by the outbox. Without Postgres the
//! API answers 503; without Redis or NATS it works, and changes travel later.

pub mod admin;
pub mod api;
pub mod audit;
pub mod command;
pub mod config;
pub mod dashboard;
pub mod db;
pub mod dns;
pub mod error;
pub mod identity;
pub mod instance_logs;
pub mod mail;
pub mod metrics;
pub mod names;
pub mod outbound;
pub mod period;
pub mod readiness;
pub mod router;
pub mod server;
pub mod settings;
pub mod shape;
pub mod start;
pub mod state;
pub mod tasks;
pub mod time_series;
pub mod webhook;
