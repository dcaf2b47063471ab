//! The table in memory (L1): keys by digest, applications by id, hosts by name, and separately what was found not to exist.
//!
//! Bounded by weight, so that absence never means "does not exist" but "ask". It owns the rules of who may write: newer
//! versions only, whatever the order of arrival; a fill only when no change passed while it was read; and nothing below the
//! floor that a change or tombstone has set. It depends on nothing that can fail: with every source gone it goes on
//! answering with what it has, for as long as [`Pulse`] allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authsome_contract::model::{AppRecord, KeyRecord, Version};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::RoutingSettings;
use super::entry::{AppEntry, AppSlot, AppState, KeyEntry, Lookup};
use super::fence::{Fence, Ticket};
use super::freshness::Freshness;
use super::hash::UniformState;
use super::metrics::RoutingMetrics;
use super::pulse::{Age, Bounds, Pulse};
use crate::meter::Meter;

/// What became of a record that a fill brought.
#[derive(Debug, Clone)]
pub(super) enum Settled<T> {
    /// This is the record to act on: the one that was brought, or a newer one that came meanwhile.
    Accepted(T),
    /// Something newer was known before: the source is behind; ask another.
    Behind,
}

/// What became of a fill's word that there is no such row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It is remembered for a moment.
    Kept,
    /// A change passed meanwhile: read again.
    Overtaken,
}

/// What a change of the feed met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// The entry was here and is replaced, or gone.
    Updated,
    /// The entry was not here; its floor is set.
    NotHeld,
    /// The entry here is as new or newer.
    Known,
    /// A kind of change that this table does not hold.
    Ignored,
}

mod hosts;
mod load;

type Names<K, V> = Cache<K, V, UniformState>;

pub(super) struct Table {
    keys: Names<Digest, Arc<KeyEntry>>,
    apps: Names<ApplicationId, Arc<AppSlot>>,
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
        let (key_evictions, app_evictions) = (metrics.evictions("key"), metrics.evictions("app"));
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
        let (key_notice, app_notice, host_notice) = (notice(), notice(), notice());
        Self {
            keys: Cache::builder()
                .max_capacity(settings.keys_bytes)
                .weigher(|_, entry: &Arc<KeyEntry>| entry.weight())
                .eviction_listener(move |_, _, cause| {
                    key_evictions.count(cause);
                    key_notice(cause);
                })
                .build_with_hasher(hasher()),
            apps: Cache::builder()
                .max_capacity(settings.apps_bytes)
                .weigher(|_, slot: &Arc<AppSlot>| slot.weight())
                .eviction_listener(move |_, _, cause| {
                    app_evictions.count(cause);
                    app_notice(cause);
                })
                .build_with_hasher(hasher()),
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
            hosts: hosts::Hosts::new(settings, metrics.evictions("host"), host_notice),
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
        match self.keys.get(digest) {
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

    /// A slot that needs no reading now.
    pub(super) fn fresh_slot(&self, id: &ApplicationId, now_ms: i64) -> Option<Arc<AppSlot>> {
        let slot = self.fence.app(id).payload.find(id)?;
        self.pulse.is_fresh(&slot.freshness, now_ms).then_some(slot)
    }

    pub(super) fn ticket(&self, now_ms: i64) -> Ticket {
        self.fence.ticket(self.pulse.generation(), now_ms)
    }

    /// A change of this name (or of one that shares its stretch) arrived so lately that Redis, which is written
    /// independently, may not have it yet.
    pub(super) fn key_just_changed(&self, digest: &Digest, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.fence.key(digest).changed_ms()) < self.redis_lag_ms
    }

    /// As [`Self::key_just_changed`], for an application.
    pub(super) fn app_just_changed(&self, id: &ApplicationId, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.fence.app(id).changed_ms()) < self.redis_lag_ms
    }

