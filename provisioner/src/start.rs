//! Starts the provisioner and keeps it running: the admin port first, so that health can be asked from the first moment; then
//! Postgres, for as long as it takes; then instances that should run; then, once the tenants' servers answer, operations.
//!
//! What is missing is named with its address, and tried again with growing waits. Instances come back without the tenants'
//! servers; operations wait for them, since without they would only use up their attempts. NATS is waited for beside the
//! work, not before it.

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{DatabaseChoice, RedisChoice};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::{self, Entropy, SystemEntropy};
use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_core::lifecycle::{Lifecycle, Shutdown};
use authsome_core::retry::{Backoff, Dependency, Stopped, until_ready};
use authsome_core::telemetry::{self, TelemetryError};
use authsome_db::DbError;
use authsome_db::pool::{self, PoolOptions};
use futures::future::join_all;
use tokio::sync::{Semaphore, watch};

use crate::admin::{self, ListenError};
use crate::config::Config;
use crate::consumer::Consumer;
use crate::database::{self, DatabaseStrategy, SharedDatabase, SharedServer};
use crate::drift::Drift;
use crate::execution::{BuiltIn, Engine, RETRY};
use crate::instance_logs::LogServer;
use crate::lease::{self, Fence};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::reconcile::Reconciler;
use crate::redis::{self, AclServer, RedisStrategy};
use crate::runtime::kubernetes::{Cluster, KubernetesRuntime};
use crate::runtime::local::{LocalConfig, LocalRuntime};
use crate::runtime::{OwnServers, Runtime, RuntimeError};
use crate::step::{Facilities, LONGEST_CALL};
use crate::tenancy::{Caches, Databases};
use crate::upgrade;
use crate::usage::Meter;

/// Connections to the control database besides two for each operation: looks, renewals and drift.
const SPARE_CONNECTIONS: u32 = 8;
/// Between two looks at how many instances are ready: as often as Prometheus asks in most installations.
const READINESS: Duration = Duration::from_secs(15);

