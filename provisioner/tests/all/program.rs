//! The program as it is run: configuration, start with and without its dependencies, a job to a serving instance, restarts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use async_nats::jetstream;
use authsome_db::operation::OperationStatus;
use authsome_testkit::{
    ChaosProxy, Mode, NatsOptions, NatsServer, Program, ProgramCommand, RedisOptions, RedisServer, http_probe, port,
    private_file, programs, secret, shared_postgres, wait_for,
};

use crate::engine::{Control, REGION, Wanted};

const SOON: Duration = Duration::from_secs(30);

/// The program with this configuration, ready once its operators' port says so.
pub fn provisioner_command(log: PathBuf, config: &Path, admin: &str) -> ProgramCommand {
    ProgramCommand::new("authsome-provisioner", log)
        .unwrap()
        .env_remove("DATABASE_URL")
        .args(["--config".to_owned(), config.display().to_string()])
        .ready_at(admin, "/readyz")
}

/// A platform without the other programs.
struct Platform {
    control: Control,
    nats: NatsServer,
    redis: RedisServer,
    directory: tempfile::TempDir,
    admin: String,
}

impl Platform {
    async fn start() -> Self {
        let (control, nats, redis) = tokio::join!(
            Control::start(),
            NatsServer::start(NatsOptions::default()),
            RedisServer::start(RedisOptions::default())
        );
        Self {
            control,
            nats: nats.unwrap(),
            redis: redis.unwrap(),
            directory: tempfile::tempdir().unwrap(),
            admin: format!("127.0.0.1:{}", port::free().unwrap()),
        }
    }

    async fn command(&self, database_url: &str) -> ProgramCommand {
        let config = self.directory.path().join("provisioner.toml");
        let text = format!(
            "region = \"{REGION}\"\n[database]\nurl = \"{database_url}\"\n[nats]\nurl = \"{}\"\n[tenants]\n\
             database_url = \"{}\"\nredis_url = \"{}\"\n[local]\nsample_binary = \"{}\"\nlog_dir = \"{}\"\n[encryption]\n\
             key = \"{}\"\nedge_key = \"{}\"\n[public]\nedge = \"http://127.0.0.1:8081\"\n[listen]\nadmin = \"{}\"\n\
             [reconcile]\ninterval = \"500ms\"\n[drift]\ninterval = \"200ms\"\n[log]\nformat = \"pretty\"\nlevel = \"info\"\n",
            self.nats.url(),
            shared_postgres().await.unwrap().admin_url(),
            self.redis.url(),
            programs::binary("authsome-sample").unwrap().display(),
            self.directory.path().join("instances").display(),
            self.key(),
            self.key(),
            self.admin,
        );
        private_file::write(&config, &text).unwrap();
        provisioner_command(self.directory.path().join("log"), &config, &self.admin)
    }

    /// The same for every start of one test.
    fn key(&self) -> String {
        let path = self.directory.path().join("key");
        std::fs::read_to_string(&path).unwrap_or_else(|_| {
            let key = secret::random_key().unwrap();
            private_file::write(&path, &key).unwrap();
            key
        })
    }

    async fn provisioner(&self) -> Program {
        self.command(&self.control.database.url).await.start().await.unwrap()
    }

    async fn publish(&self, wanted: Wanted) {
        let jetstream = jetstream::new(self.nats.connect().await.unwrap());
        let (subject, payload) = (wanted.job().subject(), serde_json::to_vec(&wanted.job()).unwrap());
        wait_for("the job to be stored", SOON, async || {
            let stored = jetstream
                .publish(subject.clone(), payload.clone().into())
                .await
                .map_err(|e| e.to_string())?;
            stored.await.map_err(|error| error.to_string())
        })
        .await
        .unwrap();
    }

    /// An application, from its job to its first answer.
    async fn active(&self) -> Wanted {
        let wanted = self.control.wanted().await;
        self.publish(wanted).await;
        self.control.until(wanted.operation, OperationStatus::Succeeded).await;
        self.answers(wanted).await;
        wanted
    }

    async fn endpoint(&self, wanted: Wanted) -> Option<String> {
        sqlx::query_scalar("SELECT endpoints[1] FROM applications WHERE id = $1")
            .bind(wanted.application)
            .fetch_one(&self.control.pool)
            .await
            .unwrap()
    }

    async fn answers(&self, wanted: Wanted) {
        wait_for(
            "the instance to answer where the edge sends requests",
            SOON,
            async || {
                let endpoint = self.endpoint(wanted).await.ok_or("no endpoint")?;
                http_probe::ok(&endpoint, "/v1/health").await
            },
        )
        .await
        .unwrap();
    }

