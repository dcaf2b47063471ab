//! Gauges with the application as their label: as many series as there are applications of which something is told.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use authsome_core::id::ApplicationId;
use prometheus::{IntGaugeVec, Opts, Registry};

/// Some gauges that are told together.
#[derive(Debug)]
pub(super) struct ApplicationGauges<const N: usize> {
    gauges: [IntGaugeVec; N],
    /// Of which applications each teller told last.
    told: Mutex<HashMap<String, HashSet<ApplicationId>>>,
}

impl<const N: usize> ApplicationGauges<N> {
    /// Names and what they mean.
    pub(super) fn register(registry: &Registry, names: [(&str, &str); N]) -> prometheus::Result<Self> {
        let mut gauges = Vec::with_capacity(N);
        for (name, help) in names {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["application"])?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push(gauge);
        }
        let gauges = gauges
            .try_into()
            .map_err(|_| prometheus::Error::Msg("as many gauges as names".to_owned()))?;
        Ok(Self {
            gauges,
            told: Mutex::default(),
        })
    }

    /// Everything that `teller` has to tell now. What it told before and does not tell any more is gone.
    pub(super) fn set(&self, teller: &str, values: &[(ApplicationId, [i64; N])]) {
        for (application, values) in values {
            let id = application.to_string();
            for (gauge, value) in self.gauges.iter().zip(values) {
                gauge.with_label_values(&[id.as_str()]).set(*value);
            }
        }
        let now: HashSet<ApplicationId> = values.iter().map(|(application, _)| *application).collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.entry(teller.to_owned()).or_default();
        for gone in before.difference(&now) {
            let id = gone.to_string();
            for gauge in &self.gauges {
                // One that is not there is gone as well.
                let _ = gauge.remove_label_values(&[id.as_str()]);
            }
        }
        *before = now;
    }
}
