//! The life of an account and its sessions.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::instance::{Instance, assert_error};

#[tokio::test]
async fn a_user_signs_up_and_in_and_out() {
    let instance = Instance::start().await;
    let reply = instance
        .post(
            "/v1/signup",
            json!({ "email": "Ada@Example.com", "password": "correct horse", "name": "Ada" }),
        )
        .await;
    assert_eq!(reply.status(), 201);
    let user_id = reply.headers()["x-authsome-user-id"].to_str().unwrap().to_owned();
    let cookie = reply.headers()["set-cookie"].to_str().unwrap().to_owned();
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["user"]["id"], user_id.as_str());
    assert!(user_id.starts_with("ausr_") && user_id.len() == 31, "{user_id}");
    assert_eq!(body["user"]["email"], "ada@example.com");
    assert!(body["expires_at"].as_str().unwrap().ends_with('Z'));
    let token = body["session_token"].as_str().unwrap();
    assert!(
        cookie.starts_with(&format!(
            "authsome_session_token={token}; Path=/; HttpOnly; SameSite=Lax"
        )),
        "{cookie}"
    );
    assert!(!body.to_string().contains("argon2"), "no hash leaves the instance");

    let reply = instance
        .post(
            "/v1/signin",
            json!({ "email": "ada@example.com", "password": "correct horse" }),
        )
        .await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["x-authsome-user-id"], user_id.as_str());
    let second = reply.json::<Value>().await.unwrap()["session_token"]
        .as_str()
        .unwrap()
        .to_owned();

    let me: Value = instance.get("/v1/me", &second).await.json().await.unwrap();
    assert_eq!(me["user"]["id"], user_id.as_str());
    let by_cookie = instance
        .request(Method::GET, "/v1/me")
        .header("cookie", format!("a=b; authsome_session_token={second}"));
    assert_eq!(by_cookie.send().await.unwrap().status(), 200);

    let out = instance
        .request(Method::POST, "/v1/signout")
        .bearer_auth(&second)
        .send()
        .await
        .unwrap();
    assert_eq!(out.status(), 200);
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_error(instance.get("/v1/me", &second).await, 401, "unauthorized").await;
    assert_eq!(
        instance.get("/v1/me", token).await.status(),
        200,
        "the other session lives on"
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let instance = Instance::start().await;
    instance.sign_up("ada@example.com").await;
    let wrong = instance
        .post(
            "/v1/signin",
            json!({ "email": "ada@example.com", "password": "wrong horse" }),
        )
        .await;
    let unknown = instance
        .post(
            "/v1/signin",
            json!({ "email": "eve@example.com", "password": "wrong horse" }),
        )
        .await;
    let wrong = assert_error(wrong, 401, "invalid_credentials").await;
    assert_eq!(wrong, assert_error(unknown, 401, "invalid_credentials").await);
}

#[tokio::test]
async fn bad_input_is_refused_in_the_servers_error_shape() {
    let instance = Instance::start().await;
    instance.sign_up("ada@example.com").await;
    let again = instance
        .post(
            "/v1/signup",
            json!({ "email": "ADA@example.com", "password": "correct horse" }),
        )
        .await;
    assert_error(again, 409, "email_taken").await;
    for body in [
        json!({}),
        json!([]),
        json!({ "email": "no address", "password": "correct horse" }),
        json!({ "email": "bob@example.com", "password": "short" }),
        json!({ "email": "bob@example.com", "password": 12_345_678 }),
        json!({ "email": "bob@example.com", "password": "correct horse", "name": "a\u{0}b" }),
    ] {
        assert_error(instance.post("/v1/signup", body).await, 400, "bad_request").await;
    }
    let not_json = instance
        .request(Method::POST, "/v1/signup")
        .body("{")
        .header("content-type", "application/json");
    assert_error(not_json.send().await.unwrap(), 400, "bad_request").await;
    assert_error(instance.post("/v1/nothing", json!({})).await, 404, "not_found").await;
    let quoting = "o'brien\";drop table users;--@example.com";
    assert_error(
        instance
            .post("/v1/signup", json!({ "email": quoting, "password": "correct horse" }))
            .await,
        400,
        "bad_request",
    )
    .await;
    instance.sign_up("o'brien\"@example.com").await;
}

