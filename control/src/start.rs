//! Starts the service and keeps it running: ports first, so that health can be asked from the first moment; then Postgres,
//! for as long as it takes; then the schema; then the tasks that stand on it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::{Entropy, SystemEntropy};
use authsome_core::error::Chain;
use authsome_core::lifecycle::{Lifecycle, Shutdown};
use authsome_core::retry::{Backoff, Dependency, until_ready};
use authsome_core::secret::SecretUrl;
use authsome_core::telemetry::{self, TelemetryError};
use authsome_db::DbError;
use authsome_db::migrate::{MigrateError, migrate, pending};
use authsome_db::pool::{self, PoolOptions};
use fred::interfaces::ClientLike;
use sqlx::{ConnectOptions, Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dns::Dns;
use crate::identity::oidc::Issuers;
use crate::identity::{PasswordError, Passwords, Tokens};
use crate::instance_logs::InstanceLogs;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::server::limiter::{Limiter, LimiterMetrics};
use crate::server::listener::{self, BindError};
use crate::state::{App, Parts};
use crate::tasks::aggregator::Aggregator;
use crate::tasks::audit_keeper::AuditKeeper;
use crate::tasks::edges::Edges;
use crate::tasks::endings::Endings;
use crate::tasks::host_checks::HostChecks;
use crate::tasks::key_uses::KeyUsesTask;
use crate::tasks::mailer::{MailMetrics, Mailer};
use crate::tasks::operation_feed::OperationFeed;
use crate::tasks::relay::Relay;
use crate::tasks::webhooks::{WebhookMetrics, WebhookSender};
use crate::tasks::{TaskError, connect};
use crate::time_series::{Prometheus, SeriesError};
use crate::webhook::client::WebhookClient;
use crate::{admin, dashboard, router, tasks};

/// How long one process waits for another that is migrating.
const MIGRATION_PATIENCE: Duration = Duration::from_mins(10);

/// Why the service cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Logs or metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address of Postgres is not one.
    #[error("database.url: {0}")]
    Database(#[from] DbError),
    /// The schema.
    #[error("cannot bring the database schema up to date: {0}")]
    Migrate(#[from] MigrateError),
    /// The address of Prometheus is not one.
    #[error("prometheus.url: {0}")]
    Prometheus(#[from] SeriesError),
    /// Password hashing.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A task.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Runs the service until it is told to stop. Whatever keeps it from starting is logged.
pub async fn run(config: Config) -> ExitCode {
    match serve(config).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot start");
            ExitCode::FAILURE
        }
    }
}

/// The pool of the API.
pub fn pool(url: &SecretUrl, connections: u32) -> Result<PgPool, DbError> {
    let options = PoolOptions {
        max_connections: connections,
        ..PoolOptions::new("authsome-control")
    };
    pool::lazy(url, &options)
}

async fn serve(config: Config) -> Result<ExitCode, StartError> {
    let api = listener::bind("API and dashboard", config.listen).await?;
    let admin = listener::bind("admin", config.admin).await?;

    let lifecycle = Lifecycle::new(config.timing);
    let shutdown = lifecycle.shutdown().clone();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let pool = pool(&config.database_url, config.database_connections)?;
    let metrics = Metrics::new()?;
    let readiness = Readiness::new(shutdown.clone());
    let redis = connect::redis(&config.redis_url)?;
    let nats = connect::nats(&config.nats_url, "authsome-control").await?;
    tell(&readiness, &redis, &nats);

    let edges = Edges::new(Arc::clone(&clock));
    let operation_feed = OperationFeed::default();
    let dns = Dns::new(config.dns);
    let tls = config.roots.tls();
    let app = App::new(Parts {
        pool: pool.clone(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        tokens: Tokens::new(&config.jwt_secret, &config.jwt_previous, config.jwt_lifetime),
        issuers: Issuers::new(config.issuers, &tls, &clock),
        passwords: Passwords::new(&*entropy)?,
        settings: config.settings,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        edges: edges.clone(),
        webhooks: WebhookClient::new(dns.clone(), config.webhook_networks, Arc::clone(&tls)),
        dns,
        ring: config.encryption.map(Arc::new),
        operation_feed: operation_feed.clone(),
        instance_logs: InstanceLogs::new(Some(nats.clone())),
        prometheus: config
            .prometheus
            .as_ref()
            .map(|settings| Prometheus::new(settings, Arc::clone(&tls)))
            .transpose()?,
        limiter: Limiter::new(
            Some(redis.clone()),
            Arc::clone(&clock),
            LimiterMetrics::register(metrics.registry()).map_err(TaskError::from)?,
        ),
    });
    tracing::info!(api = %config.listen, admin = %config.admin, version = env!("CARGO_PKG_VERSION"), "listening");
    let pages = dashboard::router();
    lifecycle.spawn_critical(
        "api",
        listener::serve(api, router::router(app.clone(), pages), shutdown.clone()),
    );
    lifecycle.spawn_critical(
        "admin",
        listener::serve(admin, admin::router(app.clone()), shutdown.clone()),
    );

    let prepared = CancellationToken::new();
    let preparation = Preparation {
        pool: pool.clone(),
        address: config.database_url,
        migrate: config.migrate,
        entropy: Arc::clone(&entropy),
        readiness,
        prepared: prepared.clone(),
        shutdown: shutdown.clone(),
    };
    lifecycle.spawn_critical("schema", preparation.run());

    let relay = Relay {
        pool: pool.clone(),
        redis,
        nats: nats.clone(),
        entropy: Arc::clone(&entropy),
        metrics: tasks::relay::RelayMetrics::register(metrics.registry()).map_err(TaskError::from)?,
    };
    let watch_operations = operation_feed.run(pool.clone(), lifecycle.soft());
    let audit_keeper = AuditKeeper {
        pool: pool.clone(),
        signer: config.audit_key,
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
    };
    let listen_to_edges = edges.run(pool.clone(), nats.clone(), lifecycle.soft());
    let key_uses = KeyUsesTask {
        pool: pool.clone(),
        nats: nats.clone(),
        clock: Arc::clone(&clock),
    };
    let aggregator = Aggregator {
        pool,
        nats,
        clock,
        entropy,
        metrics: tasks::aggregator::AggregatorMetrics::register(metrics.registry()).map_err(TaskError::from)?,
    };
    lifecycle.spawn_critical(
        "relay",
        once(prepared.clone(), shutdown.clone(), relay.run(lifecycle.soft())),
    );
    lifecycle.spawn_critical("operations", once(prepared.clone(), shutdown.clone(), watch_operations));
    lifecycle.spawn_critical(
        "audit",
        once(prepared.clone(), shutdown.clone(), audit_keeper.run(lifecycle.soft())),
    );
    lifecycle.spawn_critical("edges", once(prepared.clone(), shutdown.clone(), listen_to_edges));
    let webhook_sender = WebhookSender {
        app: app.clone(),
        metrics: WebhookMetrics::register(metrics.registry()).map_err(TaskError::from)?,
    };
    lifecycle.spawn_critical(
        "webhooks",
        once(prepared.clone(), shutdown.clone(), webhook_sender.run(lifecycle.soft())),
    );
    let endings = Endings { app: app.clone() };
    lifecycle.spawn_critical(
        "endings",
        once(prepared.clone(), shutdown.clone(), endings.run(lifecycle.soft())),
    );
    let host_checks = HostChecks { app: app.clone() };
    lifecycle.spawn_critical(
        "host names",
        once(prepared.clone(), shutdown.clone(), host_checks.run(lifecycle.soft())),
    );
    let mailer = Mailer {
        app,
        server: config.mail,
        metrics: MailMetrics::register(metrics.registry()).map_err(TaskError::from)?,
    };
    lifecycle.spawn_critical(
        "mailer",
        once(prepared.clone(), shutdown.clone(), mailer.run(lifecycle.soft())),
    );
    lifecycle.spawn_critical(
        "key uses",
        once(prepared.clone(), shutdown.clone(), key_uses.run(lifecycle.soft())),
    );
    lifecycle.spawn_critical("aggregator", once(prepared, shutdown, aggregator.run(lifecycle.soft())));
    Ok(lifecycle.run().await.into())
}

/// Starts the task when the schema is there.
async fn once(
    prepared: CancellationToken,
    shutdown: Shutdown,
    task: impl Future<Output = Result<(), TaskError>>,
) -> Result<(), TaskError> {
    tokio::select! {
        () = shutdown.soft().cancelled() => Ok(()),
        () = prepared.cancelled() => task.await,
    }
}

fn tell(readiness: &Readiness, redis: &fred::clients::Client, nats: &async_nats::Client) {
    let redis = redis.clone();
    readiness.also_tell("redis", move || {
        if redis.is_connected() {
            Ok(())
        } else {
            Err("not connected")
        }
    });
    let nats = nats.clone();
    readiness.also_tell("nats", move || match nats.connection_state() {
        async_nats::connection::State::Connected => Ok(()),
        _ => Err("not connected"),
    });
}

/// Waits for Postgres and brings its schema up to date.
struct Preparation {
    pool: PgPool,
    address: SecretUrl,
    migrate: bool,
    entropy: Arc<dyn Entropy>,
    readiness: Readiness,
    prepared: CancellationToken,
    shutdown: Shutdown,
}

impl Preparation {
    async fn run(self) -> Result<(), StartError> {
        let soft = self.shutdown.soft().clone();
        let postgres = Dependency::new("Postgres", &self.address);
        // Not through the pool, whose time-out would hide why the connection fails.
        let options = (*self.pool.connect_options()).clone();
        let connect = || {
            let options = options.clone();
            async move { options.connect().await?.close().await }
        };
        if until_ready(&postgres, Backoff::CONNECT, &*self.entropy, &soft, connect)
            .await
            .is_err()
        {
            return Ok(());
        }
        if self.migrate {
            tokio::select! {
                migrated = migrate(&self.pool, MIGRATION_PATIENCE) => migrated?,
                () = soft.cancelled() => return Ok(()),
            }
        } else {
            let schema = Dependency::new("the schema of this release", &self.address);
            let look = || async { up_to_date(&self.pool).await };
            if until_ready(&schema, Backoff::CONNECT, &*self.entropy, &soft, look)
                .await
                .is_err()
            {
                return Ok(());
            }
        }
        self.readiness.migrated();
        self.prepared.cancel();
        tracing::info!(migrated = self.migrate, "the database is ready");
        soft.cancelled().await;
        Ok(())
    }
}

/// The database lacks migrations, and this process is not to run them.
#[derive(Debug, thiserror::Error)]
enum SchemaError {
    #[error("{0} migrations are missing; run `authsome-control migrate`")]
    Missing(usize),
    #[error(transparent)]
    Look(#[from] MigrateError),
}

async fn up_to_date(pool: &PgPool) -> Result<(), SchemaError> {
    match pending(pool).await? {
        0 => Ok(()),
        missing => Err(SchemaError::Missing(missing)),
    }
}

/// `authsome-control migrate`: brings the schema up to date and ends.
pub async fn migrate_only(url: &SecretUrl) -> Result<(), StartError> {
    let pool = pool(url, 2)?;
    migrate(&pool, MIGRATION_PATIENCE).await?;
    pool.close().await;
    Ok(())
}

/// Sets up logging for a service.
pub fn log(config: &Config) -> Result<(), StartError> {
    Ok(telemetry::init(config.log_format, &config.log_filter)?)
}
