//! From outbox entries, or the whole table, to records as they now are.
//!
//! A row that this release cannot understand travels as a tombstone: the edges stop serving it, an error is logged and
//! counted, and everything else goes on.

use std::collections::{HashMap, HashSet};

use authsome_contract::{
    model::{
        Version,
        route::{AppRow, HostRow, InconsistentRow, KeyRow},
    },
    wire::{Change, Versioned},
};
use authsome_core::{id::ApplicationId, key::Digest};
use authsome_db::DbError;
use sqlx::{PgConnection, PgPool};

use super::{delivery::DeliveryError, metrics::RelayMetrics};
use crate::db::{
    outbox::{Entry, Pulse, Target, Topic},
    rebuild, route,
    tombstones::{self, Tombstone},
};

/// Rows of the whole table that are read at once.
const PAGE: i64 = 1_000;

/// NATS refuses messages over 1 MiB, and a refused one would hold up all that follow it.
const MAX_PAYLOAD: usize = 900 * 1024;

/// A record on its way.
#[derive(Debug)]
pub(super) struct Record {
    /// Position of the entry that announced it, or at which the table was read.
    pub(super) position: i64,
    /// Whoever has this record and those before it has everything up to [`Self::position`]. Not so while an earlier entry
    /// travels with a later one of the same thing, and not for a page of the table.
    pub(super) covers: bool,
    /// The record or its tombstone.
    pub(super) change: Change,
    /// JSON of its payload.
    pub(super) payload: Vec<u8>,
}

impl Record {
    fn new(position: i64, change: Change, metrics: &RelayMetrics) -> Result<Self, DeliveryError> {
        let payload = change.payload()?;
        if payload.len() <= MAX_PAYLOAD {
            return Ok(Self {
                position,
                covers: false,
                change,
                payload,
            });
        }
        tracing::error!(
            subject = change.subject(),
            bytes = payload.len(),
            "record is too large and is withdrawn"
        );
        metrics.inconsistent.inc();
        let change = match change {
            Change::App(id, v) => Change::App(id, tombstone(v.version)),
            Change::Key(digest, v) => Change::Key(digest, tombstone(v.version)),
            Change::Host(host, v) => Change::Host(host, tombstone(v.version)),
            Change::Complete => Change::Complete,
        };
        let payload = change.payload()?;
        Ok(Self {
            position,
            covers: false,
            change,
            payload,
        })
    }
}

fn tombstone<R>(version: Version) -> Versioned<R> {
    Versioned { version, record: None }
}

/// What the entries announce, as it now is, each thing once, in the order of its last entry. A row that is gone is a
/// tombstone with the announced version.
pub(super) async fn announced(
    pool: &PgPool,
    entries: &[Entry],
    metrics: &RelayMetrics,
) -> Result<Vec<Record>, DeliveryError> {
    let mut seen = HashSet::new();
    let mut latest: Vec<&Entry> = entries
        .iter()
        .rev()
        .filter(|entry| seen.insert((entry.topic, entry.reference.as_str())))
        .collect();
    latest.reverse();
    let folded = latest.len() < entries.len();

    let of = |topic| {
        latest
            .iter()
            .filter(move |entry| entry.topic == topic)
            .map(|entry| entry.reference.as_str())
    };
    let ids: Vec<ApplicationId> = of(Topic::App).filter_map(|text| text.parse().ok()).collect();
    let digests: Vec<Digest> = of(Topic::Key).filter_map(|text| text.parse().ok()).collect();
    let names: Vec<String> = of(Topic::Host).map(str::to_owned).collect();
    let (mut apps, mut keys, mut hosts) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut connection = pool.acquire().await.map_err(DbError::from)?;
    if !ids.is_empty() {
        let rows = route::apps(&mut connection, &ids).await?;
        apps.extend(rows.into_iter().map(|row| (row.id, app(row, metrics))));
    }
    if !digests.is_empty() {
        let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        let rows = route::keys(&mut connection, &digests).await?;
        keys.extend(rows.into_iter().filter_map(|row| key(row, metrics)));
    }
    if !names.is_empty() {
        let rows = route::hosts(&mut connection, &names).await?;
        hosts.extend(rows.into_iter().map(|row| (row.host.clone(), host(row))));
    }
    drop(connection);

    let mut records = Vec::with_capacity(latest.len());
    for entry in latest {
        let gone = Version::from_columns(entry.epoch, entry.version);
        let change = match entry.topic {
            Topic::App => entry
                .reference
                .parse()
                .ok()
                .map(|id| Change::App(id, apps.remove(&id).unwrap_or_else(|| tombstone(gone)))),
            Topic::Key => entry
                .reference
                .parse()
                .ok()
                .map(|digest| Change::Key(digest, keys.remove(&digest).unwrap_or_else(|| tombstone(gone)))),
            Topic::Host => Some(Change::Host(
                entry.reference.clone(),
                hosts.remove(&entry.reference).unwrap_or_else(|| tombstone(gone)),
            )),
            Topic::Job => continue,
        };
        if let Some(change) = change {
            records.push(Record::new(entry.position, change, metrics)?);
        } else {
            tracing::error!(
                id = entry.id,
                reference = entry.reference,
                "outbox entry is not understood and is skipped"
            );
            metrics.inconsistent.inc();
        }
    }
    if folded {
        if let Some(last) = records.last_mut() {
            last.covers = true;
        }
    } else {
        for record in &mut records {
            record.covers = true;
        }
    }
    Ok(records)
}

