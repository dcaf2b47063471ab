//! A control database with an application in it, and workers whose steps follow a script.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::{AppStatus, DatabaseChoice, RedisChoice, Step};
use authsome_contract::wire::job::JobKind;
use authsome_contract::wire::{Job, LogPage};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::{Entropy, SystemEntropy};
use authsome_core::id::{ApplicationId, OperationId, UserId, WorkspaceId};
use authsome_core::retry::Backoff;
use authsome_core::seal::{EdgeRing, PlatformRing, SealKey};
use authsome_core::secret::{SecretString, SecretUrl};
use authsome_db::operation::{self, NewOperation, Operation, StepRow};
use authsome_provisioner::database::{self, DatabaseError, DatabaseStrategy, names::Slot};
use authsome_provisioner::execution::{Engine, Execution};
use authsome_provisioner::instance_logs::LogQuery;
use authsome_provisioner::lease::Fence;
use authsome_provisioner::metrics::Metrics;
use authsome_provisioner::redis::{self, RedisError, RedisStrategy};
use authsome_provisioner::runtime::{Placement, Runtime, RuntimeError, Site, Workload};
use authsome_provisioner::step::Facilities;
use authsome_provisioner::tenancy::{Caches, Databases};
use authsome_testkit::{Database, fresh_database, wait_for};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use time::OffsetDateTime;
use time::ext::NumericalDuration;
use tokio_util::sync::CancellationToken;

use crate::script::World;

/// The region of everything in these tests.
pub const REGION: &str = "here";

/// A control database of its own.
pub struct Control {
    pub pool: PgPool,
    pub database: Database,
    pub workspace: WorkspaceId,
}

/// An application that is to be built.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub application: ApplicationId,
    pub operation: OperationId,
}

