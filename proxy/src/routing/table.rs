//! The table in memory (L1): keys by digest, applications by id, hosts by name, and separately what was found not to exist.
//!
//! Bounded by weight, so that absence never means "does not exist" but "ask". It owns the rules of who may write: newer
//! versions only, whatever the order of arrival; a fill only when no change passed while it was read; and nothing below the
//! floor that a change or tombstone has set. It depends on nothing that can fail: with every source gone it goes on
//! answering with what it has, for as long as [`Pulse`] allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authsome_contract::model::{AppRecord, Version};
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::RoutingSettings;
use super::entry::{AppEntry, AppSlot, AppState, KeyEntry, Lookup};
use super::fence::Fence;
use super::freshness::Freshness;
use super::hash::UniformState;
use super::metrics::RoutingMetrics;
use super::pulse::{Age, Bounds, Pulse};
use crate::meter::Meter;
use keys::Keys;
use parts::Parts;

pub(super) use changes::Applied;
pub(super) use fills::{Absence, Settled};
pub(super) use keys::Presence;

mod changes;
mod fills;
mod hosts;
mod keys;
mod load;
mod parts;

type Names<K, V> = Cache<K, V, UniformState>;

pub(super) struct Table {
    keys: Keys,
    apps: Parts<ApplicationId, Arc<AppSlot>>,
    absent_keys: Names<Digest, ()>,
    absent_apps: Names<ApplicationId, ()>,
    /// Newest versions that the feed spoke of, tombstones included, for names that may not be held.
    key_floors: Names<Digest, Version>,
    app_floors: Names<ApplicationId, Version>,
    hosts: hosts::Hosts,
    fence: Fence,
    pulse: Pulse,
    meter: Meter,
    redis_lag_ms: i64,
    /// Something left because there was no room.
    overflowed: Arc<AtomicBool>,
}

