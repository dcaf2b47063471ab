//! The whole platform, started as a developer starts it: one customer request from end to end, and what must not happen.

#[cfg(test)]
mod application_life;
#[cfg(test)]
mod customer;
#[cfg(test)]
mod edge_programs;
#[cfg(test)]
mod edge_world;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod fault_partition;
#[cfg(test)]
mod fault_relay;
#[cfg(test)]
mod fault_stores;
#[cfg(test)]
mod fault_wiped;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod load;
#[cfg(test)]
mod platform;
#[cfg(test)]
mod request;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod throwaway;
