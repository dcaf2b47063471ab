//! The counter file: a header and cells, mapped into memory and locked for as long as its writer lives.
//!
//! What a killed process counted is in the page cache, and its lock is gone with it; the successor reads the file and
//! publishes it under the dead writer's id. The file is filled to its size before it is mapped, so that a full disk is an
//! error here and not a signal later. A file that is not understood is set aside, never trusted and never deleted. Files are
//! read on the machine that wrote them: numbers of cells are in its byte order.
//!
//! The one module of the workspace with unsafe code.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use authsome_contract::wire::UsageCounter;
use authsome_core::key::Digest;
use memmap2::MmapRaw;
use uuid::Uuid;

use super::cell::{CELL, Cell};

const MAGIC: [u8; 8] = *b"ASUSAGE\n";
const LAYOUT: u32 = 1;
/// One cell's place, so that the cells after it are aligned as the mapping is.
const HEADER: usize = CELL;
const EXTENSION: &str = "counters";
/// A file on its way: its header is not written yet.
const UNBORN: &str = "new";
const UNBORN_AGE: Duration = Duration::from_mins(1);
const SET_ASIDE: &str = "corrupt";
/// 64 MiB; a longer file is not one of ours.
const CAPACITY_MAX: u32 = 1 << 20;

/// Why a counter file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {what}")]
    Corrupt { path: PathBuf, what: &'static str },
    #[error("{path}: its writer lives")]
    Locked { path: PathBuf },
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io {
        path: path.clone(),
        source,
    }
}

/// The cells of a living writer.
#[derive(Debug)]
pub(super) struct CounterFile {
    path: PathBuf,
    map: MmapRaw,
    capacity: usize,
    /// Holds the lock; it goes with the process.
    _lock: File,
}

impl CounterFile {
    /// Creates, fills, locks and maps a file for a new writer.
    pub(super) fn create(directory: &Path, writer: Uuid, capacity: u32) -> Result<Self, FileError> {
        std::fs::create_dir_all(directory).map_err(io(directory))?;
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        let path = directory.join(format!("usage-{}.{EXTENSION}", writer.simple()));
        let unborn = path.with_extension(UNBORN);
        let failed = io(&path);
        let length = HEADER + capacity as usize * CELL;
        let made = (|| -> std::io::Result<(File, MmapRaw)> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&unborn)?;
            file.try_lock()?;
            fill(&mut file, length)?;
            write_header(&file, writer, capacity)?;
            let map = MmapRaw::map_raw(&file)?;
            std::fs::rename(&unborn, &path)?;
            Ok((file, map))
        })();
        match made {
            Ok((file, map)) => Ok(Self {
                path,
                map,
                capacity: capacity as usize,
                _lock: file,
            }),
            Err(error) => {
                // It holds nothing; a successor would remove it too.
                let _ = std::fs::remove_file(&unborn);
                Err(failed(error))
            }
        }
    }

    pub(super) fn cells(&self) -> &[Cell] {
        let start = self.map.as_ptr().wrapping_add(HEADER);
        #[expect(
            unsafe_code,
            clippy::cast_ptr_alignment,
            reason = "a mapped file can be shared as atomics only through a raw pointer; it begins at a page"
        )]
        // SAFETY: `map` covers HEADER + capacity * CELL bytes of a file that was filled to that length, that nobody else
        // maps or writes while our lock is held, and that lives as long as `self`. A mapping begins at a page, so
        // `start` is aligned to CELL. `Cell` is `repr(C)` and consists of atomics only: every bit pattern is a value of
        // it and shared access may write. Nothing here makes a `&mut` to these bytes.
        unsafe {
            std::slice::from_raw_parts(start.cast::<Cell>(), self.capacity)
        }
    }

    /// Deletes the file; for a writer whose every counter is confirmed.
    pub(super) fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an empty counter file cannot be removed");
        }
    }
}

/// Takes the disk space now: a hole in a mapped file becomes a SIGBUS when the disk is full.
#[cfg(target_os = "linux")]
fn fill(file: &mut File, length: usize) -> std::io::Result<()> {
    let length = i64::try_from(length).map_err(std::io::Error::other)?;
    nix::fcntl::posix_fallocate(&*file, 0, length).map_err(std::io::Error::from)
}

