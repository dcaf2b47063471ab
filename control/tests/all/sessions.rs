//! Staying signed in, being signed out, and changing the secret that signs.

use std::time::Duration;

use authsome_control::identity::Tokens;
use axum::Router;
use http::{Method, StatusCode};
use serde_json::json;

use crate::service::{Answer, PASSWORD, SECRET, Service, settings};

async fn refresh(service: &Service, token: &str) -> Answer {
    let body = json!({ "refreshToken": token });
    service
        .call(Method::POST, "/api/v1/auth/refresh", None, Some(body))
        .await
}

async fn me(service: &Service, token: &str) -> StatusCode {
    service
        .call(Method::GET, "/api/v1/auth/me", Some(token), None)
        .await
        .status
}

#[tokio::test]
async fn a_refresh_brings_the_next_pair_beyond_the_end_of_the_access_token() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let first = service.login("ada@example.com", PASSWORD).await;
    service.clock.advance(Duration::from_hours(1));
    assert_eq!(me(&service, &first.string("token")).await, StatusCode::UNAUTHORIZED);

    let second = refresh(&service, &first.string("refreshToken")).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    assert_eq!(second.json["user"], first.json["user"]);
    assert_ne!(second.json["refreshToken"], first.json["refreshToken"]);
    assert_eq!(me(&service, &second.string("token")).await, StatusCode::OK);

    service.clock.advance(Duration::from_hours(29 * 24));
    let third = refresh(&service, &second.string("refreshToken")).await;
    assert_eq!(third.status, StatusCode::OK, "each refresh begins the thirty days anew");
    service.clock.advance(Duration::from_hours(31 * 24));
    refresh(&service, &third.string("refreshToken"))
        .await
        .assert_error(401, "unauthorized");
}

