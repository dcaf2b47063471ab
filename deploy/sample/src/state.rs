//! What every request handler shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use sqlx::PgPool;

use crate::config::Settings;
use crate::error::ApiError;
use crate::password::Passwords;
use crate::presence::Presence;

/// How long a session token is good for; the real server's default.
const SESSION_LIFETIME: Duration = Duration::from_hours(1);
/// How long a refresh token is good for; the real server's default.
const REFRESH_LIFETIME: Duration = Duration::from_hours(720);
/// The fewest characters of a password; the real server's default.
const SHORTEST_PASSWORD: usize = 8;

/// The instance.
pub(crate) struct Instance {
    /// Its own database.
    pub(crate) pool: PgPool,
    /// Password hashing.
    pub(crate) passwords: Passwords,
    /// Live session state in Redis.
    pub(crate) presence: Presence,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Where clients reach it.
    pub(crate) public_base_url: String,
    /// Whose instance it is.
    pub(crate) app_id: String,
    /// The prefix of its paths.
    pub(crate) base_path: String,
    /// What its team chose, and what the platform decides.
    pub(crate) settings: Settings,
    /// The secrets that it was given: names only.
    pub(crate) secrets: Vec<String>,
    /// Whether its tables are known to exist.
    pub(crate) prepared: AtomicBool,
}

impl Instance {
    /// How long a session token is good for.
    pub(crate) fn session_lifetime(&self) -> Duration {
        self.settings.session.token_ttl.unwrap_or(SESSION_LIFETIME)
    }

    /// How long a refresh token is good for.
    pub(crate) fn refresh_lifetime(&self) -> Duration {
        self.settings.session.refresh_token_ttl.unwrap_or(REFRESH_LIFETIME)
    }

    /// The fewest characters of a password.
    pub(crate) fn shortest_password(&self) -> usize {
        self.settings.password.min_length.unwrap_or(SHORTEST_PASSWORD)
    }

    /// The pool, once the tables exist.
    pub(crate) fn database(&self) -> Result<&PgPool, ApiError> {
        if self.prepared.load(Ordering::Acquire) {
            Ok(&self.pool)
        } else {
            Err(ApiError::Database(sqlx::Error::PoolTimedOut))
        }
    }
}
