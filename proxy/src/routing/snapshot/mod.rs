//! The table on disk, for a start with every other source away.
//!
//! Written each minute and at shutdown, off the request threads: a new file is synced and then renamed over the newest,
//! which becomes the previous one. A newest file that is damaged is told of, and the previous one is loaded. Records carry
//! the time at which they were last known to be the truth; what is older than the staleness bound is left out. The files
//! hold digests and sealed credentials only, and nobody but the owner may read them. A full disk is told of and counted, and
//! the older files stay.

mod file;
mod load;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use file::{Counts, Head, Kind, Writer};

pub use file::FileError;
pub(super) use load::load;

const NEWEST: &str = "routing.snapshot";
const PREVIOUS: &str = "routing.snapshot.1";
const UNFINISHED: &str = "routing.snapshot.new";
/// Held while a snapshot is written: during an upgrade two processes share the directory.
const LOCK: &str = "routing.snapshot.lock";

/// Where and how often the table is written to disk.
#[derive(Debug, Clone)]
pub struct SnapshotSettings {
    /// Made when it is missing, for its owner only.
    pub directory: PathBuf,
    /// Between two snapshots.
    pub every: Duration,
}

impl SnapshotSettings {
    /// In this directory, each minute.
    pub fn in_directory(directory: PathBuf) -> Self {
        Self {
            directory,
            every: Duration::from_mins(1),
        }
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// None was ever written here.
    #[error("there is no snapshot")]
    None,
    /// Neither can be used; the log says why.
    #[error("no snapshot can be used")]
    Unusable,
}

/// Writes the table as it is. Blocks; about a second for a million keys.
pub(super) fn write(shared: &Shared, settings: &SnapshotSettings) -> Result<(), SnapshotError> {
    let unfinished = settings.directory.join(UNFINISHED);
    let written = write_to(shared, &settings.directory, &unfinished);
    shared.metrics.upkeep.snapshot_written(written.is_ok());
    match written {
        Ok(counts) => {
            let now_s = shared.clock.unix_millis() / 1000;
            shared.metrics.upkeep.snapshot_time.set(now_s);
            tracing::debug!(
                apps = counts.apps,
                keys = counts.keys,
                hosts = counts.hosts,
                "wrote a snapshot of the routing table"
            );
            Ok(())
        }
        Err(source) => {
            // What a full disk left of it would keep the disk full.
            let _ = fs::remove_file(&unfinished);
            Err(SnapshotError::Write {
                path: unfinished,
                source,
            })
        }
    }
}

fn write_to(shared: &Shared, directory: &Path, unfinished: &Path) -> Result<Counts, FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Waits while the other process writes: about a second, in a thread of its own. The lock goes with the file.
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(LOCK))?;
    lock.lock()?;
    let _ = fs::remove_file(unfinished);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(unfinished)?;
    let pulse = shared.table.pulse();
    let (epoch, position) = pulse.covered();
    let head = Head {
        epoch,
        position,
        incarnation: pulse.incarnation(),
        sequence: pulse.sequence(),
        written_ms: shared.clock.unix_millis(),
    };
    let mut writer = Writer::begin(BufWriter::with_capacity(1 << 20, file), &head)?;
    shared.table.each_app(|record, confirmed_ms| {
        writer.add(Kind::Apps, confirmed_ms, |block| {
            serde_json::to_writer(block, record).map_err(FileError::from)
        })
    })?;
    shared.table.each_key(|key, confirmed_ms| {
        writer.add(Kind::Keys, confirmed_ms, |block| {
            key.write_to(block);
            Ok(())
        })
    })?;
    shared.table.each_host(|record, confirmed_ms| {
        writer.add(Kind::Hosts, confirmed_ms, |block| {
            serde_json::to_writer(block, record).map_err(FileError::from)
        })
    })?;
    let (mut out, counts) = writer.end()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    drop(out);
    let newest = directory.join(NEWEST);
    match fs::rename(&newest, directory.join(PREVIOUS)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    fs::rename(unfinished, newest)?;
    File::open(directory)?.sync_all()?;
    Ok(counts)
}

/// Loads the newest snapshot, then writes one after another for ever.
pub(super) async fn keep(shared: Arc<Shared>, settings: SnapshotSettings) {
    let loading = {
        let (shared, settings) = (Arc::clone(&shared), settings.clone());
        tokio::task::spawn_blocking(move || load(&shared, &settings))
    };
    match loading.await {
        Ok(Ok(_) | Err(SnapshotError::None)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the routing table must come from elsewhere"),
        Err(error) => tracing::error!(%error, "loading the snapshot of the routing table ended early"),
    }
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + settings.every, settings.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        write_aside(&shared).await;
    }
}

/// Writes in a thread of its own, if the table was ever whole: half a table must not replace a whole one.
pub(super) async fn write_aside(shared: &Arc<Shared>) {
    let Some(settings) = shared.settings.snapshot.clone() else {
        return;
    };
    if shared.loaded.from().is_none() {
        return;
    }
    let shared = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || write(&shared, &settings)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = authsome_core::error::Chain(&error);
            tracing::warn!(%error, "the snapshot of the routing table is not written; the edge serves on");
        }
        Err(error) => tracing::error!(%error, "writing the snapshot of the routing table ended early"),
    }
}
