//! The relay's leader killed in the middle of a batch, and one that was frozen and comes back, while changes and requests
//! go on: nothing is lost, reordered or overwritten, neither in the stream nor at an edge.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::OrderedConfig;
use authsome_contract::model::Version;
use authsome_contract::wire::{Change, names};
use authsome_core::key::Digest;
use authsome_testkit::wait_for;
use futures::StreamExt;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::edge_programs::ControlProcess;
use crate::edge_world::{DATABASE, EdgeWorld, SOON, USERS};
use crate::load::Load;

/// Keys that change all the time.
const KEYS: usize = 30;
/// Changes that are committed before and after each fault.
const SOME: u64 = 40;
/// For a revocation without any relay.
const BY_POSTGRES: Duration = Duration::from_secs(3);

/// Somebody who switches keys off and on, many in one transaction, without end.
struct Switching {
    stop: watch::Sender<bool>,
    committed: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Switching {
    async fn start(world: &EdgeWorld, keys: &[(String, String)]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (commit, committed) = watch::channel(0);
        let ids: Vec<String> = keys.iter().map(|(id, _)| id.clone()).collect();
        let mut database = PgConnection::connect_with(&world.postgres.options(DATABASE))
            .await
            .unwrap();
        let task = tokio::spawn(async move {
            let mut round = 0;
            while !*stopped.borrow() {
                round += 1;
                // A third of them, another third each time, so that they end up differently.
                let some: Vec<&String> = ids.iter().skip(round % 3).step_by(3 + round % 2).collect();
                sqlx::query("UPDATE api_keys SET enabled = NOT enabled WHERE id = ANY ($1)")
                    .bind(some)
                    .execute(&mut database)
                    .await
                    .unwrap();
                commit.send_modify(|n| *n += 1);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, committed, task }
    }

    /// Until so many more changes are committed.
    async fn more(&self, changes: u64) {
        let mut committed = self.committed.clone();
        let enough = *committed.borrow() + changes;
        tokio::time::timeout(SOON, committed.wait_for(|n| *n >= enough))
            .await
            .unwrap()
            .unwrap();
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// Reads the feed beside the edges and fails when a version goes back. As they do it asks the stream: whoever listens to the
/// subjects alone also hears what a deposed leader sends and the stream refuses.
async fn watching(world: &EdgeWorld) -> JoinHandle<()> {
    let client = world.nats.connect().await.unwrap();
    let follow = OrderedConfig {
        deliver_subject: client.new_inbox(),
        filter_subject: "edge.key.>".to_owned(),
        deliver_policy: DeliverPolicy::New,
        ..OrderedConfig::default()
    };
    let stream = async_nats_stream(&client).await;
    let mut messages = stream.create_consumer(follow).await.unwrap().messages().await.unwrap();
    tokio::spawn(async move {
        let mut newest: HashMap<String, Version> = HashMap::new();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            let version = Change::decode(&message.subject, &message.payload)
                .unwrap()
                .version()
                .unwrap();
            let before = newest.entry(message.subject.to_string()).or_insert(version);
            assert!(version >= *before, "{}: {version} after {before}", message.subject);
            *before = version;
        }
    })
}

async fn until_leads(control: &ControlProcess) {
    wait_for("the lead", SOON, async || control.leads().await.then_some(()))
        .await
        .unwrap();
}

/// Every edge decides about every key as its row says, and so does the copy in the stream.
async fn all_is_as_committed(world: &EdgeWorld, keys: &[(String, String)]) {
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    let client = world.nats.connect().await.unwrap();
    let stream = async_nats_stream(&client).await;
    for (id, key) in keys {
        let (enabled, version): (bool, i64) = sqlx::query_as("SELECT enabled, version FROM api_keys WHERE id = $1")
            .bind(id)
            .fetch_one(&mut world.database().await)
            .await
            .unwrap();
        for edge in [0, 1] {
            let status = world.ask(edge, USERS, key).await.status();
            assert_eq!(
                status,
                if enabled { 200 } else { 401 },
                "edge {edge}, version {version}"
            );
        }
        let subject = names::edge_key(&Digest::of(key.as_bytes()));
        let message = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
        let change = Change::decode(&subject, &message.payload).unwrap();
        assert_eq!(change.version().unwrap().row, version.unsigned_abs());
    }
}

async fn async_nats_stream(client: &async_nats::Client) -> async_nats::jetstream::stream::Stream {
    async_nats::jetstream::new(client.clone())
        .get_stream(names::EDGE_STREAM)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_leader_killed_in_a_batch_and_one_that_was_frozen_lose_reorder_and_overwrite_nothing() {
    let mut world = EdgeWorld::start().await;
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        keys.push(world.secret_key().await);
    }
    let (_, steady) = world.secret_key().await;
    until_leads(&world.control).await;
    let second = world.another_control().await;
    let feed = watching(&world).await;
    let load = Load::on(&world, &[0, 1], &steady).await;
    let switching = Switching::start(&world, &keys).await;

    switching.more(SOME).await;
    world.control.program.kill().await.unwrap();
    until_leads(&second).await;
    switching.more(SOME).await;
    world.control.program.restart().await.unwrap();
    switching.more(SOME).await;

    // The server ends the session of a leader that is frozen for ten seconds.
    second.program.child().pause().unwrap();
    until_leads(&world.control).await;
    switching.more(SOME).await;
    second.program.child().resume().unwrap();
    wait_for("the ex-leader to know", SOON, async || {
        (!second.leads().await).then_some(())
    })
    .await
    .unwrap();
    switching.more(SOME).await;
    assert!(
        world.control.leads().await,
        "it was not deposed by the one that came back"
    );
    switching.end().await;

    all_is_as_committed(&world, &keys).await;
    assert!(!feed.is_finished(), "{:?}", feed.await);
    feed.abort();
    load.had_no_failure();
}

#[tokio::test]
async fn a_revocation_that_is_committed_as_the_relay_dies_reaches_every_edge_through_postgres() {
    let mut world = EdgeWorld::start().await;
    let (_, steady) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &steady).await;
    let revoke = "UPDATE api_keys SET revoked_at = now() WHERE id = $2 AND application_id = $1";
    // Just before the end, when the change may have got a position and no message or none of both; and just after it.
    for commit_first in [true, false, true] {
        let (id, key) = world.secret_key().await;
        for edge in [0, 1] {
            world.until(edge, USERS, &key, 200).await;
        }
        world.until_edges(&["edge-1=live", "edge-2=live"]).await;
        if commit_first {
            world.change(revoke, &id).await;
            world.control.program.kill().await.unwrap();
        } else {
            world.control.program.kill().await.unwrap();
            world.change(revoke, &id).await;
        }
        world.refused_everywhere_within(BY_POSTGRES, &key).await;
        world.control.program.restart().await.unwrap();
    }
    load.had_no_failure();
}
