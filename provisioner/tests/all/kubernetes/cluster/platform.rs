//! The platform's servers on this machine, the program, and what is asked of the cluster.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use authsome_contract::model::AppStatus;
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::ApplicationId;
use authsome_db::operation::{Operation, OperationStatus};
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_testkit::{
    NatsOptions, NatsServer, Program, RedisOptions, RedisServer, port, private_file, secret, shared_postgres, wait_for,
};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use time::ext::NumericalDuration;

use crate::engine::{Control, REGION};
use crate::program::provisioner_command;

use super::PATIENCE;

/// The platform's servers on this machine, the program, and a cluster.
pub(super) struct Platform {
    pub(super) control: Control,
    pub(super) client: kube::Client,
    /// A namespace of this test's own, for what the fleet has one of.
    pub(super) monitoring: String,
    pub(super) redis: RedisServer,
    _nats: NatsServer,
    _program: Program,
    _directory: tempfile::TempDir,
    begun: Instant,
}

impl Platform {
    /// `own`: new applications have a Postgres and a Redis of their own.
    pub(super) async fn start(kubeconfig: &Path, client: kube::Client, own: bool) -> Self {
        let (control, nats, redis) = tokio::join!(
            Control::start(),
            NatsServer::start(NatsOptions::default()),
            RedisServer::start(RedisOptions::default())
        );
        let (nats, redis) = (nats.unwrap(), redis.unwrap());
        let directory = tempfile::tempdir().unwrap();
        let number = authsome_core::entropy::Entropy::next_u64(&crate::engine::entropy());
        let monitoring = format!("authsome-test-{number:016x}");
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &Kind::Namespace.resource());
        let made = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": monitoring } });
        let parameters = PatchParams::apply("somebody").validation_strict();
        namespaces
            .patch(&monitoring, &parameters, &Patch::Apply(made))
            .await
            .unwrap();
        let admin = format!("127.0.0.1:{}", port::free().unwrap());
        let image =
            std::env::var("AUTHSOME_TEST_IMAGE").unwrap_or_else(|_| "authsome.example/authsome:test".to_owned());
        let config = directory.path().join("provisioner.toml");
        // The program may be somebody who is allowed less than the test.
        let its_own = std::env::var_os("AUTHSOME_TEST_KUBECONFIG").map(PathBuf::from);
        let provisioner_kubeconfig = its_own.as_deref().unwrap_or(kubeconfig);
        let (key, edge_key) = (secret::random_key().unwrap(), secret::random_key().unwrap());
        let text = format!(
            "region = \"{REGION}\"\nruntime = \"kubernetes\"\n[database]\nurl = \"{}\"\n[nats]\nurl = \"{}\"\n[tenants]\n\
             database_url = \"{}\"\nredis_url = \"{}\"\n{}[kubernetes]\nkubeconfig = \"{}\"\nimage = \"{image}\"\nfailure_patience = \"3s\"\n\
             postgres_image = \"postgres:17\"\nredis_image = \"redis:7.4\"\n\
             monitoring_namespace = \"{monitoring}\"\n[encryption]\nkey = \"{key}\"\nedge_key = \"{edge_key}\"\n[public]\nedge = \"https://api.example\"\n[listen]\n\
             admin = \"{admin}\"\n[reconcile]\ninterval = \"200ms\"\n[drift]\ninterval = \"2s\"\n[log]\nformat = \"pretty\"\n",
            control.database.url,
            nats.url(),
            shared_postgres().await.unwrap().admin_url(),
            redis.url(),
            if own {
                "database_strategy = \"dedicated\"\nredis_strategy = \"dedicated\"\n"
            } else {
                ""
            },
            provisioner_kubeconfig.display(),
        );
        private_file::write(&config, &text).unwrap();
        let program = provisioner_command(directory.path().join("log"), &config, &admin)
            .start()
            .await
            .unwrap();
        Self {
            control,
            client,
            monitoring,
            redis,
            _nats: nats,
            _program: program,
            _directory: directory,
            begun: Instant::now(),
        }
    }

    pub(super) fn say(&self, what: impl Display) {
        let line = format!("{:7.1} s  {what}\n", self.begun.elapsed().as_secs_f64());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }

    pub(super) fn api(&self, kind: Kind, id: ApplicationId) -> Api<DynamicObject> {
        if kind.is_namespaced() {
            Api::namespaced_with(self.client.clone(), &namespace_of(id), &kind.resource())
        } else {
            Api::all_with(self.client.clone(), &kind.resource())
        }
    }

    pub(super) async fn get(&self, kind: Kind, id: ApplicationId, name: &str) -> Option<Value> {
        let found = self.api(kind, id).get_opt(name).await.unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    pub(super) async fn edit(&self, kind: Kind, id: ApplicationId, name: &str, patch: Value) {
        let parameters = PatchParams {
            field_manager: Some("somebody".to_owned()),
            ..PatchParams::default()
        };
        self.api(kind, id)
            .patch(name, &parameters, &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub(super) async fn pods(&self, id: ApplicationId) -> Vec<Value> {
        let pods = self.api(Kind::Pod, id).list(&ListParams::default()).await.unwrap();
        pods.items
            .into_iter()
            .map(|pod| serde_json::to_value(pod).unwrap())
            .collect()
    }

    /// What the API does for a change of intent: a status, a new generation, an operation.
    pub(super) async fn change(&self, id: ApplicationId, status: AppStatus, kind: JobKind) -> Operation {
        let gone = matches!(status, AppStatus::Deleting | AppStatus::Purging);
        sqlx::query(
            "UPDATE applications SET status = $2, generation = generation + 1, status_deadline = now() + interval '1 hour',
                    deleted_at = CASE WHEN $3 THEN now() END WHERE id = $1",
        )
        .bind(id)
        .bind(status.as_str())
        .bind(gone)
        .execute(&self.control.pool)
        .await
        .unwrap();
        let generation = self.generation(id).await;
        let deadline = SystemClock.now() + 30.minutes();
        let operation = self.control.operation(id, kind, generation, deadline).await;
        self.ended(operation, &kind.to_string()).await
    }

    pub(super) async fn ended(&self, operation: authsome_core::id::OperationId, what: &str) -> Operation {
        let ended = wait_for(format!("{what} to end"), PATIENCE, async || {
            let now = self.control.load(operation).await;
            if now.finished_at.is_some() {
                Ok(now)
            } else {
                Err(now.status.as_str())
            }
        })
        .await
        .unwrap();
        let reason = ended
            .reason
            .as_deref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        self.say(format!("{what} {}{reason}", ended.status.as_str()));
        ended
    }

    pub(super) async fn succeeds(&self, id: ApplicationId, status: AppStatus, kind: JobKind) {
        let ended = self.change(id, status, kind).await;
        assert_eq!(ended.status, OperationStatus::Succeeded, "{kind}: {ended:?}");
    }

    pub(super) async fn generation(&self, id: ApplicationId) -> i64 {
        self.control.column(id, "generation").await.unwrap().parse().unwrap()
    }

    /// Ready pods of the present generation.
    pub(super) async fn ready(&self, id: ApplicationId) -> usize {
        let generation = self.generation(id).await.to_string();
        let pods = self.pods(id).await;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            pod["metadata"]["annotations"]["authsome.cloud/generation"] == generation
                && conditions
                    .iter()
                    .any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        pods.iter().filter(ready).count()
    }
}
