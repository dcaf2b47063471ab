//! The rules that a request and its answer pass, each a pure function of what it is given: no I/O, no clock of its own.

pub mod client_address;
pub mod cors;
pub mod credential;
pub mod headers;
pub mod leak;
pub mod lines;
pub mod name;
pub mod normalise;
pub mod own_host;
pub mod sets;
pub mod shared_host;
pub mod short;
