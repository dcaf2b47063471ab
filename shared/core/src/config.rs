//! Configuration: one optional TOML file with the environment over it, every problem reported at once.
//!
//! Owns how a setting is named, found and checked. A setting has a key path such as `database.url`; its variable is
//! `AUTHSOME_DATABASE_URL`, and a few have a second, older name ([`SEED_VARIABLES`]). `AUTHSOME_*` wins over the older
//! name, the environment over the file, the file over the default; an empty variable counts as unset. Problems name the
//! key and where it was set, and never show the value of a secret. A file that cannot be read or parsed is one problem
//! among the others; the program does not start (exit code 2).
//!
//! ```
//! use std::time::Duration;
//! use authsome_core::config::{Environment, Reader};
//! use authsome_core::secret::SecretUrl;
//!
//! #[derive(Debug)]
//! struct Config { database: SecretUrl, port: u16, deadline: Duration }
//!
//! fn read(reader: &mut Reader) -> Option<Config> {
//!     // Read everything before the first `?`, so that every problem is found.
//!     let database = reader.required("database.url");
//!     let port = reader.or("listen.port", 8081);
//!     let deadline = reader.or("shutdown.deadline", Duration::from_secs(30));
//!     reader.check("listen.port", port != 0, "must not be 0");
//!     Some(Config { database: database?, port, deadline })
//! }
//!
//! let environment = Environment::from([("DATABASE_URL", "postgres://db/control"), ("AUTHSOME_LISTEN_PORT", "http")]);
//! let errors = Reader::new(None, environment).finish(read).unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "listen.port: \"http\" is not a whole number from 0 to 65535 (from AUTHSOME_LISTEN_PORT)"
//! );
//! ```

mod environment;
mod problem;
mod reader;
mod start;
mod suggest;
mod units;
mod value;

pub use environment::{Environment, SEED_VARIABLES, variable_of};
pub use problem::{ConfigErrors, Problem, Source};
pub use reader::Reader;
pub use start::{BAD_CONFIG, ConfigArgs};
pub use units::ByteSize;
pub use value::{BadValue, FromValue};

#[cfg(test)]
mod tests;
