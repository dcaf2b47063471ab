//! Host names lead to applications by the same ways as keys: memory, Redis, Postgres, the stream, the snapshot, and polls.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{HostRecord, Version};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::clock::{Clock, SystemClock};
use authsome_proxy::routing::{HostEntry, LoadedFrom, Lookup, RoutingSettings, SnapshotSettings};
use authsome_testkit::{Mode, wait_for};

use crate::db::NewApp;
use crate::routing_fixture::{Copy, Edge, Platform, Relay, SOON, app_change, lonely_edge, next};

const HOST: &str = "login.shop.example";

fn quick() -> RoutingSettings {
    RoutingSettings {
        poll_every: Duration::from_millis(200),
        negative_ttl: Duration::from_millis(300),
        ..RoutingSettings::default()
    }
}

fn look(edge: &Edge, host: &str) -> Lookup<Arc<HostEntry>> {
    edge.routing.host(host, SystemClock.unix_millis())
}

/// What the sources say of a host. A busy machine may not answer within the deadline of one question.
async fn answered(edge: &Edge, host: &str) -> Option<Arc<HostEntry>> {
    wait_for("an answer about the host", SOON, async || {
        edge.routing.resolve_host(host).await
    })
    .await
    .unwrap()
}

fn change(record: &HostRecord) -> Change {
    Change::Host(
        record.host.clone(),
        Versioned {
            version: record.version,
            record: Some(record.clone()),
        },
    )
}

fn tombstone(host: &str, version: Version) -> Change {
    Change::Host(host.to_owned(), Versioned { version, record: None })
}

