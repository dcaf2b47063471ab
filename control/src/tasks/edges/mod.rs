//! Which edges there are, and how far each has come.
//!
//! Every replica listens to all reports and keeps the latest of each edge in memory, where acknowledgements are looked for.
//! Who counts is decided with the table `edges`, so that a replica that has just started knows whom to wait for, and all agree:
//! an edge leaves the count only by saying goodbye or by fifteen minutes of silence, never because a replica cannot hear it.
//! New edges and goodbyes are written at once, everything else every ten seconds by whichever replica comes first.
//!
//! NATS away: nothing is heard, and the edges of the table are missing. Postgres away: what is heard is kept in memory, and
//! is written down later.

mod acknowledge;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authsome_contract::wire::{EdgeReport, TableSize, names};
use authsome_core::clock::Clock;
use authsome_db::DbError;
use futures::StreamExt;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::TaskError;
use crate::db::edges::{self, EdgeRow};

pub use acknowledge::{Acknowledged, Target};

/// An edge that has not reported for so long is missing.
pub const MISSING: Duration = Duration::from_secs(3);
/// After so long a silence an edge does not count any more.
pub const FORGOTTEN: Duration = Duration::from_mins(15);
/// Between two writes of what was heard.
const WRITE: Duration = Duration::from_secs(10);
/// For one write.
const ANSWER: Duration = Duration::from_secs(5);
/// Before subscribing again.
const RETRY: Duration = Duration::from_secs(1);
/// More edges than any platform has; what exceeds it is not kept.
const MOST: usize = 10_000;
/// Names come from the edges' configuration; longer ones do not.
const NAME_MAX: usize = 253;

/// The edges, as this replica knows them. Clones are the same.
#[derive(Clone)]
pub struct Edges(Arc<Inner>);

struct Inner {
    known: Mutex<Known>,
    clock: Arc<dyn Clock>,
    /// Raised with each report.
    reports: watch::Sender<u64>,
    /// Something is to be written now.
    write: Notify,
}

#[derive(Default)]
struct Known {
    heard: HashMap<Uuid, Heard>,
    /// Said goodbye. Kept for as long as a row read before may be looked at.
    left: HashMap<Uuid, Left>,
}

struct Left {
    at: Instant,
    written: bool,
}

struct Heard {
    report: EdgeReport,
    at: Instant,
    written: bool,
}

/// An edge that counts.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Random for each start of its process.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// Of its program.
    pub version: String,
    /// Restore epoch of `position`.
    pub epoch: u64,
    /// Up to which every change is in its table.
    pub position: u64,
    /// How much it holds.
    pub table: TableSize,
    /// When it last reported.
    pub last_report_at: OffsetDateTime,
    /// It has reported to this replica in the last three seconds.
    pub is_live: bool,
}

