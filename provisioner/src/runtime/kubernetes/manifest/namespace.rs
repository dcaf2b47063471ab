//! The namespace, and what bounds everything in it.

use serde_json::json;

use super::super::kind::Kind;
use super::super::quantity::Quantity;
use super::super::room::Demand;
use super::super::settings::Server;
use super::{DASHBOARD_LINK, Limits, Manifest, NAME, Spec, Unusable};

/// CPU and memory of a dedicated server at most; its requests are half of it.
pub(super) const DATA_CPU: &str = "1";
pub(super) const DATA_MEMORY: &str = "1Gi";

/// Namespace, quota, limit range and service account, in the order in which they must be made.
pub fn namespace(spec: &Spec<'_>) -> Result<Vec<Manifest>, Unusable> {
    let limits = Limits::of(spec.site)?;
    let mut labels = spec.labels();
    for mode in ["enforce", "audit", "warn"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), "restricted".into());
    }
    let mut namespace = Manifest::new(Kind::Namespace, None, &spec.site.namespace, &labels, json!({}));
    if let Some(link) = super::fleet::link(spec.settings, spec.site.application) {
        namespace = namespace.annotated(DASHBOARD_LINK, &link);
    }
    Ok(vec![
        namespace,
        quota(spec, &limits)?,
        range(spec, &limits),
        account(spec),
    ])
}

/// What an application's dedicated servers come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime::kubernetes) struct DedicatedServers {
    /// How many there are.
    pub count: u32,
    /// What they ask for.
    pub requests: Demand,
    /// What they may use.
    pub limits: Demand,
}

impl DedicatedServers {
    /// Of an installation.
    pub(in crate::runtime::kubernetes) fn of(spec: &Spec<'_>) -> Result<Self, Unusable> {
        let own = |text, limit| Quantity::parse(text).map_err(|source| Unusable::Limit { limit, source });
        let count = dedicated(spec);
        let (cpu, memory) = (
            own(DATA_CPU, "cpu")?.times(count),
            own(DATA_MEMORY, "memory")?.times(count),
        );
        Ok(Self {
            count,
            requests: Demand {
                cpu: cpu.half(),
                memory: memory.half(),
            },
            limits: Demand { cpu, memory },
        })
    }
}

/// Dedicated servers: how many there are.
fn dedicated(spec: &Spec<'_>) -> u32 {
    [spec.database(), spec.redis()]
        .into_iter()
        .map(|server| u32::from(matches!(server, Server::Dedicated { .. })))
        .sum()
}

/// Room for every instance that the plan allows, one more while a change rolls, a migration, and dedicated servers; and once
/// more for every instance: those that are being replaced count until they have served what they had begun.
fn quota(spec: &Spec<'_>, limits: &Limits) -> Result<Manifest, Unusable> {
    let pods = 2 * limits.max_replicas + 2;
    let dedicated = dedicated(spec);
    let own = |text, limit| Quantity::parse(text).map_err(|source| Unusable::Limit { limit, source });
    let (data_cpu, data_memory) = (own(DATA_CPU, "cpu")?, own(DATA_MEMORY, "memory")?);
    let cpu = limits.cpu.times(pods).plus(data_cpu.times(dedicated));
    let memory = limits.memory.times(pods).plus(data_memory.times(dedicated));
    let body = json!({ "spec": { "hard": {
        "pods": (pods + dedicated).to_string(),
        "limits.cpu": cpu.to_string(),
        "limits.memory": memory.to_string(),
        "requests.cpu": cpu.half().to_string(),
        "requests.memory": memory.half().to_string(),
        "requests.storage": if dedicated == 0 { "0".to_owned() } else { limits.storage.times(dedicated).to_string() },
        "persistentvolumeclaims": dedicated.to_string(),
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }}});
    Ok(spec.manifest(Kind::ResourceQuota, NAME, body))
}

/// A container that says nothing gets an instance's share, and none gets more than its plan allows.
fn range(spec: &Spec<'_>, limits: &Limits) -> Manifest {
    // A dedicated server may be larger than an instance.
    let (data_cpu, data_memory) = (Quantity::parse(DATA_CPU), Quantity::parse(DATA_MEMORY));
    let widest =
        |own: Quantity, data: Option<Quantity>| data.filter(|data| *data > own && dedicated(spec) > 0).unwrap_or(own);
    let max_cpu = widest(limits.cpu, data_cpu.ok());
    let max_memory = widest(limits.memory, data_memory.ok());
    let body = json!({ "spec": { "limits": [{
        "type": "Container",
        "default": { "cpu": limits.cpu.to_string(), "memory": limits.memory.to_string() },
        "defaultRequest": { "cpu": limits.cpu.half().to_string(), "memory": limits.memory.half().to_string() },
        "max": { "cpu": max_cpu.to_string(), "memory": max_memory.to_string() },
    }]}});
    spec.manifest(Kind::LimitRange, NAME, body)
}

/// An account that can do nothing and whose token is nowhere.
fn account(spec: &Spec<'_>) -> Manifest {
    let mut body = json!({ "automountServiceAccountToken": false });
    if let Some(secret) = &spec.settings.image.pull_secret {
        body["imagePullSecrets"] = json!([{ "name": secret }]);
    }
    spec.manifest(Kind::ServiceAccount, NAME, body)
}
