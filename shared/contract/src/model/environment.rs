//! The environment of an application.

use authsome_core::key::KeyMode;

use super::closed::closed_set;

closed_set! {
    /// What an application is for. It never changes: a key says `live` or `test` for good.
    Environment, "environment" {
        /// Real users.
        Production = "production",
        /// Rehearsal.
        Staging = "staging",
        /// A developer's own.
        Development = "development",
    }
}

impl Environment {
    /// Which keys the application has: `live` in production, `test` elsewhere.
    pub const fn key_mode(self) -> KeyMode {
        match self {
            Self::Production => KeyMode::Live,
            Self::Staging | Self::Development => KeyMode::Test,
        }
    }
}
