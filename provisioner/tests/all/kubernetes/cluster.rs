//! The whole life of an application through the program itself, with real Postgres, Redis and NATS: over the API double in
//! every run, and against the cluster that `KUBECONFIG` names with `./dev test-kube`.

mod platform;
mod repair;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::ApplicationId;
use authsome_db::operation::OperationStatus;
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_testkit::{private_file, wait_for};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use time::ext::NumericalDuration;

use crate::api_double::ApiDouble;

use platform::Platform;

/// An image may have to be pulled, and nodes may be slow.
const PATIENCE: Duration = Duration::from_mins(5);
/// What is changed by hand is put right within this.
const REPAIR: Duration = Duration::from_secs(30);

impl Platform {
    async fn life(&self, id: ApplicationId) {
        let deadline = SystemClock.now() + 30.minutes();
        let created = self.control.operation(id, JobKind::Provision, 1, deadline).await;
        let ended = self.ended(created, "create").await;
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
        assert_eq!(self.control.column(id, "status").await.unwrap(), "active");
        let service = self.control.column(id, "instance_service").await.unwrap();
        assert_eq!(service, format!("authsome.{}.svc.cluster.local:8080", namespace_of(id)));
        assert_eq!(self.ready(id).await, 2);
        for step in self.control.steps(created).await {
            self.say(format!(
                "  {:10} {:8} {}",
                step.step,
                step.status,
                step.detail.unwrap_or_default()
            ));
        }

        self.monitor(id, created).await;
        self.configure(id).await;
        self.succeeds(id, AppStatus::Restarting, JobKind::Restart).await;
        assert!(self.ready(id).await >= 2);
        self.rotate(id).await;

        self.edit(Kind::Deployment, id, "authsome", json!({ "spec": { "replicas": 3 } }))
            .await;
        wait_for("three instances", PATIENCE, async || {
            (self.ready(id).await == 3).then_some(())
        })
        .await
        .unwrap();
        self.say("scaled to three by somebody else");
        self.succeeds(id, AppStatus::Updating, JobKind::Update).await;
        let deployment = self.get(Kind::Deployment, id, "authsome").await.unwrap();
        assert_eq!(deployment["spec"]["replicas"], 3, "the number is not ours");

        self.succeeds(id, AppStatus::Suspended, JobKind::Suspend).await;
        assert_eq!(
            (
                self.pods(id).await.len(),
                self.control.column(id, "instance_service").await
            ),
            (0, None)
        );
        self.succeeds(id, AppStatus::Updating, JobKind::Resume).await;
        assert!(self.ready(id).await >= 2);

        self.repair(id).await;
        self.lose_the_namespace(id).await;

        sqlx::query("UPDATE applications SET image = 'Not An Image' WHERE id = $1")
            .bind(id)
            .execute(&self.control.pool)
            .await
            .unwrap();
        let failed = self.change(id, AppStatus::Updating, JobKind::Update).await;
        assert_eq!(failed.status, OperationStatus::Failed);
        let refused = self
            .control
            .steps(failed.id)
            .await
            .into_iter()
            .find(|step| step.status == "failed");
        assert_eq!(refused.unwrap().step, Step::Preflight, "before anything is made");
        assert!(
            failed.reason.unwrap().contains("image") && !self.pods(id).await.is_empty(),
            "what runs runs on"
        );
        self.fail_to_pull(id).await;
        sqlx::query("UPDATE applications SET image = NULL WHERE id = $1")
            .bind(id)
            .execute(&self.control.pool)
            .await
            .unwrap();
        self.succeeds(id, AppStatus::Updating, JobKind::Update).await;
        assert_eq!(self.control.column(id, "status").await.unwrap(), "active");

        self.succeeds(id, AppStatus::Deleting, JobKind::Delete).await;
        assert!(self.pods(id).await.is_empty());
        assert!(
            self.get(Kind::Namespace, id, &namespace_of(id)).await.is_some(),
            "it can still be taken back"
        );
        self.succeeds(id, AppStatus::Purging, JobKind::Purge).await;
        assert_eq!(self.control.column(id, "status").await.unwrap(), "deleted");
        assert!(self.get(Kind::Namespace, id, &namespace_of(id)).await.is_none());
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = 'authsome_app_' || $1")
            .bind(&*id.suffix())
            .fetch_one(&self.control.pool)
            .await
            .unwrap();
        assert_eq!(left, 0, "its database is gone");
        assert!(self.redis.url().starts_with("redis://"));
    }

