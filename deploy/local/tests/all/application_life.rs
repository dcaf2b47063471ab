//! What a team does with an application, from the control API to the running instance and the edge: configuration, secrets, logs,
//! restart, suspend, resume, delete, undelete, and the end of it.

use std::time::Duration;

use authsome_testkit::wait_for;
use reqwest::Method;
use serde_json::{Value, json};

use crate::customer::{App, Customer};
use crate::platform::Platform;

/// For an operation, on a machine that is busy with something else.
const OPERATION: Duration = Duration::from_mins(1);
/// Control looks once a minute for what is due.
const PURGE: Duration = Duration::from_mins(2);
/// What a tenant has in the server of databases.
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE $1)
    + (SELECT count(*) FROM pg_roles WHERE rolname LIKE $1)";
/// For the edge to hear of it.
const EDGE: Duration = Duration::from_secs(20);

struct World<'a> {
    platform: &'a Platform,
    customer: Customer<'a>,
    app: App,
}

impl World<'_> {
    fn path(&self, tail: &str) -> String {
        format!("/applications/{}{tail}", self.app.id)
    }

    async fn ask(&self, method: Method, tail: &str, body: Option<Value>) -> Value {
        self.customer.ask(method, &self.path(tail), body).await
    }

    /// Waits for the end of an operation, which must be a success.
    async fn until_done(&self, answer: &Value) {
        let operation = answer["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("no operation in {answer}"));
        let ended = self.customer.follow(operation, OPERATION).await;
        assert_eq!(ended["status"], "succeeded", "{ended}\n{}", self.platform.logs());
    }

    /// What the edge answers to a public key, once it is this status.
    async fn edge_answers(&self, status: u16) -> Value {
        let asked = async || {
            let answer = self
                .platform
                .edge(Method::GET, &self.app.id, "/v1/client-config")
                .header("x-api-key", &self.app.public_key)
                .send()
                .await
                .unwrap();
            let (found, retry) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
            let mut body: Value = answer.json().await.unwrap();
            if found == status {
                body["retryAfterHeader"] = retry.into();
                Ok(body)
            } else {
                Err(format!("{found} {body}"))
            }
        };
        match wait_for(format!("the edge to answer {status}"), EDGE, asked).await {
            Ok(body) => body,
            Err(error) => panic!("{error}\n{}", self.platform.logs()),
        }
    }

    /// Until the instance says so through the edge; meanwhile every request is answered.
    async fn instance_says(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let asked = async || {
            let body = self.edge_answers(200).await;
            if holds(&body) { Ok(body) } else { Err(body.to_string()) }
        };
        match wait_for(format!("the instance to say: {what}"), EDGE, asked).await {
            Ok(body) => body,
            Err(error) => panic!("{error}\n{}", self.platform.logs()),
        }
    }

    async fn users(&self) -> u64 {
        let users = self
            .platform
            .edge(Method::GET, &self.app.id, "/users")
            .header("x-api-key", &self.app.secret_key)
            .send()
            .await
            .unwrap();
        let users: Value = users.json().await.unwrap();
        users["total"].as_u64().unwrap_or_else(|| panic!("{users}"))
    }
}