    /// A fill has read this application.
    pub(super) fn settle_app(&self, ticket: &Ticket, record: AppRecord) -> Settled<Arc<AppSlot>> {
        let (id, version) = (record.id, record.version);
        let mut stretch = self.fence.app(&id);
        let moved = stretch.moved_since(ticket);
        if let Some(slot) = stretch.payload.find(&id) {
            let held = slot.version();
            if version < held {
                return if moved || slot.freshness.is_younger_than(ticket.at_ms) {
                    Settled::Accepted(slot)
                } else {
                    Settled::Behind
                };
            }
            // A tombstone is one above the last version of its row; an equal version without a record is a row that was once
            // not found, and here it is.
            if version > held || slot.load().is_none() {
                slot.replace(self.app_state(version, Some(record)));
            }
            if !moved {
                slot.freshness.confirm(ticket.generation, ticket.at_ms);
            }
            // Re-inserted so that its weight is counted anew, or because it was evicted while a key held it.
            self.apps.insert(id, Arc::clone(&slot));
            self.absent_apps.invalidate(&id);
            return Settled::Accepted(slot);
        }
        if self.app_floors.get(&id).is_some_and(|floor| version < floor) {
            return Settled::Behind;
        }
        let freshness = Freshness::new(ticket.generation, ticket.at_ms);
        let slot = Arc::new(AppSlot::new(id, self.app_state(version, Some(record)), freshness));
        if !moved {
            stretch.payload.add(&slot);
            self.apps.insert(id, Arc::clone(&slot));
            self.absent_apps.invalidate(&id);
        }
        Settled::Accepted(slot)
    }

    /// A fill has read this key, and `slot` is its application's.
    pub(super) fn settle_key(&self, ticket: &Ticket, record: KeyRecord, slot: Arc<AppSlot>) -> Settled<Arc<KeyEntry>> {
        let (digest, version) = (record.digest, record.version);
        // Only a slot that changes reach may be kept.
        let reached = self
            .fence
            .app(&slot.id())
            .payload
            .find(&slot.id())
            .is_some_and(|held| Arc::ptr_eq(&held, &slot));
        let stretch = self.fence.key(&digest);
        let moved = stretch.moved_since(ticket);
        if let Some(held) = self.keys.get(&digest) {
            if version < held.record.version {
                return if moved || held.freshness.is_younger_than(ticket.at_ms) {
                    Settled::Accepted(held)
                } else {
                    Settled::Behind
                };
            }
            if version == held.record.version && Arc::ptr_eq(&held.app, &slot) {
                if !moved {
                    held.freshness.confirm(ticket.generation, ticket.at_ms);
                }
                return Settled::Accepted(held);
            }
        }
        if self.key_floors.get(&digest).is_some_and(|floor| version < floor) {
            return Settled::Behind;
        }
        let entry = Arc::new(KeyEntry::new(
            record.into(),
            slot,
            Freshness::new(ticket.generation, ticket.at_ms),
        ));
        if reached && !moved {
            self.absent_keys.invalidate(&digest);
            self.keys.insert(digest, Arc::clone(&entry));
        }
        drop(stretch);
        Settled::Accepted(entry)
    }

    /// A fill found that there is no such key.
    pub(super) fn settle_absent_key(&self, ticket: &Ticket, digest: &Digest) -> Absence {
        let stretch = self.fence.key(digest);
        if stretch.moved_since(ticket) {
            return Absence::Overtaken;
        }
        self.keys.invalidate(digest);
        self.absent_keys.insert(*digest, ());
        drop(stretch);
        Absence::Kept
    }

    /// A fill found that there is no such application.
    pub(super) fn settle_absent_app(&self, ticket: &Ticket, id: &ApplicationId) -> Absence {
        let stretch = self.fence.app(id);
        if stretch.moved_since(ticket) {
            return Absence::Overtaken;
        }
        if let Some(slot) = stretch.payload.find(id) {
            slot.replace(self.app_state(slot.version(), None));
            slot.freshness.confirm(ticket.generation, ticket.at_ms);
        }
        self.apps.invalidate(id);
        self.absent_apps.insert(*id, ());
        Absence::Kept
    }

