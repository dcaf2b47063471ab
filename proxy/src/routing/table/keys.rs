//! The keys: moka's cache, which decides what stays, and before it a row of places in which a key that was found lately is
//! found again without moka.
//!
//! moka writes down every look-up, to know what is used, and its entry lies in five pieces of memory: among a hundred thousand
//! keys a look-up took 1.2 µs, half of it for the account. A place is one pointer at an index made of the digest; what stands
//! there is believed only while the table holds that very entry, which the entry itself says ([`Presence`]). So that moka
//! goes on knowing what is used, a key goes through it once in [`NOTED_MS`].
//!
//! What changes or leaves says so before the change is done: moka tells its listener within the call that inserts or
//! invalidates, and when it evicts. A place may hold an entry that left for as long as it takes to be overwritten or cleared;
//! no reader acts on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use authsome_core::key::Digest;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::super::entry::KeyEntry;
use super::super::hash::UniformState;
use super::parts::Parts;

/// A key that is used all the time is looked up in moka so often, milliseconds: enough to tell it from one that is not.
const NOTED_MS: i64 = 10_000;
/// Of the bound on the keys' memory for each place: two places for a key of the usual size, so that most keys that are in
/// use have one to themselves. 3 % of that memory.
const BYTES_A_PLACE: u64 = 256;
/// 64 MiB of places.
const MOST_PLACES: usize = 1 << 23;

/// What an entry says of its own standing.
#[derive(Debug, Default)]
pub(in crate::routing) struct Presence {
    left: AtomicBool,
    noted_ms: AtomicI64,
}

impl Presence {
    /// The table holds another entry in its place, or none.
    fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Does moka know well enough that it is used?
    fn is_noted(&self, now_ms: i64) -> bool {
        // A clock that was set back makes it be noted again.
        now_ms.abs_diff(self.noted_ms.load(Ordering::Relaxed)) < NOTED_MS.unsigned_abs()
    }
}

pub(super) struct Keys {
    kept: Parts<Digest, Arc<KeyEntry>>,
    places: Arc<Places>,
}

impl Keys {
    /// `left` hears of every entry that leaves, and why.
    pub(super) fn new(
        bytes: u64,
        hasher: impl Fn() -> UniformState,
        left: impl Fn(RemovalCause) + Clone + Send + Sync + 'static,
    ) -> Self {
        let places = Arc::new(Places::new(bytes));
        let kept = Parts::new(bytes, |bytes| {
            let (places, left) = (Arc::clone(&places), left.clone());
            Cache::builder()
                .max_capacity(bytes)
                .weigher(|_, entry: &Arc<KeyEntry>| entry.weight())
                .eviction_listener(move |_, entry: Arc<KeyEntry>, cause| {
                    entry.presence.leave();
                    places.clear(&entry);
                    left(cause);
                })
                .build_with_hasher(hasher())
        });
        Self { kept, places }
    }

    /// For a request at `now_ms`.
    pub(super) fn find(&self, digest: &Digest, now_ms: i64) -> Option<Arc<KeyEntry>> {
        if let Some(entry) = self.places.get(digest, now_ms) {
            return Some(entry);
        }
        let entry = self.kept.get(digest)?;
        entry.presence.noted_ms.store(now_ms, Ordering::Relaxed);
        self.places.put(&entry);
        Some(entry)
    }

    /// For whoever is about to write.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<KeyEntry>> {
        self.kept.get(digest)
    }

    /// Does not count as a use.
    pub(super) fn contains_key(&self, digest: &Digest) -> bool {
        self.kept.contains_key(digest)
    }

    pub(super) fn insert(&self, digest: Digest, entry: Arc<KeyEntry>) {
        self.kept.insert(digest, entry);
    }

    pub(super) fn invalidate(&self, digest: &Digest) {
        self.kept.invalidate(digest);
    }

    /// Part after part.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Digest, Arc<KeyEntry>)> {
        self.kept.iter()
    }

    /// A little behind the last writes.
    pub(super) fn entry_count(&self) -> u64 {
        self.kept.entry_count()
    }

    /// As [`Self::entry_count`].
    pub(super) fn weighted_size(&self) -> u64 {
        self.kept.weighted_size()
    }

    pub(super) fn run_pending_tasks(&self) {
        self.kept.run_pending_tasks();
    }
}

/// See the module.
struct Places(Box<[ArcSwapOption<KeyEntry>]>);

impl Places {
    fn new(bytes: u64) -> Self {
        let wanted = usize::try_from(bytes / BYTES_A_PLACE).unwrap_or(MOST_PLACES);
        let count = wanted.clamp(1, MOST_PLACES).next_power_of_two();
        Self((0..count).map(|_| ArcSwapOption::empty()).collect())
    }

    fn of(&self, digest: &Digest) -> &ArcSwapOption<KeyEntry> {
        let index = usize::try_from(digest.leading_bits()).unwrap_or(usize::MAX);
        // The count is a power of two.
        &self.0[index & (self.0.len() - 1)]
    }

    fn get(&self, digest: &Digest, now_ms: i64) -> Option<Arc<KeyEntry>> {
        let place = self.of(digest).load();
        let entry = place.as_ref()?;
        let usable = entry.record.digest == *digest && entry.presence.is_noted(now_ms) && !entry.presence.has_left();
        usable.then(|| Arc::clone(entry))
    }

