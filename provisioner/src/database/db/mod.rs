//! SQL on the server where tenants' databases live: what is there (checked queries on the catalog) and what to change (DDL,
//! whose names cannot be parameters).
//!
//! Depends on the tenant server only. Every call is made by [`super::session`], which bounds it.

pub(super) mod catalog;
pub(super) mod quote;
pub(super) mod schema;
pub(super) mod statement;
pub(super) mod usage;

pub use quote::NameError;
