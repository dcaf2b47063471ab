//! Signing in, and what a token is good for.

use std::time::Duration;

use authsome_core::clock::Clock;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use crate::service::{PASSWORD, Service};

#[tokio::test]
async fn a_person_signs_in_and_is_told_who_they_are() {
    let service = Service::new().await;
    let person = service.person("Ada@Example.com").await;

    let login = service.login("ada@example.COM", PASSWORD).await;
    assert_eq!(login.status, StatusCode::OK);
    assert_eq!(login.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(
        login.json["user"],
        json!({ "id": person.id, "email": "Ada@Example.com", "name": "Ada" })
    );
    let ends = time::OffsetDateTime::parse(
        login.json["expiresAt"].as_str().unwrap(),
        &time::format_description::well_known::Rfc3339,
    );
    assert!(ends.unwrap() > service.clock.now());

    let me = service.get("/control/v1/auth/me", &person).await;
    assert_eq!(me.status, StatusCode::OK);
    let mut expected = login.json["user"].clone();
    expected["emailVerified"] = json!(true);
    expected["secondFactor"] = json!(false);
    assert_eq!(me.json, expected);
}

#[tokio::test]
async fn every_failed_sign_in_is_the_same_401() {
    let service = Service::new().await;
    let suspended = service.person("gone@example.com").await;
    service.person("ada@example.com").await;
    sqlx::query("UPDATE users SET status = 'suspended' WHERE id = $1")
        .bind(&suspended.id)
        .execute(&service.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE users SET password_hash = NULL WHERE email = 'ada@example.com'")
        .execute(&service.pool)
        .await
        .unwrap();

    let mut messages = Vec::new();
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("gone@example.com", PASSWORD),
        ("gone@example.com", "wrong"),
        ("ada@example.com", PASSWORD),
        ("' OR 1=1 --", "' OR '1'='1"),
    ] {
        let answer = service.login(email, password).await;
        answer.assert_error(401, "unauthorized");
        messages.push(answer.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test]
async fn every_sign_in_is_audited_with_its_result_and_request() {
    let service = Service::new().await;
    let person = service.person("ada@example.com").await;
    let failed = service.login("ada@example.com", "wrong").await;
    service.login("nobody@example.com", "wrong").await;

    let rows: Vec<(Option<String>, String, String)> =
        sqlx::query_as("SELECT actor_id, status, request_id FROM audit_events WHERE action = 'auth.login' ORDER BY id")
            .fetch_all(&service.pool)
            .await
            .unwrap();
    let seen: Vec<_> = rows
        .iter()
        .map(|(actor, status, _)| (actor.as_deref(), status.as_str()))
        .collect();
    let id = person.id.as_str();
    assert_eq!(seen, [(Some(id), "success"), (Some(id), "failure"), (None, "failure")]);
    assert_eq!(rows[1].2, failed.headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn a_token_dies_with_its_time_and_with_its_person() {
    let service = Service::new().await;
    let person = service.person("ada@example.com").await;
    assert_eq!(service.get("/api/v1/auth/me", &person).await.status, StatusCode::OK);

    sqlx::query("UPDATE users SET status = 'suspended'")
        .execute(&service.pool)
        .await
        .unwrap();
    service
        .get("/api/v1/auth/me", &person)
        .await
        .assert_error(401, "unauthorized");
    sqlx::query("UPDATE users SET status = 'active'")
        .execute(&service.pool)
        .await
        .unwrap();
    assert_eq!(service.get("/api/v1/auth/me", &person).await.status, StatusCode::OK);

    service.clock.advance(Duration::from_hours(1));
    let answer = service.get("/api/v1/auth/me", &person).await;
    answer.assert_error(401, "unauthorized");
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
}

#[tokio::test]
async fn no_other_credential_is_taken_for_a_token() {
    let service = Service::new().await;
    let person = service.person("ada@example.com").await;
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {}", person.token),
        person.token.clone(),
        format!("Bearer {}x", person.token),
        format!("Bearer {}", &person.token[..person.token.len() - 1]),
        "Bearer sk_live_82850yp8_83IdZh3l04N8EUdbd1FFlvkR92mPHfDRHOO4dgQw7O30mRivl".to_owned(),
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c3JfMDFoNDU1dmI0cGV4NXZza25rMDg0c24wMnEifQ.".to_owned(),
    ] {
        let request = Request::builder()
            .uri("/api/v1/auth/me")
            .header(header::AUTHORIZATION, &value);
        let answer = service.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{value}");
    }
}

#[tokio::test]
async fn a_wrong_login_form_names_its_fields() {
    let service = Service::new().await;
    let login = async |body| service.call(Method::POST, "/api/v1/auth/login", None, Some(body)).await;
    let answer = login(json!({ "email": "", "password": "" })).await;
    answer.assert_error(400, "invalid_request");
    assert!(
        !answer.field("email").is_empty() && !answer.field("password").is_empty(),
        "{}",
        answer.text
    );
    let answer = login(json!({ "email": "a\u{0}@x.io", "password": "x" })).await;
    answer.assert_error(400, "invalid_request");
    let answer = login(json!({ "email": "a@x.io" })).await;
    answer.assert_error(400, "invalid_request");
    assert!(answer.message().contains("password"), "{}", answer.text);
    login(json!({ "email": "a@x.io", "password": "x".repeat(1025) }))
        .await
        .assert_error(400, "invalid_request");
}
