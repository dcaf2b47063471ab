//! Subscribers of single tests, in a process that runs many.
//!
//! While a process has one subscriber only, tracing asks the thread that comes first to a place in the code whether anybody wants to
//! hear of it. If that is the thread of another test, nobody does, and the place is silent for all.

use std::sync::OnceLock;

use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

/// Makes sure that every subscriber is asked about every place. To be called before a test listens on its own thread.
pub fn ask_every_subscriber() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::new()));
}
