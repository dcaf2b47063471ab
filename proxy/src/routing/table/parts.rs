//! A cache in four parts, by bits of the name.
//!
//! moka keeps the books of a cache under one lock, so threads that fill one cache wait for each other there. What is loaded
//! comes in the order of the parts, so that each thread has parts to itself; requests find their part by two bits. More parts
//! make filling no faster on the few cores of an edge, and look-ups slower: the books of each part are kept 64 reads at a time,
//! and the more parts, the less of what was read is still in the processor's cache by then.

use std::hash::Hash;

use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use moka::sync::Cache;

use super::super::hash::UniformState;

pub(super) const PARTS: usize = 4;

/// A name with bits that are uniform and that neither the fence nor the buckets go by alone.
pub(in crate::routing) trait Name: Copy + Eq + Hash + Send + Sync + 'static {
    /// Eight such bits.
    fn bits(&self) -> u8;
}

impl Name for Digest {
    fn bits(&self) -> u8 {
        self.as_bytes()[0]
    }
}

impl Name for ApplicationId {
    /// The last 62 bits of a UUIDv7 are random.
    fn bits(&self) -> u8 {
        self.uuid().as_bytes()[9]
    }
}

pub(super) struct Parts<K, V>([Cache<K, V, UniformState>; PARTS]);

impl<K: Name, V: Clone + Send + Sync + 'static> Parts<K, V> {
    /// Each with its share of the bound.
    pub(super) fn new(max_capacity: u64, part: impl Fn(u64) -> Cache<K, V, UniformState>) -> Self {
        Self(std::array::from_fn(|_| part(max_capacity / PARTS as u64)))
    }

    fn of(&self, name: &K) -> &Cache<K, V, UniformState> {
        // The upper bits, so that the parts in turn are in the order of the names.
        &self.0[(usize::from(name.bits()) * PARTS) >> 8]
    }

    pub(super) fn get(&self, name: &K) -> Option<V> {
        self.of(name).get(name)
    }

    /// Does not count as a use.
    pub(super) fn contains_key(&self, name: &K) -> bool {
        self.of(name).contains_key(name)
    }

    pub(super) fn insert(&self, name: K, value: V) {
        self.of(&name).insert(name, value);
    }

    pub(super) fn invalidate(&self, name: &K) {
        self.of(name).invalidate(name);
    }

    /// Part after part.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> {
        self.0
            .iter()
            .flat_map(|part| part.iter().map(|(name, value)| (*name, value)))
    }

    /// A little behind the last writes.
    pub(super) fn entry_count(&self) -> u64 {
        self.0.iter().map(Cache::entry_count).sum()
    }

    /// As [`Self::entry_count`].
    pub(super) fn weighted_size(&self) -> u64 {
        self.0.iter().map(Cache::weighted_size).sum()
    }

    pub(super) fn run_pending_tasks(&self) {
        self.0.iter().for_each(Cache::run_pending_tasks);
    }
}
