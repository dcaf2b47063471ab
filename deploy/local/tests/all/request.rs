//! One customer request through the whole platform, and what it leaves behind.

use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_testkit::wait_for;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::customer::Customer;
use crate::platform::Platform;

async fn refused(reply: Response, status: u16, code: &str) -> Value {
    assert_eq!(reply.status(), status);
    let mut body: Value = reply.json().await.unwrap();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(
        body["error"]["requestId"]
            .take()
            .as_str()
            .is_some_and(|id| id.starts_with("req_"))
    );
    body
}

#[tokio::test]
async fn a_request_goes_from_the_control_api_to_an_instance_and_into_the_usage() {
    let platform = Platform::start().await;
    let (app, public, secret) = (
        platform.demo("applicationId"),
        platform.demo("publicKey"),
        platform.demo("secretKey"),
    );
    assert!(
        public.starts_with("pk_test_") && secret.starts_with("sk_test_"),
        "a development application has test keys"
    );

    // With the public key somebody signs up.
    let body = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let request = platform
        .edge(Method::POST, app, "/v1/signup")
        .header("x-api-key", public)
        .json(&body);
    let reply = request.send().await.unwrap();
    let headers = reply.headers().clone();
    assert_eq!(reply.status(), 201, "{}", platform.logs());
    assert_eq!(headers["x-authsome-app-id"], app);
    assert!(headers["x-authsome-request-id"].to_str().unwrap().starts_with("req_"));
    assert!(
        !headers.contains_key("x-authsome-user-id"),
        "who signed up is for the platform's counting only"
    );
    assert!(
        headers["set-cookie"]
            .to_str()
            .unwrap()
            .contains(&format!("Path=/v1/{app}")),
        "{headers:?}"
    );
    let signed_up: Value = reply.json().await.unwrap();

    // The user's own session is good together with the key.
    let session = signed_up["session_token"].as_str().unwrap();
    let me = platform
        .edge(Method::GET, app, "/v1/me")
        .header("x-api-key", public)
        .bearer_auth(session);
    let me: Value = me.send().await.unwrap().json().await.unwrap();
    assert_eq!(me["user"]["email"], "ada@example.com");

    // With the secret key a server lists users.
    let users = platform
        .edge(Method::GET, app, "/users")
        .bearer_auth(secret)
        .send()
        .await
        .unwrap();
    assert_eq!(users.status(), 200);
    let users: Value = users.json().await.unwrap();
    assert_eq!(users["total"], 1);
    assert_eq!(users["data"][0]["id"], signed_up["user"]["id"]);

    // The instance sees who calls, and not the key.
    let seen = platform
        .edge(Method::GET, app, "/v1/echo")
        .header("x-api-key", secret)
        .send()
        .await
        .unwrap();
    let seen: Value = seen.json().await.unwrap();
    assert_eq!(seen["headers"]["x-authsome-app-id"], json!([app]));
    assert_eq!(seen["headers"]["x-authsome-key-type"], json!(["secret"]));
    assert!(!seen.to_string().contains(secret));
    // It is shown its own name of the application, which it was asked for when it came up.
    assert_eq!(seen["headers"]["x-app-id"], json!([app]));

    // These are refused, and metered to nobody.
    let users = |key: String| platform.edge(Method::GET, app, "/users").header("x-api-key", key);
    let id: ApplicationId = app.parse().unwrap();
    let unknown = ApiKey::generate(KeyType::Secret, KeyMode::Test, &id, &SystemEntropy::new());
    let wrong = refused(
        users(unknown.expose().to_owned()).send().await.unwrap(),
        401,
        "unauthorized",
    )
    .await;
    let mut misspelt = secret.to_owned();
    let last = misspelt.pop().unwrap();
    misspelt.push(if last == 'x' { 'y' } else { 'x' });
    assert_eq!(
        refused(users(misspelt).send().await.unwrap(), 401, "unauthorized").await,
        wrong
    );
    assert_eq!(
        refused(
            users("sk_test_nonsense".into()).send().await.unwrap(),
            401,
            "unauthorized"
        )
        .await,
        wrong
    );
    refused(users(public.to_owned()).send().await.unwrap(), 403, "forbidden").await;
    let nowhere = ApplicationId::generate(&SystemClock, &SystemEntropy::new()).to_string();
    refused(
        platform.edge(Method::GET, &nowhere, "/v1/health").send().await.unwrap(),
        404,
        "not_found",
    )
    .await;
    refused(
        platform
            .edge(Method::GET, "app_nonsense", "/v1/health")
            .send()
            .await
            .unwrap(),
        404,
        "not_found",
    )
    .await;

    // Four requests reached the instance, and within ten seconds the usage says so.
    let mut database = platform.database().await;
    let statement = "SELECT coalesce(sum(api_requests), 0)::bigint FROM usage_records WHERE application_id = $1";
    let exact = wait_for("the usage row", Duration::from_secs(10), async || {
        let count: i64 = sqlx::query_scalar(statement)
            .bind(app)
            .fetch_one(&mut database)
            .await
            .unwrap();
        if count == 4 { Ok(()) } else { Err(count) }
    });
    if let Err(error) = exact.await {
        panic!("{error}\n{}", platform.logs());
    }
}