    /// An image of a registry that is nowhere: told while it is waited for, and the reason of the failure.
    async fn fail_to_pull(&self, id: ApplicationId) {
        let image = "registry.invalid/authsome:missing";
        sqlx::query("UPDATE applications SET image = $2 WHERE id = $1")
            .bind(id)
            .bind(image)
            .execute(&self.control.pool)
            .await
            .unwrap();
        let why = format!("The image {image} of the instance cannot be pulled");
        let begun = Instant::now();
        let telling = wait_for("it to be told", PATIENCE, async || {
            let told: Option<String> = sqlx::query_scalar(
                "SELECT s.detail FROM provisioning_steps s JOIN operations o ON o.id = s.operation_id
                 WHERE o.application_id = $1 AND o.status = 'running' AND s.step = 'rollout'",
            )
            .bind(id)
            .fetch_optional(&self.control.pool)
            .await
            .unwrap()
            .flatten();
            let tells = told.as_ref().is_some_and(|told| told.contains(&why));
            tells.then(|| begun.elapsed()).ok_or(format!("{told:?}"))
        });
        let (told, failed) = tokio::join!(telling, self.change(id, AppStatus::Updating, JobKind::Update));
        let (told, took) = (told.unwrap(), begun.elapsed());
        assert_eq!(failed.status, OperationStatus::Failed);
        assert!(failed.reason.as_ref().unwrap().starts_with(&why), "{failed:?}");
        assert!(!self.pods(id).await.is_empty(), "what runs runs on");
        self.say(format!(
            "an image that cannot be pulled was told after {:.1} s and given up on after {:.1} s",
            told.as_secs_f64(),
            took.as_secs_f64()
        ));
    }

    /// What a team chose is merged in, member by member, and what is the platform's stays the platform's.
    async fn configure(&self, id: ApplicationId) {
        let chosen = json!({
            "session": { "token_ttl": "2h" }, "debug": true, "disable_routes": true, "base_path": "/elsewhere",
            "public_base_url": "https://elsewhere.example", "oauth": { "issuer": "https://elsewhere.example", "pkce": true },
            "bootstrap": { "initial_owner_count": 3, "initial_owners": ["me@example.com"], "theme": "dark" },
        });
        sqlx::query("UPDATE applications SET config = $2 WHERE id = $1")
            .bind(id)
            .bind(chosen)
            .execute(&self.control.pool)
            .await
            .unwrap();
        self.succeeds(id, AppStatus::Updating, JobKind::Update).await;
        let config = self.get(Kind::ConfigMap, id, "authsome").await.unwrap();
        let config: Value = serde_json::from_str(config["data"]["config.yaml"].as_str().unwrap()).unwrap();
        let address = format!("https://api.example/v1/{id}");
        assert_eq!(config["session"]["token_ttl"], "2h");
        assert_eq!(
            config["oauth"],
            json!({
                "issuer": address, "pkce": true, "redirect_base_url": address, "redirect_urls": {
                    "social": format!("{address}/v1/social/{{provider}}/callback"),
                    "sso": format!("{address}/v1/sso/{{connection}}/callback"),
                },
            })
        );
        assert_eq!(
            (
                &config["public_base_url"],
                &config["base_path"],
                &config["debug"],
                &config["disable_routes"]
            ),
            (&json!(address), &json!(""), &json!(false), &json!(false))
        );
        let bootstrap = &config["bootstrap"];
        assert_eq!(
            (
                &bootstrap["initial_owner_count"],
                &bootstrap["initial_owners"],
                &bootstrap["theme"]
            ),
            (&json!(0), &json!([]), &json!("dark"))
        );
        assert!(self.ready(id).await >= 2);
    }

    /// The instances' own addresses of their database and Redis.
    async fn addresses(&self, id: ApplicationId) -> [String; 2] {
        let secret = self.get(Kind::Secret, id, "authsome").await.unwrap();
        ["DATABASE_URL", "REDIS_URL"].map(|name| {
            let text = secret["data"][name].as_str().unwrap();
            String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
        })
    }