#[tokio::test]
async fn an_application_goes_through_its_life_and_keeps_its_data_keys_and_address() {
    let platform = Platform::start().await;
    let customer = Customer::new(&platform, "team@example.com", "Team").await;
    let app = customer.application("Shop").await;
    let world = World {
        platform: &platform,
        customer,
        app,
    };
    let person = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let signed_up = platform
        .edge(Method::POST, &world.app.id, "/v1/signup")
        .header("x-api-key", &world.app.public_key)
        .json(&person)
        .send()
        .await
        .unwrap();
    assert_eq!(signed_up.status(), 201);

    // Configuration and secrets reach the instance, by a rollout that nobody notices.
    let plain = world.edge_answers(200).await;
    assert_eq!(
        (&plain["password"]["min_length"], &plain["secrets"]),
        (&json!(8), &json!([]))
    );
    assert_eq!(
        plain["issuer"],
        format!("{}/v1/{}", platform.demo("edgeUrl"), world.app.id)
    );
    let config = json!({ "config": { "password": { "min_length": 12 }, "session": { "token_ttl": "2h" } } });
    let changed = world.ask(Method::PATCH, "", Some(config)).await;
    world.until_done(&changed).await;
    let said = world
        .instance_says("the new configuration", |body| body["password"]["min_length"] == 12)
        .await;
    assert_eq!(said["session"]["token_ttl_seconds"], 7200);
    let secret = "hunter2-of-the-mail-server-0001";
    let set = world
        .ask(
            Method::PUT,
            "/secrets/MAILER_SMTP_PASSWORD",
            Some(json!({ "value": secret })),
        )
        .await;
    assert_eq!(set["lastFour"], "0001");
    world.until_done(&set).await;
    world
        .instance_says("the secret's name", |body| {
            body["secrets"] == json!(["MAILER_SMTP_PASSWORD"])
        })
        .await;

    // Its logs say that it began, and again after a restart, without the secret.
    let logs = world.ask(Method::GET, "/logs?tail=1000", None).await;
    let listening = |logs: &Value| {
        let lines = logs["logs"].as_array().unwrap();
        lines.iter().filter(|line| line["message"] == "listening").count()
    };
    assert!(listening(&logs) >= 3, "one for each generation: {logs}");
    let restarted = world.ask(Method::POST, "/restart", Some(json!({}))).await;
    assert_eq!(restarted["status"], "restarting");
    world.until_done(&restarted).await;
    world.edge_answers(200).await;
    let cursor = logs["nextCursor"].as_str().unwrap();
    let since = world.ask(Method::GET, &format!("/logs?cursor={cursor}"), None).await;
    assert!(listening(&since) >= 1, "{since}");
    assert!(!logs.to_string().contains(secret) && !since.to_string().contains(secret));

    // Suspended: the edge says so at once, and the instance stops.
    let suspended = world.ask(Method::POST, "/suspend", Some(json!({}))).await;
    let refused = world.edge_answers(503).await;
    assert_eq!(
        (
            &refused["error"]["code"],
            &refused["error"]["reason"],
            &refused["retryAfterHeader"]
        ),
        (&json!("service_unavailable"), &json!("suspended"), &json!(true))
    );
    world.until_done(&suspended).await;
    // What is changed meanwhile is there when it comes back.
    let changed = world
        .ask(
            Method::PATCH,
            "",
            Some(json!({ "config": { "password": { "min_length": 14 } } })),
        )
        .await;
    assert_eq!(changed["operationId"], Value::Null);
    let resumed = world.ask(Method::POST, "/resume", Some(json!({}))).await;
    world.until_done(&resumed).await;
    let said = world
        .instance_says("the configuration of meanwhile", |body| {
            body["password"]["min_length"] == 14
        })
        .await;
    assert_eq!(said["session"]["token_ttl_seconds"], 7200);
    assert_eq!(
        (said["secrets"].clone(), world.users().await),
        (json!(["MAILER_SMTP_PASSWORD"]), 1)
    );

    // Deleted: its keys are dead; brought back: the same keys, address and data.
    world.ask(Method::DELETE, "", None).await;
    let dead = world.edge_answers(401).await;
    assert_eq!(dead["error"]["code"], "unauthorized");
    assert_eq!(world.ask(Method::GET, "", None).await["status"], "deleting");
    let back = world.ask(Method::POST, "/undelete", Some(json!({}))).await;
    world.until_done(&back).await;
    assert_eq!(world.ask(Method::GET, "", None).await["status"], "active");
    world
        .instance_says("the same configuration", |body| body["password"]["min_length"] == 14)
        .await;
    assert_eq!(world.users().await, 1);

    // Deleted for good: the provisioner leaves nothing of it behind.
    world.ask(Method::DELETE, "", None).await;
    let mut database = platform.database().await;
    let names = format!("%{}%", world.app.id.trim_start_matches("app_"));
    let there: i64 = sqlx::query_scalar(LEFT)
        .bind(&names)
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert!(there >= 2, "a database and its roles: {there}");
    sqlx::query("UPDATE applications SET purge_after = now() - interval '1 second' WHERE id = $1")
        .bind(&world.app.id)
        .execute(&mut database)
        .await
        .unwrap();
    let gone = async || {
        let status: String = sqlx::query_scalar("SELECT status FROM applications WHERE id = $1")
            .bind(&world.app.id)
            .fetch_one(&mut platform.database().await)
            .await
            .unwrap();
        if status == "deleted" { Ok(()) } else { Err(status) }
    };
    if let Err(error) = wait_for("the application to be destroyed", PURGE, gone).await {
        panic!("{error}\n{}", platform.logs());
    }
    let left: i64 = sqlx::query_scalar(LEFT)
        .bind(&names)
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(left, 0, "databases and roles");
    let (database_url, redis_url): (Option<Vec<u8>>, Option<Vec<u8>>) =
        sqlx::query_as("SELECT database_url, redis_url FROM applications WHERE id = $1")
            .bind(&world.app.id)
            .fetch_one(&mut database)
            .await
            .unwrap();
    assert_eq!((database_url, redis_url), (None, None));

    // No program has written the secret anywhere that is read by people.
    for name in [
        "authsome-control",
        "authsome-proxy",
        "authsome-provisioner",
        "postgres",
        "nats",
    ] {
        let log = std::fs::read_to_string(platform.log(name)).unwrap();
        assert!(!log.contains(secret), "{name}");
    }
}
