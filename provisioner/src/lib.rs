//! Makes reality match the intent in Postgres: databases, Redis users and running instances of applications.

pub mod db;
pub mod lease;
pub mod plan;
