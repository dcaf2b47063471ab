//! The relay: what commits in Postgres reaches Redis, the stream and the queue, in order, whatever fails on the way.

pub(crate) mod fixture;
mod hosts;
mod latency;
mod leadership;
mod outages;
mod outbox;
mod records;
mod rewrites;
