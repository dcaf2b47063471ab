//! Host names of applications: claimed by anybody, given to whoever proves them.

use std::time::Duration;

use authsome_control::tasks::host_checks::HostChecks;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::name_server::NameServer;
use crate::service::{Answer, PASSWORD, Person, Service};

const HOST: &str = "login.shop.example";
const RECORD: &str = "_authsome-challenge.login.shop.example";

struct World {
    service: Service,
    names: NameServer,
    ada: Person,
    workspace: String,
    app: String,
}

impl World {
    async fn new() -> Self {
        let names = NameServer::start().await;
        let service = Service::asking(names.address).await;
        let (ada, workspace, app) = service.shop("pro").await;
        Self {
            service,
            names,
            ada,
            workspace,
            app,
        }
    }

    async fn add(&self, app: &str, host: &str) -> Answer {
        let path = format!("/api/v1/applications/{app}/hosts");
        self.service.post(&path, &self.ada, json!({ "host": host })).await
    }

    async fn verify(&self, app: &str, host: &str) -> Answer {
        let path = format!("/api/v1/applications/{app}/hosts/{host}/verify");
        self.service
            .call(Method::POST, &path, Some(&self.ada.token), None)
            .await
    }

    async fn list(&self, app: &str) -> Value {
        let path = format!("/api/v1/applications/{app}/hosts");
        self.service.get(&path, &self.ada).await.json
    }

    /// What edges are told.
    async fn leads_to(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT application_id FROM edge_hosts WHERE host = $1")
            .bind(HOST)
            .fetch_all(&self.service.pool)
            .await
            .unwrap()
    }

    async fn audited(&self) -> Vec<(String, Option<String>)> {
        sqlx::query_as(
            "SELECT action, application_id FROM audit_events WHERE action LIKE 'host.%' ORDER BY created_at, id",
        )
        .fetch_all(&self.service.pool)
        .await
        .unwrap()
    }
}