    async fn rotate(&self, id: ApplicationId) {
        let [database, redis] = self.addresses(id).await;
        self.succeeds(id, AppStatus::Restarting, JobKind::Rotate).await;
        let [new_database, new_redis] = self.addresses(id).await;
        let login = format!("app_{}", id.suffix());
        assert!(database.contains(&format!("{login}_a:")) && new_database.contains(&format!("{login}_b:")));
        assert_ne!(redis, new_redis);
        assert!(self.ready(id).await >= 2);
        self.say("new credentials, and nobody uses the old ones");
    }

    /// With a Postgres and a Redis of its own in its namespace.
    async fn life_with_own_servers(&self, id: ApplicationId) {
        let deadline = SystemClock.now() + 30.minutes();
        let created = self.control.operation(id, JobKind::Provision, 1, deadline).await;
        let ended = self.ended(created, "create").await;
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
        let [database, redis] = self.addresses(id).await;
        let place = format!("{}.svc.cluster.local", namespace_of(id));
        assert!(
            database.contains(&format!("@postgres.{place}:5432/")) && redis.contains(&format!("@redis.{place}:6379"))
        );
        for name in ["postgres", "redis"] {
            for kind in [Kind::StatefulSet, Kind::Secret, Kind::Service, Kind::ConfigMap] {
                let before = self.get(kind, id, name).await.unwrap()["metadata"]["uid"].clone();
                self.api(kind, id).delete(name, &DeleteParams::default()).await.unwrap();
                wait_for(format!("{} {name} to be made again", kind.name()), REPAIR, async || {
                    let now = self.get(kind, id, name).await;
                    now.is_some_and(|now| now["metadata"]["uid"] != before).then_some(())
                })
                .await
                .unwrap();
            }
        }
        self.rotate(id).await;
        self.succeeds(id, AppStatus::Deleting, JobKind::Delete).await;
        assert!(
            self.get(Kind::StatefulSet, id, "postgres").await.is_some(),
            "its data stays"
        );
        self.succeeds(id, AppStatus::Purging, JobKind::Purge).await;
        assert!(self.get(Kind::Namespace, id, &namespace_of(id)).await.is_none());
    }
}

/// The life, with servers of its own or with shared ones, and a cluster without a trace of it, however it ended.
async fn whole_life(kubeconfig: &Path, client: kube::Client, own: bool) {
    let platform = Platform::start(kubeconfig, client, own).await;
    let id = platform.control.application(AppStatus::Provisioning).await;
    platform.say(format!("application {id} in namespace {}", namespace_of(id)));
    let life = async {
        if own {
            platform.life_with_own_servers(id).await;
        } else {
            platform.life(id).await;
        }
    };
    let lived = AssertUnwindSafe(life).catch_unwind().await;
    let namespaces = platform.api(Kind::Namespace, id);
    let _ = namespaces.delete(&platform.monitoring, &DeleteParams::default()).await;
    if let Err(panic) = lived {
        let _ = namespaces.delete(&namespace_of(id), &DeleteParams::default()).await;
        platform.say("namespace deleted");
        resume_unwind(panic);
    }
}

#[tokio::test]
async fn an_application_lives_its_whole_life() {
    let api = ApiDouble::start().await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    private_file::write(&kubeconfig, &api.kubeconfig()).unwrap();
    whole_life(&kubeconfig, api.client(), false).await;
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn an_application_lives_with_a_postgres_and_a_redis_of_its_own() {
    let api = ApiDouble::start().await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    private_file::write(&kubeconfig, &api.kubeconfig()).unwrap();
    whole_life(&kubeconfig, api.client(), true).await;
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs a cluster: ./dev test-kube"]
async fn an_application_lives_its_whole_life_in_a_real_cluster() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap());
    let file = kube::config::Kubeconfig::read_from(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    whole_life(&kubeconfig, client.clone(), false).await;
    if std::env::var_os("AUTHSOME_TEST_OWN_SERVERS").is_some() {
        whole_life(&kubeconfig, client, true).await;
    }
}
