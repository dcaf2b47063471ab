//! Changes: each one a transaction that checks the caller's role, changes the state, records the change in the audit trail
//! and announces it in the outbox, all or nothing.
//!
//! Input is validated here, so that every way in (API, dashboard) has the same rules. Without the database nothing
//! happens and the caller gets a 503.

pub mod account;
pub mod application;
pub mod audit_trail;
pub mod edge_policy;
pub mod ending;
pub mod host;
pub mod key;
pub mod member;
mod merge_patch;
pub mod name;
pub mod operation;
pub mod routing;
pub mod service_token;
pub mod staff_suspension;
pub mod user;
pub mod webhook;
pub mod workspace;