/// Takes the disk space now: a hole in a mapped file becomes a SIGBUS when the disk is full.
#[cfg(not(target_os = "linux"))]
fn fill(file: &mut File, length: usize) -> std::io::Result<()> {
    std::io::copy(&mut std::io::repeat(0).take(length as u64), file).map(|_| ())
}

fn header(writer: Uuid, capacity: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&LAYOUT.to_le_bytes());
    header[12..16].copy_from_slice(&capacity.to_le_bytes());
    header[16..32].copy_from_slice(writer.as_bytes());
    let checksum = Digest::of(&header[..32]).leading_bits();
    header[32..40].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn write_header(file: &File, writer: Uuid, capacity: u32) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, &header(writer, capacity), 0)?;
    file.sync_all()
}

/// What a dead writer left.
#[derive(Debug)]
pub(super) struct Predecessor {
    pub(super) writer: Uuid,
    pub(super) counters: Vec<UsageCounter>,
    path: PathBuf,
    /// Keeps other successors away.
    _lock: File,
}

impl Predecessor {
    fn open(path: &Path) -> Result<Self, FileError> {
        let corrupt = |what| FileError::Corrupt {
            path: path.to_owned(),
            what,
        };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io(path)(error)),
        }
        let length_max = HEADER as u64 + u64::from(CAPACITY_MAX) * CELL as u64;
        if file.metadata().map_err(io(path))?.len() > length_max {
            return Err(corrupt("longer than any counter file"));
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(io(path))?;
        let (head, cells) = bytes
            .split_at_checked(HEADER)
            .ok_or_else(|| corrupt("shorter than its header"))?;
        let field = |from: usize| [head[from], head[from + 1], head[from + 2], head[from + 3]];
        if head[..8] != MAGIC {
            return Err(corrupt("not a counter file"));
        }
        if u32::from_le_bytes(field(8)) != LAYOUT {
            return Err(corrupt("of another layout"));
        }
        let capacity = u32::from_le_bytes(field(12));
        let writer = Uuid::from_slice(&head[16..32]).map_err(|_| corrupt("no writer"))?;
        if head != header(writer, capacity) {
            return Err(corrupt("header checksum"));
        }
        let (cells, rest) = cells.as_chunks::<CELL>();
        if cells.len() != capacity as usize || !rest.is_empty() {
            return Err(corrupt("not as long as its header says"));
        }
        let counters = cells.iter().map(Cell::read).filter_map(|cell| {
            let (app, hour) = cell.owner()?;
            Some(cell.tally().counter(app, hour, true))
        });
        Ok(Self {
            writer,
            counters: counters.collect(),
            path: path.to_owned(),
            _lock: file,
        })
    }

    /// Everything in it is confirmed.
    pub(super) fn remove(self) {
        match std::fs::remove_file(&self.path) {
            Ok(()) => tracing::info!(writer = %self.writer, "a predecessor's usage is confirmed; its file is removed"),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a confirmed counter file cannot be removed");
            }
        }
    }
}

/// What a directory of counter files held.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) predecessors: Vec<Predecessor>,
    /// Files that were set aside.
    pub(super) corrupt: u64,
}

/// Takes over the files whose writers are dead. Files that cannot be read now are left for another time.
pub(super) fn take_over(directory: &Path) -> Found {
    let mut found = Found::default();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(directory = %directory.display(), %error, "cannot look for counter files");
            }
            return found;
        }
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let named = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("usage-"));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) if named => {}
            Some(UNBORN) if named => {
                remove_unborn(&path);
                continue;
            }
            _ => continue,
        }
        match Predecessor::open(&path) {
            Ok(predecessor) => found.predecessors.push(predecessor),
            Err(FileError::Locked { .. }) => {}
            Err(error @ FileError::Corrupt { .. }) => {
                found.corrupt += 1;
                let aside = path.with_extension(SET_ASIDE);
                let moved = std::fs::rename(&path, &aside);
                tracing::error!(%error, aside = %aside.display(), ?moved, "a counter file is set aside");
            }
            Err(error) => tracing::warn!(%error, "a counter file cannot be read now"),
        }
    }
    found
}

/// A writer that died before its file had a header left nothing. One that is about to lock its file is spared by its age.
fn remove_unborn(path: &Path) {
    let old = |file: &File| {
        let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
        modified
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age > UNBORN_AGE)
    };
    if File::open(path).is_ok_and(|file| old(&file) && file.try_lock().is_ok()) {
        let _ = std::fs::remove_file(path);
    }
}
