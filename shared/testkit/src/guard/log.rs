//! The log file of a child, which is its lock as well: it is `flock`ed through the very descriptor that the child writes
//! to, so the lock is held for exactly as long as the child or any descendant of it lives, and a successor waits for
//! that. One that waits in vain is told so; it never runs beside its predecessor.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long a predecessor that still holds the log file is waited for, beyond its own grace.
pub(super) const PREDECESSOR_SLACK: Duration = Duration::from_secs(5);

/// A log longer than this (16 MiB) is begun anew at the next start.
const LONGEST_LOG: u64 = 16 * 1024 * 1024;

/// Opens (or creates with mode 0600) the log of `program` and locks it once every predecessor has ended.
pub(super) async fn open_locked(program: &str, path: &Path, within: Duration) -> Result<File, Error> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(format!("open the log file {}", path.display())))?;
    let give_up = Instant::now() + within;
    loop {
        match log.try_lock() {
            Ok(()) => {
                begin_anew_if_long(&log, path)?;
                return Ok(log);
            }
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::StillRunning {
                    program: program.to_owned(),
                    log: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::io(format!("lock the log file {}", path.display()))(source));
            }
        }
    }
}

fn begin_anew_if_long(log: &File, path: &Path) -> Result<(), Error> {
    log.metadata()
        .and_then(|meta| {
            if meta.len() > LONGEST_LOG {
                log.set_len(0)
            } else {
                Ok(())
            }
        })
        .map_err(Error::io(format!("cut the log file {}", path.display())))
}

/// Whether a process that was started with this log file still runs.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened or locked.
pub fn in_use(log: &Path) -> Result<bool, Error> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io(format!("open {}", log.display()))(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(Error::io(format!("lock {}", log.display()))(error)),
    }
}

/// Waits until no process that was started with this log file runs any more.
///
/// # Errors
/// [`Error::StillRunning`] once `within` has passed.
pub async fn wait_until_unused(program: &str, log: &Path, within: Duration) -> Result<(), Error> {
    let give_up = Instant::now() + within;
    while in_use(log)? {
        if Instant::now() >= give_up {
            return Err(Error::StillRunning {
                program: program.to_owned(),
                log: log.to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The last `lines` lines of a log file, at most 64 KiB; what cannot be read is said instead.
pub fn log_tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}
