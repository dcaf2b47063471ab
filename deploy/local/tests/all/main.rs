//! The whole platform, started as a developer starts it: one customer request from end to end, and what must not happen.

#[cfg(test)]
mod customer;
#[cfg(test)]
mod edge_world;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod platform;
#[cfg(test)]
mod request;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod throwaway;
