//! Applications of two customers cannot see each other: through the edge, with each other's database roles, with each other's
//! Redis users.

use authsome_core::seal::{Aad, PlatformRing};
use authsome_core::secret::ExposeSecret;
use authsome_testkit::wait_for;
use fred::clients::Client as Redis;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::Builder;
use fred::types::config::Config;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

use crate::customer::{App, Customer};
use crate::platform::Platform;

/// The URLs that an application's instances were given.
struct Urls {
    database: String,
    redis: String,
}

async fn urls(platform: &Platform, app: &App) -> Urls {
    let state: Value = serde_json::from_str(&std::fs::read_to_string(platform.state("state.json")).unwrap()).unwrap();
    let ring = PlatformRing::parse(state["secrets"]["encryptionKey"].as_str().unwrap()).unwrap();
    let (database, redis): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT database_url, redis_url FROM applications WHERE id = $1")
            .bind(&app.id)
            .fetch_one(&mut platform.database().await)
            .await
            .unwrap();
    let open = |table_column, sealed: &[u8]| {
        ring.open_text(
            Aad {
                table_column,
                row: &app.id,
            },
            sealed,
        )
        .unwrap()
        .expose_secret()
        .to_owned()
    };
    Urls {
        database: open("applications.database_url", &database),
        redis: open("applications.redis_url", &redis),
    }
}

/// The same role and password, another database.
fn in_database(url: &str, name: &str) -> String {
    let (server, path) = url.rsplit_once('/').unwrap();
    let parameters = path
        .split_once('?')
        .map(|(_, parameters)| format!("?{parameters}"))
        .unwrap_or_default();
    format!("{server}/{name}{parameters}")
}

fn database_of(app: &App) -> String {
    format!("authsome_app_{}", app.id.trim_start_matches("app_"))
}

async fn redis(url: &str) -> Redis {
    let client = Builder::from_config(Config::from_url(url).unwrap()).build().unwrap();
    client.init().await.unwrap();
    client
}

async fn sign_up(platform: &Platform, app: &App, email: &str) -> Value {
    let body = json!({ "email": email, "password": "correct horse battery" });
    let request = platform
        .edge(Method::POST, &app.id, "/v1/signup")
        .header("x-api-key", &app.public_key)
        .json(&body);
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), 201, "{}", platform.logs());
    reply.json().await.unwrap()
}

#[tokio::test]
async fn applications_of_two_workspaces_cannot_see_each_other() {
    let platform = Platform::start().await;
    let acme = Customer::new(&platform, "acme@example.com", "Acme").await;
    let rival = Customer::new(&platform, "rival@example.com", "Rival").await;
    let (a, b) = tokio::join!(acme.application("Shop"), rival.application("Shop"));

    // Through the edge.
    let ada = sign_up(&platform, &a, "ada@example.com").await;
    let eve = sign_up(&platform, &b, "eve@example.com").await;
    for (app, email) in [(&a, "ada@example.com"), (&b, "eve@example.com")] {
        let users = platform
            .edge(Method::GET, &app.id, "/users")
            .header("x-api-key", &app.secret_key)
            .send()
            .await
            .unwrap();
        let users: Value = users.json().await.unwrap();
        assert_eq!(
            (&users["total"], &users["data"][0]["email"]),
            (&json!(1), &json!(email))
        );
    }
    for (key, app) in [(&a.secret_key, &b), (&b.secret_key, &a), (&a.public_key, &b)] {
        let reply = platform
            .edge(Method::GET, &app.id, "/users")
            .header("x-api-key", key)
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 401, "another application's key");
    }
    let session = ada["session_token"].as_str().unwrap();
    let me = platform
        .edge(Method::GET, &b.id, "/v1/me")
        .header("x-api-key", &b.public_key)
        .bearer_auth(session);
    assert_eq!(me.send().await.unwrap().status(), 401, "another application's session");
    assert_ne!(ada["user"]["id"], eve["user"]["id"]);

    // Through the control API: what is not the caller's does not exist.
    let foreign = format!("{}/api/v1/applications/{}", platform.demo("controlUrl"), b.id);
    let login = json!({ "email": "acme@example.com", "password": "a long enough password" });
    let login = acme.ask(Method::POST, "/auth/login", Some(login)).await;
    let reply = platform
        .client
        .get(foreign)
        .bearer_auth(login["token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 404);

    // With each database role.
    let (urls_a, urls_b) = (urls(&platform, &a).await, urls(&platform, &b).await);
    for (own, foreign) in [(&urls_a, &b), (&urls_b, &a)] {
        let mut connection = PgConnection::connect(&own.database).await.unwrap();
        let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(users, 1, "its own");
        for name in [database_of(foreign).as_str(), "control", "postgres", "template1"] {
            let refused = PgConnection::connect(&in_database(&own.database, name))
                .await
                .unwrap_err()
                .to_string();
            assert!(refused.contains("permission denied for database"), "{name}: {refused}");
        }
        let role: (bool, bool, bool) =
            sqlx::query_as("SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = session_user")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert_eq!(role, (false, false, false));
        let owner = format!("SET ROLE \"{}\"", foreign.id);
        assert!(
            sqlx::query(AssertSqlSafe(owner))
                .execute(&mut connection)
                .await
                .is_err()
        );
    }

    // With each Redis user.
    let (redis_a, redis_b) = (redis(&urls_a.redis).await, redis(&urls_b.redis).await);
    let admin = redis(platform.demo("redisUrl")).await;
    let key_of = async |app: &App| {
        let pattern = format!("*{}*", app.id.trim_start_matches("app_"));
        let (_, keys): (String, Vec<String>) = admin
            .scan_page("0", pattern, Some(10_000), None::<fred::types::scan::ScanType>)
            .await
            .map_err(|error| error.to_string())?;
        keys.into_iter()
            .find(|key| key.contains("session:"))
            .ok_or_else(|| "no session key yet".to_owned())
    };
    let within = Duration::from_secs(10);
    let key_a = wait_for("a session of A in Redis", within, async || key_of(&a).await)
        .await
        .unwrap();
    let key_b = wait_for("a session of B in Redis", within, async || key_of(&b).await)
        .await
        .unwrap();
    for (own, key, foreign) in [(&redis_a, &key_a, &key_b), (&redis_b, &key_b, &key_a)] {
        assert!(own.get::<Option<String>, _>(key).await.unwrap().is_some(), "its own");
        for refused in [
            own.get::<Option<String>, _>(foreign).await.map(|_| ()),
            own.set::<(), _, _>(foreign, "x", None, None, false).await,
            own.del::<(), _>(foreign).await,
            own.scan_page::<fred::types::Value, _, _>("0", "*", None, None)
                .await
                .map(|_| ()),
            own.flushall::<()>(false).await,
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(
                error.contains("NOPERM") || error.to_lowercase().contains("permission"),
                "{error}"
            );
        }
    }
    for client in [redis_a, redis_b, admin] {
        let _ = client.quit().await;
    }
}
