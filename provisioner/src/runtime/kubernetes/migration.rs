//! The job that prepares the database's schema, where the image does not do that when it starts. One for each generation; one that
//! fails is taken out of the way of the next attempt, and its last lines are told without secrets.

use super::{
    Container, ENDING, Kind, KubernetesRuntime, NAME, Outcome, Redaction, RuntimeError, Step, Workload, excerpt,
    manifest,
};
use crate::runtime::Runtime;

impl KubernetesRuntime {
    pub(super) async fn run_migration(&self, workload: &Workload) -> Result<Outcome, RuntimeError> {
        self.warm().await?;
        let Some(job) = manifest::migration(&self.spec(&workload.site), workload)? else {
            return Ok(Outcome::skipped(self.skips(Step::Migrate).unwrap_or_default()));
        };
        let namespace = &workload.site.namespace;
        if self.cluster.store.get(Kind::Job, namespace, &job.name).is_none() {
            self.cluster.apply(&job, &workload.site.fence).await?;
        }
        let ended = || {
            let seen = self.cluster.store.get(Kind::Job, namespace, &job.name)?;
            let conditions = seen.body["status"]["conditions"].as_array()?.clone();
            conditions
                .into_iter()
                .find(|one| one["status"] == "True" && (one["type"] == "Complete" || one["type"] == "Failed"))
        };
        if !self.cluster.until(self.patience.rollout, || ended().is_some()).await {
            return Err(RuntimeError::Slow("the migration has not ended".to_owned()));
        }
        match ended() {
            Some(end) if end["type"] == "Complete" => Ok(Outcome::done("The database's schema is prepared.")),
            _ => {
                let pods = self.cluster.store.list(Kind::Pod, namespace);
                let label = manifest::Component::Migration.as_str();
                let pod = pods
                    .iter()
                    .find(|(_, pod)| pod.body["metadata"]["labels"][manifest::COMPONENT_LABEL] == label);
                let lines = match pod {
                    Some((pod, _)) => {
                        let of = Container {
                            pod: pod.clone(),
                            name: NAME.to_owned(),
                            previous: false,
                        };
                        self.cluster.last_lines(namespace, &of).await
                    }
                    None => None,
                };
                let redaction = Redaction::new().and_workload(workload);
                let lines = lines.map(|lines| excerpt(&lines, &redaction)).unwrap_or_default();
                // Out of the way of the next attempt.
                self.cluster
                    .delete(Kind::Job, Some(namespace), &job.name, &workload.site.fence)
                    .await?;
                self.cluster
                    .until(ENDING, || {
                        self.cluster.store.get(Kind::Job, namespace, &job.name).is_none()
                    })
                    .await;
                Err(RuntimeError::Unfit {
                    public: if lines.is_empty() {
                        "The migration of the database failed.".to_owned()
                    } else {
                        format!("The migration of the database failed. Its log ends with:\n{lines}")
                    },
                    detail: String::new(),
                })
            }
        }
    }
}
