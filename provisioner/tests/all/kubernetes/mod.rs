//! The runtime of production, over an API server of the tests' own.

mod alerts;
mod cluster;
mod dedicated;
mod fleet;
mod fleet_metrics;
mod hindrance;
pub mod life;
mod manifests;
mod operations;
mod ownership;
mod permissions;
mod regions;
mod repair;
mod resting;
mod rotation;
pub mod samples;
mod scale;
mod stepped;
mod vault;
mod words;
