//! The control database's guarantees, against a real Postgres.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod constraints;
mod edge_policy;
mod fixture;
mod ids;
mod migrations;
mod transitions;
mod versions;
