//! Host names in the table, by the same rules as keys: newer versions only, a fill only when no change passed while it was
//! read, nothing below the floor, and no answer from a name that nobody vouches for.
//!
//! Unlike a key a host may be given to another application, so a change brings its slot along.

use std::collections::hash_map::RandomState;
use std::sync::Arc;

use authsome_contract::model::{HostRecord, Version};
use authsome_contract::wire::Versioned;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::super::RoutingSettings;
use super::super::entry::{AppSlot, Lookup};
use super::super::fence::Ticket;
use super::super::freshness::Freshness;
use super::super::host::HostEntry;
use super::super::metrics::Evictions;
use super::super::pulse::Age;
use super::load::NO_GENERATION;
use super::{Absence, Applied, Settled, Table, is_other};

/// Strangers choose the names that are looked up, and unlike digests they are not uniform: hashed with `SipHash`.
type Names<V> = Cache<Arc<str>, V, RandomState>;

pub(super) struct Hosts {
    held: Names<Arc<HostEntry>>,
    absent: Names<()>,
    /// Newest versions that the feed spoke of, tombstones included, for names that may not be held.
    floors: Names<Version>,
}

impl Hosts {
    pub(super) fn new(
        settings: &RoutingSettings,
        evictions: Evictions,
        notice: impl Fn(RemovalCause) + Send + Sync + 'static,
    ) -> Self {
        Self {
            held: Cache::builder()
                .max_capacity(settings.hosts_bytes)
                .weigher(|_, entry: &Arc<HostEntry>| entry.weight())
                .eviction_listener(move |_, _, cause| {
                    evictions.count(cause);
                    notice(cause);
                })
                .build(),
            absent: Cache::builder()
                .max_capacity(settings.negative_entries)
                .time_to_live(settings.negative_ttl)
                .build(),
            floors: Cache::builder()
                .max_capacity(settings.floors)
                .time_to_live(settings.floor_ttl)
                .build(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.held.entry_count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.held.weighted_size()
    }

    pub(super) fn absent_count(&self) -> u64 {
        self.absent.entry_count()
    }

    pub(super) fn floor_count(&self) -> u64 {
        self.floors.entry_count()
    }

    pub(super) fn tidy(&self) {
        self.held.run_pending_tasks();
        self.absent.run_pending_tasks();
        self.floors.run_pending_tasks();
    }

    fn is_below_floor(&self, host: &str, version: Version) -> bool {
        self.floors.get(host).is_some_and(|floor| version < floor)
    }
}

impl Table {
    pub(in crate::routing) fn host(&self, host: &str, now_ms: i64) -> Lookup<Arc<HostEntry>> {
        match self.hosts.held.get(host) {
            Some(entry)
                if self.pulse.is_fresh(&entry.freshness, now_ms)
                    && self.pulse.is_fresh(&entry.app.freshness, now_ms) =>
            {
                Lookup::Hit(entry)
            }
            None if self.hosts.absent.contains_key(host) => Lookup::Absent,
            Some(_) | None => Lookup::Unknown,
        }
    }

    /// As [`Self::last_known_key`].
    pub(in crate::routing) fn last_known_host(&self, host: &str, now_ms: i64) -> Option<Arc<HostEntry>> {
        let entry = self.hosts.held.get(host)?;
        let dead = |freshness| self.pulse.age(freshness, now_ms) == Age::Dead;
        (!dead(&entry.freshness) && !dead(&entry.app.freshness)).then_some(entry)
    }

    /// As [`Self::key_just_changed`].
    pub(in crate::routing) fn host_just_changed(&self, host: &str, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.fence.host(host).changed_ms()) < self.redis_lag_ms
    }

    /// A fill has read this host, and `slot` is its application's.
    pub(in crate::routing) fn settle_host(
        &self,
        ticket: &Ticket,
        record: HostRecord,
        slot: Arc<AppSlot>,
    ) -> Settled<Arc<HostEntry>> {
        let version = record.version;
        // Only a slot that changes reach may be kept.
        let reached = self
            .fence
            .app(&slot.id())
            .payload
            .find(&slot.id())
            .is_some_and(|held| Arc::ptr_eq(&held, &slot));
        let stretch = self.fence.host(&record.host);
        let moved = stretch.moved_since(ticket);
        if let Some(held) = self.hosts.held.get(record.host.as_str()) {
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
        if self.hosts.is_below_floor(&record.host, version) {
            return Settled::Behind;
        }
        let name: Arc<str> = Arc::from(record.host.as_str());
        let freshness = Freshness::new(ticket.generation, ticket.at_ms);
        let entry = Arc::new(HostEntry::new(record, slot, freshness));
        if reached && !moved {
            self.hosts.absent.invalidate(&name);
            self.hosts.held.insert(name, Arc::clone(&entry));
        }
        drop(stretch);
        Settled::Accepted(entry)
    }

    /// As [`Self::settle_host`], for a page of hosts that was read without their applications.
    pub(in crate::routing) fn settle_host_of_page(
        &self,
        ticket: &Ticket,
        record: HostRecord,
    ) -> Settled<Arc<HostEntry>> {
        let slot = self.slot_or_place(&record.application_id);
        self.settle_host(ticket, record, slot)
    }

    /// A fill found that there is no such host.
    pub(in crate::routing) fn settle_absent_host(&self, ticket: &Ticket, host: &Arc<str>) -> Absence {
        let stretch = self.fence.host(host);
        if stretch.moved_since(ticket) {
            return Absence::Overtaken;
        }
        self.hosts.held.invalidate(host);
        self.hosts.absent.insert(Arc::clone(host), ());
        drop(stretch);
        Absence::Kept
    }

    pub(super) fn apply_host(&self, host: &str, change: Versioned<HostRecord>, now_ms: i64, hold_new: bool) -> Applied {
        // Before the lock of the host: the slot has one of its own.
        let slot = match &change.record {
            Some(record) if hold_new || self.hosts.held.contains_key(host) => {
                Some(self.slot_or_place(&record.application_id))
            }
            _ => None,
        };
        let mut stretch = self.fence.host(host);
        self.fence.change(&mut stretch, now_ms);
        let name: Arc<str> = Arc::from(host);
        let floor = self.hosts.floors.get(host);
        if floor.is_none_or(|floor| floor < change.version) {
            self.hosts.floors.insert(Arc::clone(&name), change.version);
        }
        self.hosts.absent.invalidate(host);
        let held = self.hosts.held.get(host);
        let freshness = self.delivered_freshness(now_ms);
        let corrects = |held: &HostEntry| {
            let differs = |record| is_other(&held.record, record, &held.freshness, self.pulse.generation());
            change.version == held.record.version && change.record.as_ref().is_some_and(differs)
        };
        let known = |held: &&Arc<HostEntry>| change.version <= held.record.version && !corrects(held);
        if let Some(held) = held.as_ref().filter(known) {
            if change.version == held.record.version && change.record.is_some() {
                held.freshness.confirm_like(&freshness);
            }
            return Applied::Known;
        }
        if held.is_none() && floor.is_some_and(|floor| change.version < floor) {
            return Applied::NotHeld;
        }
        match (change.record, slot) {
            // A record under another name is one that its sender did not mean.
            (Some(record), Some(slot)) if record.host == host => {
                self.hosts
                    .held
                    .insert(name, Arc::new(HostEntry::new(record, slot, freshness)));
                Applied::Updated
            }
            _ if held.is_some() => {
                self.hosts.held.invalidate(host);
                Applied::Updated
            }
            _ => Applied::NotHeld,
        }
    }

    /// As [`Self::restore_key`].
    pub(in crate::routing) fn restore_host(&self, record: HostRecord, confirmed_ms: i64) {
        let version = record.version;
        let slot = self.slot_or_place(&record.application_id);
        let stretch = self.fence.host(&record.host);
        let name: Arc<str> = Arc::from(record.host.as_str());
        let is_old =
            self.hosts.is_below_floor(&name, version) || self.host_version(&name).is_some_and(|held| version <= held);
        if !is_old {
            let freshness = Freshness::new(NO_GENERATION, confirmed_ms);
            self.hosts
                .held
                .insert(name, Arc::new(HostEntry::new(record, slot, freshness)));
        }
        drop(stretch);
    }

    /// As [`Self::doubt_key`], of a host.
    pub(in crate::routing) fn doubt_host(&self, host: &str, now_ms: i64) {
        let mut stretch = self.fence.host(host);
        self.fence.change(&mut stretch, now_ms);
        self.hosts.absent.invalidate(host);
    }

    /// Version of the host that is held.
    pub(in crate::routing) fn host_version(&self, host: &str) -> Option<Version> {
        Some(self.hosts.held.get(host)?.record.version)
    }

    /// As [`Self::each_key`].
    pub(in crate::routing) fn each_host<E>(
        &self,
        mut each: impl FnMut(&HostRecord, i64) -> Result<(), E>,
    ) -> Result<(), E> {
        for (_, entry) in &self.hosts.held {
            each(&entry.record, self.pulse.confirmed_ms(&entry.freshness))?;
        }
        Ok(())
    }

    /// Names that are held.
    pub(in crate::routing) fn host_names(&self) -> Vec<Arc<str>> {
        self.hosts.held.iter().map(|(name, _)| Arc::clone(&*name)).collect()
    }
}
