//! What each application uses of its database, beside what it may.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use authsome_core::id::ApplicationId;
use prometheus::{IntGaugeVec, Opts, Registry};

use crate::usage::Measured;

/// Gauges with the application as their label: as many series as there are applications with a database on a shared server.
#[derive(Debug)]
pub(super) struct UsageGauges {
    bytes: IntGaugeVec,
    connections: IntGaugeVec,
    storage_limit: IntGaugeVec,
    connection_limit: IntGaugeVec,
    told: Mutex<HashSet<ApplicationId>>,
}

impl UsageGauges {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["application"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        Ok(Self {
            bytes: gauges(
                "authsome_application_database_bytes",
                "Size of an application's database, indexes included",
            )?,
            connections: gauges(
                "authsome_application_database_connections",
                "Sessions on an application's database when it was measured",
            )?,
            storage_limit: gauges(
                "authsome_application_storage_limit_bytes",
                "How large an application's database may become",
            )?,
            connection_limit: gauges(
                "authsome_application_connection_limit",
                "How many sessions an application's database may have",
            )?,
            told: Mutex::default(),
        })
    }

    pub(super) fn set(&self, measured: &[Measured]) {
        let now: HashSet<ApplicationId> = measured.iter().map(|one| one.application).collect();
        for one in measured {
            let id = one.application.to_string();
            let label = [id.as_str()];
            self.bytes.with_label_values(&label).set(one.bytes);
            self.connections.with_label_values(&label).set(one.connections);
            self.storage_limit.with_label_values(&label).set(one.storage_limit);
            self.connection_limit
                .with_label_values(&label)
                .set(one.connection_limit);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in told.difference(&now) {
            let id = gone.to_string();
            for gauges in [
                &self.bytes,
                &self.connections,
                &self.storage_limit,
                &self.connection_limit,
            ] {
                // One that is not there is gone as well.
                let _ = gauges.remove_label_values(&[id.as_str()]);
            }
        }
        *told = now;
    }
}