impl Edges {
    /// Knows no edge yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            known: Mutex::default(),
            clock,
            reports: watch::Sender::new(0),
            write: Notify::new(),
        }))
    }

    /// Listens until `stop`.
    pub async fn run(self, pool: PgPool, nats: async_nats::Client, stop: CancellationToken) -> Result<(), TaskError> {
        let work = async { tokio::join!(self.listen(&nats), self.write(&pool)) };
        stop.run_until_cancelled(work).await;
        Ok(())
    }

    /// The edges that count, by region and name.
    pub async fn members(&self, connection: &mut PgConnection) -> Result<Vec<Edge>, DbError> {
        let rows = edges::heard_within(connection, FORGOTTEN.as_secs_f64()).await?;
        Ok(self.overlay(&rows))
    }

    /// The rows of the table with what was heard since they were written.
    fn overlay(&self, rows: &[EdgeRow]) -> Vec<Edge> {
        let (now, now_at) = (self.0.clock.now(), Instant::now());
        let known = self.known();
        let mut members: HashMap<Uuid, Edge> = rows
            .iter()
            .filter(|row| !row.left && !known.left.contains_key(&row.id))
            .map(|row| (row.id, Edge::written(row)))
            .collect();
        let left: HashSet<Uuid> = rows.iter().filter(|row| row.left).map(|row| row.id).collect();
        for (id, heard) in &known.heard {
            let silence = now_at.duration_since(heard.at);
            // One that only this replica knows may have said goodbye to the others.
            let counts = members.contains_key(id) || (silence < MISSING && !left.contains(id));
            if counts {
                members.insert(*id, Edge::heard(&heard.report, now - silence, silence < MISSING));
            }
        }
        drop(known);
        let mut members: Vec<Edge> = members.into_values().collect();
        members.sort_by(|a, b| (&a.region, &a.name, a.id).cmp(&(&b.region, &b.name, b.id)));
        members
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(&self, nats: &async_nats::Client) -> Infallible {
        loop {
            match nats.subscribe(names::EDGE_REPORTS).await {
                Ok(mut reports) => {
                    while let Some(message) = reports.next().await {
                        self.hear(&message.payload);
                    }
                }
                Err(error) => tracing::debug!(%error, "cannot listen to the edges; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn hear(&self, payload: &[u8]) {
        let report: EdgeReport = match serde_json::from_slice(payload) {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(%error, bytes = payload.len(), "an edge's report is not understood and is dropped");
                return;
            }
        };
        if report.name.len() > NAME_MAX || report.region.len() > NAME_MAX || report.version.len() > NAME_MAX {
            tracing::error!(edge = %report.id, "an edge's report has names that are too long and is dropped");
            return;
        }
        let mut known = self.known();
        if report.goodbye {
            tracing::info!(edge = %report.id, name = report.name, "an edge left");
            known.heard.remove(&report.id);
            let left = Left {
                at: Instant::now(),
                written: false,
            };
            if known.left.len() < MOST {
                known.left.insert(report.id, left);
            }
            self.0.write.notify_one();
        } else if let Some(heard) = known.heard.get_mut(&report.id) {
            heard.report = report;
            heard.at = Instant::now();
        } else if known.heard.len() < MOST {
            tracing::info!(edge = %report.id, name = report.name, region = report.region, "an edge reports");
            known.heard.insert(
                report.id,
                Heard {
                    report,
                    at: Instant::now(),
                    written: false,
                },
            );
            self.0.write.notify_one();
        }
        drop(known);
        self.0.reports.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn write(&self, pool: &PgPool) -> Infallible {
        let mut tick = tokio::time::interval(WRITE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                _ = tick.tick() => true,
                () = self.0.write.notified() => false,
            };
            match tokio::time::timeout(ANSWER, self.write_once(pool, all)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the edges cannot be written down; trying again"),
                Err(_) => tracing::debug!("the edges cannot be written down in time; trying again"),
            }
        }
    }

    /// Writes goodbyes and new edges; `all`: the others too.
    async fn write_once(&self, pool: &PgPool, all: bool) -> Result<(), DbError> {
        let now = Instant::now();
        let (heard, leaving) = {
            let mut known = self.known();
            known.heard.retain(|_, heard| now.duration_since(heard.at) < FORGOTTEN);
            known.left.retain(|_, left| now.duration_since(left.at) < FORGOTTEN);
            let heard: Vec<(EdgeRow, i64)> = known
                .heard
                .values()
                .filter(|heard| all || !heard.written)
                .map(|heard| {
                    let age = i64::try_from(now.duration_since(heard.at).as_millis()).unwrap_or(i64::MAX);
                    (row(&heard.report, self.0.clock.now()), age)
                })
                .collect();
            let leaving = known.left.iter().filter(|(_, left)| !left.written);
            (heard, leaving.map(|(id, _)| *id).collect::<Vec<Uuid>>())
        };
        let mut transaction = pool.begin().await?;
        if !heard.is_empty() {
            edges::hear(&mut transaction, &heard, (WRITE / 2).as_secs_f64()).await?;
        }
        if !leaving.is_empty() {
            edges::leave(&mut transaction, &leaving).await?;
        }
        if all {
            edges::forget(&mut transaction, FORGOTTEN.as_secs_f64()).await?;
        }
        transaction.commit().await?;
        let mut known = self.known();
        for (row, _) in heard {
            if let Some(heard) = known.heard.get_mut(&row.id) {
                heard.written = true;
            }
        }
        for id in leaving {
            if let Some(left) = known.left.get_mut(&id) {
                left.written = true;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Edges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edges")
            .field("heard", &self.known().heard.len())
            .finish_non_exhaustive()
    }
}

impl Edge {
    fn written(row: &EdgeRow) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            region: row.region.clone(),
            version: row.version.clone(),
            epoch: row.epoch.unsigned_abs(),
            position: row.position.unsigned_abs(),
            table: TableSize {
                keys: row.keys.unsigned_abs(),
                apps: row.apps.unsigned_abs(),
                bytes: row.bytes.unsigned_abs(),
            },
            last_report_at: row.last_report_at,
            is_live: false,
        }
    }

    fn heard(report: &EdgeReport, at: OffsetDateTime, is_live: bool) -> Self {
        Self {
            id: report.id,
            name: report.name.clone(),
            region: report.region.clone(),
            version: report.version.clone(),
            epoch: report.epoch,
            position: report.position,
            table: report.table,
            last_report_at: at,
            is_live,
        }
    }
}

fn row(report: &EdgeReport, last_report_at: OffsetDateTime) -> EdgeRow {
    let column = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    EdgeRow {
        id: report.id,
        name: report.name.clone(),
        region: report.region.clone(),
        version: report.version.clone(),
        epoch: column(report.epoch),
        position: column(report.position),
        keys: column(report.table.keys),
        apps: column(report.table.apps),
        bytes: column(report.table.bytes),
        last_report_at,
        left: false,
    }
}
