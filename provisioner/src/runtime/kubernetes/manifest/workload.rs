//! The Deployment of the instances, and the job that prepares their schema where the image does not.

use serde_json::json;

use super::super::kind::Kind;
use super::template::template;
use super::{Component, Manifest, NAME, Spec, Unusable, selector};
use crate::runtime::Workload;

/// The instances. The number of replicas is not here: it is the autoscaler's.
pub fn deployment(spec: &Spec<'_>, workload: &Workload) -> Result<Manifest, Unusable> {
    let body = json!({ "spec": {
        "selector": { "matchLabels": selector(Component::Instance) },
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 300,
        "minReadySeconds": 0,
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
        "template": template(spec, workload, Component::Instance)?,
    }});
    Ok(spec.component(Kind::Deployment, NAME, Component::Instance, body))
}

/// The name of the migration of a generation. A job cannot be changed, so each generation has one of its own.
pub fn migration_name(generation: i64) -> String {
    format!("{NAME}-migrate-{generation}")
}

/// The migration; `None` where the image prepares its schema when it starts.
pub fn migration(spec: &Spec<'_>, workload: &Workload) -> Result<Option<Manifest>, Unusable> {
    if spec.settings.image.migrate_command.is_empty() {
        return Ok(None);
    }
    let body = json!({ "spec": {
        "backoffLimit": 3,
        "activeDeadlineSeconds": 600,
        "ttlSecondsAfterFinished": 86400,
        "template": template(spec, workload, Component::Migration)?,
    }});
    let name = migration_name(workload.generation);
    Ok(Some(spec.component(Kind::Job, &name, Component::Migration, body)))
}
