//! SQL of the control plane: one file for each table or view that only control speaks of, or that it reads its own way.
//!
//! Functions take a connection or transaction from the caller, who owns the boundary, and hand back typed rows. Nothing
//! here retries; a lost database shows as [`authsome_db::DbError`].

pub mod accounts;
pub mod applications;
pub mod audit_trail;
pub mod edge_policy;
pub mod edges;
pub mod endings;
pub mod host_checks;
pub mod hosts;
pub mod idempotency;
pub mod identities;
pub mod intents;
pub mod key_uses;
pub mod keys;
pub mod mails;
pub mod members;
pub mod memberships;
pub mod operation_events;
pub mod outbox;
pub mod rebuild;
pub mod restore;
pub mod route;
pub mod second_factors;
pub mod service_tokens;
pub mod sessions;
pub mod sign_ins;
pub mod tombstones;
pub mod usage;
pub mod usage_series;
pub mod usage_thresholds;
pub mod users;
pub mod webhooks;
pub mod workspaces;
