//! Clients of Redis and NATS that connect in the background, for as long as the process lives.
//!
//! Neither call waits for a server: commands fail within their bound while it is away, and work again once it is back.

use std::time::Duration;

use authsome_core::{nats, secret::SecretUrl};
use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{
        Builder,
        config::{Config, ReconnectPolicy, TcpConfig, UnresponsiveConfig},
    },
};

use super::TaskError;

/// How long one command may take, the wait for a connection included.
const COMMAND: Duration = Duration::from_secs(3);

/// A client of Redis.
pub fn redis(url: &SecretUrl) -> Result<Client, TaskError> {
    let config = Config::from_url(url.expose()).map_err(TaskError::Redis)?;
    let client = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = COMMAND)
        .with_connection_config(|connection| {
            connection.connection_timeout = COMMAND;
            connection.internal_command_timeout = COMMAND;
            connection.tcp = TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            };
            // A server that is frozen keeps its sockets open.
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(COMMAND),
                interval: Duration::from_secs(1),
            };
            connection.reconnect_on_auth_error = true;
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2))
        .build()
        .map_err(TaskError::Redis)?;
    client.connect();
    Ok(client)
}

/// A client of NATS. `program` shows in the server's list of connections.
pub async fn nats(url: &SecretUrl, program: &str) -> Result<async_nats::Client, TaskError> {
    let (servers, options) = nats::options(url, program, COMMAND).map_err(TaskError::Nats)?;
    options
        .retry_on_initial_connect()
        .connect(servers)
        .await
        .map_err(|error| TaskError::Nats(std::io::Error::other(error)))
}
