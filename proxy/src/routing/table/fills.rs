//! What a fill may write: only what no change has passed while it was read, and nothing older than what is known.

use std::sync::Arc;

use authsome_contract::model::{AppRecord, KeyRecord};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use super::super::entry::{AppEntry, AppSlot, KeyEntry};
use super::super::fence::Ticket;
use super::super::freshness::Freshness;
use super::super::key::HeldKey;
use super::{Table, is_other};

/// What became of a record that a fill brought.
#[derive(Debug, Clone)]
pub(in crate::routing) enum Settled<T> {
    /// This is the record to act on: the one that was brought, or a newer one that came meanwhile.
    Accepted(T),
    /// Something newer was known before: the source is behind; ask another.
    Behind,
}

/// What became of a fill's word that there is no such row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::routing) enum Absence {
    /// It is remembered for a moment.
    Kept,
    /// A change passed meanwhile: read again.
    Overtaken,
}

impl Table {
    /// A slot that needs no reading now.
    pub(in crate::routing) fn fresh_slot(&self, id: &ApplicationId, now_ms: i64) -> Option<Arc<AppSlot>> {
        let slot = self.fence.app(id).payload.find(id)?;
        self.pulse.is_fresh(&slot.freshness, now_ms).then_some(slot)
    }

    pub(in crate::routing) fn ticket(&self, now_ms: i64) -> Ticket {
        self.fence.ticket(self.pulse.generation(), now_ms)
    }

    /// A change of this name (or of one that shares its stretch) arrived so lately that Redis, which is written
    /// independently, may not have it yet.
    pub(in crate::routing) fn key_just_changed(&self, digest: &Digest, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.fence.key(digest).changed_ms()) < self.redis_lag_ms
    }

    /// As [`Self::key_just_changed`], for an application.
    pub(in crate::routing) fn app_just_changed(&self, id: &ApplicationId, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.fence.app(id).changed_ms()) < self.redis_lag_ms
    }

    /// A fill has read this application.
    pub(in crate::routing) fn settle_app(&self, ticket: &Ticket, record: AppRecord) -> Settled<Arc<AppSlot>> {
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
            let differs = |held: Arc<AppEntry>| is_other(&held.record, &record, &slot.freshness, ticket.generation);
            if version > held || slot.load().is_none_or(differs) {
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
    pub(in crate::routing) fn settle_key(
        &self,
        ticket: &Ticket,
        record: KeyRecord,
        slot: Arc<AppSlot>,
    ) -> Settled<Arc<KeyEntry>> {
        let record = HeldKey::from(record);
        let (digest, version) = (record.digest, record.version());
        // Only a slot that changes reach may be kept.
        let reached = self
            .fence
            .app(&slot.id())
            .payload
            .find(&slot.id())
            .is_some_and(|held| Arc::ptr_eq(&held, &slot));
        let stretch = self.fence.key(&digest);
        let moved = stretch.moved_since(ticket);
        let before = self.keys.get(&digest);
        if let Some(held) = before.clone() {
            if version < held.record.version() {
                return if moved || held.freshness.is_younger_than(ticket.at_ms) {
                    Settled::Accepted(held)
                } else {
                    Settled::Behind
                };
            }
            let differs = is_other(&held.record, &record, &held.freshness, ticket.generation);
            if version == held.record.version() && Arc::ptr_eq(&held.app, &slot) && !differs {
                if !moved {
                    held.freshness.confirm(ticket.generation, ticket.at_ms);
                }
                return Settled::Accepted(held);
            }
        }
        if self.key_floors.get(&digest).is_some_and(|floor| version < floor) {
            return Settled::Behind;
        }
        let freshness = Freshness::new(ticket.generation, ticket.at_ms);
        let entry = Arc::new(KeyEntry::new(record, slot, freshness).succeeding(before.as_ref()));
        if reached && !moved {
            self.absent_keys.invalidate(&digest);
            self.keys.insert(digest, Arc::clone(&entry));
        }
        drop(stretch);
        Settled::Accepted(entry)
    }

    /// A fill found that there is no such key.
    pub(in crate::routing) fn settle_absent_key(&self, ticket: &Ticket, digest: &Digest) -> Absence {
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
    pub(in crate::routing) fn settle_absent_app(&self, ticket: &Ticket, id: &ApplicationId) -> Absence {
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
}
