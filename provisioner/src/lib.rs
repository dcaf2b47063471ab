//! Makes reality match the intent in Postgres: databases, Redis users and running instances of applications.
//!
//! Postgres holds what is wanted and what was done; NATS only wakes. [`consumer`] and [`reconcile`] bring operations,
//! [`execution`] carries them out under a [`lease`], [`plan`] decides, [`step`] acts on the world, [`ledger`] records.
//! [`drift`] starts again what should run and does not. [`upgrade`] brings a new image to all applications.

pub mod admin;
pub mod application_secrets;
pub mod config;
pub mod consumer;
pub mod credentials;
pub mod database;
pub mod db;
pub mod drift;
pub mod execution;
pub mod instance_config;
pub mod instance_credentials;
pub mod instance_logs;
pub mod lease;
pub mod ledger;
pub mod metrics;
pub mod nats;
pub mod plan;
pub mod readiness;
pub mod reconcile;
pub mod redaction;
pub mod redis;
pub mod runtime;
pub mod start;
pub mod step;
pub mod tenancy;
pub mod upgrade;
pub mod usage;