    fn instances(&self) -> PathBuf {
        self.directory.path().join("instances")
    }
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let program = programs::binary("authsome-provisioner").unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

#[test]
fn a_wrong_configuration_ends_with_code_2_and_names_every_problem() {
    let output = run(&[], &[("AUTHSOME_CONCURRENCY", "none"), ("DATABASE_URL", "hunter2")]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for key in [
        "database.url",
        "nats.url",
        "tenants.database_url",
        "tenants.redis_url",
        "encryption.key",
        "concurrency",
    ] {
        assert!(errors.contains(key), "{key} is missing in:\n{errors}");
    }
    assert!(!errors.contains("hunter2"));
    let help = run(&["--help"], &[]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--check-config"));
}

#[tokio::test]
async fn a_job_leads_to_a_serving_instance_and_a_stop_leaves_nothing_running() {
    let platform = Platform::start().await;
    let mut provisioner = platform.provisioner().await;
    let wanted = platform.active().await;
    let metrics = http_probe::ok(&platform.admin, "/metrics").await;
    metrics.unwrap();
    http_probe::ok(&platform.admin, "/livez").await.unwrap();
    let endpoint = platform.endpoint(wanted).await.unwrap();

    let exit = provisioner.stop().await.unwrap();
    assert!(exit.success(), "{exit:?}\n{}", provisioner.log());
    assert!(
        http_probe::ok(&endpoint, "/v1/health").await.is_err(),
        "the instance outlived the provisioner"
    );
    let log = provisioner.log();
    for secret in [platform.nats.password(), platform.redis.password(), &platform.key()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(platform.instances().is_dir());
}

#[tokio::test]
async fn an_operator_upgrades_all_applications_from_the_command_line() {
    let platform = Platform::start().await;
    let _provisioner = platform.provisioner().await;
    let wanted = platform.active().await;
    let config = platform.directory.path().join("provisioner.toml");
    let upgrade = |arguments: &[&str]| {
        let output = run(
            &[&["upgrade"], arguments, &["--config", config.to_str().unwrap()]].concat(),
            &[],
        );
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        if output.status.success() {
            Ok(serde_json::from_str::<serde_json::Value>(&out).unwrap())
        } else {
            Err(err)
        }
    };
    assert!(upgrade(&["status"]).unwrap_err().contains("has had no upgrade"));
    assert!(
        upgrade(&["begin", "--image", "Not An Image"])
            .unwrap_err()
            .contains("is no image reference")
    );
    assert!(
        upgrade(&["begin", "--image", "x:2", "--waves", "1,5%"])
            .unwrap_err()
            .contains("100%")
    );
    assert!(
        upgrade(&["begin", "--image", "x:2", "--region", "elsewhere"])
            .unwrap_err()
            .contains("name one of")
    );
    let begun = upgrade(&["begin", "--image", "registry.example/authsome:2", "--soak", "0"]).unwrap();
    assert_eq!(
        (&begun["total"], &begun["waves"]),
        (&1.into(), &serde_json::json!(["1", "5%", "25%", "100%"]))
    );
    wait_for("the upgrade to succeed", SOON, async || {
        let now = upgrade(&["status"]).unwrap();
        if now["status"] == "succeeded" {
            Ok(())
        } else {
            Err(now.to_string())
        }
    })
    .await
    .unwrap();
    platform.answers(wanted).await;
    assert_eq!(
        platform
            .control
            .column(wanted.application, "fleet_image")
            .await
            .as_deref(),
        Some("registry.example/authsome:2")
    );
    assert!(
        upgrade(&["pause"])
            .unwrap_err()
            .contains("is succeeded, and cannot be paused")
    );
    let id = wanted.application.to_string();
    let pinned = upgrade(&["pin", "--application", &id, "--image", "registry.example/authsome:3"]).unwrap();
    assert_eq!(pinned["image"], "registry.example/authsome:3");
    assert!(
        pinned["operation"]
            .as_str()
            .is_some_and(|operation| operation.starts_with("op_")),
        "{pinned}"
    );
    assert!(
        upgrade(&["unpin", "--application", "x"])
            .unwrap_err()
            .contains("--application")
    );
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_events WHERE action = 'image_upgrade.begin'")
        .fetch_one(&platform.control.pool)
        .await
        .unwrap();
    assert_eq!(events, 1);
}

#[tokio::test]
async fn instances_come_back_after_the_provisioner_was_killed() {
    let platform = Platform::start().await;
    let mut provisioner = platform.provisioner().await;
    let wanted = platform.active().await;
    let before = platform.endpoint(wanted).await.unwrap();
    provisioner.kill().await.unwrap();
    wait_for("the instance to end with its provisioner", SOON, async || {
        http_probe::ok(&before, "/v1/health").await.err()
    })
    .await
    .unwrap();
    provisioner.restart().await.unwrap();
    platform.answers(wanted).await;
    assert_eq!(
        platform.control.column(wanted.application, "status").await.unwrap(),
        "active"
    );
}

#[tokio::test]
async fn without_its_dependencies_it_waits_names_them_and_then_works() {
    let platform = Platform::start().await;
    let proxy = ChaosProxy::start(shared_postgres().await.unwrap().address())
        .await
        .unwrap();
    proxy.set(Mode::Refuse).await;
    let far = proxy.in_place_of(&platform.control.database.url);
    let mut provisioner = platform.command(&far).await.spawn().await.unwrap();
    wait_for("a warning that names the database and its address", SOON, async || {
        let log = provisioner.log();
        if log.contains(&format!(
            "cannot reach the control database at postgres://***@{}",
            proxy.address()
        )) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await
    .unwrap();
    http_probe::ok(&platform.admin, "/livez").await.unwrap();
    assert!(http_probe::ok(&platform.admin, "/readyz").await.is_err());
    proxy.set(Mode::Pass).await;
    provisioner.wait_ready().await.unwrap();
    platform.active().await;
}
