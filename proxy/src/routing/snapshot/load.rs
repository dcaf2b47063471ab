//! Loading a snapshot: one thread reads blocks, as many as there are cores decode them and fill the table.
//!
//! What a damaged file held before its damage stays in the table: each block was checked, and nothing newer is overwritten.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use authsome_contract::model::{AppRecord, HostRecord, KeyRecord};

use super::file::{Counts, FileError, Kind, Reader, records};
use super::{NEWEST, PREVIOUS, SnapshotError, SnapshotSettings};
use crate::routing::Shared;
use crate::routing::loaded::LoadedFrom;

/// More threads than this wait for the one that reads.
const THREADS: usize = 8;

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
    let (mut reader, head) = Reader::begin(BufReader::with_capacity(1 << 20, File::open(path)?))?;
    let now_ms = shared.clock.unix_millis();
    if now_ms.saturating_sub(head.written_ms) >= shared.table.pulse().max_staleness_ms() {
        return Err(FileError::TooOld);
    }
    let threads = thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(THREADS);
    let filling = Filling {
        shared,
        now_ms,
        apps: AtomicU64::new(0),
        keys: AtomicU64::new(0),
        hosts: AtomicU64::new(0),
    };
    let (sender, blocks) = sync_channel::<(Kind, Vec<u8>)>(2 * threads);
    let blocks = Mutex::new(blocks);
    let counted = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| filling.fill_from(&blocks)))
            .collect();
        let read = loop {
            match reader.block() {
                Ok((Kind::End, payload)) => break serde_json::from_slice::<Counts>(&payload).map_err(FileError::from),
                Ok(block) => {
                    // The workers are gone only when each of them has met what it cannot decode.
                    if sender.send(block).is_err() {
                        break Err(FileError::Form);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        for worker in workers {
            worker.join().unwrap_or(Err(FileError::Form))?;
        }
        read
    })?;
    if counted == filling.counts() {
        Ok(counted)
    } else {
        Err(FileError::Incomplete)
    }
}

/// What the threads share.
struct Filling<'a> {
    shared: &'a Shared,
    now_ms: i64,
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

    fn fill_from(&self, blocks: &Mutex<Receiver<(Kind, Vec<u8>)>>) -> Result<(), FileError> {
        let mut outcome = Ok(());
        loop {
            let block = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((kind, payload)) = block else { return outcome };
            // After a failure the rest is still taken, so that the reader does not wait for ever.
            if outcome.is_ok() {
                outcome = self.fill(kind, &payload);
            }
        }
    }

    fn fill(&self, kind: Kind, payload: &[u8]) -> Result<(), FileError> {
        let table = &self.shared.table;
        match kind {
            Kind::Apps => {
                for record in records::<AppRecord>(payload) {
                    let (record, confirmed_ms) = record?;
                    self.apps.fetch_add(1, Ordering::Relaxed);
                    if let Some(confirmed_ms) = self.usable(confirmed_ms) {
                        table.restore_app(record, confirmed_ms);
                    }
                }
            }
            Kind::Keys => {
                for record in records::<KeyRecord>(payload) {
                    let (record, confirmed_ms) = record?;
                    self.keys.fetch_add(1, Ordering::Relaxed);
                    if let Some(confirmed_ms) = self.usable(confirmed_ms) {
                        table.restore_key(record, confirmed_ms);
                    }
                }
            }
            Kind::Hosts => {
                for record in records::<HostRecord>(payload) {
                    let (record, confirmed_ms) = record?;
                    self.hosts.fetch_add(1, Ordering::Relaxed);
                    if let Some(confirmed_ms) = self.usable(confirmed_ms) {
                        table.restore_host(record, confirmed_ms);
                    }
                }
            }
            Kind::Head | Kind::End => return Err(FileError::Form),
        }
        Ok(())
    }

    /// When a record was last known to be the truth, unless that is too long ago. A time that is yet to come was written
    /// under a wrong clock and counts as now.
    fn usable(&self, confirmed_ms: i64) -> Option<i64> {
        let age = self.now_ms.saturating_sub(confirmed_ms);
        (age < self.shared.table.pulse().max_staleness_ms()).then_some(confirmed_ms.min(self.now_ms))
    }
}