#[tokio::test]
async fn a_refresh_token_works_once_and_replaces_both_tokens() {
    let instance = Instance::start().await;
    let first = instance.sign_up("ada@example.com").await;
    let reply = instance
        .post("/v1/refresh", json!({ "refresh_token": first["refresh_token"] }))
        .await;
    assert_eq!(
        reply.headers()["x-authsome-user-id"],
        first["user"]["id"].as_str().unwrap()
    );
    let second: Value = reply.json().await.unwrap();
    assert_error(
        instance.get("/v1/me", first["session_token"].as_str().unwrap()).await,
        401,
        "unauthorized",
    )
    .await;
    assert_eq!(
        instance
            .get("/v1/me", second["session_token"].as_str().unwrap())
            .await
            .status(),
        200
    );
    let reused = instance
        .post("/v1/refresh", json!({ "refresh_token": first["refresh_token"] }))
        .await;
    assert_error(reused, 401, "unauthorized").await;
}

#[tokio::test]
async fn a_user_sees_and_ends_only_sessions_of_their_own() {
    let instance = Instance::start().await;
    let ada = instance.sign_up("ada@example.com").await;
    let eve = instance.sign_up("eve@example.com").await;
    instance
        .post(
            "/v1/signin",
            json!({ "email": "ada@example.com", "password": "correct horse" }),
        )
        .await;
    let token = ada["session_token"].as_str().unwrap();
    let listed: Value = instance.get("/v1/sessions", token).await.json().await.unwrap();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let current: Vec<_> = sessions.iter().filter(|session| session["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert!(current[0]["id"].as_str().unwrap().starts_with("ases_"));

    let path = format!("/v1/sessions/{}", current[0]["id"].as_str().unwrap());
    let by_eve = instance
        .request(Method::DELETE, &path)
        .bearer_auth(eve["session_token"].as_str().unwrap());
    assert_error(by_eve.send().await.unwrap(), 404, "not_found").await;
    assert_eq!(
        instance
            .request(Method::DELETE, &path)
            .bearer_auth(token)
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    assert_error(instance.get("/v1/me", token).await, 401, "unauthorized").await;
}

#[tokio::test]
async fn servers_list_users_in_pages() {
    let instance = Instance::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = instance.sign_up(&format!("user{n}@example.com")).await;
        ids.push(body["user"]["id"].as_str().unwrap().to_owned());
    }
    let page: Value = instance.get("/users?page=2&pageSize=2", "").await.json().await.unwrap();
    assert_eq!(
        (&page["total"], &page["page"], &page["pageSize"]),
        (&json!(5), &json!(2), &json!(2))
    );
    let listed: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["id"].as_str().unwrap())
        .collect();
    assert_eq!(listed, &ids[2..4]);
    let one: Value = instance
        .get(&format!("/users/{}", ids[0]), "")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(one["email"], "user0@example.com");
    assert_error(instance.get("/users/ausr_nobody", "").await, 404, "not_found").await;
    for bad in ["page=0", "pageSize=101", "page=x"] {
        assert_error(instance.get(&format!("/users?{bad}"), "").await, 400, "bad_request").await;
    }
}

#[tokio::test]
async fn tokens_and_passwords_are_kept_as_digests_only() {
    let instance = Instance::start().await;
    let body = instance.sign_up("ada@example.com").await;
    let mut connection = PgConnection::connect(&instance.database.url).await.unwrap();
    let everything: String = sqlx::query_scalar(
        "SELECT (SELECT string_agg(users::text, ' ') FROM users) || (SELECT string_agg(sessions::text, ' ') FROM sessions)",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(everything.contains("$argon2id$"), "{everything}");
    for secret in [
        "correct horse",
        body["session_token"].as_str().unwrap(),
        body["refresh_token"].as_str().unwrap(),
    ] {
        assert!(!everything.contains(secret));
        assert!(!instance.program.log().contains(secret));
    }
}
