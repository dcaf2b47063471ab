//! The edge as a process, against real servers and raw sockets.
#![cfg(test)]

mod allocations;
mod db;
mod edge;
mod edge_addresses;
mod edge_answers;
mod edge_cache;
mod edge_faults;
mod edge_forwards;
mod edge_hostile;
mod edge_live;
mod edge_observed;
mod edge_process;
mod edge_refuses;
mod edge_usage;
mod fuzz_corpus;
mod instance;
mod meter_kill;
mod meter_usage;
mod routing_feed;
mod routing_fixture;
mod routing_hosts;
mod routing_sources;
mod routing_whole;
mod wire;