/// Why the provisioner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Logs or metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The admin port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address of the control database.
    #[error("database.url: {0}")]
    Database(#[from] DbError),
    /// The address of the tenants' Postgres.
    #[error("tenants.database_url or tenants.database_instance_url: {0}")]
    TenantDatabase(#[from] database::ServerUrlError),
    /// The address of the tenants' Redis.
    #[error("tenants.redis_url or tenants.redis_instance_url: {0}")]
    TenantRedis(#[from] redis::ServerUrlError),
    /// The runtime.
    #[error("the runtime cannot be set up: {0}")]
    Runtime(#[from] RuntimeError),
}

/// Sets up logging as configured.
pub fn log(config: &Config) -> Result<(), TelemetryError> {
    telemetry::init(config.log_format, &config.log_level)
}

/// Runs until told to stop. Whatever keeps it from starting is logged.
pub async fn run(config: Config) -> ExitCode {
    match serve(config).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot start");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<ExitCode, StartError> {
    let admin = admin::listen(config.admin_listen).await?;
    let lifecycle = Lifecycle::new(config.timing);
    let shutdown = lifecycle.shutdown().clone();
    let metrics = Arc::new(Metrics::new()?);
    let engines = engines(&config, &metrics, &shutdown).await?;
    let (started, is_started) = watch::channel(false);
    tracing::info!(
        admin = %config.admin_listen, regions = ?engines.iter().map(|(region, _)| region).collect::<Vec<_>>(),
        worker = std::process::id(), version = env!("CARGO_PKG_VERSION"), "listening"
    );
    lifecycle.spawn_critical("admin", admin::serve(admin, metrics, is_started, shutdown.clone()));
    let provisioner = Provisioner {
        config,
        engines,
        shutdown,
    };
    lifecycle.spawn_critical("provisioner", async move {
        Box::pin(provisioner.run(started)).await;
        Ok::<(), Infallible>(())
    });
    Ok(lifecycle.run().await.into())
}

/// One engine for each region: they share everything but the place where instances run.
async fn engines(
    config: &Config,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> Result<Vec<(String, Arc<Engine>)>, StartError> {
    let mut engines = Vec::new();
    if let Some(local) = &config.local {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let runtime = LocalConfig {
            program: local.sample_binary.clone(),
            directory: local.log_dir.clone(),
            replicas: local.replicas,
            log_level: local.instance_log_level.clone(),
        };
        let runtime = Arc::new(LocalRuntime::new(runtime, entropy)?);
        let engine = engine(config, &config.region, runtime, Arc::clone(metrics), shutdown)?;
        engines.push((config.region.clone(), Arc::new(engine)));
    }
    if let Some(kubernetes) = &config.kubernetes {
        for (region, source) in &kubernetes.clusters {
            let cluster = Cluster::open(source).await.map_err(RuntimeError::from)?;
            let runtime = KubernetesRuntime::start(cluster, kubernetes.settings.clone(), kubernetes.patience)?;
            let engine = engine(config, region, Arc::new(runtime), Arc::clone(metrics), shutdown)?;
            engines.push((region.clone(), Arc::new(engine)));
        }
    }
    Ok(engines)
}

fn engine(
    config: &Config,
    region: &str,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    shutdown: &Shutdown,
) -> Result<Engine, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let options = PoolOptions {
        max_connections: u32::try_from(config.concurrency).unwrap_or(u32::MAX).saturating_mul(2) + SPARE_CONNECTIONS,
        ..PoolOptions::new("authsome-provisioner")
    };
    let pool = pool::lazy(&config.database_url, &options)?;
    let (databases, caches) = strategies(config, runtime.own_servers(), &entropy)?;
    let facilities = Facilities {
        databases,
        caches,
        runtime,
        ring: Arc::clone(&config.platform_ring),
        edge_ring: Arc::clone(&config.edge_ring),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        public_base_url: config.public_url.clone(),
    };
    // Another start of the same process must be another holder: what the former one began is not this one's to record.
    let number = u64::from_be_bytes(entropy::bytes(&*entropy));
    Ok(Engine {
        pool,
        holder: format!("{region}/{}/{number:016x}", std::process::id()).into(),
        actions: Arc::new(BuiltIn),
        facilities: Arc::new(facilities),
        lease_lifetime: lease::LIFETIME,
        retry: RETRY,
        clock,
        entropy,
        metrics,
        stop: shutdown.soft().clone(),
    })
}

/// What keeps applications apart: every strategy whose servers are configured, since some application may have it.
fn strategies(config: &Config, own: OwnServers, entropy: &Arc<dyn Entropy>) -> Result<(Databases, Caches), StartError> {
    let tenants = &config.tenants;
    let mut databases: Vec<(DatabaseChoice, Arc<dyn DatabaseStrategy>)> = Vec::new();
    if let Some(admin) = &tenants.database_url {
        let instances = tenants.database_instance_url.as_ref();
        let server = SharedServer::new(admin, instances, Arc::clone(entropy))?;
        databases.push((DatabaseChoice::Database, Arc::new(server)));
        let name = tenants.schema_database.clone();
        let database = SharedDatabase::new(admin, instances, name, Arc::clone(entropy))?;
        databases.push((DatabaseChoice::Schema, Arc::new(database)));
    }
    databases.extend(own.database.map(|own| (DatabaseChoice::Dedicated, own)));
    let mut caches: Vec<(RedisChoice, Arc<dyn RedisStrategy>)> = Vec::new();
    if let Some(admin) = &tenants.redis_url {
        let server = AclServer::new(admin, tenants.redis_instance_url.as_ref())?;
        caches.push((RedisChoice::Acl, Arc::new(server)));
    }
    caches.extend(own.redis.map(|own| (RedisChoice::Dedicated, own)));
    Ok((
        Databases::new(databases, tenants.database_strategy.clone()),
        Caches::new(caches, tenants.redis_strategy.clone()),
    ))
}

struct Provisioner {
    config: Config,
    engines: Vec<(String, Arc<Engine>)>,
    shutdown: Shutdown,
}

impl Provisioner {
    /// Waits for what is needed, works until the soft stop, finishes what was begun, and stops the instances last, since
    /// what was begun may still need them.
    async fn run(self, started: watch::Sender<bool>) {
        let regions = self.engines.iter().map(async |(region, engine)| {
            if self.control_database(region, engine).await.is_ok() {
                tokio::join!(
                    self.keep_instances(region, engine),
                    self.tell_readiness(region, engine),
                    self.carry_out_operations(region, engine, &started),
                    self.answer_about_logs(region, engine)
                );
            }
            engine.facilities.runtime.shutdown().await;
        });
        tokio::join!(join_all(regions), self.measure());
    }

    /// Applications of all regions are on the same servers: one asks for all.
    async fn measure(&self) {
        let Some((_, engine)) = self.engines.first() else {
            return;
        };
        let meter = Meter {
            engine: Arc::clone(engine),
            regions: self.engines.iter().map(|(region, _)| region.clone()).collect(),
            interval: self.config.usage_interval,
        };
        meter.run(self.shutdown.soft().clone()).await;
    }

    async fn keep_instances(&self, region: &str, engine: &Arc<Engine>) {
        let drift = Drift {
            engine: Arc::clone(engine),
            region: region.to_owned(),
            concurrency: self.config.concurrency,
            interval: self.config.drift_interval,
        };
        Box::pin(drift.run(self.shutdown.soft().clone())).await;
    }

    async fn tell_readiness(&self, region: &str, engine: &Arc<Engine>) {
        let readiness = Readiness {
            engine: Arc::clone(engine),
            region: region.to_owned(),
            interval: READINESS,
        };
        Box::pin(readiness.run(self.shutdown.soft().clone())).await;
    }

    async fn answer_about_logs(&self, region: &str, engine: &Arc<Engine>) {
        let server = LogServer {
            engine: Arc::clone(engine),
            region: region.to_owned(),
            nats: self.config.nats_url.clone(),
        };
        Box::pin(server.run(self.shutdown.soft().clone())).await;
    }

    async fn carry_out_operations(&self, region: &str, engine: &Arc<Engine>, started: &watch::Sender<bool>) {
        let waited = tokio::join!(self.tenant_database(engine), self.tenant_redis(engine));
        if waited.0.is_err() || waited.1.is_err() {
            return;
        }
        started.send_replace(true);
        let permits = Arc::new(Semaphore::new(self.config.concurrency));
        let reconciler = Reconciler {
            engine: Arc::clone(engine),
            region: region.to_owned(),
            permits: Arc::clone(&permits),
            tick: self.config.reconcile_interval,
        };
        let consumer = Consumer {
            engine: Arc::clone(engine),
            region: region.to_owned(),
            nats: self.config.nats_url.clone(),
            permits,
        };
        let upgrades = upgrade::Driver {
            engine: Arc::clone(engine),
            region: region.to_owned(),
            tick: self.config.reconcile_interval,
        };
        let soft = self.shutdown.soft();
        tokio::join!(
            reconciler.run(soft.clone()),
            consumer.run(soft.clone()),
            Box::pin(upgrades.run(soft.clone()))
        );
    }

    /// The database answers, and has the schema: control migrates it, perhaps just now.
    async fn control_database(&self, region: &str, engine: &Engine) -> Result<(), Stopped> {
        let dependency = Dependency::new("the control database", &self.config.database_url);
        let pool = &engine.pool;
        until_ready(
            &dependency,
            Backoff::CONNECT,
            &*engine.entropy,
            self.shutdown.soft(),
            || async { crate::db::ledger::due(pool, region, 1).await },
        )
        .await?;
        Ok(())
    }

    async fn tenant_database(&self, engine: &Engine) -> Result<(), Stopped> {
        let Some(url) = &self.config.tenants.database_url else {
            return Ok(());
        };
        let dependency = Dependency::new("the tenants' Postgres", url).attempt_timeout(LONGEST_CALL);
        for databases in engine.facilities.databases.in_use() {
            let open = until_ready(
                &dependency,
                Backoff::CONNECT,
                &*engine.entropy,
                self.shutdown.soft(),
                || async { databases.check(&looker()).await },
            )
            .await?;
            if !open.is_empty() {
                tracing::warn!(databases = ?open, "tenants can connect to databases that are not theirs");
            }
        }
        Ok(())
    }

    async fn tenant_redis(&self, engine: &Engine) -> Result<(), Stopped> {
        let Some(url) = &self.config.tenants.redis_url else {
            return Ok(());
        };
        let dependency = Dependency::new("the tenants' Redis", url).attempt_timeout(LONGEST_CALL);
        for caches in engine.facilities.caches.in_use() {
            let remarks = until_ready(
                &dependency,
                Backoff::CONNECT,
                &*engine.entropy,
                self.shutdown.soft(),
                || async { caches.check(&looker()).await },
            )
            .await?;
            for remark in remarks {
                tracing::warn!(remark, "the tenants' Redis");
            }
        }
        Ok(())
    }
}

/// For calls that concern no application.
fn looker() -> Fence {
    Fence::observer(ApplicationId::from_uuid(uuid::Uuid::nil()), LONGEST_CALL * 2)
}

/// Says on standard error why the process ends before it could log.
pub fn complain(error: &dyn std::error::Error) -> ExitCode {
    use std::io::Write;
    // A closed pipe changes nothing about the end.
    let _ = writeln!(io::stderr().lock(), "authsome-provisioner: {}", Chain(error));
    ExitCode::FAILURE
}
