//! The second factor: switched on by a code, asked for at every sign-in, and what helps when the device is gone.

use std::time::Duration;

use authsome_control::identity::totp;
use authsome_core::clock::Clock;
use data_encoding::BASE32_NOPAD;
use http::{Method, StatusCode};
use serde_json::json;

use crate::service::{Answer, PASSWORD, Person, Service};

struct Device {
    service: Service,
    ada: Person,
    secret: Vec<u8>,
    recovery: Vec<String>,
}

impl Device {
    /// Somebody whose second factor is on.
    async fn new() -> Self {
        let service = Service::new().await;
        let ada = service.person("ada@example.com").await;
        let begun = service
            .post("/api/v1/auth/second-factor", &ada, json!({ "password": PASSWORD }))
            .await;
        assert_eq!(begun.status, StatusCode::OK, "{}", begun.text);
        let secret = BASE32_NOPAD.decode(begun.string("secret").as_bytes()).unwrap();
        assert!(begun.string("otpauthUrl").contains(&begun.string("secret")));
        let mut device = Self {
            service,
            ada,
            secret,
            recovery: Vec::new(),
        };
        // It is not on before a code was given.
        assert_eq!(device.login(None).await.status, StatusCode::OK);
        let confirmed = device.with("confirm", &device.code()).await;
        assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.text);
        let codes = confirmed.json["recoveryCodes"].as_array().unwrap();
        device.recovery = codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect();
        device
    }

    fn code(&self) -> String {
        totp::code_at(&self.secret, self.service.clock.now().unix_timestamp() / 30)
    }

    /// A code that is certainly not the present one or a neighbour of it.
    fn wrong_code(&self) -> String {
        let step = self.service.clock.now().unix_timestamp() / 30;
        let near: Vec<String> = (step - 2..=step + 2)
            .map(|step| totp::code_at(&self.secret, step))
            .collect();
        (0..1000)
            .map(|number| format!("{number:06}"))
            .find(|code| !near.contains(code))
            .unwrap()
    }

    async fn login(&self, code: Option<&str>) -> Answer {
        let mut body = json!({ "email": "ada@example.com", "password": PASSWORD });
        if let Some(code) = code {
            body["code"] = json!(code);
        }
        self.service
            .call(Method::POST, "/api/v1/auth/login", None, Some(body))
            .await
    }

    async fn with(&self, what: &str, code: &str) -> Answer {
        let path = format!("/api/v1/auth/second-factor/{what}");
        self.service.post(&path, &self.ada, json!({ "code": code })).await
    }
}

fn reason(answer: &Answer) -> &str {
    answer.json["error"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_sign_in_needs_a_code_that_was_not_used_before() {
    let device = Device::new().await;
    let without = device.login(None).await;
    without.assert_error(401, "unauthorized");
    assert_eq!(reason(&without), "second_factor_required");
    // The code that switched it on is used up.
    assert_eq!(reason(&device.login(Some(&device.code())).await), "second_factor_wrong");
    device.service.clock.advance(Duration::from_secs(30));
    let code = device.code();
    assert_eq!(device.login(Some(&code)).await.status, StatusCode::OK);
    assert_eq!(reason(&device.login(Some(&code)).await), "second_factor_wrong");

    // Nobody without the password learns that there is a second factor.
    let wrong = device.service.login("ada@example.com", "not it").await;
    wrong.assert_error(401, "unauthorized");
    assert_eq!(reason(&wrong), "");
    let me = device.service.get("/api/v1/auth/me", &device.ada).await;
    assert_eq!(me.json["secondFactor"], true);
}

#[tokio::test]
async fn after_five_wrong_codes_none_is_looked_at_for_a_quarter_of_an_hour() {
    let device = Device::new().await;
    device.service.clock.advance(Duration::from_secs(30));
    let wrong = device.wrong_code();
    for _ in 0..5 {
        assert_eq!(reason(&device.login(Some(&wrong)).await), "second_factor_wrong");
    }
    let locked = device.login(Some(&device.code())).await;
    locked.assert_error(429, "rate_limit_exceeded");
    assert!(locked.headers.contains_key("retry-after"));
    device.service.clock.advance(Duration::from_mins(15));
    assert_eq!(device.login(Some(&device.code())).await.status, StatusCode::OK);
    let refused = device
        .service
        .count(
            "SELECT count(*) FROM audit_events WHERE action = 'auth.login' AND status = 'failure'
             AND changes ->> 'secondFactor' IN ('wrong', 'locked')",
        )
        .await;
    assert_eq!(refused, 6);
}

#[tokio::test]
async fn a_recovery_code_stands_in_once() {
    let device = Device::new().await;
    assert_eq!(device.recovery.len(), 10);
    let typed = device.recovery[3].to_uppercase().replace('-', " ");
    assert_eq!(device.login(Some(&typed)).await.status, StatusCode::OK);
    assert_eq!(reason(&device.login(Some(&typed)).await), "second_factor_wrong");

    device.service.clock.advance(Duration::from_secs(30));
    let renewed = device.with("recovery-codes", &device.code()).await;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text);
    assert_eq!(
        reason(&device.login(Some(&device.recovery[4])).await),
        "second_factor_wrong"
    );
    let fresh = renewed.json["recoveryCodes"][0].as_str().unwrap().to_owned();
    assert_eq!(device.login(Some(&fresh)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn it_is_switched_off_by_a_code_and_its_person_is_told() {
    let device = Device::new().await;
    device.service.clock.advance(Duration::from_secs(30));
    let refused = device.with("remove", &device.wrong_code()).await;
    refused.assert_error(403, "forbidden");
    assert_eq!(
        device.with("remove", &device.code()).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(device.login(None).await.status, StatusCode::OK);
    let told = device
        .service
        .count("SELECT count(*) FROM mails WHERE kind = 'second_factor'")
        .await;
    assert_eq!(told, 2);
}

#[tokio::test]
async fn it_is_begun_with_the_password_by_a_confirmed_person_and_not_over_one_that_is_on() {
    let device = Device::new().await;
    let begin = async |password: &str| {
        let body = json!({ "password": password });
        device
            .service
            .post("/api/v1/auth/second-factor", &device.ada, body)
            .await
    };
    assert_eq!(reason(&begin("not it").await), "wrong_password");
    assert_eq!(reason(&begin(PASSWORD).await), "second_factor_on");
    sqlx::query("UPDATE users SET email_verified_at = NULL")
        .execute(&device.service.pool)
        .await
        .unwrap();
    assert_eq!(reason(&begin(PASSWORD).await), "email_not_verified");
    let secret: Vec<u8> = sqlx::query_scalar("SELECT secret FROM second_factors")
        .fetch_one(&device.service.pool)
        .await
        .unwrap();
    let plain = device.secret.as_slice();
    assert!(
        !secret.windows(plain.len()).any(|window| window == plain),
        "it is sealed"
    );
}
