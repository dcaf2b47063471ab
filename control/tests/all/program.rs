//! The program itself: its start, its end, its command line, and what it leaves behind in logs and tables.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use authsome_core::key::Digest;
use authsome_testkit::databases::empty_database;
use authsome_testkit::{Database, PostgresOptions, PostgresServer, Program, ProgramCommand, port, wait_for};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::service::PASSWORD;

const BINARY: &str = env!("CARGO_BIN_EXE_authsome-control");

pub(crate) struct Ports {
    pub(crate) api: u16,
    admin: u16,
}

pub(crate) fn ports() -> Ports {
    Ports {
        api: port::free().unwrap(),
        admin: port::free().unwrap(),
    }
}

/// Redis and NATS are away: port 1 answers nowhere.
pub(crate) fn command(database_url: &str, ports: &Ports, log: &std::path::Path) -> ProgramCommand {
    ProgramCommand::new("authsome-control", log)
        .unwrap()
        .env("DATABASE_URL", database_url)
        .env("REDIS_URL", "redis://:redis-password@127.0.0.1:1")
        .env("NATS_URL", "nats://nats-user:nats-password@127.0.0.1:1")
        .env("JWT_SECRET", "a secret of the tests that is long enough")
        .env("AUTHSOME_LISTEN_API", format!("127.0.0.1:{}", ports.api))
        .env("AUTHSOME_LISTEN_ADMIN", format!("127.0.0.1:{}", ports.admin))
        .env("LOG_LEVEL", "trace")
        .ready_at(format!("127.0.0.1:{}", ports.admin), "/readyz")
}

pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

async fn started(database: &Database, ports: &Ports, log: &std::path::Path) -> Program {
    let program = command(&database.url, ports, log).start().await.unwrap();
    let created = run(
        &[
            "admin",
            "create-user",
            "--email",
            "ada@example.com",
            "--name",
            "Ada",
            "--password-stdin",
        ],
        &[("DATABASE_URL", &database.url)],
        PASSWORD,
    );
    assert_eq!(json_of(&created)["created"], true, "{created:?}");
    program
}

#[tokio::test]
async fn no_secret_is_ever_written_anywhere() {
    let (database, ports) = (empty_database().await.unwrap(), ports());
    let scratch = tempfile::tempdir().unwrap();
    let mut program = started(&database, &ports, &scratch.path().join("log")).await;
    let base = format!("http://127.0.0.1:{}/api/v1", ports.api);
    let http = reqwest::Client::new();
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let login: Value = http
        .post(format!("{base}/auth/login"))
        .json(&login)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let token = login["token"].as_str().unwrap();
    let post = async |path: String, body: Value| -> Value {
        let answer = http
            .post(format!("{base}{path}"))
            .bearer_auth(token)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{path}: {:?}", answer.status());
        answer.json().await.unwrap()
    };
    let workspace = post("/workspaces".to_owned(), json!({ "name": "Acme" })).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({ "name": "Shop", "environment": "production" });
    let application = post(format!("/workspaces/{workspace}/applications"), body).await;
    let id = application["id"].as_str().unwrap();
    let key = post(
        format!("/applications/{id}/keys"),
        json!({ "name": "B", "type": "secret" }),
    )
    .await;
    let body = json!({ "name": "CI", "scopes": ["workspace:read"] });
    let made = post(format!("/workspaces/{workspace}/tokens"), body).await;
    let tokens = http
        .get(format!("{base}/workspaces/{workspace}/tokens"))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    let tokens: Value = tokens.json().await.unwrap();
    for field in ["createdAt", "expiresAt"] {
        assert_eq!(tokens["data"][0][field], made[field], "told as it is kept");
    }
    let keys = http
        .get(format!("{base}/applications/{id}/keys"))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert!(keys.status().is_success());
    assert!(program.stop().await.unwrap().success());

    let log = program.log();
    assert!(
        log.contains("\"route\":\"/auth/login\""),
        "the log is being looked at: {log}"
    );
    let pool = PgPool::connect_with(database.options.clone()).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
        .fetch_all(&pool)
        .await
        .unwrap();
    let mut dump = String::new();
    let mut trail = String::new();
    let mut hash = String::new();
    for table in &tables {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT t::text FROM \"{table}\" t")))
            .fetch_all(&pool)
            .await
            .unwrap();
        let rows = rows.join("\n");
        dump.push_str(&rows);
        if table == "audit_events" {
            trail = rows;
        } else if table == "users" {
            hash = sqlx::query_scalar("SELECT password_hash FROM users")
                .fetch_one(&pool)
                .await
                .unwrap();
        }
    }
    assert!(
        dump.contains(id) && trail.contains(id),
        "the tables are being looked at"
    );

    let secrets = [application["secretKey"].as_str().unwrap(), key["key"].as_str().unwrap()];
    for secret in secrets {
        for (place, text) in [("log", &log), ("tables", &dump)] {
            assert!(!text.contains(secret), "a secret key is in the {place}");
            // The masked form keeps the last four characters; anything longer would be a leak.
            assert!(
                !text.contains(&secret[17..40]),
                "a part of a secret key is in the {place}"
            );
        }
        let digest = Digest::of(secret.as_bytes()).to_string();
        assert!(
            !log.contains(&digest) && !trail.contains(&digest),
            "a digest is in the log or the audit trail"
        );
    }
    for secret in [
        PASSWORD,
        token,
        "redis-password",
        "nats-password",
        "a secret of the tests",
    ] {
        assert!(
            !log.contains(secret) && !dump.contains(secret),
            "{secret:?} was written"
        );
    }
    assert!(
        !log.contains(&hash) && !trail.contains(&hash),
        "a password hash is in the log or the audit trail"
    );
}

