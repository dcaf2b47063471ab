//! Logs of instances, asked of whoever has them over a real NATS server.

use std::time::Duration;

use authsome_contract::wire::{LogEntry, LogLevel, LogPage, LogRefusal, LogReply, LogRequest, names};
use authsome_control::instance_logs::InstanceLogs;
use authsome_control::tasks::connect;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use futures::StreamExt;
use http::StatusCode;
use serde_json::{Map, Value, json};
use time::macros::datetime;
use tokio::sync::mpsc;

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    nats: NatsServer,
    ada: Person,
    app: String,
}

impl World {
    async fn new() -> Self {
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let client = connect::nats(&SecretUrl::parse(&nats.url()).unwrap(), "test")
            .await
            .unwrap();
        let service = Service::reaching(InstanceLogs::new(Some(client.clone())), None).await;
        let (ada, _, app) = service.shop("free").await;
        wait_for("the connection", Duration::from_secs(20), async || {
            client.flush().await.map_err(|error| error.to_string())
        })
        .await
        .unwrap();
        Self {
            service,
            nats,
            ada,
            app,
        }
    }

    async fn ask(&self, query: &str) -> Answer {
        let path = format!("/api/v1/applications/{}/logs{query}", self.app);
        self.service.get(&path, &self.ada).await
    }

    /// Somebody in the application's region who answers every question like this, or not at all.
    async fn answering(&self, reply: Option<LogReply>) -> mpsc::Receiver<LogRequest> {
        let (seen, asked) = mpsc::channel(64);
        answer(&self.nats, "eu-west-1", reply, seen).await;
        asked
    }
}

/// Answers every question for logs in this region like this, or not at all, as long as somebody wants to see the questions.
pub(crate) async fn answer(nats: &NatsServer, region: &str, reply: Option<LogReply>, seen: mpsc::Sender<LogRequest>) {
    let client = nats.connect().await.unwrap();
    let subject = names::instance_logs(region);
    let mut questions = client
        .queue_subscribe(subject, names::INSTANCE_LOGS_GROUP.to_owned())
        .await
        .unwrap();
    // What comes back was sent behind the subscription, which the server therefore knows.
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    echo.next().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            if let Some(reply) = &reply {
                let payload = serde_json::to_vec(reply).unwrap();
                client.publish(question.reply.unwrap(), payload.into()).await.unwrap();
            }
            let request = serde_json::from_slice(&question.payload).unwrap();
            if seen.send(request).await.is_err() {
                return;
            }
        }
    });
}

pub(crate) fn page() -> LogPage {
    LogPage {
        entries: vec![
            LogEntry {
                timestamp: Some(datetime!(2026-01-31 12:00 UTC)),
                level: Some(LogLevel::Warn),
                message: "slow".to_owned(),
                fields: Map::from_iter([("ms".to_owned(), json!(900))]),
            },
            LogEntry {
                timestamp: None,
                level: None,
                message: "plain".to_owned(),
                fields: Map::new(),
            },
        ],
        cursor: "next".to_owned(),
        has_more: true,
    }
}

#[tokio::test]
async fn lines_are_asked_of_the_applications_region_and_told_as_they_are() {
    let world = World::new().await;
    let mut asked = world.answering(Some(LogReply::Page(page()))).await;
    let answer = world.ask("").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(
        answer.json,
        json!({ "logs": [
            { "timestamp": "2026-01-31T12:00:00Z", "level": "warn", "message": "slow", "fields": { "ms": 900 } },
            { "timestamp": null, "level": null, "message": "plain", "fields": {} },
        ], "nextCursor": "next", "hasMore": true })
    );
    let request = asked.recv().await.unwrap();
    assert_eq!(
        (request.application_id.to_string(), request.limit),
        (world.app.clone(), 100)
    );
    assert_eq!((request.since, request.level, request.cursor), (None, None, None));

    world
        .ask("?tail=7&level=error&since=2026-01-31T11:00:00Z&cursor=next")
        .await;
    let request = asked.recv().await.unwrap();
    assert_eq!(
        (request.limit, request.level, request.since, request.cursor.as_deref()),
        (
            7,
            Some(LogLevel::Error),
            Some(datetime!(2026-01-31 11:00 UTC)),
            Some("next")
        )
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_its_field() {
    let world = World::new().await;
    for (query, field) in [
        ("?tail=0", "tail"),
        ("?tail=1001", "tail"),
        ("?since=yesterday", "since"),
        ("?level=loud", "level"),
        ("?cursor=", "cursor"),
    ] {
        let refused = world.ask(query).await;
        refused.assert_error(400, "invalid_request");
        assert!(!refused.field(field).is_empty(), "{query}: {}", refused.text);
    }
    world.ask("?follow=true").await.assert_error(400, "invalid_request");
    let _asked = world.answering(Some(LogReply::Refused(LogRefusal::Cursor))).await;
    let refused = world.ask("?cursor=none-of-ours").await;
    refused.assert_error(400, "invalid_request");
    assert!(!refused.field("cursor").is_empty());
}

#[tokio::test]
async fn without_anybody_who_answers_logs_are_503_or_504_and_the_api_goes_on() {
    let mut world = World::new().await;
    let unavailable = |answer: &Answer| {
        answer.assert_error(503, "service_unavailable");
        assert_eq!(answer.json["error"]["reason"], "logs_unavailable");
        assert!(answer.headers.contains_key("retry-after"));
    };
    // No provisioner at all: told at once.
    unavailable(&world.ask("").await);
    // One that cannot read them now.
    let asked = world.answering(Some(LogReply::Refused(LogRefusal::Unavailable))).await;
    unavailable(&world.ask("").await);
    drop(asked);
    // Its last question ends it.
    world.ask("").await;

    // One that hangs.
    let _hanging = world.answering(None).await;
    let late = wait_for("the other one to be gone", Duration::from_mins(1), async || {
        let answer = world.ask("").await;
        if answer.status == StatusCode::GATEWAY_TIMEOUT {
            Ok(answer)
        } else {
            Err(answer.status)
        }
    })
    .await
    .unwrap();
    late.assert_error(504, "gateway_timeout");
    assert_eq!(late.json["error"]["reason"], "logs_timeout");

    world.nats.kill().await.unwrap();
    wait_for("the loss of NATS to be noticed", Duration::from_mins(1), async || {
        let answer = world.ask("").await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            Ok(())
        } else {
            Err(answer.status)
        }
    })
    .await
    .unwrap();
    let path = format!("/api/v1/applications/{}", world.app);
    assert_eq!(
        world.service.get(&path, &world.ada).await.json["id"],
        Value::from(world.app.clone())
    );
}

#[tokio::test]
async fn only_who_builds_applications_reads_their_logs() {
    let world = World::new().await;
    let mut asked = world.answering(Some(LogReply::Page(page()))).await;
    let workspace: String = sqlx::query_scalar("SELECT workspace_id FROM applications")
        .fetch_one(&world.service.pool)
        .await
        .unwrap();
    let path = format!("/api/v1/applications/{}/logs", world.app);
    for (role, status) in [("viewer", 403), ("billing", 403), ("developer", 200), ("admin", 200)] {
        let person = world.service.person(&format!("{role}@example.com")).await;
        world.service.join(&workspace, &person, role).await;
        assert_eq!(world.service.get(&path, &person).await.status, status, "{role}");
    }
    let stranger = world.service.person("stranger@example.com").await;
    world.service.get(&path, &stranger).await.assert_error(404, "not_found");
    asked.recv().await.unwrap();
    asked.recv().await.unwrap();
    assert!(asked.try_recv().is_err(), "nobody else's question left the API");
}
