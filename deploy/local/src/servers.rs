//! Postgres, Redis and NATS with data that stays.

use authsome_testkit::{NatsOptions, NatsServer, PostgresOptions, PostgresServer, RedisOptions, RedisServer};

use crate::configuration::CONTROL_DATABASE;
use crate::error::LocalError;
use crate::ports::Ports;
use crate::state::State;

/// The running servers.
pub(crate) struct Servers {
    pub(crate) postgres: PostgresServer,
    pub(crate) redis: RedisServer,
    pub(crate) nats: NatsServer,
}

impl Servers {
    /// Starts all three at once and makes sure that the control database exists.
    ///
    /// # Errors
    /// [`LocalError::Testkit`] with the end of a server's log.
    pub(crate) async fn start(state: &State, ports: &Ports) -> Result<Self, LocalError> {
        let secrets = &state.secrets;
        let postgres = PostgresServer::start(PostgresOptions {
            directory: Some(state.postgres_directory()?),
            log: Some(state.log("postgres")),
            port: Some(ports.postgres),
            password: Some(secrets.postgres_password.clone()),
            durable: true,
            max_connections: 300,
        });
        let redis = RedisServer::start(RedisOptions {
            directory: Some(state.file("redis")),
            log: Some(state.log("redis")),
            port: Some(ports.redis),
            password: Some(secrets.redis_password.clone()),
            append_only: true,
        });
        let nats = NatsServer::start(NatsOptions {
            directory: Some(state.file("nats")),
            log: Some(state.log("nats")),
            port: Some(ports.nats),
            password: Some(secrets.nats_password.clone()),
        });
        let (postgres, redis, nats) = tokio::try_join!(postgres, redis, nats)?;
        postgres.create_database(CONTROL_DATABASE).await?;
        Ok(Self { postgres, redis, nats })
    }
}
