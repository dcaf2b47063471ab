//! An edge process whose relay is in the hands of the test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use authsome_contract::model::{KeyRecord, Version};
use authsome_contract::wire::{Change, EdgeReport, Versioned, names};
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::KeyId;
use authsome_core::key::ApiKey;
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use futures::StreamExt;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::db::{App, Tenants};
use crate::edge::Edge;
use crate::routing_fixture::{Relay, SOON, connect};

/// An edge with its relay in the hands of the test, beating by itself.
pub(crate) struct Fed {
    pub(crate) edge: Edge,
    pub(crate) relay: Arc<Mutex<Relay>>,
    beating: JoinHandle<()>,
    pub(crate) nats: NatsServer,
}

impl Fed {
    pub(crate) async fn start(tenants: &Tenants) -> Self {
        Self::start_with(tenants, &[]).await
    }

    pub(crate) async fn start_with(tenants: &Tenants, settings: &[(&str, &str)]) -> Self {
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let relay = Arc::new(Mutex::new(Relay::start(&nats).await));
        let url = nats.url();
        let settings = [&[("NATS_URL", url.as_str())], settings].concat();
        let edge = Edge::start(tenants, &settings).await;
        let beats = Arc::clone(&relay);
        let beating = tokio::spawn(async move {
            loop {
                beats.lock().await.beat().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let fed = Self {
            edge,
            relay,
            beating,
            nats,
        };
        wait_for("a live feed", SOON, async || {
            (fed.edge.metric("authsome_edge_routing_feed_live").await == 1).then_some(())
        })
        .await
        .unwrap();
        fed
    }

    /// As the control plane does it: in the database, then on the feed. When it was put on the feed.
    pub(crate) async fn revoke(&self, tenants: &Tenants, app: &App, key: &ApiKey) -> Instant {
        tenants.revoke(key).await;
        let change = key_change(app, key, 2, "revoked");
        let mut relay = self.relay.lock().await;
        let began = Instant::now();
        relay.publish(&change).await;
        began
    }

    /// Waits until this many live connections were closed for this reason, and no more.
    pub(crate) async fn closed(&self, reason: &str, connections: u64) {
        let series = format!("authsome_edge_live_closed_total{{reason=\"{reason}\"}}");
        self.edge.counted(&series, connections).await;
    }

    /// The relay falls silent.
    pub(crate) fn fall_silent(&self) {
        self.beating.abort();
    }

    /// Reports of the edge until one satisfies `wanted`.
    pub(crate) async fn reported(&self, what: &str, wanted: impl Fn(&EdgeReport) -> bool) -> EdgeReport {
        let client = connect(&self.nats).await;
        let mut reports = client.subscribe(names::EDGE_REPORTS).await.unwrap();
        let next = async {
            loop {
                let message = reports.next().await.unwrap();
                let report: EdgeReport = serde_json::from_slice(&message.payload).unwrap();
                if wanted(&report) {
                    return report;
                }
            }
        };
        let reported = tokio::time::timeout(SOON, next).await;
        reported.unwrap_or_else(|_| panic!("no report: {what}"))
    }

    /// Changes of the feed with this outcome so far.
    pub(crate) async fn changes(&self, outcome: &str) -> u64 {
        let series = format!("authsome_edge_routing_feed_changes_total{{outcome=\"{outcome}\"}}");
        self.edge.metric(&series).await
    }
}

/// A secret key as the feed tells of it.
pub(crate) fn key_change(app: &App, key: &ApiKey, row: u64, state: &str) -> Change {
    let version = Version { epoch: 1, row };
    let record: KeyRecord = serde_json::from_value(json!({
        "digest": key.digest(),
        "id": KeyId::generate(&SystemClock, &SystemEntropy::new()),
        "applicationId": app.id,
        "type": key.parsed().key_type(),
        "scopes": ["*"],
        "state": state,
        "version": version,
    }))
    .unwrap();
    let record = Some(record);
    Change::Key(key.digest(), Versioned { version, record })
}

impl Drop for Fed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.edge.program.log());
        }
        self.beating.abort();
    }
}
