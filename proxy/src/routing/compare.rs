//! The comparison with Postgres, again and again: whatever went wrong elsewhere does not stay wrong here.
//!
//! Versions are read in pages, spread over [`RoutingSettings::compare_every`](super::RoutingSettings::compare_every) with
//! jitter, so that many edges do not ask at once. What differs is looked at once more after a moment, since a change may be
//! on its way; what then still differs is read from Postgres like a miss, and counted. Postgres away: the comparison waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Version;
use authsome_core::entropy::{Entropy, SystemEntropy};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use super::Shared;
use super::fill::Filler;
use super::postgres::{PostgresError, WholeSource};

mod hosts;

/// Versions in a page: a few milliseconds of the database's time.
const PAGE: i64 = 5_000;
/// Keys are compared by the first bits of their digest, so that what must be remembered meanwhile stays small.
const SLICES: u8 = 16;
/// What a change may take to arrive here, and no more than this part of a comparison.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Compares for ever.
pub(super) async fn compare(filler: Arc<Filler>, postgres: Arc<WholeSource>) {
    let every = filler.shared.settings.compare_every;
    let comparison = Comparison {
        pause: every / (u32::from(SLICES) + 1),
        entropy: SystemEntropy::new(),
        filler,
        postgres,
    };
    loop {
        comparison.rest().await;
        if comparison.shared().loaded.from().is_none() {
            continue;
        }
        match comparison.round().await {
            Ok(()) => comparison.shared().metrics.upkeep.comparisons.inc(),
            Err(error) => tracing::debug!(%error, "the comparison with Postgres is begun again"),
        }
    }
}

struct Comparison {
    filler: Arc<Filler>,
    postgres: Arc<WholeSource>,
    /// Between two slices.
    pause: Duration,
    entropy: SystemEntropy,
}

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// Postgres has it.
    Missing,
    /// Postgres has a newer one.
    Behind,
    /// Postgres has an older one.
    Ahead,
    /// Postgres does not have it.
    Gone,
}

impl Difference {
    /// Of what is held from what Postgres has.
    fn between(held: Option<Version>, true_version: Option<Version>, may_be_missing: bool) -> Option<Self> {
        match (held, true_version) {
            (None, Some(_)) => (!may_be_missing).then_some(Self::Missing),
            (Some(held), Some(truth)) if held < truth => Some(Self::Behind),
            (Some(held), Some(truth)) if held > truth => Some(Self::Ahead),
            (Some(_), None) => Some(Self::Gone),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Behind => "behind",
            Self::Ahead => "ahead",
            Self::Gone => "gone",
        }
    }
}

impl Comparison {
    fn shared(&self) -> &Shared {
        &self.filler.shared
    }

    /// One comparison of everything.
    async fn round(&self) -> Result<(), PostgresError> {
        self.apps().await?;
        self.hosts().await?;
        for slice in 0..SLICES {
            self.rest().await;
            self.keys(slice).await?;
        }
        Ok(())
    }

    /// Half to one and a half times the pause.
    async fn rest(&self) {
        let part = u32::try_from(self.entropy.next_u64() % 1024).unwrap_or(0);
        tokio::time::sleep(self.pause / 2 + self.pause * part / 1024).await;
    }

    async fn on_its_way(&self) {
        tokio::time::sleep(ON_ITS_WAY.min(self.pause)).await;
    }

    async fn apps(&self) -> Result<(), PostgresError> {
        let table = &self.shared().table;
        let held = table.app_ids();
        let mut seen: HashSet<ApplicationId> = HashSet::with_capacity(held.len());
        let mut suspects = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.postgres.app_versions(&after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = last.to_string();
            for (id, version) in page {
                seen.insert(id);
                if Difference::between(table.app_version(&id), Some(version), table.has_overflowed()).is_some() {
                    suspects.push((id, Some(version)));
                }
            }
        }
        suspects.extend(held.into_iter().filter(|id| !seen.contains(id)).map(|id| (id, None)));
        if suspects.is_empty() {
            return Ok(());
        }
        self.on_its_way().await;
        for (id, truth) in suspects {
            let before = table.app_version(&id);
            // What was newer than an old page is not ahead of what Postgres has now.
            let Some(difference) = Difference::between(before, truth, table.has_overflowed()) else {
                continue;
            };
            if self.filler.app_from_postgres(id).await.is_ok() && table.app_version(&id) != before {
                self.repaired("app", difference, &id);
            }
        }
        Ok(())
    }

    async fn keys(&self, slice: u8) -> Result<(), PostgresError> {
        let table = &self.shared().table;
        let width = u8::MAX / SLICES + 1;
        let first = slice * width..=slice * width + (width - 1);
        let held = table.digests(&first);
        let mut seen: HashSet<Digest> = HashSet::with_capacity(held.len());
        let mut suspects = Vec::new();
        // Longer than no digest that begins with less, shorter than every one that begins with this.
        let mut after = vec![*first.start()];
        let last = [*first.end(); 1].into_iter().chain([u8::MAX; 32]).collect::<Vec<_>>();
        loop {
            let page = self.postgres.key_versions(&after, &last, PAGE).await?;
            let Some((newest, _)) = page.last() else { break };
            after = newest.as_bytes().to_vec();
            for (digest, version) in page {
                seen.insert(digest);
                let held = table.key_version(&digest);
                if Difference::between(held, Some(version), table.has_overflowed()).is_some() {
                    suspects.push((digest, Some(version)));
                }
            }
        }
        suspects.extend(
            held.into_iter()
                .filter(|digest| !seen.contains(digest))
                .map(|digest| (digest, None)),
        );
        if suspects.is_empty() {
            return Ok(());
        }
        self.on_its_way().await;
        for (digest, truth) in suspects {
            let before = table.key_version(&digest);
            let Some(difference) = Difference::between(before, truth, table.has_overflowed()) else {
                continue;
            };
            if self.filler.key_from_postgres(digest).await.is_ok() && table.key_version(&digest) != before {
                self.repaired("key", difference, &digest);
            }
        }
        Ok(())
    }

    fn repaired(&self, table: &'static str, difference: Difference, name: &dyn std::fmt::Display) {
        self.shared().metrics.upkeep.differed(table, difference.as_str());
        tracing::warn!(
            table, %name, kind = difference.as_str(),
            "an entry of the routing table differed from Postgres and was read again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_apart() {
        let version = |row| Some(Version { epoch: 1, row });
        assert_eq!(Difference::between(version(2), version(2), false), None);
        assert_eq!(
            Difference::between(version(1), version(2), false),
            Some(Difference::Behind)
        );
        assert_eq!(
            Difference::between(version(3), version(2), false),
            Some(Difference::Ahead)
        );
        assert_eq!(Difference::between(version(1), None, false), Some(Difference::Gone));
        assert_eq!(Difference::between(None, version(1), false), Some(Difference::Missing));
        assert_eq!(
            Difference::between(None, version(1), true),
            None,
            "a table that was too small says nothing by absence"
        );
    }
}
