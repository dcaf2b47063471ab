//! Secrets of an application: written, and never seen again.

use std::sync::{Arc, Mutex};

use authsome_contract::model::application_secret;
use authsome_core::seal::PlatformRing;
use authsome_core::secret::ExposeSecret;
use http::StatusCode;
use serde_json::{Value, json};

use crate::service::{Answer, Person, RING, Service};

/// Long enough for its end to be shown.
const SECRET: &str = "re_hunter2_0123456789abcdefWXYZ";

struct World {
    service: Service,
    ada: Person,
    workspace: String,
    app: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let (ada, workspace, app) = service.shop("free").await;
        let world = Self {
            service,
            ada,
            workspace,
            app,
        };
        world.is("active").await;
        world
    }

    fn path(&self, name: &str) -> String {
        format!("/api/v1/applications/{}/secrets/{name}", self.app)
    }

    async fn set(&self, name: &str, value: &str) -> Answer {
        self.service
            .put(&self.path(name), &self.ada, json!({ "value": value }))
            .await
    }

    async fn list(&self) -> Answer {
        let path = format!("/api/v1/applications/{}/secrets?pageSize=100", self.app);
        self.service.get(&path, &self.ada).await
    }

    /// As if the provisioner had done it.
    async fn is(&self, status: &str) {
        for statement in [
            "UPDATE operations SET status = 'succeeded', finished_at = now()
             WHERE status IN ('queued', 'running') AND application_id = $1 AND $2 <> ''",
            "UPDATE applications SET activated_at = now(), status = $2, status_deadline = NULL,
                    deleted_at = CASE WHEN $2 = 'deleting' THEN now() END WHERE id = $1",
        ] {
            sqlx::query(statement)
                .bind(&self.app)
                .bind(status)
                .execute(&self.service.pool)
                .await
                .unwrap();
        }
    }

    /// Every row of every table as text, and as the hexadecimal digits of bytes.
    async fn everything_stored(&self) -> String {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT quote_ident(table_name) FROM information_schema.tables
             WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
        )
        .fetch_all(&self.service.pool)
        .await
        .unwrap();
        assert!(tables.contains(&"application_secrets".to_owned()) && tables.contains(&"outbox".to_owned()));
        let mut all = String::new();
        for table in tables {
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t")))
                .fetch_all(&self.service.pool)
                .await
                .unwrap();
            all.extend(rows);
        }
        all
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hex(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[tokio::test]
async fn a_secret_is_in_no_answer_no_log_and_no_column() {
    let world = World::new().await;
    authsome_testkit::ask_every_subscriber();
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let set = world.set("MAILER_RESEND_API_KEY", SECRET).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    assert_eq!(
        (set.string("name").as_str(), set.string("lastFour").as_str()),
        ("MAILER_RESEND_API_KEY", "WXYZ")
    );
    let mut said = vec![set.text.clone()];
    // Refusals do not repeat it either, whatever is wrong.
    for (name, body) in [
        ("MAILER_RESEND_API_KEY", json!({ "value": SECRET, "more": 1 })),
        ("MAILER_RESEND_API_KEY", json!({ "value": [SECRET] })),
        ("MAILER_RESEND_API_KEY", json!({ "value": { SECRET: 1 } })),
        ("MAILER_RESEND_API_KEY", json!([SECRET])),
        ("MAILER_RESEND_API_KEY", json!(SECRET)),
        ("MAILER_RESEND_API_KEY", json!({ "value": format!("{SECRET}\0") })),
        ("MAILER_RESEND_API_KEY", json!({ "value": SECRET.repeat(300) })),
        ("DATABASE_URL", json!({ "value": SECRET })),
    ] {
        let refused = world.service.put(&world.path(name), &world.ada, body).await;
        refused.assert_error(400, "invalid_request");
        said.push(refused.text);
    }
    for path in [
        format!("/api/v1/applications/{}", world.app),
        format!("/api/v1/applications/{}/secrets", world.app),
        format!("/api/v1/applications/{}/operations", world.app),
        format!("/api/v1/workspaces/{}/applications", world.workspace),
        format!("/api/v1/workspaces/{}/audit", world.workspace),
        format!("/api/v1/workspaces/{}/audit/export", world.workspace),
    ] {
        let answer = world.service.get(&path, &world.ada).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        said.push(answer.text);
    }
    let removed = world
        .service
        .delete(&world.path("MAILER_RESEND_API_KEY"), &world.ada)
        .await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text);
    world.set("MAILER_RESEND_API_KEY", SECRET).await;
    drop(guard);

    let stored = world.everything_stored().await;
    let logged = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(
        logged.contains("INSERT INTO application_secrets"),
        "the log was looked at"
    );
    for text in said.iter().chain([&stored, &logged]) {
        assert!(!text.contains("hunter2") && !text.contains(&hex("hunter2")), "{text}");
    }
    // And yet it is there, for whoever has the key.
    let mut connection = world.service.pool.acquire().await.unwrap();
    let id = world.app.parse().unwrap();
    let row = authsome_db::application_secret::sealed(&mut connection, id)
        .await
        .unwrap()
        .remove(0);
    let ring = PlatformRing::parse(RING).unwrap();
    let opened = application_secret::open(&ring, id, &row.name, &row.sealed).unwrap();
    assert_eq!(opened.expose_secret(), SECRET);
}

