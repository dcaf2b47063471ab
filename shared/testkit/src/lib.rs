//! Real servers for tests and for the local platform: Postgres, Redis and NATS on free ports, a mail server that keeps its
//! letters, a TCP proxy that misbehaves on request, the workspace's own programs as child processes, and waits that say what they waited for.
//!
//! It owns processes, ports and scratch directories, nothing else. Every process it starts hangs under a [`guard`]: when the
//! process that started it goes away, by whatever signal, the server stops and its scratch directory is removed. A
//! server that cannot be started is a typed [`Error`] that carries the end of its log; nothing here panics.

pub mod account;
mod callsites;
pub mod chaos;
pub mod databases;
mod db;
pub mod error;
pub mod guard;
pub mod http_probe;
pub mod installed;
pub mod nats;
pub mod plans;
pub mod port;
pub mod postgres;
pub mod private_file;
pub mod programs;
mod ready;
pub mod redis;
mod scratch;
pub mod secret;
pub mod server;
pub mod smtp;
pub mod wait;

pub use callsites::ask_every_subscriber;
pub use chaos::{ChaosProxy, Mode};
pub use databases::{Database, fresh_database, shared_postgres};
pub use db::population::{self, Population};
pub use error::Error;
pub use guard::{Exit, GuardedChild, GuardedCommand};
pub use nats::{NatsOptions, NatsServer};
pub use plans::Plans;
pub use postgres::{PostgresOptions, PostgresServer};
pub use programs::{Program, ProgramCommand};
pub use redis::{RedisOptions, RedisServer};
pub use server::Server;
pub use smtp::SmtpServer;
pub use wait::{WaitError, wait_for};
