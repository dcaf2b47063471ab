//! How often a password may be tried: slow for whoever guesses, and never a way to keep the owner out.

use std::net::SocketAddr;
use std::time::Duration;

use authsome_testkit::SmtpServer;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, PASSWORD, Service};

const HOME: &str = "192.0.2.1:1000";
const ABROAD: &str = "198.51.100.7:1000";
const ATTACKER: &str = "203.0.113.9:1000";

async fn post(service: &Service, from: &str, path: &str, body: &Value) -> Answer {
    let mut request = Request::post(format!("/api/v1/auth/{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    request
        .extensions_mut()
        .insert(ConnectInfo(from.parse::<SocketAddr>().unwrap()));
    service.send(request).await
}

async fn login(service: &Service, from: &str, email: &str, password: &str) -> Answer {
    post(service, from, "login", &json!({ "email": email, "password": password })).await
}

/// Guesses until the guesser has to wait; returns how many guesses were looked at.
async fn guess(service: &Service, from: &str, email: &str) -> (usize, Answer) {
    for made in 0.. {
        let answer = login(service, from, email, "a wrong guess").await;
        if answer.status != StatusCode::UNAUTHORIZED {
            return (made, answer);
        }
    }
    unreachable!("guesses end")
}

#[tokio::test]
async fn guesses_get_slower_alike_whether_or_not_there_is_an_account() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let mut told = Vec::new();
    for (email, shouted) in [
        ("ada@example.com", "ADA@Example.com"),
        ("nobody@example.com", "NoBody@example.com"),
    ] {
        let (made, refused) = guess(&service, ATTACKER, email).await;
        assert_eq!(made, 5);
        refused.assert_error(429, "rate_limit_exceeded");
        assert_eq!(refused.json["error"]["reason"], "too_many_attempts");
        assert_eq!(refused.headers["retry-after"], "2");
        // Neither another spelling nor the right password is looked at.
        login(&service, ATTACKER, shouted, PASSWORD)
            .await
            .assert_error(429, "rate_limit_exceeded");
        let mut waits = Vec::new();
        for _ in 0..12 {
            let answer = login(&service, ATTACKER, email, "a wrong guess").await;
            let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            waits.push(wait);
            service.clock.advance(Duration::from_secs(wait));
            login(&service, ATTACKER, email, "a wrong guess")
                .await
                .assert_error(401, "unauthorized");
        }
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits.last(), Some(&900));
        let mut body = refused.json.clone();
        body["error"]["requestId"] = Value::Null;
        told.push((body, waits));
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn many_guesses_at_once_are_no_way_around() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let guesses = (0..20).map(|_| login(&service, ATTACKER, "ada@example.com", "a wrong guess"));
    let answers = futures::future::join_all(guesses).await;
    let looked_at = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::UNAUTHORIZED)
        .count();
    assert_eq!((looked_at, answers.len()), (5, 20));
}

#[tokio::test]
async fn whoever_guesses_does_not_lock_the_owner_out() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    assert_eq!(
        login(&service, HOME, "ada@example.com", PASSWORD).await.status,
        StatusCode::OK
    );
    let (made, _) = guess(&service, ATTACKER, "ada@example.com").await;
    assert_eq!(made, 5);
    // At home nothing has changed, and guesses from there are counted by themselves.
    assert_eq!(
        login(&service, HOME, "ada@example.com", PASSWORD).await.status,
        StatusCode::OK
    );
    let (made, _) = guess(&service, HOME, "ada@example.com").await;
    assert_eq!(made, 5);
    // A right password forgets the wrong ones.
    service.clock.advance(Duration::from_secs(3));
    assert_eq!(
        login(&service, HOME, "ada@example.com", PASSWORD).await.status,
        StatusCode::OK
    );
    assert_eq!(guess(&service, HOME, "ada@example.com").await.0, 5);
}

#[tokio::test]
async fn a_new_password_by_mail_lets_the_owner_in_from_anywhere() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let server = SmtpServer::start().await.unwrap();
    let _mailer = service.mailer(&server);
    guess(&service, ATTACKER, "ada@example.com").await;
    login(&service, ABROAD, "ada@example.com", PASSWORD)
        .await
        .assert_error(429, "rate_limit_exceeded");

    post(
        &service,
        ABROAD,
        "forgot-password",
        &json!({ "email": "ada@example.com" }),
    )
    .await;
    let token = crate::account::token(&server, "ada@example.com", 1, "reset-password").await;
    let body = json!({ "token": token, "password": "another good password" });
    assert_eq!(
        post(&service, ABROAD, "reset-password", &body).await.status,
        StatusCode::NO_CONTENT
    );
    // The guesses go on, and are nobody else's wait.
    guess(&service, ATTACKER, "ada@example.com").await;
    let answer = login(&service, ABROAD, "ada@example.com", "another good password").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn the_owner_is_told_once_that_somebody_tries_passwords() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let letters = "SELECT count(*) FROM mails WHERE kind = 'sign_in_attempts'";
    for _ in 0..30 {
        login(&service, ATTACKER, "ada@example.com", "a wrong guess").await;
        service.clock.advance(Duration::from_mins(16));
    }
    assert_eq!(service.count(letters).await, 1);
}

#[tokio::test]
async fn a_session_is_no_way_to_guess_the_password_faster() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let body = json!({ "password": "a wrong guess", "newPassword": "another good password" });
    for _ in 0..5 {
        let answer = service.post("/api/v1/auth/change-password", &ada, body.clone()).await;
        answer.assert_error(403, "forbidden");
    }
    let answer = service.post("/api/v1/auth/change-password", &ada, body).await;
    answer.assert_error(429, "rate_limit_exceeded");
    let answer = service
        .post("/api/v1/auth/second-factor", &ada, json!({ "password": PASSWORD }))
        .await;
    answer.assert_error(429, "rate_limit_exceeded");
}