#[tokio::test]
async fn without_redis_and_nats_it_serves_and_says_so() {
    let (database, ports) = (empty_database().await.unwrap(), ports());
    let scratch = tempfile::tempdir().unwrap();
    let mut program = command(&database.url, &ports, &scratch.path().join("log"))
        .start()
        .await
        .unwrap();
    let admin = format!("http://127.0.0.1:{}", ports.admin);
    let ready: Value = reqwest::get(format!("{admin}/readyz"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let expected = json!({ "nats": "not connected", "postgres": "ok", "redis": "not connected", "schema": "ok" });
    assert_eq!((&ready["status"], &ready["dependencies"]), (&json!("ready"), &expected));
    let metrics = reqwest::get(format!("{admin}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("authsome_build_info{program=\"authsome-control\""),
        "{metrics}"
    );
    assert!(program.stop().await.unwrap().success());
}

#[tokio::test]
async fn it_waits_for_postgres_names_it_and_then_migrates() {
    let mut server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    server.create_database("control").await.unwrap();
    let url = server.url("control");
    server.kill().await.unwrap();

    let ports = ports();
    let scratch = tempfile::tempdir().unwrap();
    let mut program = command(&url, &ports, &scratch.path().join("log"))
        .spawn()
        .await
        .unwrap();
    let address = format!("cannot reach Postgres at postgres://***@{}/control", server.address());
    wait_for("the warning that names Postgres", Duration::from_secs(20), async || {
        let log = program.log();
        if log.contains(&address) { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    let admin = format!("http://127.0.0.1:{}", ports.admin);
    let ready = reqwest::get(format!("{admin}/readyz")).await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: Value = ready.json().await.unwrap();
    assert_ne!(ready["dependencies"]["postgres"], "ok");
    assert_eq!(ready["dependencies"]["schema"], "not migrated yet");
    assert_eq!(reqwest::get(format!("{admin}/livez")).await.unwrap().status(), 200);
    let api = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{}/api/v1/auth/login", ports.api))
        .json(&json!({ "email": "a@x.io", "password": "x" }))
        .send()
        .await
        .unwrap();
    assert_eq!(api.status(), 503);

    server.restart().await.unwrap();
    program.wait_ready().await.unwrap();
    assert!(program.stop().await.unwrap().success());
}

#[tokio::test]
async fn told_not_to_migrate_it_waits_for_whoever_does() {
    let (database, ports) = (empty_database().await.unwrap(), ports());
    let scratch = tempfile::tempdir().unwrap();
    let command = command(&database.url, &ports, &scratch.path().join("log")).env("AUTHSOME_DATABASE_MIGRATE", "false");
    let mut program = command.spawn().await.unwrap();
    wait_for("the warning", Duration::from_secs(20), async || {
        let log = program.log();
        if log.contains("migrations are missing") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await
    .unwrap();
    let ready = reqwest::get(format!("http://127.0.0.1:{}/readyz", ports.admin))
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    let migrated = run(&["migrate"], &[("DATABASE_URL", &database.url)], "");
    assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    program.wait_ready().await.unwrap();
    assert!(program.stop().await.unwrap().success());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (database, ports) = (empty_database().await.unwrap(), ports());
    let taken = std::net::TcpListener::bind(("127.0.0.1", ports.api)).unwrap();
    let (api, admin) = (
        taken.local_addr().unwrap().to_string(),
        format!("127.0.0.1:{}", ports.admin),
    );
    let output = run(
        &["serve"],
        &[
            ("DATABASE_URL", &database.url),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("NATS_URL", "nats://127.0.0.1:1"),
            ("JWT_SECRET", "a secret of the tests that is long enough"),
            ("AUTHSOME_LISTEN_API", &api),
            ("AUTHSOME_LISTEN_ADMIN", &admin),
        ],
        "",
    );
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(
        log.contains(&format!("cannot listen on {api} (API and dashboard)")),
        "{log}"
    );
}

#[test]
fn every_problem_of_the_configuration_is_listed() {
    let output = run(
        &["--check-config"],
        &[
            ("DATABASE_URL", "mysql://root:hunter2@db/x"),
            ("JWT_SECRET", "hunter2"),
            ("ENCRYPTION_KEY", "hunter2"),
            ("AUTHSOME_LISTEN_API", "8080"),
            ("AUTHSOME_REGIONS", "EU"),
            ("AUTHSOME_PUBLIC_EDGE", "edge.example.com"),
            ("AUTHSOME_PLANS_SELF_SERVICE", "gold"),
            ("AUTHSOME_HTTP_TRUSTED_PROXIES", "10.0.0.0/40"),
            ("AUTHSOME_JWT_LIFETIME", "1s"),
            ("LOG_LEVEL", "info,x=loud"),
        ],
        "",
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    for key in [
        "database.url",
        "redis.url",
        "nats.url",
        "jwt.secret",
        "encryption.key",
        "listen.api",
        "regions",
        "public.edge",
        "plans.self_service",
        "http.trusted_proxies",
        "jwt.lifetime",
        "log.level",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{key}:"))),
            "{key} is missing in:\n{text}"
        );
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn people_are_created_from_the_command_line() {
    let database = empty_database().await.unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    for _ in 0..2 {
        let migrated = run(&["migrate"], &environment, "");
        assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    }
    let create = |more: &[&str], password: &str| {
        let mut arguments = vec!["admin", "create-user", "--name", "Ada O'Hara; --"];
        arguments.extend(more);
        run(&arguments, &environment, password)
    };
    let first = json_of(&create(
        &["--email", "ada@example.com", "--password-stdin"],
        "a good password\n",
    ));
    assert_eq!(first["created"], true);
    let again = json_of(&create(
        &["--email", "ADA@example.com", "--password-stdin", "--if-absent"],
        "another one",
    ));
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["created"], false);
    let taken = create(&["--email", "ada@example.com", "--password-stdin"], "a good password");
    assert_eq!(taken.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&taken.stderr).contains("has an account"),
        "{taken:?}"
    );
    let made_up = json_of(&create(&["--email", "bob@example.com"], ""));
    assert!(
        made_up["password"]
            .as_str()
            .is_some_and(|password| password.len() >= 20),
        "{made_up}"
    );
    for (email, password) in [("nonsense", "a good password"), ("eve@example.com", "short")] {
        let refused = create(&["--email", email, "--password-stdin"], password);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
}
