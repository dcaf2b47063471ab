//! What was purged, as far as this edge has heard.
//!
//! A request goes on with the record of its application that it was admitted with, and an edge may for a while be given an older
//! one than it had. What was purged does not come back with it: the newest of each application's purges is kept here, and every
//! record adds to it. Bounded; an application that is forgotten is judged by its records again.

use std::sync::Arc;

use authsome_contract::model::CachePurges;
use authsome_core::id::ApplicationId;
use foldhash::quality::RandomState;
use moka::sync::Cache;

/// Applications with a purge that are remembered.
const APPLICATIONS: u64 = 16_384;

/// Purges of all applications that have any.
pub(super) struct Purged(Cache<ApplicationId, Arc<CachePurges>, RandomState>);

impl Purged {
    pub(super) fn new() -> Self {
        let builder = Cache::builder().max_capacity(APPLICATIONS);
        Self(builder.build_with_hasher(RandomState::default()))
    }

    /// What is known of an application whose record at hand says this. `None`: it has purged nothing, ever.
    pub(super) fn with(&self, app: ApplicationId, said: &CachePurges) -> Option<Arc<CachePurges>> {
        let heard = self.0.get(&app);
        match heard {
            None if said.is_empty() => None,
            Some(heard) if heard.includes(said) => Some(heard),
            _ => {
                let joined = self.0.entry(app).and_upsert_with(|heard| {
                    let mut joined = heard.map_or_else(CachePurges::default, |heard| (**heard.value()).clone());
                    joined.join(said);
                    Arc::new(joined)
                });
                Some(joined.into_value())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::SystemClock;
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn an_older_record_brings_nothing_back_that_was_purged() {
        let purged = Purged::new();
        let app = ApplicationId::generate(&SystemClock, &SeededEntropy::new(1));
        let mut old = CachePurges::default();
        assert!(purged.with(app, &old).is_none());
        old.purge_tag("news", 10);
        let mut new = old.clone();
        new.purge_tag("users", 20);
        assert!(purged.with(app, &new).unwrap().covers(10, ["users"]));
        let known = purged.with(app, &old).unwrap();
        assert!(known.covers(10, ["users"]), "the record at hand is an older one");
        assert_eq!(known.newest(), 20);
        let other = ApplicationId::generate(&SystemClock, &SeededEntropy::new(2));
        assert!(
            purged.with(other, &CachePurges::default()).is_none(),
            "one's purges are not another's"
        );
    }
}
