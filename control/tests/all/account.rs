//! Accounts: signing up, confirming an address, other passwords, and that none of it tells who has an account.

use std::time::Duration;

use authsome_testkit::SmtpServer;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Row;

use crate::service::{Answer, PASSWORD, Service};

const SOON: Duration = Duration::from_secs(30);
const OTHER: &str = "another battery, another staple";

async fn ask(service: &Service, path: &str, body: Value) -> Answer {
    service
        .call(Method::POST, &format!("/api/v1/auth/{path}"), None, Some(body))
        .await
}

async fn sign_up(service: &Service, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "name": "Ada", "password": password });
    ask(service, "signup", body).await
}

/// What the link in the newest letter to the address holds.
pub(crate) async fn token(smtp: &SmtpServer, to: &str, count: usize, page: &str) -> String {
    let letter = smtp.letter_to(to, count, SOON).await.unwrap();
    let start = format!("https://dashboard.test/{page}?token=");
    let link = letter
        .word(&start)
        .unwrap_or_else(|| panic!("no link in {}", letter.text()));
    link[start.len()..].to_owned()
}

#[tokio::test]
async fn who_signs_up_confirms_the_address_by_the_link_in_a_letter() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    let _mailer = service.mailer(&smtp);

    let answer = sign_up(&service, "Ada@example.com", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let login = service.login("ada@example.com", PASSWORD).await;
    let ada = login.string("token");
    let me = async || service.call(Method::GET, "/api/v1/auth/me", Some(&ada), None).await;
    assert_eq!(me().await.json["emailVerified"], false);

    let token = token(&smtp, "Ada@example.com", 1, "verify-email").await;
    let confirm = async |token: &str| ask(&service, "verify-email", json!({ "token": token })).await;
    assert_eq!(confirm(&token).await.status, StatusCode::NO_CONTENT);
    assert_eq!(me().await.json["emailVerified"], true);

    let again = confirm(&token).await;
    again.assert_error(400, "invalid_request");
    assert_eq!(again.json["error"]["reason"], "link_expired");
    let broken = confirm(&token[..token.len() - 2]).await;
    assert_eq!(broken.json["error"]["reason"], "link_invalid");
    assert!(!broken.field("token").is_empty());

    let actions: Vec<String> = sqlx::query_scalar(
        "SELECT action FROM audit_events WHERE status = 'success' AND action <> 'auth.login' ORDER BY id",
    )
    .fetch_all(&service.pool)
    .await
    .unwrap();
    assert_eq!(actions, ["auth.sign_up", "auth.verify_email"]);
}

#[tokio::test]
async fn signing_up_with_a_taken_address_looks_the_same_and_changes_nothing() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    let _mailer = service.mailer(&smtp);
    service.person("ada@example.com").await;

    let fresh = sign_up(&service, "new@example.com", OTHER).await;
    let taken = sign_up(&service, "ADA@example.com", OTHER).await;
    assert_eq!((fresh.status, &fresh.json), (taken.status, &taken.json));
    assert_eq!(fresh.status, StatusCode::ACCEPTED);

    service
        .login("ada@example.com", OTHER)
        .await
        .assert_error(401, "unauthorized");
    assert_eq!(service.login("ada@example.com", PASSWORD).await.status, StatusCode::OK);
    let letter = smtp.letter_to("ada@example.com", 1, SOON).await.unwrap();
    assert!(letter.text().contains("already have an account"), "{}", letter.text());
    assert!(letter.word("https://dashboard.test/verify-email").is_none());
    assert_eq!(service.count("SELECT count(*) FROM users").await, 2);
}

#[tokio::test]
async fn wrong_fields_of_a_sign_up_are_named_all_at_once() {
    let service = Service::new().await;
    let body = json!({ "email": "ada", "name": " ", "password": "short" });
    let answer = ask(&service, "signup", body).await;
    answer.assert_error(400, "invalid_request");
    for field in ["email", "name", "password"] {
        assert!(!answer.field(field).is_empty(), "{field}: {}", answer.text);
    }
    let body = json!({ "email": "a@x.io", "name": "Ada", "password": PASSWORD, "role": "owner" });
    let answer = ask(&service, "signup", body).await;
    answer.assert_error(400, "invalid_request");
    assert!(answer.message().contains("role"), "{}", answer.text);
    assert_eq!(service.count("SELECT count(*) FROM users").await, 0);
    assert_eq!(service.count("SELECT count(*) FROM mails").await, 0);
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_a_link_that_works_once_and_ends_every_session() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    let _mailer = service.mailer(&smtp);
    let ada = service.person("ada@example.com").await;
    let refresh = service.login("ada@example.com", PASSWORD).await.string("refreshToken");

    let known = ask(&service, "forgot-password", json!({ "email": "ada@example.com" })).await;
    let unknown = ask(&service, "forgot-password", json!({ "email": "nobody@example.com" })).await;
    assert_eq!((known.status, &known.json), (unknown.status, &unknown.json));
    assert_eq!(known.status, StatusCode::ACCEPTED);

    let token = token(&smtp, "ada@example.com", 1, "reset-password").await;
    let reset = async |password: &str| {
        let body = json!({ "token": token, "password": password });
        ask(&service, "reset-password", body).await
    };
    let short = reset("short").await;
    assert!(!short.field("password").is_empty(), "{}", short.text);
    assert_eq!(reset(OTHER).await.status, StatusCode::NO_CONTENT);

    service
        .get("/api/v1/auth/me", &ada)
        .await
        .assert_error(401, "unauthorized");
    ask(&service, "refresh", json!({ "refreshToken": refresh }))
        .await
        .assert_error(401, "unauthorized");
    service
        .login("ada@example.com", PASSWORD)
        .await
        .assert_error(401, "unauthorized");
    assert_eq!(service.login("ada@example.com", OTHER).await.status, StatusCode::OK);
    assert_eq!(reset(PASSWORD).await.json["error"]["reason"], "link_expired");
    let told = smtp.letter_to("ada@example.com", 2, SOON).await.unwrap();
    assert_eq!(told.header("Subject"), Some("Your password was changed"));
    assert!(smtp.letters_to("nobody@example.com").is_empty());
}

