//! Where a server keeps its files: a directory of the caller's that stays, or a scratch directory that goes with it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::error::Error;

/// A server's directory.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether it goes with the server.
    temporary: bool,
    /// Whether a guard has taken over removing it.
    guarded: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary && !self.guarded {
            // Best effort: the server never ran, and what is left is in a directory for temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Place {
    /// The directory to use: `kept` when given (created with mode 0700 if absent), else a new scratch directory that
    /// `account` can reach. As another user that is under `/var/tmp`, since the usual one may lie in a private home.
    pub(crate) fn prepare(kept: Option<&Path>, server: &str, account: Option<Account>) -> Result<Self, Error> {
        let place = match kept {
            Some(path) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)
                    .map_err(Error::io(format!("create {}", path.display())))?;
                Self {
                    path: path.to_owned(),
                    temporary: false,
                    guarded: false,
                }
            }
            None => Self {
                path: new_scratch_directory(server, account)?,
                temporary: true,
                guarded: false,
            },
        };
        if let Some(account) = account {
            account.give(&place.path)?;
        }
        Ok(place)
    }

    /// The server runs: its guard removes the directory from now on.
    pub(crate) fn now_guarded(mut self) {
        self.guarded = true;
    }

    /// What the guard is to remove.
    pub(crate) fn scratch(&self) -> Option<PathBuf> {
        self.temporary.then(|| self.path.clone())
    }
}

fn new_scratch_directory(server: &str, account: Option<Account>) -> Result<PathBuf, Error> {
    let parent = if account.is_some() {
        PathBuf::from("/var/tmp")
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix(&format!("authsome-{server}-"))
        .tempdir_in(&parent)
        .map(tempfile::TempDir::keep)
        .map_err(Error::io(format!("create a scratch directory in {}", parent.display())))
}