#[tokio::test]
async fn each_change_is_rolled_out_and_audited_by_name() {
    let world = World::new().await;
    for (number, value) in [(2_i64, "short"), (3, "short"), (4, SECRET)] {
        let set = world.set("MAILER_SMTP_PASSWORD", value).await;
        let begun: (String, i64) = sqlx::query_as("SELECT kind, generation FROM operations WHERE id = $1")
            .bind(set.string("operationId"))
            .fetch_one(&world.service.pool)
            .await
            .unwrap();
        assert_eq!(begun, ("update".to_owned(), number));
        let shown = if value == SECRET { json!("WXYZ") } else { Value::Null };
        assert_eq!(world.list().await.json["data"][0]["lastFour"], shown);
        world.is("active").await;
    }
    world.set("CUSTOM_A", "x").await;
    world.is("active").await;
    let names: Vec<Value> = world.list().await.json["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| secret["name"].clone())
        .collect();
    assert_eq!(names, ["CUSTOM_A", "MAILER_SMTP_PASSWORD"]);
    let removed = world.service.delete(&world.path("CUSTOM_A"), &world.ada).await;
    assert!(removed.json["operationId"].is_string());
    world
        .service
        .delete(&world.path("CUSTOM_A"), &world.ada)
        .await
        .assert_error(404, "not_found");
    world
        .service
        .delete(&world.path("PATH"), &world.ada)
        .await
        .assert_error(404, "not_found");

    let audit = format!("/api/v1/workspaces/{}/audit?action=secret.set", world.workspace);
    let audited = world.service.get(&audit, &world.ada).await;
    let events = audited.json["data"].as_array().unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!(events[0]["changes"]["name"], "CUSTOM_A");
    assert_eq!(events[0]["changes"]["value"], "redacted");
    assert_eq!(events[0]["resourceId"], world.app.as_str());
    let removed: i64 = world
        .service
        .count("SELECT count(*) FROM audit_events WHERE action = 'secret.remove'")
        .await;
    assert_eq!(removed, 1);

    // What is stopped gets it when it starts; what is being deleted gets nothing.
    world.is("suspended").await;
    assert_eq!(world.set("CUSTOM_B", "x").await.json["operationId"], Value::Null);
    world.is("deleting").await;
    world.set("CUSTOM_C", "x").await.assert_error(409, "conflict");
    world
        .service
        .delete(&world.path("CUSTOM_B"), &world.ada)
        .await
        .assert_error(409, "conflict");
}

#[tokio::test]
async fn names_sizes_and_numbers_have_their_bounds() {
    let world = World::new().await;
    for name in ["DATABASE_URL", "PORT", "LD_PRELOAD", "custom_x", "CUSTOM_", "CUSTOM_x"] {
        let refused = world.set(name, "x").await;
        refused.assert_error(400, "invalid_request");
        assert!(refused.field("secretName").contains("CUSTOM_"), "{}", refused.text);
    }
    for value in ["", "a\0b", &"x".repeat(8 * 1024 + 1)] {
        let refused = world.set("CUSTOM_A", value).await;
        refused.assert_error(400, "invalid_request");
        assert!(!refused.field("value").is_empty());
    }
    assert_eq!(
        world.set("CUSTOM_A", &"x".repeat(8 * 1024)).await.status,
        StatusCode::OK
    );
    for number in 1..64 {
        assert_eq!(world.set(&format!("CUSTOM_{number}"), "x").await.status, StatusCode::OK);
    }
    let full = world.set("CUSTOM_ONE_MORE", "x").await;
    full.assert_error(403, "forbidden");
    assert_eq!(full.json["error"]["reason"], "secret_limit");
    assert_eq!(
        world.set("CUSTOM_1", "y").await.status,
        StatusCode::OK,
        "a change is no new one"
    );
    assert_eq!(world.list().await.json["total"], 64);
}

#[tokio::test]
async fn a_viewer_sees_not_even_names_and_a_token_needs_its_scope() {
    let world = World::new().await;
    world.set("CUSTOM_A", "x").await;
    let viewer = world.service.person("viewer@example.com").await;
    world.service.join(&world.workspace, &viewer, "viewer").await;
    let list = format!("/api/v1/applications/{}/secrets", world.app);
    world.service.get(&list, &viewer).await.assert_error(403, "forbidden");
    let token = world
        .service
        .post(
            &format!("/api/v1/workspaces/{}/tokens", world.workspace),
            &world.ada,
            json!({ "name": "CI", "scopes": ["secrets:write"] }),
        )
        .await;
    let program = Person {
        id: String::new(),
        token: token.string("secret"),
    };
    let set = world
        .service
        .put(&world.path("CUSTOM_A"), &program, json!({ "value": "y" }))
        .await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    world.service.get(&list, &program).await.assert_error(403, "forbidden");
}
