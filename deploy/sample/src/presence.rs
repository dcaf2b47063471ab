//! When each live session was last seen, in Redis, under the instance's own user and key prefix.
//!
//! Postgres decides whether a session lives; this only decorates it. Without Redis nothing is slower and nothing fails: the
//! time is missing until Redis is back.

use std::time::Duration;

use authsome_core::clock::Clock;
use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::config::{Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy};
use fred::types::{Builder, Expiration};
use secrecy::{ExposeSecret, SecretString};

/// A command that takes longer is given up: a request waits for it. The driver gives it up by itself, since only then does it not
/// send it once Redis is back: what a session left behind would outlive the session.
const PATIENCE: Duration = Duration::from_millis(250);
/// For a driver that does not keep to that.
const GIVEN_UP: Duration = Duration::from_millis(500);

const SCHEMES: [&str; 2] = ["redis://", "rediss://"];

/// Reads and writes when sessions were seen.
#[derive(Clone)]
pub(crate) struct Presence {
    redis: Option<(Client, String)>,
}

impl Presence {
    /// Connects in the background, again and again while Redis is away.
    ///
    /// # Errors
    /// The driver's, for a URL that is none.
    pub(crate) fn start(url: Option<&SecretString>, prefix: &str) -> Result<Self, fred::error::Error> {
        let Some(url) = url else {
            return Ok(Self { redis: None });
        };
        // The driver takes any scheme for one of its own.
        if !SCHEMES.iter().any(|scheme| url.expose_secret().starts_with(scheme)) {
            return Err(fred::error::Error::new(
                fred::error::ErrorKind::Config,
                "not a Redis URL",
            ));
        }
        let client = Builder::from_config(Config {
            fail_fast: false,
            ..Config::from_url(url.expose_secret())?
        })
        .with_connection_config(|connection: &mut ConnectionConfig| {
            connection.connection_timeout = Duration::from_secs(2);
            connection.internal_command_timeout = Duration::from_secs(2);
            connection.max_command_buffer_len = 1000;
        })
        .with_performance_config(|performance: &mut PerformanceConfig| {
            performance.default_command_timeout = PATIENCE;
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 100, 5_000, 2))
        .build()?;
        client.connect();
        Ok(Self {
            redis: Some((client, prefix.to_owned())),
        })
    }

    /// Notes that a session was seen now. `lifetime` is how long it still has.
    pub(crate) async fn seen(&self, session: &str, clock: &dyn Clock, lifetime: Duration) {
        let Some((client, prefix)) = &self.redis else { return };
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX).max(1);
        let key = format!("{prefix}session:{session}");
        let set = client.set::<(), _, _>(key, clock.unix_millis(), Some(Expiration::EX(seconds)), None, false);
        log(tokio::time::timeout(GIVEN_UP, set).await);
    }

    /// When each of these sessions was last seen, in milliseconds since 1970.
    pub(crate) async fn last_seen(&self, sessions: &[&str]) -> Vec<Option<i64>> {
        let unknown = || vec![None; sessions.len()];
        let Some((client, prefix)) = &self.redis else {
            return unknown();
        };
        if sessions.is_empty() {
            return unknown();
        }
        let keys: Vec<String> = sessions
            .iter()
            .map(|session| format!("{prefix}session:{session}"))
            .collect();
        let seen = log(tokio::time::timeout(GIVEN_UP, client.mget::<Vec<Option<i64>>, _>(keys)).await);
        seen.filter(|seen| seen.len() == sessions.len()).unwrap_or_else(unknown)
    }

    /// Forgets a session that has ended.
    pub(crate) async fn forget(&self, session: &str) {
        let Some((client, prefix)) = &self.redis else { return };
        let deleted = client.del::<(), _>(format!("{prefix}session:{session}"));
        log(tokio::time::timeout(GIVEN_UP, deleted).await);
    }
}

fn log<T>(outcome: Result<Result<T, fred::error::Error>, tokio::time::error::Elapsed>) -> Option<T> {
    match outcome {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => tracing::debug!(%error, "Redis did not keep when a session was seen"),
        Err(_) => tracing::debug!("Redis did not answer in time"),
    }
    None
}
