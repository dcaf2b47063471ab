//! Clients of Redis and NATS that connect in the background, for as long as the process lives.
//!
//! Neither call waits for a server: commands fail within their bound while it is away, and work again once it is back.

use std::time::Duration;

use async_nats::ServerAddr;
use authsome_core::secret::SecretUrl;
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

/// A client of NATS. `name` shows in the server's list of connections. User and password in the address are those of every
/// server in it; the library itself would ignore them.
pub async fn nats(url: &SecretUrl, name: &str) -> Result<async_nats::Client, TaskError> {
    let servers: Vec<ServerAddr> = url
        .expose()
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(TaskError::Nats)?;
    let mut options = async_nats::ConnectOptions::new();
    if let Some((user, password)) = servers
        .iter()
        .find_map(|server| Some((server.username()?, server.password()?)))
    {
        options = options.user_and_password(percent_decoded(user), percent_decoded(password));
    }
    options
        .name(name)
        .retry_on_initial_connect()
        .connection_timeout(COMMAND)
        .request_timeout(Some(COMMAND))
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(50).saturating_mul(u32::try_from(attempts.min(40)).unwrap_or(40))
        })
        .connect(servers)
        .await
        .map_err(|error| TaskError::Nats(std::io::Error::other(error)))
}

/// `%40` becomes `@`. What is not an escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        if let (b'%', Some(byte)) = (first, escape.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_a_password_are_decoded_and_nothing_else_is() {
        assert_eq!(percent_decoded("p%40ss%2Fw%c3%b6rd"), "p@ss/wörd");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%4"), "%4");
        assert_eq!(percent_decoded("%zz1"), "%zz1");
    }
}