#[tokio::test]
async fn a_link_to_reset_is_void_once_the_password_has_changed_otherwise_or_time_has_passed() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    let _mailer = service.mailer(&smtp);
    let ada = service.person("ada@example.com").await;
    let forgot = async || ask(&service, "forgot-password", json!({ "email": "ada@example.com" })).await;
    let reset = async |token: &str| {
        let body = json!({ "token": token, "password": OTHER });
        ask(&service, "reset-password", body).await.json["error"]["reason"].clone()
    };

    forgot().await;
    let old = token(&smtp, "ada@example.com", 1, "reset-password").await;
    let change = json!({ "password": PASSWORD, "newPassword": "a third one, long enough" });
    let changed = service.post("/api/v1/auth/change-password", &ada, change).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{}", changed.text);
    assert_eq!(reset(&old).await, "link_expired");

    // Letters under way at once arrive in any order.
    smtp.letter_to("ada@example.com", 2, SOON).await.unwrap();
    service.clock.advance(Duration::from_secs(61));
    forgot().await;
    let late = token(&smtp, "ada@example.com", 3, "reset-password").await;
    service.clock.advance(Duration::from_hours(1));
    assert_eq!(reset(&late).await, "link_expired");
}

#[tokio::test]
async fn a_changed_password_ends_other_sessions_and_keeps_this_one() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let other = service.login("ada@example.com", PASSWORD).await.string("token");
    let change = async |password: &str| {
        let body = json!({ "password": password, "newPassword": OTHER });
        service.post("/api/v1/auth/change-password", &ada, body).await
    };
    let wrong = change("not it").await;
    wrong.assert_error(403, "forbidden");
    assert_eq!(wrong.json["error"]["reason"], "wrong_password");
    assert_eq!(change(PASSWORD).await.status, StatusCode::NO_CONTENT);
    assert_eq!(service.get("/api/v1/auth/me", &ada).await.status, StatusCode::OK);
    service
        .call(Method::GET, "/api/v1/auth/me", Some(&other), None)
        .await
        .assert_error(401, "unauthorized");
}

#[tokio::test]
async fn nobody_can_have_an_address_flooded_with_letters() {
    let service = Service::new().await;
    service.person("ada@example.com").await;
    let waiting = async || {
        service
            .count("SELECT count(*) FROM mails WHERE kind = 'reset_password'")
            .await
    };
    for _ in 0..3 {
        let answer = ask(&service, "forgot-password", json!({ "email": "Ada@example.com" })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    assert_eq!(waiting().await, 1);
    for _ in 0..15 {
        service.clock.advance(Duration::from_mins(2));
        ask(&service, "forgot-password", json!({ "email": "ada@example.com" })).await;
    }
    assert_eq!(waiting().await, 10);
    service.clock.advance(Duration::from_hours(24));
    ask(&service, "forgot-password", json!({ "email": "ada@example.com" })).await;
    assert_eq!(waiting().await, 11);
}

#[tokio::test]
async fn the_queue_holds_no_link() {
    let service = Service::new().await;
    sign_up(&service, "ada@example.com", PASSWORD).await;
    ask(&service, "forgot-password", json!({ "email": "ada@example.com" })).await;
    let rows = sqlx::query("SELECT kind, params::text AS params FROM mails ORDER BY kind")
        .fetch_all(&service.pool)
        .await
        .unwrap();
    let seen: Vec<(String, String)> = rows.iter().map(|row| (row.get("kind"), row.get("params"))).collect();
    let id: String = sqlx::query_scalar("SELECT id FROM users")
        .fetch_one(&service.pool)
        .await
        .unwrap();
    let expected = [
        ("reset_password".to_owned(), "{}".to_owned()),
        ("sign_up".to_owned(), format!("{{\"user\": \"{id}\"}}")),
    ];
    assert_eq!(seen, expected);
}
