//! What the feed may write: everything that is newer than what is known, and of what is not held at least its version, so
//! that nothing older comes in later.

use std::sync::Arc;

use authsome_contract::model::{AppRecord, KeyRecord};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use super::super::entry::{AppSlot, KeyEntry};
use super::super::freshness::Freshness;
use super::super::key::HeldKey;
use super::{Table, is_other};

/// What a change of the feed met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::routing) enum Applied {
    /// The entry was here and is replaced, or gone.
    Updated,
    /// The entry was not here; its floor is set.
    NotHeld,
    /// The entry here is as new or newer.
    Known,
    /// A kind of change that this table does not hold.
    Ignored,
}

impl Table {
    /// The feed brings a change. `hold_new`: keep the record even when nothing asked for it yet.
    pub(in crate::routing) fn apply(&self, change: Change, now_ms: i64, hold_new: bool) -> Applied {
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
        let differs = |record: &AppRecord| {
            let generation = self.pulse.generation();
            slot.load()
                .is_some_and(|held| is_other(&held.record, record, &slot.freshness, generation))
        };
        let corrects = change.version == slot.version() && change.record.as_ref().is_some_and(differs);
        if change.version <= slot.version() && !corrects {
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
        let record = change.record.map(HeldKey::from);
        let corrects = |held: &KeyEntry| {
            let differs = |record| is_other(&held.record, record, &held.freshness, self.pulse.generation());
            change.version == held.record.version() && record.as_ref().is_some_and(differs)
        };
        let known = |held: &&Arc<KeyEntry>| change.version <= held.record.version() && !corrects(held);
        if let Some(held) = held.as_ref().filter(known) {
            if change.version == held.record.version() && record.is_some() {
                held.freshness.confirm_like(&freshness);
            }
            return Applied::Known;
        }
        if held.is_none() && floor.is_some_and(|floor| change.version < floor) {
            return Applied::NotHeld;
        }
        let slot = held.as_ref().map(|held| Arc::clone(&held.app)).or(slot);
        match (record, slot) {
            // A key never moves to another application; a record that says so is read again.
            (Some(record), Some(slot)) if record.application_id == slot.id() => {
                let entry = KeyEntry::new(record, slot, freshness).succeeding(held.as_ref());
                self.keys.insert(digest, Arc::new(entry));
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
    pub(super) fn delivered_freshness(&self, now_ms: i64) -> Freshness {
        let read_ms = if self.pulse.is_comparable() {
            now_ms
        } else {
            now_ms.saturating_sub(self.pulse.stale_bound_ms())
        };
        Freshness::new(self.pulse.generation(), read_ms)
    }
}
