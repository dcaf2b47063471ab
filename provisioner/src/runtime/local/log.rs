//! Log files of instances: one for each, readable by this user only, bounded in size.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use authsome_core::id::ApplicationId;

use super::RuntimeError;
use crate::redaction::Redaction;

/// A log that takes more room than this loses its beginning.
const LARGEST: u64 = 16 * 1024 * 1024;
/// What it keeps then.
#[cfg(target_os = "linux")]
const KEPT: u64 = 8 * 1024 * 1024;
/// How much of the end of a log explains a failure.
const TAIL: u64 = 4096;
const TAIL_LINES: usize = 8;

pub(super) fn prepare_directory(directory: &Path) -> Result<(), RuntimeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(io("create", directory))
}

pub(super) fn path(directory: &Path, application: ApplicationId, replica: usize) -> PathBuf {
    directory.join(format!("{application}-{replica}.log"))
}

/// Opens a log for appending.
pub(super) fn open(path: &Path) -> Result<File, RuntimeError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(io("open", path))?;
    bound(&file, path)?;
    Ok(file)
}

/// Takes the beginning of a log that has grown too large out of the file, and leaves a hole: what follows stays where it is, so
/// nothing that an instance writes meanwhile is lost, and a place in the log means the same for ever.
#[cfg(target_os = "linux")]
pub(super) fn bound(file: &File, path: &Path) -> Result<(), RuntimeError> {
    use std::os::unix::fs::MetadataExt;

    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};

    let metadata = file.metadata().map_err(io("look at", path))?;
    // Blocks of 512 bytes, whatever the file system's own are.
    if metadata.blocks().saturating_mul(512) <= LARGEST {
        return Ok(());
    }
    let hole = i64::try_from(metadata.len().saturating_sub(KEPT)).unwrap_or(i64::MAX);
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match fallocate(file, flags, 0, hole.max(1)) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => file.set_len(0).map_err(io("empty", path)),
        Err(error) => Err(io("shorten", path)(error.into())),
    }
}

/// Empties a log that has grown too large, where files cannot have holes. The instance appends, so it goes on at the beginning.
#[cfg(not(target_os = "linux"))]
pub(super) fn bound(file: &File, path: &Path) -> Result<(), RuntimeError> {
    let length = file.metadata().map_err(io("look at", path))?.len();
    if length > LARGEST {
        file.set_len(0).map_err(io("empty", path))
    } else {
        Ok(())
    }
}

/// The first place from `from` on where the log holds something.
pub(super) fn data_from(file: &File, from: u64, length: u64) -> u64 {
    #[cfg(target_os = "linux")]
    {
        use nix::errno::Errno;
        use nix::unistd::{Whence, lseek};
        let place = i64::try_from(from).unwrap_or(i64::MAX);
        match lseek(file, place, Whence::SeekData) {
            Ok(place) => return u64::try_from(place).unwrap_or(length),
            // There is nothing after it.
            Err(Errno::ENXIO) => return length,
            // A file system without holes.
            Err(_) => {}
        }
    }
    let _ = file;
    from.min(length)
}

/// The logs of an application, with the replica of each.
pub(super) fn all(directory: &Path, application: ApplicationId) -> Result<Vec<(usize, PathBuf)>, RuntimeError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", directory)(error)),
    };
    let prefix = format!("{application}-");
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("list", directory))?;
        let name = entry.file_name();
        let replica = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".log")?.parse().ok());
        if let Some(replica) = replica {
            found.push((replica, entry.path()));
        }
    }
    Ok(found)
}

/// Removes the logs of an application.
pub(super) fn remove(directory: &Path, application: ApplicationId) -> Result<(), RuntimeError> {
    for (_, path) in all(directory, application)? {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &path)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The last lines of a log, without secrets. Best effort: a log that cannot be read explains nothing.
pub(super) fn tail(path: &Path, secrets: &Redaction) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    secrets
        .apply(&last)
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect()
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> RuntimeError + 'a {
    move |source| RuntimeError::Io {
        doing: format!("{doing} {}", path.display()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::secret::SecretUrl;

    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown_without_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let lines: Vec<String> = (0..500).map(|line| format!("line {line} of many")).collect();
        std::fs::write(&path, format!("{}\ncannot connect with hunter2\u{7}", lines.join("\n"))).unwrap();
        let url = SecretUrl::parse("postgres://app:hunter2@db/x").unwrap();
        let tail = tail(&path, &Redaction::new().and_url(&url));
        assert!(tail.ends_with("line 499 of many\ncannot connect with ***"), "{tail}");
        assert_eq!(tail.lines().count(), TAIL_LINES);
    }

    #[test]
    fn a_log_is_private_and_does_not_grow_without_end() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let file = open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let block = vec![b'x'; 1024 * 1024];
        for number in 0..17_u8 {
            use std::io::Write;
            (&file).write_all(&block).unwrap();
            (&file).write_all(&[b'\n', b'0' + number % 10]).unwrap();
        }
        let length = file.metadata().unwrap().len();
        bound(&file, &path).unwrap();
        let kept = file.metadata().unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&kept) * 512 <= LARGEST);
        let first = data_from(&file, 0, kept.len());
        assert!(first > 0 || kept.len() == 0, "the beginning is gone");
        // Where it was not emptied, what is left is where it was.
        assert!(kept.len() == length || kept.len() == 0);
        assert_eq!(data_from(&file, length, length), length);
    }
}
