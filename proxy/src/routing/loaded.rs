//! Whether the whole table was loaded, and from what. Before that an edge is not ready.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What the whole table was loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadedFrom {
    /// The compacted stream, with its marker of completeness.
    Stream,
    /// The snapshot on disk.
    Snapshot,
    /// Postgres, page by page.
    Postgres,
}

impl LoadedFrom {
    const ALL: [Self; 3] = [Self::Stream, Self::Snapshot, Self::Postgres];
}

/// Set once, by whichever source came first.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    source: AtomicU8,
    stream_lacks: AtomicBool,
}

impl Loaded {
    /// The whole table is here. Only the first time counts.
    pub(super) fn by(&self, source: LoadedFrom) {
        let number = source as u8 + 1;
        if self.source.load(Ordering::Relaxed) == 0
            && self
                .source
                .compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            tracing::info!(?source, "the routing table is whole");
        }
    }

    /// There is no stream, or it was read to its end (`true`) and its marker of completeness is not there.
    pub(super) fn stream_lacks(&self, lacks: bool) {
        self.stream_lacks.store(lacks, Ordering::Relaxed);
    }

    /// Is it known that the stream does not bring the whole table? Before it was looked at it is not.
    pub(super) fn is_stream_known_to_lack(&self) -> bool {
        self.stream_lacks.load(Ordering::Relaxed)
    }

    pub(super) fn from(&self) -> Option<LoadedFrom> {
        let number = usize::from(self.source.load(Ordering::Acquire));
        LoadedFrom::ALL.get(number.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_counts() {
        let loaded = Loaded::default();
        assert_eq!(loaded.from(), None);
        loaded.by(LoadedFrom::Postgres);
        loaded.by(LoadedFrom::Stream);
        assert_eq!(loaded.from(), Some(LoadedFrom::Postgres));
    }
}