    fn put(&self, entry: &Arc<KeyEntry>) {
        let place = self.of(&entry.record.digest);
        if place.load().as_ref().is_some_and(|held| Arc::ptr_eq(held, entry)) {
            return;
        }
        place.store(Some(Arc::clone(entry)));
        // It may have left between being found and standing here: whoever made it leave found the place without it.
        if entry.presence.has_left() {
            self.clear(entry);
        }
    }

    /// Takes the entry out, lest it live on for as long as nobody else needs its place.
    fn clear(&self, entry: &Arc<KeyEntry>) {
        let place = self.of(&entry.record.digest);
        let held = place.load();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, entry)) {
            place.compare_and_swap(&held, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use authsome_contract::model::Version;
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::id::ApplicationId;
    use uuid::Uuid;

    use super::super::super::entry::{AppSlot, AppState};
    use super::super::super::freshness::Freshness;
    use super::super::super::key::HeldKey;
    use super::super::tests::{NOW, key};
    use super::*;

    fn keys(bytes: u64) -> Keys {
        Keys::new(bytes, || UniformState::new(&SeededEntropy::new(1)), |_| ())
    }

    fn entry(text: &[u8], row: u64) -> Arc<KeyEntry> {
        let nothing = AppState {
            version: Version { epoch: 0, row: 0 },
            entry: None,
        };
        let id = ApplicationId::from_uuid(Uuid::from_u128(7));
        let slot = Arc::new(AppSlot::new(id, nothing, Freshness::never()));
        let mut record = key(row);
        record.digest = Digest::of(text);
        Arc::new(KeyEntry::new(HeldKey::from(record), slot, Freshness::new(1, NOW)))
    }

    fn row(keys: &Keys, digest: &Digest, now_ms: i64) -> Option<u64> {
        keys.find(digest, now_ms).map(|entry| entry.record.version().row)
    }

    #[test]
    fn what_was_found_is_found_again_without_moka_until_it_is_noted_anew() {
        let keys = keys(1 << 20);
        let held = entry(b"a", 1);
        let digest = held.record.digest;
        keys.insert(digest, held);
        assert!(keys.places.get(&digest, NOW).is_none(), "not looked for yet");
        assert_eq!(row(&keys, &digest, NOW), Some(1));
        for at in [NOW, NOW + NOTED_MS - 1] {
            assert!(keys.places.get(&digest, at).is_some());
        }
        for at in [NOW + NOTED_MS, NOW - NOTED_MS] {
            assert!(keys.places.get(&digest, at).is_none());
            assert_eq!(row(&keys, &digest, at), Some(1));
            assert!(keys.places.get(&digest, at).is_some(), "noted at {at}");
        }
    }

    #[test]
    fn what_is_replaced_removed_or_evicted_is_not_found_any_more_and_its_place_is_cleared() {
        let keys = keys(1 << 20);
        let digest = entry(b"a", 1).record.digest;
        let stands = |keys: &Keys| keys.places.of(&digest).load().is_some();
        keys.insert(digest, entry(b"a", 1));
        assert_eq!(row(&keys, &digest, NOW), Some(1));
        assert!(stands(&keys));
        keys.insert(digest, entry(b"a", 2));
        assert!(!stands(&keys));
        assert_eq!(row(&keys, &digest, NOW), Some(2));
        keys.invalidate(&digest);
        assert!(!stands(&keys));
        assert_eq!(row(&keys, &digest, NOW), None);

        keys.insert(digest, entry(b"a", 3));
        assert_eq!(row(&keys, &digest, NOW), Some(3));
        for n in 0..100_000_u64 {
            let other = entry(&n.to_be_bytes(), 1);
            keys.insert(other.record.digest, Arc::clone(&other));
            // Used more than the first one.
            for _ in 0..3 {
                keys.get(&other.record.digest);
            }
            keys.run_pending_tasks();
            if !keys.contains_key(&digest) {
                assert!(!stands(&keys));
                assert_eq!(row(&keys, &digest, NOW), None);
                return;
            }
        }
        panic!("it was never evicted");
    }

    #[test]
    fn two_keys_with_one_place_are_both_found() {
        let keys = keys(1);
        assert_eq!(keys.places.0.len(), 1);
        let big = Keys {
            kept: super::super::parts::Parts::new(1 << 20, |bytes| {
                Cache::builder()
                    .max_capacity(bytes)
                    .build_with_hasher(UniformState::new(&SeededEntropy::new(1)))
            }),
            places: keys.places,
        };
        let (a, b) = (entry(b"a", 1), entry(b"b", 2));
        let digests = [a.record.digest, b.record.digest];
        big.insert(digests[0], a);
        big.insert(digests[1], b);
        for _ in 0..3 {
            assert_eq!(row(&big, &digests[0], NOW), Some(1));
            assert_eq!(row(&big, &digests[1], NOW), Some(2));
        }
    }

    #[test]
    fn no_reader_finds_an_older_entry_than_was_there_when_it_began() {
        let keys = keys(1 << 20);
        let digest = entry(b"a", 0).record.digest;
        let (done, rounds) = (AtomicU64::new(0), 50_000);
        keys.insert(digest, entry(b"a", 0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let known = done.load(Ordering::SeqCst);
                        let found = row(&keys, &digest, NOW);
                        assert!(found.is_none_or(|row| row >= known), "{found:?} after {known}");
                        if known == rounds {
                            return;
                        }
                    }
                });
            }
            for row in 1..=rounds {
                if row % 3 == 0 {
                    keys.invalidate(&digest);
                }
                keys.insert(digest, entry(b"a", row));
                done.store(row, Ordering::SeqCst);
            }
        });
    }
}