    /// The feed brings a change. `hold_new`: keep the record even when nothing asked for it yet.
    pub(super) fn apply(&self, change: Change, now_ms: i64, hold_new: bool) -> Applied {
        match change {
            Change::App(id, versioned) => self.apply_app(id, versioned, now_ms, hold_new),
            Change::Key(digest, versioned) => self.apply_key(digest, versioned, now_ms, hold_new),
            Change::Host(host, versioned) => self.apply_host(&host, versioned, now_ms, hold_new),
            Change::Complete => Applied::Ignored,
        }
    }

    fn apply_app(&self, id: ApplicationId, change: Versioned<AppRecord>, now_ms: i64, hold_new: bool) -> Applied {
        let mut stretch = self.fence.app(&id);
        self.fence.change(&mut stretch, now_ms);
        let floor = self.app_floors.get(&id);
        if floor.is_none_or(|floor| floor < change.version) {
            self.app_floors.insert(id, change.version);
        }
        self.absent_apps.invalidate(&id);
        let freshness = self.delivered_freshness(now_ms);
        let Some(slot) = stretch.payload.find(&id) else {
            if !hold_new || floor.is_some_and(|floor| change.version < floor) {
                return Applied::NotHeld;
            }
            let slot = Arc::new(AppSlot::new(
                id,
                self.app_state(change.version, change.record),
                freshness,
            ));
            stretch.payload.add(&slot);
            self.apps.insert(id, slot);
            return Applied::Updated;
        };
        if change.version <= slot.version() {
            // A row that was once not found is not vouched for by an old record of it.
            if change.version == slot.version() && change.record.is_some() == slot.load().is_some() {
                slot.freshness.confirm_like(&freshness);
            }
            return Applied::Known;
        }
        slot.replace(self.app_state(change.version, change.record));
        slot.freshness.confirm_like(&freshness);
        if hold_new || self.apps.contains_key(&id) {
            // New here, or of another weight than before.
            self.apps.insert(id, slot);
        }
        Applied::Updated
    }

    fn apply_key(&self, digest: Digest, change: Versioned<KeyRecord>, now_ms: i64, hold_new: bool) -> Applied {
        let slot = match (&change.record, hold_new) {
            (Some(record), true) => Some(self.slot_or_place(&record.application_id)),
            _ => None,
        };
        let mut stretch = self.fence.key(&digest);
        self.fence.change(&mut stretch, now_ms);
        let floor = self.key_floors.get(&digest);
        if floor.is_none_or(|floor| floor < change.version) {
            self.key_floors.insert(digest, change.version);
        }
        self.absent_keys.invalidate(&digest);
        let held = self.keys.get(&digest);
        let freshness = self.delivered_freshness(now_ms);
        if let Some(held) = held.as_ref().filter(|held| change.version <= held.record.version) {
            if change.version == held.record.version && change.record.is_some() {
                held.freshness.confirm_like(&freshness);
            }
            return Applied::Known;
        }
        if held.is_none() && floor.is_some_and(|floor| change.version < floor) {
            return Applied::NotHeld;
        }
        let slot = held.as_ref().map(|held| Arc::clone(&held.app)).or(slot);
        match (change.record, slot) {
            // A key never moves to another application; a record that says so is read again.
            (Some(record), Some(slot)) if record.application_id == slot.id() => {
                self.keys
                    .insert(digest, Arc::new(KeyEntry::new(record.into(), slot, freshness)));
                Applied::Updated
            }
            _ if held.is_some() => {
                self.keys.invalidate(&digest);
                Applied::Updated
            }
            _ => Applied::NotHeld,
        }
    }

    /// Freshness of what the feed delivers. Until it is known where the stream stands, what it says counts as old: it is acted
    /// on only when nothing else answers.
    fn delivered_freshness(&self, now_ms: i64) -> Freshness {
        let read_ms = if self.pulse.is_comparable() {
            now_ms
        } else {
            now_ms.saturating_sub(self.pulse.stale_bound_ms())
        };
        Freshness::new(self.pulse.generation(), read_ms)
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
mod tests;
