//! The guarantees that other crates' tests rely on, proved against the real servers.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod owner;
#[cfg(test)]
mod servers;
