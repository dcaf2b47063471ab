//! What the programs agree on: the models that more than one of them speaks of, and the messages and names they meet
//! through (`wire`). Nothing here does I/O, so every decision in it is a pure function that its tests can exhaust.

pub mod model;
pub mod wire;