impl Table {
    pub(super) fn new(
        settings: &RoutingSettings,
        meter: Meter,
        entropy: &dyn Entropy,
        metrics: &RoutingMetrics,
    ) -> Self {
        let hasher = || UniformState::new(entropy);
        let floors = settings.floors;
        let overflowed = Arc::new(AtomicBool::new(false));
        let notice = || {
            let overflowed = Arc::clone(&overflowed);
            move |cause| {
                if cause == RemovalCause::Size {
                    overflowed.store(true, Ordering::Relaxed);
                }
            }
        };
        Self {
            keys: {
                let (evictions, notice) = (metrics.evictions("key"), notice());
                Keys::new(settings.keys_bytes, hasher, move |cause| {
                    evictions.count(cause);
                    notice(cause);
                })
            },
            apps: Parts::new(settings.apps_bytes, |bytes| {
                let (evictions, notice) = (metrics.evictions("app"), notice());
                Cache::builder()
                    .max_capacity(bytes)
                    .weigher(|_, slot: &Arc<AppSlot>| slot.weight())
                    .eviction_listener(move |_, _, cause| {
                        evictions.count(cause);
                        notice(cause);
                    })
                    .build_with_hasher(hasher())
            }),
            absent_keys: Cache::builder()
                .max_capacity(settings.negative_entries)
                .time_to_live(settings.negative_ttl)
                .build_with_hasher(hasher()),
            absent_apps: Cache::builder()
                .max_capacity(settings.negative_entries)
                .time_to_live(settings.negative_ttl)
                .build_with_hasher(hasher()),
            key_floors: Cache::builder()
                .max_capacity(floors)
                .time_to_live(settings.floor_ttl)
                .build_with_hasher(hasher()),
            app_floors: Cache::builder()
                .max_capacity(floors)
                .time_to_live(settings.floor_ttl)
                .build_with_hasher(hasher()),
            hosts: hosts::Hosts::new(settings, metrics.evictions("host"), notice()),
            fence: Fence::new(),
            pulse: Pulse::new(Bounds::new(settings.stale_bound, settings.max_staleness)),
            meter,
            redis_lag_ms: i64::try_from(settings.redis_trust.as_millis()).unwrap_or(i64::MAX),
            overflowed,
        }
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub(super) fn key(&self, digest: &Digest, now_ms: i64) -> Lookup<Arc<KeyEntry>> {
        match self.keys.find(digest, now_ms) {
            Some(entry) if self.is_fresh(&entry, now_ms) => Lookup::Hit(entry),
            None if self.absent_keys.contains_key(digest) => Lookup::Absent,
            Some(_) | None => Lookup::Unknown,
        }
    }

    pub(super) fn app(&self, id: &ApplicationId, now_ms: i64) -> Lookup<Arc<AppEntry>> {
        match self.apps.get(id) {
            Some(slot) if self.pulse.is_fresh(&slot.freshness, now_ms) => match slot.load() {
                Some(entry) => Lookup::Hit(entry),
                None => Lookup::Absent,
            },
            None if self.absent_apps.contains_key(id) => Lookup::Absent,
            Some(_) | None => Lookup::Unknown,
        }
    }

    fn is_fresh(&self, entry: &KeyEntry, now_ms: i64) -> bool {
        self.pulse.is_fresh(&entry.freshness, now_ms) && self.pulse.is_fresh(&entry.app.freshness, now_ms)
    }

    /// The entry as last known, fresh or not, unless it is too old to be acted on at all.
    pub(super) fn last_known_key(&self, digest: &Digest, now_ms: i64) -> Option<Arc<KeyEntry>> {
        let entry = self.keys.get(digest)?;
        let dead = |freshness| self.pulse.age(freshness, now_ms) == Age::Dead;
        (!dead(&entry.freshness) && !dead(&entry.app.freshness)).then_some(entry)
    }

    /// As [`Self::last_known_key`], for an application.
    pub(super) fn last_known_app(&self, id: &ApplicationId, now_ms: i64) -> Option<Arc<AppSlot>> {
        let slot = self.apps.get(id)?;
        (self.pulse.age(&slot.freshness, now_ms) != Age::Dead).then_some(slot)
    }

    fn app_state(&self, version: Version, record: Option<AppRecord>) -> AppState {
        let entry = record.map(|record| {
            Arc::new({
                let usage = self.meter.slot(record.id);
                AppEntry::new(version, record, usage)
            })
        });
        AppState { version, entry }
    }

    /// Entries of each kind; a little behind the last writes.
    pub(super) fn sizes(&self) -> TableSizes {
        TableSizes {
            keys: self.keys.entry_count(),
            keys_bytes: self.keys.weighted_size(),
            apps: self.apps.entry_count(),
            apps_bytes: self.apps.weighted_size(),
            hosts: self.hosts.count(),
            hosts_bytes: self.hosts.bytes(),
            absent: self.absent_keys.entry_count() + self.absent_apps.entry_count() + self.hosts.absent_count(),
            floors: self.key_floors.entry_count() + self.app_floors.entry_count() + self.hosts.floor_count(),
        }
    }

    /// Work that moka puts off until someone calls: expiry and the counts.
    pub(super) fn tidy(&self) {
        self.keys.run_pending_tasks();
        self.apps.run_pending_tasks();
        self.absent_keys.run_pending_tasks();
        self.absent_apps.run_pending_tasks();
        self.key_floors.run_pending_tasks();
        self.app_floors.run_pending_tasks();
        self.hosts.tidy();
    }
}

/// Are these two of one version and yet not the same, and is what is held of an earlier beginning? By construction a version
/// has one content: a record and its version are read in one statement, and every column of it raises the version. A copy may
/// have been altered by hand all the same, and a snapshot of an earlier release lacks what this release would have kept. Both
/// are put right by the next new beginning, which is what an operator asks for after the one and what follows the other.
fn is_other<R: PartialEq>(held: &R, read: &R, freshness: &Freshness, generation: u32) -> bool {
    freshness.generation() != generation && held != read
}

/// How full the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableSizes {
    pub(super) keys: u64,
    pub(super) keys_bytes: u64,
    pub(super) apps: u64,
    pub(super) apps_bytes: u64,
    pub(super) hosts: u64,
    pub(super) hosts_bytes: u64,
    pub(super) absent: u64,
    pub(super) floors: u64,
}

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
