//! The edge's side of Postgres, Redis and NATS: one service with a runtime of its own.
//!
//! Sockets live where they were opened, and the forwarding runtimes do no I/O but forwarding; so everything that talks to a
//! store runs here. Whatever is away at start is named with its address and tried again without end, while the edge listens
//! and serves what it can.

mod nats;

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use async_nats::connection::State;
use async_trait::async_trait;
use authsome_core::entropy::{Entropy, SystemEntropy};
use authsome_core::retry::{Backoff, Dependency, until_ready};
use authsome_core::secret::SecretUrl;
use fred::interfaces::ClientLike;
use futures::FutureExt;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use sqlx::Connection;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::StoreConfig;
use crate::limit::Leaser;
use crate::meter::Publisher;
use crate::routing::{Backend, Reporter, Sources};

/// Why the store ended before it was asked to. The process cannot go on without it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An address that the NATS client cannot use.
    #[error("nats.url {address} cannot be used")]
    Nats {
        /// Without its password.
        address: String,
        /// What the client says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A part ended early, failed or panicked.
    #[error("{part} ended early")]
    Part {
        /// Which one.
        part: &'static str,
        /// Why, if it said so.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

/// What the service runs.
pub struct Parts {
    /// Where everything is.
    pub config: StoreConfig,
    /// Fills the routing table and follows its feed.
    pub backend: Backend,
    /// Sends usage counters.
    pub publisher: Publisher,
    /// Tells control of this edge.
    pub reporter: Reporter,
    /// Divides rate limits among the edges.
    pub leaser: Leaser,
    /// Holds true once nothing needs the store any more: then the counters are sent for the last time.
    pub stop: watch::Receiver<bool>,
    /// Told when the store has ended.
    pub ended: oneshot::Sender<Result<(), StoreError>>,
}

/// The service. It starts once.
pub struct Store(Mutex<Option<Parts>>);

impl Store {
    /// Of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Mutex::new(Some(parts)))
    }
}

#[async_trait]
impl BackgroundService for Store {
    /// Pingora's own shutdown is not what it stops by: requests that are still being answered need it.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(parts) = parts {
            run(parts).await;
        }
    }
}

async fn run(parts: Parts) {
    let Parts {
        config,
        backend,
        publisher,
        reporter,
        leaser,
        mut stop,
        ended,
    } = parts;
    let stopped = CancellationToken::new();
    let _watches = await_dependencies(&config, &stopped);
    let result = run_parts(&config, (backend, publisher, reporter, leaser), &stop, &stopped).await;
    stopped.cancel();
    if result.is_ok() && !*stop.borrow_and_update() {
        let source = None;
        let _ = ended.send(Err(StoreError::Part {
            part: "the store",
            source,
        }));
        return;
    }
    // Nobody listens any more only if the process is already past this.
    let _ = ended.send(result);
}

async fn run_parts(
    config: &StoreConfig,
    (backend, publisher, reporter, leaser): (Backend, Publisher, Reporter, Leaser),
    stop: &watch::Receiver<bool>,
    stopped: &CancellationToken,
) -> Result<(), StoreError> {
    let nats = nats::connect(&config.nats).await.map_err(|source| StoreError::Nats {
        address: config.nats.to_string(),
        source,
    })?;
    tokio::spawn(await_nats(nats.clone(), config.nats.clone(), stopped.clone()));
    let sources = Sources {
        postgres: config.database.clone(),
        redis: config.redis.clone(),
    };
    // Tasks of their own, so that a panic comes back as an error.
    let backend = tokio::spawn(backend.run(sources, nats.clone(), stop.clone()));
    let publisher = tokio::spawn(publisher.run(nats.clone(), stop.clone()));
    let leaser = tokio::spawn(leaser.run(nats.clone(), stop.clone()));
    let reporter = tokio::spawn(reporter.run(nats, stop.clone()));
    let routing = async {
        match backend.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StoreError::Part {
                part: "routing",
                source: Some(error.into()),
            }),
            Err(error) => Err(StoreError::Part {
                part: "routing",
                source: Some(error.into()),
            }),
        }
    };
    let metering = async {
        publisher.await.map_err(|error| StoreError::Part {
            part: "metering",
            source: Some(error.into()),
        })
    };
    let leasing = async {
        let source = match leaser.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        };
        Err(StoreError::Part {
            part: "leasing",
            source: Some(source),
        })
    };
    let reporting = async {
        reporter.await.map_err(|error| StoreError::Part {
            part: "reporting",
            source: Some(error.into()),
        })
    };
    let said = |part| tracing::debug!(part, "a part of the store has ended");
    tokio::try_join!(
        routing.inspect(|_| said("routing")),
        metering.inspect(|_| said("metering")),
        reporting.inspect(|_| said("reporting")),
        leasing.inspect(|_| said("leasing")),
    )
    .map(|_| ())
}

/// Says of each store that is away that it is, until it is there once.
fn await_dependencies(config: &StoreConfig, stopped: &CancellationToken) -> [tokio::task::JoinHandle<()>; 2] {
    let database = config.database.clone();
    let redis = config.redis.clone();
    let (stopped, too) = (stopped.clone(), stopped.clone());
    [
        tokio::spawn(async move {
            let dependency = Dependency::new("Postgres", &database);
            let attempt = || async { sqlx::PgConnection::connect(database.expose()).await };
            if let Ok(connection) = wait(&dependency, &stopped, attempt).await {
                // It has served its purpose; the server notices the end however it comes.
                let _ = connection.close().await;
            }
        }),
        tokio::spawn(async move {
            let dependency = Dependency::new("Redis", &redis);
            let _ = wait(&dependency, &too, || ping(&redis)).await;
        }),
    ]
}

async fn ping(address: &SecretUrl) -> Result<(), fred::error::Error> {
    let config = fred::types::config::Config::from_url(address.expose())?;
    let client = fred::types::Builder::from_config(config).build()?;
    let connection = client.init().await?;
    let _ = client.quit().await;
    connection.abort();
    Ok(())
}

async fn await_nats(client: async_nats::Client, address: SecretUrl, stopped: CancellationToken) {
    #[derive(Debug, thiserror::Error)]
    #[error("not connected")]
    struct NotConnected;

    let dependency = Dependency::new("NATS", &address);
    let attempt = || async {
        match client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(NotConnected),
        }
    };
    // The client connects by itself; this only says that it has not yet.
    tokio::time::sleep(Backoff::CONNECT.base).await;
    let _ = wait(&dependency, &stopped, attempt).await;
}

async fn wait<T, E: Error, F: Future<Output = Result<T, E>>>(
    dependency: &Dependency,
    stopped: &CancellationToken,
    attempt: impl FnMut() -> F,
) -> Result<T, authsome_core::retry::Stopped> {
    let entropy: &dyn Entropy = &SystemEntropy::new();
    until_ready(dependency, Backoff::CONNECT, entropy, stopped, attempt).await
}
