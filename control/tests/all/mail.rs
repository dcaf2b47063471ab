//! Letters reach their mail server, now or later, once.

use std::time::Duration;

use authsome_control::mail::{Security, Smtp};
use authsome_control::outbound::Roots;
use authsome_testkit::{SmtpServer, wait_for};
use http::{Method, StatusCode};
use serde_json::json;

use crate::service::{PASSWORD, Service};

const SOON: Duration = Duration::from_secs(30);

async fn sign_up(service: &Service, email: &str) {
    let body = json!({ "email": email, "name": "O'Brien <b>", "password": PASSWORD });
    let answer = service
        .call(Method::POST, "/api/v1/auth/signup", None, Some(body))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
}

/// Waits until the letter to this address was tried so often.
async fn tried(service: &Service, email: &str, times: i32) {
    wait_for(format!("{times} attempts for {email}"), SOON, async || {
        let row: (i32, Option<String>) = sqlx::query_as("SELECT attempts, last_error FROM mails WHERE recipient = $1")
            .bind(email)
            .fetch_one(&service.pool)
            .await
            .unwrap();
        (row.0 >= times && row.1.is_some()).then_some(())
    })
    .await
    .unwrap();
}

async fn status(service: &Service, email: &str, wanted: &str) {
    wait_for(format!("{email} to be {wanted}"), SOON, async || {
        let status: String = sqlx::query_scalar("SELECT status FROM mails WHERE recipient = $1")
            .bind(email)
            .fetch_one(&service.pool)
            .await
            .unwrap();
        if status == wanted {
            Ok(())
        } else {
            Err(std::io::Error::other(status))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_letter_is_text_and_html_and_what_people_call_themselves_stays_text() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    let _mailer = service.mailer(&smtp);
    sign_up(&service, "ada@example.com").await;
    let letter = smtp.letter_to("ada@example.com", 1, SOON).await.unwrap();
    assert_eq!(letter.from, "noreply@authsome.test");
    assert_eq!(letter.header("Subject"), Some("Confirm your e-mail address"));
    assert!(
        letter
            .header("Message-ID")
            .is_some_and(|id| id.ends_with("@authsome.test>"))
    );
    let text = letter.text();
    assert!(text.contains("multipart/alternative"), "{text}");
    // Whoever signed up may have given the address of somebody else.
    assert!(text.contains("Hello,") && !text.contains("O'Brien"), "{text}");

    let confirmed = "UPDATE users SET email_verified_at = now()";
    sqlx::query(confirmed).execute(&service.pool).await.unwrap();
    let body = Some(json!({ "email": "ADA@example.com" }));
    let path = "/api/v1/auth/forgot-password";
    assert_eq!(
        service.call(Method::POST, path, None, body).await.status,
        StatusCode::ACCEPTED
    );
    // To the account's own spelling, and not to the caller's.
    let text = smtp.letter_to("ada@example.com", 2, SOON).await.unwrap().text();
    assert!(text.contains("Hello O'Brien <b>,"), "{text}");
    assert!(text.contains("Hello O&#39;Brien &#60;b&#62;,"), "{text}");
    assert!(smtp.letters_to("ADA@example.com").is_empty());
}

#[tokio::test]
async fn nobody_has_a_letter_of_theirs_sent_by_giving_it_as_a_name() {
    let service = Service::new().await;
    for name in [
        "You won! Claim at https://evil.example/x",
        "www.evil.example",
        "evil.example/claim",
        "a\u{202e}b",
    ] {
        let body = json!({ "email": "ada@example.com", "name": name, "password": PASSWORD });
        let answer = service
            .call(Method::POST, "/api/v1/auth/signup", None, Some(body))
            .await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field("name").is_empty(), "{}", answer.text);
    }
    assert_eq!(service.count("SELECT count(*) FROM mails").await, 0);
}

#[tokio::test]
async fn without_the_mail_server_letters_wait_and_are_sent_when_it_is_back() {
    let service = Service::new().await;
    let mut smtp = SmtpServer::start().await.unwrap();
    smtp.stop();
    let _mailer = service.mailer(&smtp);
    sign_up(&service, "ada@example.com").await;
    tried(&service, "ada@example.com", 1).await;

    smtp.restart().await.unwrap();
    smtp.refuse_for_now(true);
    service.clock.advance(Duration::from_mins(1));
    tried(&service, "ada@example.com", 2).await;

    smtp.refuse_for_now(false);
    service.clock.advance(Duration::from_mins(1));
    let letter = smtp.letter_to("ada@example.com", 1, SOON).await.unwrap();
    assert!(letter.word("https://dashboard.test/verify-email?token=").is_some());
    status(&service, "ada@example.com", "sent").await;
    service.clock.advance(Duration::from_hours(1));
    sign_up(&service, "next@example.com").await;
    smtp.letter_to("next@example.com", 1, SOON).await.unwrap();
    assert_eq!(smtp.letters_to("ada@example.com").len(), 1);
}

#[tokio::test]
async fn what_the_server_refuses_for_good_is_dropped_and_holds_nothing_up() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    smtp.refuse_for_good("gone@example.com");
    let _mailer = service.mailer(&smtp);
    sign_up(&service, "gone@example.com").await;
    sign_up(&service, "ada@example.com").await;
    smtp.letter_to("ada@example.com", 1, SOON).await.unwrap();
    status(&service, "gone@example.com", "dropped").await;
}

#[tokio::test]
async fn a_letter_that_nobody_takes_is_given_up_after_days() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    smtp.refuse_for_now(true);
    sign_up(&service, "ada@example.com").await;
    service.clock.advance(Duration::from_hours(73));
    let _mailer = service.mailer(&smtp);
    status(&service, "ada@example.com", "dropped").await;
}

