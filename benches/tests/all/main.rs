//! What must not grow, whatever the machine does besides.
#![cfg(test)]

mod allocations;
