//! The connection to the platform's Redis: copies of routing records, and shares of rate limits.
//!
//! Owns how it is made, kept and bounded. Redis away: commands fail at once or within a quarter of a second and are not
//! repeated; what follows from that is the caller's to say. It reconnects for ever.

use std::time::Duration;

use authsome_core::secret::SecretUrl;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy};
use tokio::task::JoinHandle;

/// Longer than any healthy answer, and shorter than anyone should wait for one: Postgres answers what Redis does not, and a
/// share of a limit is asked for again.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_millis(250);

/// The address cannot be used. Says nothing of its user or password.
#[derive(Debug, thiserror::Error)]
#[error("Redis address {address}: {detail}")]
pub struct RedisAddressError {
    address: String,
    detail: String,
}

/// Dropping it ends it.
pub(crate) struct Connection {
    client: Client,
    task: JoinHandle<Result<(), Error>>,
}

impl Connection {
    /// Starts connecting and returns at once. Must be called in the runtime that will use it.
    pub(crate) fn start(address: &SecretUrl) -> Result<Self, RedisAddressError> {
        let wrong = |error: Error| RedisAddressError {
            address: address.to_string(),
            detail: error.to_string(),
        };
        let mut config = Config::from_url(address.expose()).map_err(wrong)?;
        config.fail_fast = false;
        let client = Builder::from_config(config)
            .with_performance_config(|performance| performance.default_command_timeout = COMMAND_TIMEOUT)
            .with_connection_config(|connection| {
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                // Whoever asked does not wait for a second attempt.
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = 10_000;
                connection.unresponsive.max_timeout = Some(Duration::from_secs(1));
                connection.unresponsive.interval = Duration::from_millis(500);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2))
            .build()
            .map_err(wrong)?;
        let task = client.connect();
        Ok(Self { client, task })
    }

    /// The client, while it is connected.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.is_connected().then_some(&self.client)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
