//! The edge: proves the API key of a request, finds the instance of its application, forwards, and counts.
//!
//! A warm request is decided without any I/O ([`gate`] over [`routing`]); what is missed in memory is asked of the store's
//! runtime under a deadline. Postgres, Redis and NATS may all be away: the edge then serves what it knows.

mod abandoned;
pub mod access_log;
pub mod admin;
pub mod admission;
pub mod answer;
mod books;
pub mod cache;
pub mod config;
pub mod ctx;
pub mod drain;
pub mod edge;
pub mod entropy;
pub mod error;
pub mod filter;
pub mod fuzz;
pub mod gate;
pub mod http1;
mod http2;
mod intake;
pub mod lane;
pub mod limit;
pub mod listener;
pub mod live;
pub mod meter;
pub mod metrics;
mod place;
pub mod process;
pub mod redis;
pub mod routing;
mod steps;
pub mod store;
pub mod tls;
pub mod trace;
pub mod trailers;
pub mod upgrade;
pub mod upstream;
