//! The state directory: who uses it, what was generated once, and where everything lies.
//!
//! `state.json` and the servers' data belong together: without the file the data cannot be opened, so a fresh file removes
//! data that an older one left behind.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use authsome_testkit::account::Account;
use authsome_testkit::{private_file, secret};
use serde::{Deserialize, Serialize};

use crate::console;
use crate::error::LocalError;
use crate::ports::Ports;

/// What is generated at the first start and kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Secrets {
    pub(crate) postgres_password: String,
    pub(crate) redis_password: String,
    pub(crate) nats_password: String,
    /// Signs sign-ins of the control API.
    pub(crate) jwt_secret: String,
    /// Base64 of 32 bytes: seals URLs and generated credentials.
    pub(crate) encryption_key: String,
    /// Base64 of 32 bytes: seals what the edge injects towards instances.
    pub(crate) edge_key: String,
    /// The demo user's password.
    pub(crate) demo_password: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    secrets: Secrets,
    ports: Option<Ports>,
}

/// A state directory that this process holds the lock of.
pub(crate) struct State {
    directory: PathBuf,
    pub(crate) secrets: Secrets,
    /// The ports of the last start.
    pub(crate) ports: Option<Ports>,
    _lock: File,
}

impl State {
    /// Takes the directory, creating what is missing.
    ///
    /// # Errors
    /// [`LocalError::AlreadyRunning`], [`LocalError::Damaged`], [`LocalError::Io`].
    pub(crate) fn open(directory: &Path) -> Result<Self, LocalError> {
        private_directory(directory)?;
        let directory = directory
            .canonicalize()
            .map_err(LocalError::io(format!("find {}", directory.display())))?;
        let lock = lock(&directory)?;
        for name in ["logs", "logs/instances", "config", "instances", "edge"] {
            private_directory(&directory.join(name))?;
        }
        let file = directory.join("state.json");
        let kept = match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| LocalError::Damaged {
                file,
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept {
                secrets: Secrets::generate()?,
                ports: None,
            },
            Err(error) => return Err(LocalError::io(format!("read {}", file.display()))(error)),
        };
        let fresh = kept.ports.is_none();
        let state = Self {
            directory,
            secrets: kept.secrets,
            ports: kept.ports,
            _lock: lock,
        };
        if fresh {
            state.remove_orphaned_data()?;
        }
        Ok(state)
    }

    /// Remembers the ports and, at the first start, everything else.
    ///
    /// # Errors
    /// [`LocalError::Testkit`] when the file cannot be written.
    pub(crate) fn keep(&mut self, ports: Ports) -> Result<(), LocalError> {
        let kept = Kept {
            secrets: self.secrets.clone(),
            ports: Some(ports.clone()),
        };
        let text = serde_json::to_string_pretty(&kept).unwrap_or_default();
        private_file::write(&self.file("state.json"), &(text + "\n"))?;
        self.ports = Some(ports);
        Ok(())
    }

    /// A file or directory of the state.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The log of a server or program.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// Where Postgres keeps its data: where the user that it runs as can reach it.
    ///
    /// # Errors
    /// [`LocalError::Testkit`] as root on a machine without a user for Postgres.
    pub(crate) fn postgres_directory(&self) -> Result<PathBuf, LocalError> {
        if Account::for_postgres()?.is_none() {
            return Ok(self.directory.join("postgres"));
        }
        let mut hash = DefaultHasher::new();
        self.directory.hash(&mut hash);
        Ok(PathBuf::from(format!("/var/tmp/authsome-local-{:016x}", hash.finish())))
    }

    fn remove_orphaned_data(&self) -> Result<(), LocalError> {
        let data = [
            self.postgres_directory()?,
            self.file("redis"),
            self.file("nats"),
            self.file("demo.json"),
        ];
        for path in data.iter().filter(|path| path.exists()) {
            console::say(&format!(
                "Removing {}: the secrets that it was made with are gone.",
                path.display()
            ));
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            };
            removed.map_err(LocalError::io(format!("remove {}", path.display())))?;
        }
        Ok(())
    }
}

impl Secrets {
    fn generate() -> Result<Self, LocalError> {
        Ok(Self {
            postgres_password: secret::random_password()?,
            redis_password: secret::random_password()?,
            nats_password: secret::random_password()?,
            jwt_secret: secret::random_password()?,
            encryption_key: secret::random_key()?,
            edge_key: secret::random_key()?,
            demo_password: secret::random_password()?,
        })
    }
}

fn private_directory(path: &Path) -> Result<(), LocalError> {
    let creating = LocalError::io(format!("create {}", path.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(creating)?;
    let protecting = LocalError::io(format!("protect {}", path.display()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(protecting)
}

fn lock(directory: &Path) -> Result<File, LocalError> {
    let path = directory.join("lock");
    let opening = LocalError::io(format!("open {}", path.display()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(opening)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LocalError::AlreadyRunning(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(LocalError::io(format!("lock {}", path.display()))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_finds_the_same_secrets_and_a_concurrent_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut first = State::open(&path).unwrap();
        first.keep(Ports::choose(None, true).unwrap().0).unwrap();
        assert!(matches!(State::open(&path), Err(LocalError::AlreadyRunning(_))));
        let password = first.secrets.postgres_password.clone();
        drop(first);
        let second = State::open(&path).unwrap();
        assert_eq!(second.secrets.postgres_password, password);
        let mode = |name: &str| second.file(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("state.json"), mode("logs"), mode("")), (0o600, 0o700, 0o700));
    }

    #[test]
    fn a_damaged_state_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("state.json"), "{").unwrap();
        assert!(matches!(State::open(directory.path()), Err(LocalError::Damaged { .. })));
        assert_eq!(
            std::fs::read_to_string(directory.path().join("state.json")).unwrap(),
            "{"
        );
    }

    #[test]
    fn data_whose_secrets_are_gone_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let redis = directory.path().join("redis");
        std::fs::create_dir(&redis).unwrap();
        State::open(directory.path()).unwrap();
        assert!(!redis.exists());
    }
}