#[tokio::test]
async fn everything_that_up_prints_works_and_its_secrets_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let mut platform = Platform::start().await;
    let fields = [
        "controlUrl",
        "edgeUrl",
        "ownUrl",
        "email",
        "password",
        "workspaceId",
        "applicationId",
        "publicKey",
        "secretKey",
        "databaseUrl",
        "redisUrl",
        "natsUrl",
    ];
    assert!(fields.iter().all(|field| !platform.demo(field).is_empty()));
    let mode = platform.state("demo.json").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    // The pasted lines, run by a shell.
    let said = platform.said();
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert_eq!(lines.len(), 2, "{said}");
    for (line, expected) in lines.iter().zip(["session_token", "\"total\":1"]) {
        let output = tokio::process::Command::new("sh")
            .args(["-c", line])
            .output()
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.contains(expected), "{line}\nanswered {answer}");
    }
    // On its own host the application has the whole path.
    let (own, secret) = (platform.demo("ownUrl"), platform.demo("secretKey"));
    assert!(said.contains(own), "{said}");
    let output = tokio::process::Command::new("curl")
        .args(["-sS", &format!("{own}/users"), "-H", &format!("X-API-Key: {secret}")])
        .output()
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.contains("\"total\":1"), "{own} answered {answer}");
    for step in ["database", "redis"] {
        assert!(said.to_lowercase().contains(step), "progress is shown: {said}");
    }

    // The printed login, and the addresses for probes.
    let login = json!({ "email": platform.demo("email"), "password": platform.demo("password") });
    let url = format!("{}/api/v1/auth/login", platform.demo("controlUrl"));
    assert_eq!(
        platform.client.post(url).json(&login).send().await.unwrap().status(),
        200
    );
    for name in ["control", "proxy", "provisioner"] {
        let url = format!("{}/readyz", platform.demo["adminUrls"][name].as_str().unwrap());
        assert_eq!(platform.client.get(url).send().await.unwrap().status(), 200, "{name}");
    }

    // Logs hold no secret.
    for name in [
        "authsome-control",
        "authsome-proxy",
        "authsome-provisioner",
        "postgres",
        "redis",
        "nats",
    ] {
        let log = std::fs::read_to_string(platform.log(name)).unwrap();
        let state: Value =
            serde_json::from_str(&std::fs::read_to_string(platform.state("state.json")).unwrap()).unwrap();
        let generated = state["secrets"]
            .as_object()
            .unwrap()
            .values()
            .map(|secret| secret.as_str().unwrap().to_owned());
        for secret in generated.chain([platform.demo("secretKey").to_owned()]) {
            assert!(!log.contains(&secret), "a secret is in the log of {name}");
        }
    }

    // A second `up` is refused while this one runs; after Ctrl-C another continues with the same data.
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_authsome-local"))
        .args(["up", "--any-ports", "--state-dir"])
        .arg(platform.state(""))
        .output()
        .await
        .unwrap();
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("already runs"),
        "{second:?}"
    );
    let before = platform.demo.clone();
    assert!(platform.interrupt().await.success());
    platform.until_gone(Duration::from_secs(2)).await;
    platform.up().await;
    assert_eq!(platform.demo, before, "keys, ports and passwords stay");
    let users = platform
        .edge(Method::GET, platform.demo("applicationId"), "/users")
        .header("x-api-key", platform.demo("secretKey"));
    assert_eq!(
        users.send().await.unwrap().json::<Value>().await.unwrap()["total"],
        1,
        "and so do the users"
    );
}

#[tokio::test]
async fn names_with_special_characters_are_data() {
    let platform = Platform::start().await;
    let name = "Robert'); DROP TABLE applications;-- \"quoted\" $1 \\ %s";
    let customer = Customer::new(&platform, "o'brien+$1@example.com", name).await;
    let app = customer.application(name).await;
    let listed = customer
        .ask(
            Method::GET,
            &format!("/workspaces/{}/applications", customer.workspace),
            None,
        )
        .await;
    assert_eq!(listed["data"][0]["name"], name);
    let users = platform
        .edge(Method::GET, &app.id, "/users")
        .header("x-api-key", &app.secret_key)
        .send()
        .await
        .unwrap();
    assert_eq!(users.status(), 200);
}