fn value(answer: &Answer) -> String {
    answer.json["record"]["value"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_name_leads_to_its_application_once_its_record_is_published_and_no_longer_when_it_is_given_back() {
    let world = World::new().await;
    let claimed = world.add(&world.app, "Login.Shop.Example.").await;
    assert_eq!(claimed.status, StatusCode::CREATED, "{}", claimed.text);
    assert_eq!(claimed.json["host"], HOST);
    assert_eq!(claimed.json["status"], "pending");
    assert_eq!(claimed.json["record"]["name"], RECORD);
    assert_eq!(world.leads_to().await, Vec::<String>::new());

    // Nothing published, something else published, the record published.
    world.verify(&world.app, HOST).await.assert_error(409, "conflict");
    world.names.texts(RECORD, &["authsome-host-verification=another"]);
    let refused = world.verify(&world.app, HOST).await;
    refused.assert_error(409, "conflict");
    assert_eq!(refused.json["error"]["reason"], "not_verified");
    assert_eq!(refused.json["error"]["details"]["expected"], value(&claimed));
    assert_eq!(world.leads_to().await, Vec::<String>::new());
    world.names.texts(RECORD, &["v=spf1 -all", &value(&claimed)]);
    let before = world
        .service
        .count("SELECT count(*) FROM outbox WHERE topic = 'host'")
        .await;
    let verified = world.verify(&world.app, HOST).await;
    assert_eq!(verified.status, StatusCode::OK, "{}", verified.text);
    assert_eq!(verified.json["status"], "verified");
    assert_eq!(world.leads_to().await, std::slice::from_ref(&world.app));
    assert_eq!(
        world
            .service
            .count("SELECT count(*) FROM outbox WHERE topic = 'host'")
            .await,
        before + 1
    );

    // Claiming and verifying again changes nothing.
    let again = world.add(&world.app, HOST).await;
    assert_eq!((again.status, value(&again)), (StatusCode::OK, value(&claimed)));
    assert_eq!(world.verify(&world.app, HOST).await.status, StatusCode::OK);
    let list = world.list(&world.app).await;
    assert_eq!(
        (&list["total"], &list["data"][0]["status"]),
        (&json!(1), &json!("verified"))
    );

    let path = format!("/api/v1/applications/{}/hosts/LOGIN.shop.example", world.app);
    assert_eq!(
        world.service.delete(&path, &world.ada).await.status,
        StatusCode::NO_CONTENT
    );
    world
        .service
        .delete(&path, &world.ada)
        .await
        .assert_error(404, "not_found");
    assert_eq!(world.leads_to().await, Vec::<String>::new());
    let actions: Vec<String> = world.audited().await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["host.claim", "host.verify", "host.remove"]);
}

#[tokio::test]
async fn a_claim_blocks_nobody_and_a_name_goes_to_whoever_controls_it_now() {
    let world = World::new().await;
    let squatter = world.service.person("eve@example.com").await;
    let theirs = world.service.workspace(&squatter, "free").await;
    let other = world
        .service
        .application(&squatter, &theirs, "other")
        .await
        .string("id");
    let add = |body: Value| {
        let path = format!("/api/v1/applications/{other}/hosts");
        let (service, squatter) = (&world.service, &squatter);
        async move { service.post(&path, squatter, body).await }
    };
    let verify_theirs = async || {
        let path = format!("/api/v1/applications/{other}/hosts/{HOST}/verify");
        world
            .service
            .call(Method::POST, &path, Some(&squatter.token), None)
            .await
    };
    let their_claim = add(json!({ "host": HOST })).await;
    let our_claim = world.add(&world.app, HOST).await;
    assert_eq!(our_claim.status, StatusCode::CREATED, "{}", our_claim.text);
    assert_ne!(
        value(&their_claim),
        value(&our_claim),
        "a challenge belongs to one application"
    );

    world.names.texts(RECORD, &[&value(&our_claim)]);
    assert_eq!(world.verify(&world.app, HOST).await.status, StatusCode::OK);
    verify_theirs().await.assert_error(409, "conflict");

    // Both published: who has it keeps it.
    world.names.texts(RECORD, &[&value(&our_claim), &value(&their_claim)]);
    let refused = verify_theirs().await;
    assert_eq!(
        (refused.status, &refused.json["error"]["reason"]),
        (StatusCode::CONFLICT, &json!("taken"))
    );
    assert_eq!(world.leads_to().await, std::slice::from_ref(&world.app));

    // The domain changed hands.
    world.names.texts(RECORD, &[&value(&their_claim)]);
    assert_eq!(verify_theirs().await.status, StatusCode::OK);
    assert_eq!(world.leads_to().await, std::slice::from_ref(&other));
    let lost = world.list(&world.app).await;
    assert_eq!(lost["data"][0]["status"], "pending");
    assert_eq!(lost["data"][0]["record"]["value"], value(&our_claim));
    assert!(
        world
            .audited()
            .await
            .contains(&("host.lose".to_owned(), Some(world.app.clone())))
    );
    // A member of one workspace sees nothing of the other.
    let path = format!("/api/v1/applications/{other}/hosts");
    world
        .service
        .get(&path, &world.ada)
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn name_servers_that_fail_prove_nothing_and_disprove_nothing() {
    let world = World::new().await;
    let claimed = world.add(&world.app, HOST).await;
    world.names.texts(RECORD, &[&value(&claimed)]);
    world.names.fail(true);
    let answer = world.verify(&world.app, HOST).await;
    answer.assert_error(503, "service_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    world.names.fail(false);
    assert_eq!(world.verify(&world.app, HOST).await.status, StatusCode::OK);
    world.names.fail(true);
    assert_eq!(
        world.verify(&world.app, HOST).await.status,
        StatusCode::OK,
        "a proof stands"
    );
}

#[tokio::test]
async fn what_is_no_host_name_of_a_customer_is_refused() {
    let world = World::new().await;
    for bad in [
        "",
        "localhost",
        "10.0.0.1",
        "[::1]",
        "https://shop.example",
        "shop.example:443",
        "shop.example/path",
        "a b.example",
        "*.shop.example",
        "-a.example",
        "a.edge.test",
        "edge.test",
        "dashboard.test",
        "app.apps.test",
        &format!("{}.example", "a".repeat(64)),
    ] {
        let answer = world.add(&world.app, bad).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field("host").is_empty(), "{bad:?}: {}", answer.text);
    }
    let body = json!({ "host": HOST, "verified": true });
    let path = format!("/api/v1/applications/{}/hosts", world.app);
    world
        .service
        .post(&path, &world.ada, body)
        .await
        .assert_error(400, "invalid_request");
    let international = world.add(&world.app, "bücher.example").await;
    assert_eq!(international.json["host"], "xn--bcher-kva.example");
    assert_eq!(world.service.count("SELECT count(*) FROM host_claims").await, 1);
}

#[tokio::test]
async fn an_application_has_a_bounded_number_of_names_and_gets_none_on_its_way_out() {
    let world = World::new().await;
    sqlx::query(
        "INSERT INTO host_claims (application_id, host, challenge)
         SELECT $1, 'h' || n || '.example', repeat('x', 32) FROM generate_series(1, 100) AS n",
    )
    .bind(&world.app)
    .execute(&world.service.pool)
    .await
    .unwrap();
    let refused = world.add(&world.app, HOST).await;
    refused.assert_error(403, "forbidden");
    assert_eq!(refused.json["error"]["reason"], "host_limit");
    let second = world
        .service
        .application(&world.ada, &world.workspace, "two")
        .await
        .string("id");
    assert_eq!(world.add(&second, HOST).await.status, StatusCode::CREATED);
    sqlx::query("UPDATE applications SET status = 'deleting', deleted_at = now() WHERE id = $1")
        .bind(&second)
        .execute(&world.service.pool)
        .await
        .unwrap();
    world.add(&second, "b.example").await.assert_error(409, "conflict");
    sqlx::query("UPDATE applications SET status = 'deleted' WHERE id = $1")
        .bind(&second)
        .execute(&world.service.pool)
        .await
        .unwrap();
    assert_eq!(world.service.count("SELECT count(*) FROM host_claims").await, 100);
}

#[tokio::test]
async fn a_name_whose_record_is_gone_for_a_week_stops_and_its_team_is_told_before() {
    let world = World::new().await;
    let checks = HostChecks {
        app: world.service.app.clone(),
    };
    let claimed = world.add(&world.app, HOST).await;
    world.names.texts(RECORD, &[&value(&claimed)]);
    assert_eq!(world.verify(&world.app, HOST).await.status, StatusCode::OK);
    let letters = async || -> Vec<(String, bool)> {
        sqlx::query_as(
            "SELECT recipient, (params ->> 'lost')::boolean FROM mails WHERE kind = 'host_record' ORDER BY created_at",
        )
        .fetch_all(&world.service.pool)
        .await
        .unwrap()
    };
    // Her token ends long before all this does.
    let signed_in = async || Person {
        id: world.ada.id.clone(),
        token: world.service.login("ada@example.com", PASSWORD).await.string("token"),
    };
    let listed = async || {
        let path = format!("/api/v1/applications/{}/hosts", world.app);
        world.service.get(&path, &signed_in().await).await.json["data"][0].clone()
    };
    let day = Duration::from_hours(24);
    let pass = async |time: Duration| {
        world.service.clock.advance(time);
        checks.look().await.unwrap()
    };
    assert_eq!(pass(Duration::from_hours(1)).await, 0, "not before a day");
    assert_eq!(pass(day).await, 1);
    assert_eq!(letters().await, []);

    // Silence proves nothing, however long.
    world.names.fail(true);
    for _ in 0..20 {
        pass(day).await;
    }
    assert_eq!(world.leads_to().await, std::slice::from_ref(&world.app));
    assert_eq!(letters().await, []);
    world.names.fail(false);
    pass(day).await;

    // The record goes, and comes back in time.
    world.names.texts(RECORD, &["something else"]);
    pass(day).await;
    assert_eq!(letters().await, [("ada@example.com".to_owned(), false)]);
    let shown = listed().await;
    assert_eq!(shown["status"], "verified");
    assert!(
        shown["recordMissingSince"].is_string() && shown["stopsAt"].is_string(),
        "{shown}"
    );
    for _ in 0..6 {
        pass(day).await;
    }
    assert_eq!(world.leads_to().await, std::slice::from_ref(&world.app));
    assert_eq!(letters().await.len(), 1, "told once");
    world.names.texts(RECORD, &[&value(&claimed)]);
    pass(Duration::from_hours(7)).await;
    assert!(listed().await.get("stopsAt").is_none());

    // It goes for good.
    world.names.texts(RECORD, &[]);
    pass(day).await;
    pass(day * 7).await;
    assert_eq!(world.leads_to().await, [] as [String; 0]);
    assert_eq!(letters().await.iter().filter(|letter| letter.1).count(), 1);
    let shown = listed().await;
    assert_eq!(shown["status"], "pending");
    assert_eq!(shown["record"]["value"], value(&claimed));
    assert!(world.audited().await.iter().any(|event| event.0 == "host.lose"));
    assert_eq!(pass(day).await, 0, "nothing is left to look at");
    // The same record brings it back.
    world.names.texts(RECORD, &[&value(&claimed)]);
    let path = format!("/api/v1/applications/{}/hosts/{HOST}/verify", world.app);
    let verified = world.service.post(&path, &signed_in().await, json!({})).await;
    assert_eq!(verified.status, StatusCode::OK, "{}", verified.text);
    assert_eq!(world.leads_to().await, std::slice::from_ref(&world.app));
}
