//! The table as a whole: put back from a snapshot, gone through for one, and compared with what should be in it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use authsome_contract::model::{AppRecord, KeyRecord, Version};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use super::super::entry::{AppSlot, AppState, KeyEntry};
use super::super::fence::Ticket;
use super::super::freshness::Freshness;
use super::super::key::HeldKey;
use super::{Settled, Table};

/// The generation of what a snapshot brings; no feed ever vouches for it.
pub(super) const NO_GENERATION: u32 = 0;

impl Table {
    /// The slot of an application, or a place for it that nothing may be done with before the application arrives: keys may
    /// come before it.
    pub(super) fn slot_or_place(&self, id: &ApplicationId) -> Arc<AppSlot> {
        let mut stretch = self.fence.app(id);
        if let Some(slot) = stretch.payload.find(id) {
            return slot;
        }
        let nothing = AppState {
            version: Version { epoch: 0, row: 0 },
            entry: None,
        };
        let slot = Arc::new(AppSlot::new(*id, nothing, Freshness::never()));
        stretch.payload.add(&slot);
        slot
    }

    /// A snapshot has this application, last known to be the truth at `confirmed_ms`. What is held already is newer.
    pub(in crate::routing) fn restore_app(&self, record: AppRecord, confirmed_ms: i64) {
        let (id, version) = (record.id, record.version);
        let slot = self.slot_or_place(&id);
        let stretch = self.fence.app(&id);
        let is_old = self.app_floors.contains_key(&id) && self.app_floors.get(&id).is_some_and(|floor| version < floor);
        if version > slot.version() && !is_old {
            slot.replace(self.app_state(version, Some(record)));
            slot.freshness.confirm(NO_GENERATION, confirmed_ms);
            self.apps.insert(id, slot);
        }
        drop(stretch);
    }

    /// As [`Self::restore_app`], for a key. The usual table is empty then, so what is usually not there is asked for without
    /// moka's account of look-ups, which is what a miss costs there.
    pub(in crate::routing) fn restore_key(&self, key: HeldKey, confirmed_ms: i64) {
        let (digest, version) = (key.digest, key.version());
        let slot = self.slot_or_place(&key.application_id);
        let stretch = self.fence.key(&digest);
        let below = |floor| version < floor;
        let known = |held: Arc<KeyEntry>| version <= held.record.version();
        let is_old = self.key_floors.contains_key(&digest) && self.key_floors.get(&digest).is_some_and(below)
            || self.keys.contains_key(&digest) && self.keys.get(&digest).is_some_and(known);
        if !is_old {
            let freshness = Freshness::new(NO_GENERATION, confirmed_ms);
            self.keys.insert(digest, Arc::new(KeyEntry::new(key, slot, freshness)));
        }
        drop(stretch);
    }

    /// As [`Self::settle_key`], for a page of keys that was read without their applications.
    pub(in crate::routing) fn settle_key_of_page(&self, ticket: &Ticket, record: KeyRecord) -> Settled<Arc<KeyEntry>> {
        let slot = self.slot_or_place(&record.application_id);
        self.settle_key(ticket, record, slot)
    }

    /// A change of this key passed of which nothing else is known: what is being read now may be older, and that it did not
    /// exist says nothing any more.
    pub(in crate::routing) fn doubt_key(&self, digest: &Digest, now_ms: i64) {
        let mut stretch = self.fence.key(digest);
        self.fence.change(&mut stretch, now_ms);
        self.absent_keys.invalidate(digest);
    }

    /// As [`Self::doubt_key`], of an application.
    pub(in crate::routing) fn doubt_app(&self, id: &ApplicationId, now_ms: i64) {
        let mut stretch = self.fence.app(id);
        self.fence.change(&mut stretch, now_ms);
        self.absent_apps.invalidate(id);
    }

    /// Version of the application that is held.
    pub(in crate::routing) fn app_version(&self, id: &ApplicationId) -> Option<Version> {
        let slot = self.apps.get(id)?;
        slot.load().is_some().then(|| slot.version())
    }

    /// Version of the key that is held.
    pub(in crate::routing) fn key_version(&self, digest: &Digest) -> Option<Version> {
        Some(self.keys.get(digest)?.record.version())
    }

    /// Calls `each` with every application that is held and the time at which it was last known to be the truth.
    pub(in crate::routing) fn each_app<E>(
        &self,
        mut each: impl FnMut(&AppRecord, i64) -> Result<(), E>,
    ) -> Result<(), E> {
        for (_, slot) in self.apps.iter() {
            if let Some(app) = slot.load() {
                each(&app.record, self.pulse.confirmed_ms(&slot.freshness))?;
            }
        }
        Ok(())
    }

    /// As [`Self::each_app`], for keys.
    pub(in crate::routing) fn each_key<E>(
        &self,
        mut each: impl FnMut(&HeldKey, i64) -> Result<(), E>,
    ) -> Result<(), E> {
        for (_, entry) in self.keys.iter() {
            each(&entry.record, self.pulse.confirmed_ms(&entry.freshness))?;
        }
        Ok(())
    }

    /// Digests that are held and whose first byte is in `first`.
    pub(in crate::routing) fn digests(&self, first: &RangeInclusive<u8>) -> Vec<Digest> {
        let held = self.keys.iter().map(|(digest, _)| digest);
        held.filter(|digest| first.contains(&digest.as_bytes()[0])).collect()
    }

    /// Ids of the applications that are held.
    pub(in crate::routing) fn app_ids(&self) -> Vec<ApplicationId> {
        let held = self.apps.iter().filter(|(_, slot)| slot.load().is_some());
        held.map(|(id, _)| id).collect()
    }

    /// Did anything leave because there was no room? Then absence says nothing.
    pub(in crate::routing) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }
}