#[tokio::test]
async fn several_replicas_send_each_letter_once() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    for number in 0..30 {
        sqlx::query(
            "INSERT INTO mails (id, kind, recipient, next_attempt_at, created_at)
             VALUES (gen_random_uuid(), 'reset_password', $1 || '@example.com', now(), now())",
        )
        .bind(format!("p{number}"))
        .execute(&service.pool)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO users (id, email, name)
             VALUES ('usr_01h455vb4pex5vsknk084sn0' || lpad($1, 2, '0'), 'p' || $1 || '@example.com', 'P')",
        )
        .bind(number.to_string())
        .execute(&service.pool)
        .await
        .unwrap();
    }
    service.clock.advance(Duration::from_mins(1));
    let _mailers = [service.mailer(&smtp), service.mailer(&smtp), service.mailer(&smtp)];
    wait_for("an empty queue", SOON, async || {
        let left = service
            .count("SELECT count(*) FROM mails WHERE status = 'queued'")
            .await;
        (left == 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(smtp.letters().len(), 30);
    for number in 0..30 {
        assert_eq!(smtp.letters_to(&format!("p{number}@example.com")).len(), 1, "{number}");
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_no_letter_unless_the_operator_said_so_and_never_a_password() {
    let service = Service::new().await;
    let smtp = SmtpServer::start().await.unwrap();
    let from = || "noreply@authsome.test".parse().unwrap();
    let with_password = smtp.url().replace("smtp://", "smtp://user:secret@");
    let refused = Smtp::new(
        &with_password.parse().unwrap(),
        Security::None,
        from(),
        &Roots::default(),
    )
    .unwrap_err();
    assert!(refused.to_string().contains("without TLS"), "{refused}");
    assert!(!refused.to_string().contains("secret"));

    let server = Smtp::new(
        &with_password.parse().unwrap(),
        Security::Required,
        from(),
        &Roots::default(),
    )
    .unwrap();
    let _mailer = service.mailer_by(server);
    sign_up(&service, "ada@example.com").await;
    tried(&service, "ada@example.com", 1).await;
    assert!(smtp.letters().is_empty());
}
