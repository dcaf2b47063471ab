//! The instance as its clients see it, against real Postgres and Redis.

#[cfg(test)]
mod account;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod instance;
#[cfg(test)]
mod reflection;
