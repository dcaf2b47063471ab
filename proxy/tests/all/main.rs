//! The edge as a process, against real servers and raw sockets.

mod db;
mod edge;
mod edge_answers;
mod edge_faults;
mod edge_forwards;
mod edge_hostile;
mod edge_process;
mod edge_refuses;
mod instance;
mod wire;
