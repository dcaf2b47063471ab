//! Log files of instances: one for each, readable by this user only, bounded in size.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use authsome_core::id::ApplicationId;
use authsome_core::secret::{SecretUrl, Zeroizing};
use url::Url;

use super::RuntimeError;

/// A log that grew beyond this is emptied. The instance appends to it, so it goes on at the beginning.
const LARGEST: u64 = 16 * 1024 * 1024;
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

/// Empties a log that has grown too large.
pub(super) fn bound(file: &File, path: &Path) -> Result<(), RuntimeError> {
    let length = file.metadata().map_err(io("look at", path))?.len();
    if length > LARGEST {
        file.set_len(0).map_err(io("empty", path))
    } else {
        Ok(())
    }
}

/// Removes the logs of an application.
pub(super) fn remove(directory: &Path, application: ApplicationId) -> Result<(), RuntimeError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("list", directory)(error)),
    };
    let prefix = format!("{application}-");
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    for entry in entries {
        let entry = entry.map_err(io("list", directory))?;
        let path = entry.path();
        if is_log(&path) && entry.file_name().to_string_lossy().starts_with(&prefix) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &path)(error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The last lines of a log, without secrets. Best effort: a log that cannot be read explains nothing.
pub(super) fn tail(path: &Path, secrets: &Secrets) -> String {
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
        .redact(&last)
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

/// The texts that must not be repeated from an instance's log.
pub(super) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// The passwords in these addresses, and the addresses themselves.
    pub(super) fn of(urls: &[&SecretUrl]) -> Self {
        let mut secrets = Vec::new();
        for url in urls {
            secrets.push(Zeroizing::new(url.expose().to_owned()));
            if let Some(password) = Url::parse(url.expose())
                .ok()
                .and_then(|url| url.password().map(str::to_owned))
            {
                secrets.push(Zeroizing::new(password));
            }
        }
        secrets.retain(|secret| !secret.is_empty());
        Self(secrets)
    }

    fn redact(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown_without_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let lines: Vec<String> = (0..500).map(|line| format!("line {line} of many")).collect();
        std::fs::write(&path, format!("{}\ncannot connect with hunter2\u{7}", lines.join("\n"))).unwrap();
        let url = SecretUrl::parse("postgres://app:hunter2@db/x").unwrap();
        let tail = tail(&path, &Secrets::of(&[&url]));
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
        file.set_len(LARGEST + 1).unwrap();
        bound(&file, &path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
