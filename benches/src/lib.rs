//! What the benches share; each file beside this folder is one bench. Nothing here runs in production.
//!
//! Every bench prints CPU time beside wall time where it measures once, and how busy the machine was: on a machine that does
//! something else as well, only the former says what the work costs.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a bench ends where it cannot be set up"
)]

pub mod db;
pub mod edge;
pub mod measure;
pub mod records;
pub mod stream;
pub mod upstream;
