//! The runtime of production, over an API server of the tests' own.

mod cluster;
pub mod life;
mod manifests;
mod permissions;
mod repair;
pub mod samples;
mod scale;
mod vault;
mod words;
