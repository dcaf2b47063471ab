//! From reports as they come to counters as they are merged, and back to confirmations.

use std::collections::{BTreeMap, HashMap, HashSet};

use authsome_contract::wire::{UsageConfirmation, UsageCounter, UsageReport};
use authsome_core::id::ApplicationId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::metrics::AggregatorMetrics;
use crate::db::usage::Counter;

/// 2020-01-01T00 UTC in hours: nothing was metered before.
const FIRST_HOUR: u32 = 438_288;

/// How far an edge's clock may be ahead.
const AHEAD_HOURS: i64 = 48;

/// No real counter of one hour is greater (2^50, a petabyte), and sums of many such stay far inside 64 bits.
const GREATEST: u64 = 1 << 50;

const HOUR_SECONDS: i64 = 3_600;

type Key = (Uuid, ApplicationId, u32);

/// The counters of some reports, each (writer, application, hour) once with its greatest values.
pub(super) struct Merge {
    counters: Vec<Counter>,
    finals: HashMap<Key, UsageCounter>,
}

impl Merge {
    pub(super) fn of(payloads: &[&[u8]], now: OffsetDateTime, metrics: &AggregatorMetrics) -> Self {
        let mut greatest: BTreeMap<Key, UsageCounter> = BTreeMap::new();
        for payload in payloads {
            let report: UsageReport = match serde_json::from_slice(payload) {
                Ok(report) => report,
                Err(error) => {
                    tracing::error!(%error, bytes = payload.len(), "usage report is not understood and is dropped");
                    metrics.refused("undecodable");
                    continue;
                }
            };
            for counter in report.counters {
                if !is_plausible(&counter, now) {
                    tracing::error!(writer = %report.writer, ?counter, "usage counter cannot be true and is dropped");
                    metrics.refused("implausible");
                    continue;
                }
                let key = (report.writer, counter.application_id, counter.hour);
                greatest
                    .entry(key)
                    .and_modify(|held| raise(held, &counter))
                    .or_insert(counter);
            }
        }
        let counters = greatest
            .iter()
            .filter_map(|(key, counter)| row(key.0, counter))
            .collect();
        let finals = greatest.into_iter().filter(|(_, counter)| counter.is_final).collect();
        Self { counters, finals }
    }

    /// What goes into the transaction.
    pub(super) fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// What each writer may free: its final counters as they stand. A counter of an application that does not exist stands
    /// nowhere; it is confirmed as reported, since it would otherwise fill its writer's file for ever.
    pub(super) fn confirmations(
        self,
        standing: &[Counter],
        metrics: &AggregatorMetrics,
    ) -> Vec<(Uuid, UsageConfirmation)> {
        let stands: HashMap<Key, &Counter> = standing
            .iter()
            .filter_map(|row| Some(((row.writer, row.application_id, hour_number(row.hour)?), row)))
            .collect();
        let unknown: HashSet<ApplicationId> = self
            .counters
            .iter()
            .filter(|row| {
                hour_number(row.hour).is_none_or(|hour| !stands.contains_key(&(row.writer, row.application_id, hour)))
            })
            .map(|row| row.application_id)
            .collect();
        for application in unknown {
            tracing::warn!(%application, "usage of an application that does not exist is dropped");
            metrics.refused("unknown_application");
        }
        let mut by_writer: BTreeMap<Uuid, Vec<UsageCounter>> = BTreeMap::new();
        for (key, reported) in self.finals {
            let confirmed = stands.get(&key).map_or(reported, |row| UsageCounter {
                requests: row.requests.unsigned_abs(),
                errors: row.errors.unsigned_abs(),
                bytes_in: row.bytes_in.unsigned_abs(),
                bytes_out: row.bytes_out.unsigned_abs(),
                ..reported
            });
            by_writer.entry(key.0).or_default().push(confirmed);
            metrics.confirmed.inc();
        }
        let chunks = by_writer.into_iter().flat_map(|(writer, counters)| {
            let chunks: Vec<_> = counters
                .chunks(UsageReport::MAX_COUNTERS)
                .map(<[UsageCounter]>::to_vec)
                .collect();
            chunks
                .into_iter()
                .map(move |counters| (writer, UsageConfirmation { counters }))
        });
        chunks.collect()
    }
}

fn is_plausible(counter: &UsageCounter, now: OffsetDateTime) -> bool {
    let latest = now.unix_timestamp() / HOUR_SECONDS + AHEAD_HOURS;
    counter.hour >= FIRST_HOUR
        && i64::from(counter.hour) <= latest
        && [counter.requests, counter.errors, counter.bytes_in, counter.bytes_out]
            .iter()
            .all(|value| *value <= GREATEST)
}

fn raise(held: &mut UsageCounter, other: &UsageCounter) {
    held.requests = held.requests.max(other.requests);
    held.errors = held.errors.max(other.errors);
    held.bytes_in = held.bytes_in.max(other.bytes_in);
    held.bytes_out = held.bytes_out.max(other.bytes_out);
    held.is_final |= other.is_final;
}

fn row(writer: Uuid, counter: &UsageCounter) -> Option<Counter> {
    Some(Counter {
        writer,
        application_id: counter.application_id,
        hour: OffsetDateTime::from_unix_timestamp(i64::from(counter.hour) * HOUR_SECONDS).ok()?,
        requests: i64::try_from(counter.requests).ok()?,
        errors: i64::try_from(counter.errors).ok()?,
        bytes_in: i64::try_from(counter.bytes_in).ok()?,
        bytes_out: i64::try_from(counter.bytes_out).ok()?,
    })
}

fn hour_number(hour: OffsetDateTime) -> Option<u32> {
    u32::try_from(hour.unix_timestamp() / HOUR_SECONDS).ok()
}