#[tokio::test]
async fn a_host_is_read_from_postgres_with_its_application_and_is_a_hit_from_then_on() {
    let platform = Platform::start().await;
    platform.tenants.host(HOST, platform.app.id).await;
    let edge = platform.edge(quick()).await;
    assert!(matches!(look(&edge, HOST), Lookup::Unknown));
    let entry = answered(&edge, HOST).await.unwrap();
    assert_eq!(entry.app.load().unwrap().record.id, platform.app.id);
    assert!(matches!(look(&edge, HOST), Lookup::Hit(_)));

    assert!(answered(&edge, "other.example").await.is_none());
    assert!(matches!(look(&edge, "other.example"), Lookup::Absent));
    let asked = edge.routing.stats().postgres;
    for text in ["", "LOGIN.shop.example", "a b", "login.shop.example.", &"a".repeat(300)] {
        assert!(answered(&edge, text).await.is_none(), "{text:?}");
    }
    assert_eq!(
        edge.routing.stats().postgres,
        asked,
        "what is no host name is not asked for"
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_host_that_nobody_proved_leads_nowhere() {
    let platform = Platform::start().await;
    platform.tenants.host(HOST, platform.app.id).await;
    platform.tenants.doubt_host(HOST).await;
    let edge = platform.edge(quick()).await;
    assert!(answered(&edge, HOST).await.is_none());
    edge.stop().await;
}

#[tokio::test]
async fn a_trusted_redis_answers_for_hosts_without_postgres() {
    let platform = Platform::start().await;
    platform.tenants.host(HOST, platform.app.id).await;
    let teacher = platform.edge(quick()).await;
    let known = answered(&teacher, HOST).await.unwrap();
    let copy = Copy::connect(&platform.redis).await;
    copy.put(&change(&known.record)).await;
    let key = teacher.found(&platform.app.secret).await;
    copy.put(&app_change(&key)).await;
    platform.postgres.set(Mode::Refuse).await;
    let edge = platform.edge(quick()).await;
    let entry = wait_for("an answer from Redis", SOON, async || {
        copy.mark(0, Duration::ZERO).await;
        edge.routing.resolve_host(HOST).await
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(entry.record, known.record);
    assert_eq!(edge.routing.stats().postgres.found, 0);
    teacher.stop().await;
    edge.stop().await;
}

#[tokio::test]
async fn the_stream_brings_hosts_and_takes_them_away() {
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let teacher = platform.edge(quick()).await;
    let app = teacher.found(&platform.app.secret).await;
    let record = HostRecord {
        host: HOST.to_owned(),
        application_id: platform.app.id,
        version: Version { epoch: 1, row: 4 },
    };
    // Before its application, as a compacted stream may have it.
    relay.publish(&change(&record)).await;
    relay.publish(&app_change(&app)).await;
    relay.publish(&Change::Complete).await;
    relay.position = 0;
    platform.postgres.set(Mode::Refuse).await;
    let edge = platform.whole_edge(RoutingSettings::default()).await;
    wait_for("the whole table", SOON, async || edge.routing.loaded_from())
        .await
        .unwrap();
    relay.make_live(&edge).await;
    let Lookup::Hit(entry) = look(&edge, HOST) else {
        panic!("the stream brought it")
    };
    assert_eq!(entry.app.load().unwrap().record.id, platform.app.id);
    wait_for("the count, which lags a little", SOON, async || {
        (edge.routing.stats().hosts == 1).then_some(())
    })
    .await
    .unwrap();

    // One after the other: the stream keeps the last of a subject, so a slow reader would see the older record alone.
    for last in [tombstone(HOST, next(record.version)), change(&record)] {
        relay.publish(&last).await;
        wait_for("the change", SOON, async || {
            relay.beat().await;
            (edge.routing.stats().feed.position == relay.position).then_some(())
        })
        .await
        .unwrap();
    }
    assert!(
        !matches!(look(&edge, HOST), Lookup::Hit(_)),
        "the older record came after the tombstone"
    );
    teacher.stop().await;
    edge.stop().await;
}

#[tokio::test]
async fn without_nats_hosts_come_and_go_by_postgres_and_survive_in_the_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = Platform::start().await;
    platform.nats.kill().await.unwrap();
    platform.tenants.host(HOST, platform.app.id).await;
    let settings = RoutingSettings {
        snapshot: Some(SnapshotSettings::in_directory(directory.path().to_owned())),
        ..quick()
    };
    let edge = platform.whole_edge(settings.clone()).await;
    wait_for("the host of the first reading", SOON, async || {
        match look(&edge, HOST) {
            Lookup::Hit(entry) => Some(entry),
            _ => None,
        }
    })
    .await
    .unwrap();
    assert_eq!(edge.routing.stats().postgres.found, 0, "nothing was asked for by name");

    let other = platform.tenants.app(NewApp::at(&["127.0.0.1:9001".to_owned()])).await;
    platform.tenants.remove_host(HOST).await;
    platform.tenants.host(HOST, other.id).await;
    platform.tenants.host("new.example", other.id).await;
    for host in [HOST, "new.example"] {
        wait_for("the other application", SOON, async || match look(&edge, host) {
            Lookup::Hit(entry) if entry.record.application_id == other.id => Some(entry),
            _ => None,
        })
        .await
        .unwrap();
    }
    platform.tenants.remove_host("new.example").await;
    wait_for("its end", SOON, async || {
        (!matches!(look(&edge, "new.example"), Lookup::Hit(_))).then_some(())
    })
    .await
    .unwrap();
    edge.stop().await;

    let edge = lonely_edge(settings).await;
    wait_for("the snapshot", SOON, async || edge.routing.loaded_from())
        .await
        .unwrap();
    assert_eq!(edge.routing.loaded_from(), Some(LoadedFrom::Snapshot));
    let entry = answered(&edge, HOST).await.unwrap();
    assert_eq!(entry.app.load().unwrap().record.id, other.id);
    edge.stop().await;
}

#[tokio::test]
async fn the_comparison_repairs_hosts_that_differ() {
    let platform = Platform::start().await;
    platform.tenants.host(HOST, platform.app.id).await;
    let relay = Relay::start(&platform.nats).await;
    let edge = platform
        .whole_edge(RoutingSettings {
            compare_every: Duration::from_secs(1),
            ..RoutingSettings::default()
        })
        .await;
    relay.make_live(&edge).await;
    wait_for("the whole table", SOON, async || edge.routing.loaded_from())
        .await
        .unwrap();
    // The feed is live and silent about both: one that Postgres does not have, and one that is newer there.
    let invented = HostRecord {
        host: "nobodys.example".to_owned(),
        application_id: platform.app.id,
        version: Version { epoch: 1, row: 9 },
    };
    assert!(edge.routing.install(change(&invented)));
    platform.tenants.remove_host(HOST).await;
    wait_for("the repair", SOON, async || {
        relay.beat().await;
        (edge.routing.stats().differences >= 2 && edge.routing.stats().hosts == 0).then_some(())
    })
    .await
    .unwrap();
    edge.stop().await;
}