#[tokio::test]
async fn a_used_refresh_token_that_comes_back_ends_the_session_for_everybody() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let elsewhere = service.login("ada@example.com", PASSWORD).await;
    // However many refreshes ago it was used.
    for rotations in [1, 2, 5] {
        let stolen = service.login("ada@example.com", PASSWORD).await.string("refreshToken");
        let mut newest = refresh(&service, &stolen).await;
        for _ in 1..rotations {
            service.clock.advance(Duration::from_secs(11));
            newest = refresh(&service, &newest.string("refreshToken")).await;
        }
        assert_eq!(newest.status, StatusCode::OK, "{}", newest.text);

        service.clock.advance(Duration::from_secs(11));
        let reused = refresh(&service, &stolen).await;
        reused.assert_error(401, "unauthorized");
        assert_eq!(reused.json["error"]["reason"], "session_over");
        refresh(&service, &newest.string("refreshToken"))
            .await
            .assert_error(401, "unauthorized");
        assert_eq!(me(&service, &newest.string("token")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(me(&service, &elsewhere.string("token")).await, StatusCode::OK);
    }
    let audited = service
        .count("SELECT count(*) FROM audit_events WHERE action = 'auth.refresh_reuse' AND status = 'failure'")
        .await;
    assert_eq!(audited, 3);
}

#[tokio::test]
async fn a_token_that_was_used_again_in_time_ends_the_session_when_it_comes_back_later() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let token = service.login("ada@example.com", PASSWORD).await.string("refreshToken");
    let newer = refresh(&service, &token).await.string("refreshToken");
    // The client may not have got the answer: within seconds it may ask again.
    let again = refresh(&service, &token).await;
    assert_eq!(again.string("refreshToken"), newer);
    service.clock.advance(Duration::from_secs(11));
    refresh(&service, &token).await.assert_error(401, "unauthorized");
    refresh(&service, &newer).await.assert_error(401, "unauthorized");
    assert_eq!(me(&service, &again.string("token")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn of_many_refreshes_at_once_all_bring_the_same_refresh_token_and_it_is_good() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let first = service.login("ada@example.com", PASSWORD).await.string("refreshToken");
    let mut token = first.clone();
    for _ in 0..3 {
        let answers = futures::future::join_all((0..8).map(|_| refresh(&service, &token))).await;
        for answer in &answers {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
            assert_eq!(answer.json["refreshToken"], answers[0].json["refreshToken"]);
            assert_eq!(me(&service, &answer.string("token")).await, StatusCode::OK);
        }
        token = answers[0].string("refreshToken");
    }
    // A tab that comes late, after others have refreshed on, lands on the same token.
    let late = refresh(&service, &first).await;
    assert_eq!(late.status, StatusCode::OK, "{}", late.text);
    assert_eq!(late.string("refreshToken"), token);
    service.clock.advance(Duration::from_hours(1));
    assert_eq!(refresh(&service, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_keeps_no_more_of_its_used_tokens_than_the_last_few() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let mut token = service.login("ada@example.com", PASSWORD).await.string("refreshToken");
    let kept = async || service.count("SELECT count(*) FROM refresh_uses").await;
    for _ in 0..40 {
        token = refresh(&service, &token).await.string("refreshToken");
    }
    assert_eq!(kept().await, 32);
    service.clock.advance(Duration::from_secs(11));
    token = refresh(&service, &token).await.string("refreshToken");
    assert_eq!(kept().await, 1);
    assert!(!token.is_empty());
}

#[tokio::test]
async fn a_session_of_the_release_before_goes_on() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let login = service.login("ada@example.com", PASSWORD).await.string("refreshToken");
    let (id, _) = login.split_once('.').unwrap();
    let secret = "b2xkIHNlY3JldCBvZiB0aGUgcmVsZWFzZSBiZWZvcmU";
    sqlx::query(
        "UPDATE sessions SET family_digest = NULL, refresh_digest = sha256(convert_to($2, 'UTF8')) WHERE id = $1",
    )
    .bind(id)
    .bind(secret)
    .execute(&service.pool)
    .await
    .unwrap();
    let old = format!("{id}.{secret}");
    let newer = refresh(&service, &old).await;
    assert_eq!(newer.status, StatusCode::OK, "{}", newer.text);
    assert_eq!(
        refresh(&service, &old).await.string("refreshToken"),
        newer.string("refreshToken")
    );
    service.clock.advance(Duration::from_secs(11));
    let newest = refresh(&service, &newer.string("refreshToken")).await;
    assert_eq!(newest.status, StatusCode::OK, "{}", newest.text);
    service.clock.advance(Duration::from_secs(11));
    refresh(&service, &newer.string("refreshToken"))
        .await
        .assert_error(401, "unauthorized");
    assert_eq!(me(&service, &newest.string("token")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nothing_but_a_refresh_token_refreshes() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let login = service.login("ada@example.com", PASSWORD).await;
    let good = login.string("refreshToken");
    let (id, _) = good.split_once('.').unwrap();
    for token in [
        String::new(),
        "x".to_owned(),
        login.string("token"),
        format!("{id}."),
        format!("{id}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        format!("{good}x"),
        good.replace("ses_", "usr_"),
        "x".repeat(100_000),
    ] {
        refresh(&service, &token).await.assert_error(401, "unauthorized");
    }
    assert_eq!(refresh(&service, &good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once_and_no_other() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let here = service.login("ada@example.com", PASSWORD).await;
    let body = None;
    let out = service
        .call(Method::POST, "/api/v1/auth/logout", Some(&here.string("token")), body)
        .await;
    assert_eq!(out.status, StatusCode::NO_CONTENT, "{}", out.text);
    assert_eq!(me(&service, &here.string("token")).await, StatusCode::UNAUTHORIZED);
    refresh(&service, &here.string("refreshToken"))
        .await
        .assert_error(401, "unauthorized");
    assert_eq!(me(&service, &ada.token).await, StatusCode::OK);
}

#[tokio::test]
async fn people_see_their_sessions_and_end_them() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let bob = service.person("bob@example.com").await;
    let second = service.login("ada@example.com", PASSWORD).await.string("token");
    let third = service.login("ada@example.com", PASSWORD).await.string("token");

    let list = service.get("/api/v1/auth/sessions", &ada).await;
    assert_eq!(list.json["total"], 3, "{}", list.text);
    let sessions = list.json["data"].as_array().unwrap();
    let current: Vec<bool> = sessions.iter().map(|session| session["current"] == true).collect();
    assert_eq!(current, [false, false, true]);
    let newest = sessions[0]["id"].as_str().unwrap();

    let path = format!("/api/v1/auth/sessions/{newest}");
    service.delete(&path, &bob).await.assert_error(404, "not_found");
    assert_eq!(service.delete(&path, &ada).await.status, StatusCode::NO_CONTENT);
    service.delete(&path, &ada).await.assert_error(404, "not_found");
    assert_eq!(me(&service, &third).await, StatusCode::UNAUTHORIZED);
    assert_eq!(me(&service, &second).await, StatusCode::OK);

    assert_eq!(
        service.delete("/api/v1/auth/sessions", &ada).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(me(&service, &second).await, StatusCode::UNAUTHORIZED);
    assert_eq!(me(&service, &ada.token).await, StatusCode::OK);
    assert_eq!(me(&service, &bob.token).await, StatusCode::OK);
}

#[tokio::test]
async fn the_secret_that_signs_is_changed_without_signing_anybody_out() {
    let old = Service::new().await;
    let ada = old.person("ada@example.com").await;
    let login = old.login("ada@example.com", PASSWORD).await;

    let newer = "fedcba9876543210fedcba9876543210";
    let both = Tokens::new(&newer.into(), &[SECRET.into()], Duration::from_hours(1));
    let rotated = Service::signing(old.pool.clone(), settings(), Router::new(), both);
    assert_eq!(me(&rotated, &ada.token).await, StatusCode::OK);
    let next = refresh(&rotated, &login.string("refreshToken")).await;
    assert_ne!(kid(&next.string("token")), kid(&ada.token));

    // The old secret is dropped: what was refreshed meanwhile goes on, and so does whoever refreshes now.
    let alone = Tokens::new(&newer.into(), &[], Duration::from_hours(1));
    let later = Service::signing(old.pool.clone(), settings(), Router::new(), alone);
    assert_eq!(me(&later, &next.string("token")).await, StatusCode::OK);
    assert_eq!(me(&later, &ada.token).await, StatusCode::UNAUTHORIZED);
    let again = refresh(&later, &next.string("refreshToken")).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
}

fn kid(token: &str) -> String {
    use base64::Engine;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
