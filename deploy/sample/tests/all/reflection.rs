//! What the instance says about itself and about what reached it.

use authsome_testkit::databases;
use reqwest::Method;
use serde_json::{Value, json};

use crate::instance::{Instance, assert_error};

#[tokio::test]
async fn echo_reflects_what_reached_the_instance() {
    let instance = Instance::start().await;
    let request = instance
        .request(Method::PATCH, "/v1/echo/deep/er?a=1&b=%2F")
        .header("x-twice", "1")
        .header("x-twice", "2");
    let seen: Value = request.body("some text").send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["method"], "PATCH");
    assert_eq!(seen["path"], "/v1/echo/deep/er");
    assert_eq!(seen["query"], "a=1&b=%2F");
    assert_eq!(seen["headers"]["x-twice"], json!(["1", "2"]));
    assert_eq!(seen["body"], "some text");
    let binary = instance.request(Method::POST, "/v1/echo").body(vec![0xff_u8, 0xfe]);
    let seen: Value = binary.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&seen["body"], &seen["bodyBase64"], &seen["bodyLength"]),
        (&Value::Null, &json!("//4="), &json!(2))
    );
    let huge = instance
        .request(Method::POST, "/v1/echo")
        .body(vec![b'x'; 17 * 1024 * 1024])
        .send()
        .await;
    if let Ok(reply) = huge {
        assert_error(reply, 400, "bad_request").await;
    }
}

#[tokio::test]
async fn every_path_lies_under_the_base_path() {
    let instance = Instance::with(databases::empty_database().await.unwrap(), "/api/auth", None).await;
    let health: Value = instance.get("/v1/health", "").await.json().await.unwrap();
    assert_eq!(health, json!({ "status": "healthy" }));
    let manifest: Value = instance
        .get("/.well-known/authsome/manifest", "")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(manifest["base_path"], "/api/auth");
    assert_eq!(manifest["platform_app_id"], "app_01jd0000000000000000000000");
    let key = manifest["publishable_key"].as_str().unwrap();
    let digits = key.strip_prefix("pk_test_").unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let seen: Value = instance.get("/v1/echo", "").await.json().await.unwrap();
    assert_eq!(seen["path"], "/api/auth/v1/echo");
    let outside = instance
        .client
        .get(instance.url.replace("/api/auth", "/v1/health"))
        .send()
        .await
        .unwrap();
    assert_error(outside, 404, "not_found").await;
}

#[tokio::test]
async fn replicas_of_one_instance_start_together_and_publish_one_key() {
    let database = databases::empty_database().await.unwrap();
    let (one, two) = tokio::join!(
        Instance::with(database.clone(), "", None),
        Instance::with(database.clone(), "", None)
    );
    let keys: Value = one.get("/.well-known/jwks.json", "").await.json().await.unwrap();
    assert_eq!(
        keys,
        two.get("/.well-known/jwks.json", "")
            .await
            .json::<Value>()
            .await
            .unwrap()
    );
    let listed = keys["keys"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["kty"], &listed[0]["alg"]), (&json!("EC"), &json!("ES256")));
    assert!(listed[0].get("d").is_none(), "the private half stays inside");

    let body = one.sign_up("ada@example.com").await;
    let token = body["session_token"].as_str().unwrap();
    assert_eq!(
        two.get("/v1/me", token).await.status(),
        200,
        "a session is good on every replica"
    );
}

#[tokio::test]
async fn client_config_names_the_application() {
    let instance = Instance::start().await;
    let config: Value = instance.get("/v1/client-config", "").await.json().await.unwrap();
    assert_eq!(config["app_id"], "app_01jd0000000000000000000000");
    assert!(
        config["base_url"]
            .as_str()
            .unwrap()
            .ends_with("/v1/app_01jd0000000000000000000000")
    );
}
