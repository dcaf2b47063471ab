//! The control database: its connection pool, its migrations, and the tables that both control and the provisioner write.
//!
//! Every function takes a connection or transaction from its caller, who owns the boundary of the transaction. A lost
//! database shows as [`DbError`]; callers answer 503 or try again, and nothing here retries by itself.

mod error;

pub mod application;
pub mod application_secret;
pub mod audit;
pub mod migrate;
pub mod operation;
pub mod outbox;
pub mod pool;

pub use error::DbError;
pub use migrate::MIGRATOR;
