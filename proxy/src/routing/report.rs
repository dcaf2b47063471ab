//! What the edge says of itself to control: who it is and how far its table has come, several times a second, and at once when
//! a key has died. Revocations wait for it (`?wait=edges`). NATS away: nothing is said, control calls the edge missing, and
//! nothing here changes.

use std::time::Duration;

use async_nats::connection::State;
use authsome_contract::wire::{EdgeReport, FeedState, TableSize, names};
use authsome_core::entropy::{self, Entropy};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{Routing, uses};

/// Between two reports.
const PACE: Duration = Duration::from_millis(250);
/// The least time between two reports, however many keys die.
const LEAST: Duration = Duration::from_millis(5);
/// For handing over a report to the connection, and for the last one to leave.
const SEND: Duration = Duration::from_secs(1);

/// Who the edge is.
#[derive(Debug, Clone)]
pub struct EdgeName {
    /// Its configured name. Users of the API see it.
    pub name: String,
    /// Where it runs.
    pub region: String,
}

/// Speaks for one start of the process. Runs in the store's runtime.
#[derive(Debug)]
pub struct Reporter {
    routing: Routing,
    edge: EdgeName,
    id: Uuid,
}

impl Reporter {
    /// For this table. The id is random: an edge that restarts is another edge.
    pub fn new(routing: Routing, edge: EdgeName, entropy: &dyn Entropy) -> Self {
        Self {
            routing,
            edge,
            id: uuid::Builder::from_random_bytes(entropy::bytes(entropy)).into_uuid(),
        }
    }

    /// Reports, and sends which keys were used, until `shutdown` holds true; then says goodbye.
    pub async fn run(self, nats: async_nats::Client, shutdown: watch::Receiver<bool>) {
        let uses = uses::publish(self.routing.clone(), nats.clone(), shutdown.clone());
        tokio::join!(self.report(&nats, shutdown), uses);
    }

    async fn report(&self, nats: &async_nats::Client, mut shutdown: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(PACE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pulse = self.routing.shared.table.pulse();
        loop {
            let urgent = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                () = pulse.key_died().notified() => true,
                _ = tick.tick() => false,
            };
            self.send(nats, &self.now(false)).await;
            if urgent {
                tokio::time::sleep(LEAST).await;
            }
        }
        self.send(nats, &self.now(true)).await;
        // In vain or not: without it control calls the edge missing for a while.
        let _ = tokio::time::timeout(SEND, nats.flush()).await;
    }

    /// The report of this moment.
    fn now(&self, goodbye: bool) -> EdgeReport {
        let shared = &self.routing.shared;
        let (sizes, pulse) = (shared.table.sizes(), shared.table.pulse());
        let now_ms = shared.clock.unix_millis();
        let applied = pulse.applied();
        EdgeReport {
            id: self.id,
            name: self.edge.name.clone(),
            region: self.edge.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: applied.epoch,
            incarnation: pulse.incarnation(),
            position: applied.position,
            table: TableSize {
                keys: sizes.keys,
                apps: sizes.apps,
                bytes: sizes
                    .keys_bytes
                    .saturating_add(sizes.apps_bytes)
                    .saturating_add(sizes.hosts_bytes),
            },
            feed: if pulse.is_live(now_ms) {
                FeedState::Live
            } else if pulse.is_following() {
                FeedState::Following
            } else {
                FeedState::Away
            },
            heartbeat_age_ms: pulse.heartbeat_age_ms(now_ms).and_then(|age| u64::try_from(age).ok()),
            goodbye,
        }
    }

    async fn send(&self, nats: &async_nats::Client, report: &EdgeReport) {
        // What was queued for a server that is away would come late, and all at once.
        if nats.connection_state() != State::Connected {
            return;
        }
        match serde_json::to_vec(report) {
            Ok(payload) => {
                let sent = tokio::time::timeout(SEND, nats.publish(names::EDGE_REPORTS, payload.into())).await;
                if !matches!(sent, Ok(Ok(()))) {
                    tracing::debug!("a report of this edge was not sent; the next one follows");
                }
            }
            Err(error) => tracing::error!(%error, "a report of this edge cannot be written as JSON"),
        }
    }
}
