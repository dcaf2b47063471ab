//! Loading a snapshot: as many threads as there are cores take runs of its blocks, decode them and fill the table.
//!
//! What a damaged file held before its damage stays in the table: each block was checked, and nothing newer is overwritten.

use std::fs::File;
use std::path::Path;
use std::slice::Chunks;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::file::{Block, Counts, FileError, Index, Kind, index, records};
use super::{NEWEST, PREVIOUS, SnapshotError, SnapshotSettings};
use crate::routing::Shared;
use crate::routing::key::HeldKey;
use crate::routing::loaded::LoadedFrom;

/// More threads than this wait for each other at the parts of the table.
const THREADS: usize = 4;
/// Runs of blocks for each thread: so many that the threads end together.
const RUNS: usize = 4;

/// Loads the newest usable snapshot. Blocks.
pub(in crate::routing) fn load(shared: &Shared, settings: &SnapshotSettings) -> Result<Counts, SnapshotError> {
    let mut any = false;
    for name in [NEWEST, PREVIOUS] {
        let path = settings.directory.join(name);
        let began = std::time::Instant::now();
        match load_file(shared, &path) {
            Ok(counts) => {
                shared.metrics.upkeep.loaded("snapshot", true);
                tracing::info!(
                    path = %path.display(), apps = counts.apps, keys = counts.keys, hosts = counts.hosts, took = ?began.elapsed(),
                    "loaded the routing table from its snapshot"
                );
                shared.loaded.by(LoadedFrom::Snapshot);
                return Ok(counts);
            }
            Err(FileError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                any = true;
                shared.metrics.upkeep.loaded("snapshot", false);
                tracing::error!(path = %path.display(), %error, "a snapshot of the routing table cannot be used");
            }
        }
    }
    Err(if any {
        SnapshotError::Unusable
    } else {
        SnapshotError::None
    })
}

fn load_file(shared: &Shared, path: &Path) -> Result<Counts, FileError> {
    let file = File::open(path)?;
    let Index { head, counts, blocks } = index(&file)?;
    let now_ms = shared.clock.unix_millis();
    if now_ms.saturating_sub(head.written_ms) >= shared.table.pulse().max_staleness_ms() {
        return Err(FileError::TooOld);
    }
    let threads = thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(THREADS);
    let filling = Filling {
        shared,
        file: &file,
        now_ms,
        // Neighbours are of one part of the table: in runs, so that threads seldom meet at one.
        runs: Mutex::new(blocks.chunks(blocks.len().div_ceil(RUNS * threads).max(1))),
        apps: AtomicU64::new(0),
        keys: AtomicU64::new(0),
        hosts: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| filling.work())).collect();
        let outcomes = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(Err(FileError::Form)));
        outcomes.collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()
    })?;
    if counts == filling.counts() {
        Ok(counts)
    } else {
        Err(FileError::Incomplete)
    }
}

/// What the threads share.
struct Filling<'a> {
    shared: &'a Shared,
    file: &'a File,
    now_ms: i64,
    /// Those that nobody has taken.
    runs: Mutex<Chunks<'a, Block>>,
    apps: AtomicU64,
    keys: AtomicU64,
    hosts: AtomicU64,
}

impl Filling<'_> {
    fn counts(&self) -> Counts {
        Counts {
            apps: self.apps.load(Ordering::Relaxed),
            keys: self.keys.load(Ordering::Relaxed),
            hosts: self.hosts.load(Ordering::Relaxed),
        }
    }

    fn work(&self) -> Result<(), FileError> {
        let mut payload = Vec::new();
        loop {
            let run = self.runs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(run) = run else { return Ok(()) };
            for block in run {
                block.read(self.file, &mut payload)?;
                self.fill(block.kind, &payload)?;
            }
        }
    }

    fn fill(&self, kind: Kind, payload: &[u8]) -> Result<(), FileError> {
        let table = &self.shared.table;
        let counter = match kind {
            Kind::Apps => &self.apps,
            Kind::Keys => &self.keys,
            Kind::Hosts => &self.hosts,
            Kind::Head | Kind::End => return Err(FileError::Form),
        };
        let mut count = 0;
        for record in records(payload) {
            let (record, confirmed_ms) = record?;
            count += 1;
            let Some(confirmed_ms) = self.usable(confirmed_ms) else {
                continue;
            };
            match kind {
                Kind::Apps => table.restore_app(serde_json::from_slice(record)?, confirmed_ms),
                Kind::Hosts => table.restore_host(serde_json::from_slice(record)?, confirmed_ms),
                _ => table.restore_key(HeldKey::read_from(record).ok_or(FileError::Form)?, confirmed_ms),
            }
        }
        counter.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// When a record was last known to be the truth, unless that is too long ago. A time that is yet to come was written
    /// under a wrong clock and counts as now.
    fn usable(&self, confirmed_ms: i64) -> Option<i64> {
        let age = self.now_ms.saturating_sub(confirmed_ms);
        (age < self.shared.table.pulse().max_staleness_ms()).then_some(confirmed_ms.min(self.now_ms))
    }
}
