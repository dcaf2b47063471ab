//! A session on the tenants' Redis server, every wait of which is bounded: by its own limit, and by what is left of the
//! lease.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};

use super::RedisError;
use crate::lease::{CallError, Fence};

const CONNECT: Duration = Duration::from_secs(5);
const COMMAND: Duration = Duration::from_secs(5);

/// One session. Opened for one piece of work and closed after it: provisioning is rare.
pub(super) struct Session<'a> {
    client: Client,
    fence: &'a Fence,
}

impl<'a> Session<'a> {
    pub(super) async fn open(config: &Config, fence: &'a Fence) -> Result<Self, RedisError> {
        let mut config = config.clone();
        config.fail_fast = true;
        let client = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT;
                connection.internal_command_timeout = CONNECT;
                connection.max_command_attempts = 1;
            })
            .with_performance_config(|performance| performance.default_command_timeout = COMMAND)
            .build()
            .map_err(|source| RedisError::from_fred("connect", source))?;
        let session = Self { client, fence };
        bounded(fence, CONNECT, "connect", Box::pin(session.client.init())).await?;
        Ok(session)
    }

    /// Sends one command. `what` is its name for errors: arguments may be hashes and are never shown.
    pub(super) async fn send(
        &self,
        what: &'static str,
        command: &'static str,
        arguments: Vec<impl Into<Value>>,
    ) -> Result<Value, RedisError> {
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        let arguments = arguments.into_iter().map(Into::into).collect();
        // The client's futures have 20 KiB: on the heap, not in every caller's own.
        let call = Box::pin(self.client.custom::<Value, Value>(command, arguments));
        bounded(self.fence, COMMAND, what, call).await
    }

    pub(super) async fn close(self) {
        // A server that does not take the farewell notices the closed socket.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.client.quit()).await;
    }
}

async fn bounded<T>(
    fence: &Fence,
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, fred::error::Error>>,
) -> Result<T, RedisError> {
    match fence.call(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(RedisError::from_fred(what, source)),
        Err(CallError::Fenced(fenced)) => Err(fenced.into()),
        Err(CallError::TimedOut(limit)) => Err(RedisError::TimedOut { what, limit }),
    }
}