/// The whole table, page by page.
pub(super) struct Table<'a> {
    pool: &'a PgPool,
    metrics: &'a RelayMetrics,
    position: i64,
    next: Next,
    /// The request that the reading fulfils, and what was read so far.
    request: Option<(Target, i64)>,
    read: i64,
}

enum Next {
    Apps(String),
    Keys(Vec<u8>),
    Hosts(String),
    Tombstones(String, String),
    Done,
}

impl<'a> Table<'a> {
    /// `pulse.last` was given out before this call: the pages hold at least what was committed up to it. Tombstones come
    /// last, so that a row that is deleted while the table is read does not stay.
    pub(super) fn new(pool: &'a PgPool, metrics: &'a RelayMetrics, pulse: Pulse, target: Target) -> Self {
        Self {
            pool,
            metrics,
            position: pulse.last,
            next: Next::Apps(String::new()),
            request: pulse.rebuild(target).map(|id| (target, id)),
            read: 0,
        }
    }

    /// The next page; `None` after the last.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<Record>>, DeliveryError> {
        let mut connection = self.pool.acquire().await.map_err(DbError::from)?;
        let changes = match &self.next {
            Next::Apps(after) => self.apps(&mut connection, &after.clone()).await?,
            Next::Keys(after) => self.keys(&mut connection, &after.clone()).await?,
            Next::Hosts(after) => self.hosts(&mut connection, &after.clone()).await?,
            Next::Tombstones(topic, after) => self.tombstones(&mut connection, &topic.clone(), &after.clone()).await?,
            Next::Done => return Ok(None),
        };
        self.read += i64::try_from(changes.len()).unwrap_or(i64::MAX);
        if let Some((target, id)) = self.request {
            rebuild::progress(&mut connection, target, id, self.read).await?;
        }
        let records = changes
            .into_iter()
            .map(|change| Record::new(self.position, change, self.metrics));
        records.collect::<Result<_, _>>().map(Some)
    }

    async fn apps(&mut self, connection: &mut PgConnection, after: &str) -> Result<Vec<Change>, DbError> {
        let rows = route::apps_page(connection, after, PAGE).await?;
        self.next = rows
            .last()
            .map_or(Next::Keys(Vec::new()), |row| Next::Apps(row.id.to_string()));
        Ok(rows
            .into_iter()
            .map(|row| Change::App(row.id, app(row, self.metrics)))
            .collect())
    }

    async fn keys(&mut self, connection: &mut PgConnection, after: &[u8]) -> Result<Vec<Change>, DbError> {
        let rows = route::keys_page(connection, after, PAGE).await?;
        self.next = rows
            .last()
            .map_or(Next::Hosts(String::new()), |row| Next::Keys(row.digest.clone()));
        let changes = rows.into_iter().filter_map(|row| key(row, self.metrics));
        Ok(changes
            .map(|(digest, versioned)| Change::Key(digest, versioned))
            .collect())
    }

    async fn hosts(&mut self, connection: &mut PgConnection, after: &str) -> Result<Vec<Change>, DbError> {
        let rows = route::hosts_page(connection, after, PAGE).await?;
        self.next = rows.last().map_or_else(
            || Next::Tombstones(String::new(), String::new()),
            |row| Next::Hosts(row.host.clone()),
        );
        Ok(rows
            .into_iter()
            .map(|row| Change::Host(row.host.clone(), host(row)))
            .collect())
    }

    async fn tombstones(
        &mut self,
        connection: &mut PgConnection,
        topic: &str,
        after: &str,
    ) -> Result<Vec<Change>, DbError> {
        let rows = tombstones::page(connection, topic, after, PAGE).await?;
        self.next = rows.last().map_or(Next::Done, |row| {
            Next::Tombstones(row.topic.clone(), row.reference.clone())
        });
        Ok(rows.iter().filter_map(buried).collect())
    }
}

/// A tombstone as it travels; `None` if this release does not know what it names.
pub(super) fn buried(tombstone_of: &Tombstone) -> Option<Change> {
    let version = Version::from_columns(tombstone_of.epoch, tombstone_of.version);
    match tombstone_of.topic.as_str() {
        "app" => Some(Change::App(tombstone_of.reference.parse().ok()?, tombstone(version))),
        "key" => Some(Change::Key(tombstone_of.reference.parse().ok()?, tombstone(version))),
        "host" => Some(Change::Host(tombstone_of.reference.clone(), tombstone(version))),
        _ => None,
    }
}

fn host(row: HostRow) -> Versioned<authsome_contract::model::HostRecord> {
    Versioned {
        version: Version::from_columns(row.epoch, row.version),
        record: Some(row.into_record()),
    }
}

fn app(row: AppRow, metrics: &RelayMetrics) -> Versioned<authsome_contract::model::AppRecord> {
    let version = Version::from_columns(row.epoch, row.version);
    Versioned {
        version,
        record: understood(row.into_record(), metrics),
    }
}

/// `None` only where the digest is not one, which the table's CHECK rules out.
fn key(row: KeyRow, metrics: &RelayMetrics) -> Option<(Digest, Versioned<authsome_contract::model::KeyRecord>)> {
    let version = Version::from_columns(row.epoch, row.version);
    let digest = Digest::try_from(row.digest.as_slice()).ok()?;
    Some((
        digest,
        Versioned {
            version,
            record: understood(row.into_record(), metrics),
        },
    ))
}

fn understood<R>(record: Result<R, InconsistentRow>, metrics: &RelayMetrics) -> Option<R> {
    record
        .inspect_err(|error| {
            tracing::error!(%error, "row is not understood and is withdrawn from the edges");
            metrics.inconsistent.inc();
        })
        .ok()
}
