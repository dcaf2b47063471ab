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
mod edge_http2;
mod edge_live;
mod edge_process;
mod edge_protocols;
mod edge_refuses;
mod edge_restarts;
mod edge_tls;
mod edge_usage;
mod http2;
mod instance;
mod meter_kill;
mod meter_usage;
mod routing_feed;
mod routing_fixture;
mod routing_sources;
mod routing_whole;
mod tls;
mod wire;
