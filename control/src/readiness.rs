//! Which dependencies are there.
//!
//! Postgres is needed to answer anything, so it decides whether the process is ready. Redis and NATS are not: without them
//! changes reach the edges late, and nothing is lost; they are told, and do not take the API out of service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authsome_core::lifecycle::Shutdown;
use serde::Serialize;
use sqlx::PgPool;

/// The longest that Postgres may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of the dependencies. Clones are the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    shutdown: Shutdown,
    parts: Arc<Mutex<Parts>>,
}

#[derive(Default)]
struct Parts {
    migrated: bool,
    others: BTreeMap<&'static str, Probe>,
}

/// Looks at a connection without waiting; `Err` says what is wrong, with no secret in it.
type Probe = Box<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("migrated", &self.migrated)
            .field("others", &self.others.keys())
            .finish()
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `ready`, `unready` or `stopping`.
    pub status: &'static str,
    /// `ok`, or what is wrong, by dependency.
    pub dependencies: BTreeMap<&'static str, &'static str>,
}

impl Readiness {
    /// Nothing is known yet.
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            parts: Arc::default(),
        }
    }

    /// The schema is up to date.
    pub fn migrated(&self) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).migrated = true;
    }

    /// A dependency that is told and does not decide readiness.
    pub fn also_tell(
        &self,
        dependency: &'static str,
        probe: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static,
    ) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .others
            .insert(dependency, Box::new(probe));
    }

    /// Looks, and says whether requests may be sent here.
    pub async fn look(&self, pool: &PgPool) -> (bool, Report) {
        let answer = tokio::time::timeout(PATIENCE, authsome_db::pool::ping(pool)).await;
        let postgres = match answer {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "unreachable",
            Err(_) => "no answer in time",
        };
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = postgres == "ok" && parts.migrated && !self.shutdown.is_draining();
        let mut dependencies: BTreeMap<_, _> = parts
            .others
            .iter()
            .map(|(name, probe)| (*name, probe().err().unwrap_or("ok")))
            .collect();
        dependencies.insert("postgres", postgres);
        dependencies.insert("schema", if parts.migrated { "ok" } else { "not migrated yet" });
        let status = match (self.shutdown.is_draining(), ready) {
            (true, _) => "stopping",
            (false, true) => "ready",
            (false, false) => "unready",
        };
        (ready, Report { status, dependencies })
    }
}
