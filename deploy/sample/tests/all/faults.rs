//! What happens without Postgres, without Redis, and at the end.

use std::process::{Command, Stdio};
use std::time::Duration;

use authsome_testkit::{
    ChaosProxy, Database, GuardedCommand, Mode, PostgresOptions, PostgresServer, RedisOptions, RedisServer, databases,
    http_probe, port, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use crate::instance::{Instance, assert_error, command};

#[tokio::test]
async fn without_its_database_it_answers_503_and_recovers_by_itself() {
    let mut postgres = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let database = Database {
        name: "postgres".into(),
        url: postgres.admin_url(),
        options: postgres.options("postgres"),
    };
    let instance = Instance::with(database, "", None).await;
    postgres.kill().await.unwrap();
    assert_error(instance.get("/v1/health", "").await, 503, "service_unavailable").await;
    assert_error(instance.get("/users", "").await, 503, "service_unavailable").await;
    postgres.restart().await.unwrap();
    let healthy = async || match instance.get("/v1/health", "").await.status().as_u16() {
        200 => Ok(()),
        other => Err(other),
    };
    wait_for("health", Duration::from_secs(15), healthy).await.unwrap();
}

#[tokio::test]
async fn started_before_its_database_it_waits_for_it() {
    let proxy = ChaosProxy::start(databases::shared_postgres().await.unwrap().address())
        .await
        .unwrap();
    proxy.set(Mode::Refuse).await;
    let database = databases::empty_database().await.unwrap();
    let (directory, port) = (tempfile::tempdir().unwrap(), port::free().unwrap());
    let command = command(port, "", &directory).env("DATABASE_URL", proxy.in_place_of(&database.url));
    let mut program = command.spawn().await.unwrap();
    let address = format!("127.0.0.1:{port}");
    let refused = async || match http_probe::status(&address, "/v1/health").await {
        Ok(503) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for("a 503", Duration::from_secs(15), refused).await.unwrap();
    proxy.set(Mode::Pass).await;
    program.wait_ready().await.unwrap();
}

#[tokio::test]
async fn redis_holds_when_a_session_was_seen_under_the_prefix_and_its_loss_costs_only_that() {
    let mut redis = RedisServer::start(RedisOptions::default()).await.unwrap();
    let database = databases::empty_database().await.unwrap();
    let instance = Instance::with(database, "", Some((&redis, "app:abc:"))).await;
    let body = instance.sign_up("ada@example.com").await;
    let token = body["session_token"].as_str().unwrap().to_owned();
    let seen = async || {
        let listed: Value = instance.get("/v1/sessions", &token).await.json().await.unwrap();
        let mut sessions = listed["sessions"].as_array().unwrap().iter();
        let current = sessions.find(|session| session["current"] == true).unwrap();
        current["last_seen_at"].as_str().map(str::to_owned)
    };
    wait_for("the time a session was seen", Duration::from_secs(10), seen)
        .await
        .unwrap();
    assert!(
        keys(&redis)
            .await
            .iter()
            .all(|key| key.starts_with("app:abc:session:ases_"))
    );

    redis.kill().await.unwrap();
    assert_eq!(instance.get("/v1/me", &token).await.status(), 200);
    assert_eq!(seen().await, None);
    assert_eq!(
        instance
            .post(
                "/v1/signin",
                json!({"email": "ada@example.com", "password": "correct horse"})
            )
            .await
            .status(),
        200
    );
    redis.restart().await.unwrap();
    wait_for("the time after a restart of Redis", Duration::from_secs(20), seen)
        .await
        .unwrap();

    instance
        .request(Method::POST, "/v1/signout")
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    let session = async || keys(&redis).await.is_empty().then_some(());
    wait_for("the ended session's key to go", Duration::from_secs(5), session)
        .await
        .unwrap();
}

async fn keys(redis: &RedisServer) -> Vec<String> {
    use fred::interfaces::{ClientLike, KeysInterface};
    use fred::types::scan::ScanType;
    let config = fred::types::config::Config::from_url(&redis.url()).unwrap();
    let client = fred::types::Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    let mut all = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let (next, page): (String, Vec<String>) = client
            .scan_page(cursor, "*", Some(100), None::<ScanType>)
            .await
            .unwrap();
        all.extend(page);
        if next == "0" {
            break;
        }
        cursor = next;
    }
    let _ = client.quit().await;
    all
}

#[tokio::test]
async fn it_ends_cleanly_when_asked_to() {
    let mut instance = Instance::start().await;
    assert!(instance.program.stop().await.unwrap().success());
}

#[tokio::test]
async fn it_ends_with_its_standard_input_when_told_to() {
    let database = databases::empty_database().await.unwrap();
    let port = port::free().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_authsome-sample"))
        .arg("--exit-with-stdin")
        .env("PORT", port.to_string())
        .env("DATABASE_URL", &database.url)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    wait_for("health", Duration::from_secs(15), async || {
        http_probe::ok(&address, "/v1/health").await
    })
    .await
    .unwrap();
    drop(child.stdin.take());
    let ended = async || child.try_wait().unwrap();
    assert!(
        wait_for("its end", Duration::from_secs(15), ended)
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn without_that_it_outlives_a_closed_standard_input() {
    let instance = Instance::start().await;
    let pid = Pid::from_raw(i32::try_from(instance.program.child().pid()).unwrap());
    // Its standard input is /dev/null, which is at its end from the start.
    assert!(kill(pid, None::<Signal>).is_ok());
    assert_eq!(instance.get("/v1/health", "").await.status(), 200);
}

#[tokio::test]
async fn a_bad_configuration_is_named_without_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let run = async |name: &str, value: &str| {
        let log = directory.path().join(name);
        let child = GuardedCommand::new(env!("CARGO_BIN_EXE_authsome-sample"), &log)
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
            .env("PORT", "0")
            .env(name, value)
            .spawn()
            .await
            .unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(10), child.exited()).await;
        assert!(exit.is_ok_and(|exit| !exit.success()), "{name}={value} is accepted");
        child.log_tail(20)
    };
    let text = run("DATABASE_URL", "mysql://user:hunter2@db").await;
    assert!(
        text.contains("DATABASE_URL is not a Postgres URL") && !text.contains("hunter2"),
        "{text}"
    );
    let text = run("REDIS_URL", "http://:hunter2@redis").await;
    assert!(
        text.contains("REDIS_URL is not a Redis URL") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(run("PORT", "70000").await.contains("70000"));
    assert!(run("BASE_PATH", "no-slash").await.contains("must begin with /"));
}
