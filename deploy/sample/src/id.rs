//! Ids in the real server's form: the platform's TypeIDs with an `a` before the prefix (`ausr_…`, `ases_…`).

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::{Id, Kind, UserId};

/// Names the ids of sessions; never a value.
#[derive(Debug)]
enum Session {}

impl Kind for Session {
    const PREFIX: &'static str = "ses";
    const NOUN: &'static str = "a session";
}

/// A new `ausr_…`.
pub(crate) fn user(clock: &dyn Clock, entropy: &dyn Entropy) -> String {
    format!("a{}", UserId::generate(clock, entropy))
}

/// A new `ases_…`.
pub(crate) fn session(clock: &dyn Clock, entropy: &dyn Entropy) -> String {
    format!("a{}", Id::<Session>::generate(clock, entropy))
}
