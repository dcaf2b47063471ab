//! Whose account a token of a provider leads to.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Key, Provider, me};
use crate::service::PASSWORD;

#[tokio::test]
async fn an_account_is_linked_by_a_confirmed_address_only() {
    let key = Key::ec("one");
    let provider = Provider::start(&[&key]).await;
    let service = provider.service(&json!({ "email_domains": ["example.com"] })).await;
    let ada = service.person("Ada@Example.com").await;
    let cannot = async |change: Value, reason: &str| {
        let answer = me(&service, &provider.token(&service, &key, &change)).await;
        answer.assert_error(401, "unauthorized");
        assert_eq!(answer.json["error"]["reason"], reason);
        service.count("SELECT count(*) FROM identities").await
    };
    for change in [
        json!({ "email_verified": false }),
        json!({ "email_verified": null }),
        json!({ "email": null }),
        json!({ "email": "not an address" }),
        json!({ "email": "ada@evil.example" }),
    ] {
        assert_eq!(cannot(change, "email_not_verified").await, 0);
    }
    let token = provider.token(&service, &key, &json!({ "email": "ADA@example.com" }));
    assert_eq!(me(&service, &token).await.json["id"], ada.id.as_str());
    // The password goes on as before, and the owner reads of it.
    assert_eq!(service.login("ada@example.com", PASSWORD).await.status, StatusCode::OK);
    assert_eq!(
        service
            .count("SELECT count(*) FROM mails WHERE kind = 'identity_linked'")
            .await,
        1
    );
    // Whoever is suspended is, by whatever way they come.
    sqlx::query("UPDATE users SET status = 'suspended'")
        .execute(&service.pool)
        .await
        .unwrap();
    assert_eq!(me(&service, &token).await.status, StatusCode::UNAUTHORIZED);
    let twin = provider.token(&service, &key, &json!({ "sub": "auth0|9" }));
    assert_eq!(me(&service, &twin).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoever_waits_with_an_account_for_the_owner_of_its_address_waits_in_vain() {
    let key = Key::ec("one");
    let provider = Provider::start(&[&key]).await;
    let service = provider.service(&json!({})).await;
    let body = json!({ "email": "ada@example.com", "name": "Not Ada", "password": PASSWORD });
    service
        .call(Method::POST, "/api/v1/auth/signup", None, Some(body))
        .await;
    let squatter = service.login("ada@example.com", PASSWORD).await;
    let token = provider.token(&service, &key, &json!({}));
    assert_eq!(me(&service, &token).await.status, StatusCode::OK);
    assert_eq!(
        me(&service, &squatter.string("token")).await.status,
        StatusCode::UNAUTHORIZED
    );
    let refresh = json!({ "refreshToken": squatter.string("refreshToken") });
    let refreshed = service
        .call(Method::POST, "/api/v1/auth/refresh", None, Some(refresh))
        .await;
    assert_eq!(refreshed.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        service.login("ada@example.com", PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn an_account_with_a_second_factor_is_linked_by_its_owner() {
    let key = Key::ec("one");
    let provider = Provider::start(&[&key]).await;
    let service = provider.service(&json!({})).await;
    let ada = service.person("ada@example.com").await;
    sqlx::query(
        "INSERT INTO second_factors (user_id, secret, confirmed_at, created_at) VALUES ($1, 'x', now(), now())",
    )
    .bind(&ada.id)
    .execute(&service.pool)
    .await
    .unwrap();
    let token = provider.token(&service, &key, &json!({}));
    let refused = me(&service, &token).await;
    refused.assert_error(401, "unauthorized");
    assert_eq!(refused.json["error"]["reason"], "link_required");

    let link = async |token: &str, password: &str| {
        let body = json!({ "token": token, "password": password });
        service.post("/api/v1/auth/identities", &ada, body).await
    };
    link(&token, "wrong").await.assert_error(403, "forbidden");
    link("nonsense", PASSWORD).await.assert_error(400, "invalid_request");
    let expired = provider.token(&service, &key, &json!({ "exp": 1 }));
    link(&expired, PASSWORD).await.assert_error(400, "invalid_request");
    assert_eq!(link(&token, PASSWORD).await.status, StatusCode::NO_CONTENT);
    assert_eq!(me(&service, &token).await.json["id"], ada.id.as_str());
    let again = link(&token, PASSWORD).await;
    again.assert_error(409, "conflict");
    assert_eq!(again.json["error"]["reason"], "identity_taken");

    let listed = service.get("/api/v1/auth/identities", &ada).await;
    assert_eq!(listed.json["total"], 1);
    assert_eq!(listed.json["data"][0]["subject"], "auth0|1");
    let id = listed.json["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/auth/identities/{id}");
    let bob = service.person("bob@example.com").await;
    service.delete(&path, &bob).await.assert_error(404, "not_found");
    assert_eq!(service.delete(&path, &ada).await.status, StatusCode::NO_CONTENT);
    assert_eq!(me(&service, &token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nobody_takes_away_their_only_way_in() {
    let key = Key::ec("one");
    let provider = Provider::start(&[&key]).await;
    let service = provider.service(&json!({})).await;
    let token = provider.token(&service, &key, &json!({}));
    assert_eq!(me(&service, &token).await.status, StatusCode::OK);
    let listed = service
        .call(Method::GET, "/api/v1/auth/identities", Some(&token), None)
        .await;
    let path = format!(
        "/api/v1/auth/identities/{}",
        listed.json["data"][0]["id"].as_str().unwrap()
    );
    let answer = service.call(Method::DELETE, &path, Some(&token), None).await;
    answer.assert_error(409, "conflict");
    assert_eq!(me(&service, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_issuer_may_be_kept_from_bringing_new_people_and_two_requests_make_one_account() {
    let key = Key::ec("one");
    let provider = Provider::start(&[&key]).await;
    let closed = provider.service(&json!({ "sign_up": false })).await;
    let answer = me(&closed, &provider.token(&closed, &key, &json!({}))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(closed.count("SELECT count(*) FROM users").await, 0);

    let open = provider.service(&json!({})).await;
    let token = provider.token(&open, &key, &json!({}));
    let answers = futures::future::join_all((0..8).map(|_| me(&open, &token))).await;
    assert!(
        answers.iter().all(|answer| answer.status == StatusCode::OK),
        "{answers:?}"
    );
    assert_eq!(open.count("SELECT count(*) FROM users").await, 1);
    assert_eq!(open.count("SELECT count(*) FROM identities").await, 1);
    assert_eq!(
        open.count("SELECT count(*) FROM audit_events WHERE action = 'auth.sign_up'")
            .await,
        1
    );
}
