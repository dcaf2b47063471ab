//! Paths whose responses may not be kept, as was seen: requests for them pass the cache by, at the cost of one look-up, and
//! never wait for each other.

use std::hash::BuildHasher;
use std::time::Duration;

use authsome_core::id::ApplicationId;
use foldhash::quality::RandomState;
use moka::sync::Cache;

/// About 10 MiB.
const MOST: u64 = 100_000;
/// An instance may change its mind.
const MEMORY: Duration = Duration::from_mins(5);

/// An application's path, by a seeded hash: two that share one cost at most a response that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Path(u64);

impl Path {
    pub(super) fn of(app: &ApplicationId, tail: &str) -> Self {
        static SEED: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
        Self(
            SEED.get_or_init(RandomState::default)
                .hash_one((app.uuid().as_u128(), tail)),
        )
    }
}

pub(super) struct Unlikely(Cache<Path, (), RandomState>);

impl Unlikely {
    pub(super) fn new() -> Self {
        let paths = Cache::builder().max_capacity(MOST).time_to_live(MEMORY);
        // Seeded like the default, which takes a thousand instructions for each of the two hashes of a look-up.
        Self(paths.build_with_hasher(RandomState::default()))
    }

    pub(super) fn contains(&self, path: Path) -> bool {
        self.0.contains_key(&path)
    }

    pub(super) fn note(&self, path: Path) {
        self.0.insert(path, ());
    }
}
