//! The real steps on a cluster, one by one, with real Postgres and Redis beside it.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, DatabaseChoice, RedisChoice, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::{ApplicationId, OperationId};
use authsome_provisioner::lease::Lease;
use authsome_provisioner::runtime::kubernetes::{Cluster, KubernetesRuntime, Settings};
use authsome_provisioner::runtime::{OwnServers, Patience};
use authsome_provisioner::step::{self, Facilities, Outcome, StepContext, StepError};
use authsome_provisioner::tenancy::{Caches, Databases};
use authsome_testkit::{RedisOptions, RedisServer};
use time::ext::NumericalDuration;

use crate::api_double::ApiDouble;
use crate::engine::Control;
use crate::steps;

/// An operation with a worker at every step of it.
async fn under_way(control: &Control, id: ApplicationId, kind: JobKind, generation: i64) -> OperationId {
    let deadline = SystemClock.now() + 10.minutes();
    let operation = control.operation(id, kind, generation, deadline).await;
    for statement in [
        "UPDATE operations SET status = 'running', started_at = now() WHERE id = $1",
        "UPDATE provisioning_steps SET status = 'running' WHERE operation_id = $1",
    ] {
        let begin = sqlx::query(statement).bind(operation.to_string());
        begin.execute(&control.pool).await.unwrap();
    }
    operation
}

/// An application that is to be built, and everything that its steps need.
pub struct Stepped {
    pub api: ApiDouble,
    pub control: Control,
    pub facilities: Facilities,
    pub id: ApplicationId,
    operation: OperationId,
    lease: Lease,
    pub redis: RedisServer,
    _directory: tempfile::TempDir,
}

impl Stepped {
    pub async fn start(settings: Settings, patience: Patience) -> Self {
        let api = ApiDouble::start().await;
        let control = Control::start().await;
        let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut facilities = steps::facilities(&redis, directory.path(), "/nowhere".into()).await;
        let runtime = KubernetesRuntime::start(Cluster::new(api.client()), settings, patience).unwrap();
        facilities.runtime = Arc::new(runtime);
        let id = control.application(AppStatus::Provisioning).await;
        let operation = under_way(&control, id, JobKind::Provision, 1).await;
        let lease = crate::lease::take(&control.pool, id, "worker", Duration::from_mins(5))
            .await
            .unwrap();
        Self {
            api,
            control,
            facilities,
            id,
            operation,
            lease,
            redis,
            _directory: directory,
        }
    }

    /// The application's database and Redis are servers of its own.
    pub fn with_own_servers(mut self) -> Self {
        let OwnServers { database, redis } = self.facilities.runtime.own_servers();
        self.facilities.databases = Databases::only(DatabaseChoice::Dedicated, database.unwrap());
        self.facilities.caches = Caches::only(RedisChoice::Dedicated, redis.unwrap());
        self
    }

    /// The next generation of the application's intent, and an operation for it.
    pub async fn next(&mut self, kind: JobKind) {
        sqlx::query("UPDATE operations SET status = 'succeeded', finished_at = now() WHERE id = $1")
            .bind(self.operation.to_string())
            .execute(&self.control.pool)
            .await
            .unwrap();
        self.control.raise_generation(self.id).await;
        let generation = self.control.column(self.id, "generation").await.unwrap();
        self.operation = under_way(&self.control, self.id, kind, generation.parse().unwrap()).await;
    }

    pub async fn apply_all(&self, steps: &[Step]) {
        for &step in steps {
            self.apply(step)
                .await
                .unwrap_or_else(|error| panic!("{step}: {error:?}"));
        }
    }

    pub async fn apply(&self, step: Step) -> Result<Outcome, StepError> {
        let mut connection = self.control.pool.acquire().await.unwrap();
        let intent = authsome_provisioner::db::intent::load(&mut connection, self.id).await;
        let intent = intent.unwrap().unwrap();
        drop(connection);
        let cx = StepContext {
            intent: &intent,
            fence: self.lease.fence(),
            pool: &self.control.pool,
            facilities: &self.facilities,
        };
        step::action(step).apply(&cx).await
    }

    /// What people who watch read beside a step.
    pub async fn told(&self, step: Step) -> Option<String> {
        let steps = self.control.steps(self.operation).await;
        steps.into_iter().find(|one| one.step == step)?.detail
    }
}