impl Control {
    pub async fn start() -> Self {
        let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(12)
            .connect(&database.url)
            .await
            .unwrap();
        let (user, workspace) = (
            UserId::generate(&SystemClock, &entropy()),
            WorkspaceId::generate(&SystemClock, &entropy()),
        );
        sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, $1 || '@example.com', 'Ada')")
            .bind(user)
            .execute(&pool)
            .await
            .unwrap();
        sqlx::query("INSERT INTO workspaces (id, name, slug, owner_id) VALUES ($1, 'Acme', 'acme', $2)")
            .bind(workspace)
            .bind(user)
            .execute(&pool)
            .await
            .unwrap();
        Self {
            pool,
            database,
            workspace,
        }
    }

    /// An application in this status, without an operation.
    pub async fn application(&self, status: AppStatus) -> ApplicationId {
        let id = ApplicationId::generate(&SystemClock, &entropy());
        let suffix = id.suffix();
        sqlx::query(
            "INSERT INTO applications (id, workspace_id, name, slug, environment, status, status_deadline, region,
                                       k8s_namespace, cpu_limit, memory_limit, storage_limit, activated_at)
             VALUES ($1, $2, 'Shop''; DROP TABLE x --', 'shop-' || $3, 'production', $4, now() + interval '1 hour', $5,
                     'authsome-app-' || $3, '500m', '512Mi', '5Gi', CASE WHEN $4 = 'provisioning' THEN NULL ELSE now() END)",
        )
        .bind(id)
        .bind(self.workspace)
        .bind(&*suffix)
        .bind(status.as_str())
        .bind(REGION)
        .execute(&self.pool)
        .await
        .unwrap();
        id
    }

    /// An operation on an application, due now.
    pub async fn operation(
        &self,
        application: ApplicationId,
        kind: JobKind,
        generation: i64,
        deadline_at: OffsetDateTime,
    ) -> OperationId {
        let id = OperationId::generate(&SystemClock, &entropy());
        let workspace_id = self.workspace;
        let new = NewOperation {
            id,
            workspace_id,
            application_id: application,
            kind,
            generation,
            requested_by: None,
            deadline_at,
        };
        let mut connection = self.pool.acquire().await.unwrap();
        operation::insert(&mut connection, &new, Step::of(kind)).await.unwrap();
        id
    }

    /// An application that is to be built, as the API makes one.
    pub async fn wanted(&self) -> Wanted {
        let application = self.application(AppStatus::Provisioning).await;
        let deadline = SystemClock.now() + 10.minutes();
        Wanted {
            application,
            operation: self.operation(application, JobKind::Provision, 1, deadline).await,
        }
    }

    pub async fn load(&self, id: OperationId) -> Operation {
        operation::get(&mut self.pool.acquire().await.unwrap(), id)
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn steps(&self, id: OperationId) -> Vec<StepRow> {
        operation::steps(&mut self.pool.acquire().await.unwrap(), id)
            .await
            .unwrap()
    }

    /// One text column of an application.
    pub async fn column(&self, id: ApplicationId, column: &str) -> Option<String> {
        sqlx::query_scalar("SELECT to_jsonb(a) ->> $2 FROM applications a WHERE id = $1")
            .bind(id)
            .bind(column)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Deletes the application, without a new generation.
    pub async fn delete(&self, id: ApplicationId) {
        sqlx::query("UPDATE applications SET status = 'deleting', deleted_at = now() WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// A newer intent.
    pub async fn raise_generation(&self, id: ApplicationId) {
        sqlx::query("UPDATE applications SET generation = generation + 1 WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Audit events of an application: action and status.
    pub async fn audit(&self, id: ApplicationId) -> Vec<(String, String)> {
        sqlx::query_as("SELECT action, status FROM audit_events WHERE application_id = $1 ORDER BY id")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Waits until the operation has this status.
    pub async fn until(&self, id: OperationId, status: operation::OperationStatus) {
        wait_for(
            format!("the operation to be {}", status.as_str()),
            // Three times as long as a job that was delivered to a connection that is gone takes to be delivered again.
            Duration::from_secs(90),
            async || {
                let now = self.load(id).await.status;
                if now == status { Ok(()) } else { Err(now.as_str()) }
            },
        )
        .await
        .unwrap();
    }

    /// Waits until nothing of these applications is under way.
    pub async fn until_settled(&self, applications: &[ApplicationId]) {
        wait_for("nothing to be under way", Duration::from_mins(1), async || {
            let open: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM operations WHERE application_id = ANY ($1) AND finished_at IS NULL",
            )
            .bind(applications)
            .fetch_one(&self.pool)
            .await
            .unwrap();
            if open == 0 { Ok(()) } else { Err(open) }
        })
        .await
        .unwrap();
    }

    /// A worker with its own name.
    pub fn worker(&self, world: &Arc<World>) -> Worker {
        self.worker_with(world, Settings::default())
    }

    pub fn worker_with(&self, world: &Arc<World>, settings: Settings) -> Worker {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(entropy()));
        let stop = CancellationToken::new();
        let facilities = Facilities {
            databases: Databases::only(DatabaseChoice::Database, Arc::new(Nowhere)),
            caches: Caches::only(RedisChoice::Acl, Arc::new(Nowhere)),
            runtime: Arc::new(Nowhere),
            ring: Arc::new(PlatformRing::single(SealKey::new(1, &[7; 32]))),
            edge_ring: Arc::new(EdgeRing::single(SealKey::new(1, &[9; 32]))),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            public_base_url: "https://edge.example".to_owned(),
        };
        Worker(Arc::new(Engine {
            pool: settings.pool.unwrap_or_else(|| self.pool.clone()),
            holder: format!("worker-{}", entropy.next_u64()).into(),
            actions: world.worker(),
            facilities: Arc::new(facilities),
            lease_lifetime: settings.lease_lifetime,
            retry: settings.retry,
            clock,
            entropy,
            metrics: Arc::new(Metrics::new().unwrap()),
            stop,
        }))
    }
}

impl Wanted {
    pub fn job(self) -> Job {
        Job {
            operation_id: self.operation,
            application_id: self.application,
            kind: JobKind::Provision,
            generation: 1,
            region: REGION.to_owned(),
        }
    }
}

/// What differs between tests.
pub struct Settings {
    pub lease_lifetime: Duration,
    pub retry: Backoff,
    pub pool: Option<PgPool>,
}

impl Default for Settings {
    fn default() -> Self {
        let no_wait = Backoff {
            base: Duration::ZERO,
            factor: 1.0,
            max: Duration::ZERO,
        };
        Self {
            lease_lifetime: Duration::from_secs(30),
            retry: no_wait,
            pool: None,
        }
    }
}

/// One provisioner process, as far as the engine goes.
#[derive(Clone)]
pub struct Worker(pub Arc<Engine>);

impl Worker {
    pub async fn execute(&self, id: OperationId) -> Execution {
        self.0.execute(id).await.unwrap()
    }

    /// Executes until the operation is over, as the reconciler does.
    pub async fn finish(&self, id: OperationId) {
        for _ in 0..50 {
            if self.execute(id).await == Execution::Over {
                return;
            }
        }
        panic!("not over after 50 executions");
    }

    /// Executes in a task that can be killed.
    pub fn spawn(&self, id: OperationId) -> tokio::task::JoinHandle<Execution> {
        let worker = self.clone();
        tokio::spawn(async move { worker.execute(id).await })
    }
}

/// Servers and a runtime that scripted steps never ask.
struct Nowhere;

#[async_trait]
impl DatabaseStrategy for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }
    async fn check(&self, _: &Fence) -> Result<Vec<String>, DatabaseError> {
        unreachable!()
    }
    async fn differences(&self, _: &database::Tenant<'_>, _: &Fence) -> Result<Vec<String>, DatabaseError> {
        unreachable!()
    }
    async fn ensure(&self, _: &database::Tenant<'_>, _: &Fence) -> Result<(), DatabaseError> {
        unreachable!()
    }
    async fn is_absent(&self, _: ApplicationId, _: &Fence) -> Result<bool, DatabaseError> {
        unreachable!()
    }
    async fn remove(&self, _: ApplicationId, _: &Fence) -> Result<(), DatabaseError> {
        unreachable!()
    }
    fn url(&self, _: ApplicationId, _: Slot, _: &SecretString) -> SecretUrl {
        unreachable!()
    }
}

#[async_trait]
impl RedisStrategy for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }
    async fn check(&self, _: &Fence) -> Result<Vec<String>, RedisError> {
        unreachable!()
    }
    async fn differences(&self, _: &redis::Tenant<'_>, _: &Fence) -> Result<Vec<String>, RedisError> {
        unreachable!()
    }
    async fn ensure(&self, _: &redis::Tenant<'_>, _: &Fence) -> Result<(), RedisError> {
        unreachable!()
    }
    async fn is_absent(&self, _: ApplicationId, _: &Fence) -> Result<bool, RedisError> {
        unreachable!()
    }
    async fn remove(&self, _: ApplicationId, _: &Fence) -> Result<(), RedisError> {
        unreachable!()
    }

    async fn end_sessions(&self, _: ApplicationId, _: Duration, _: &Fence) -> Result<(), RedisError> {
        unreachable!()
    }

    async fn remove_keys(&self, _: ApplicationId, _: &Fence) -> Result<(), RedisError> {
        unreachable!()
    }
    fn url(&self, _: ApplicationId, _: &SecretString) -> SecretUrl {
        unreachable!()
    }
}

#[async_trait]
impl Runtime for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }
    fn skips(&self, step: Step) -> Option<&'static str> {
        crate::script::skips(step).then_some("Not used here.")
    }
    async fn check(&self) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn observe(&self, _: ApplicationId) -> Result<Placement, RuntimeError> {
        unreachable!()
    }
    async fn ensure(&self, _: &Workload) -> Result<(), RuntimeError> {
        unreachable!()
    }
    async fn retire(&self, _: &Site) -> Result<(), RuntimeError> {
        unreachable!()
    }
    async fn stop(&self, _: &Site) -> Result<(), RuntimeError> {
        unreachable!()
    }
    async fn remove(&self, _: &Site) -> Result<(), RuntimeError> {
        unreachable!()
    }
    async fn logs(&self, _: ApplicationId, _: &LogQuery) -> Result<LogPage, RuntimeError> {
        unreachable!()
    }
    async fn moved(&self) -> ApplicationId {
        std::future::pending().await
    }
    async fn shutdown(&self) {}
}

pub fn entropy() -> SystemEntropy {
    SystemEntropy::new()
}
