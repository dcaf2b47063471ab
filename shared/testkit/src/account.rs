//! Whom a server runs as. Postgres refuses to run as root; as root it gets the user `postgres`, else `nobody`.

use std::path::Path;

use nix::unistd::{User, geteuid};

use crate::error::Error;

/// A user that a server runs as instead of ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of its main group.
    pub gid: u32,
}

impl Account {
    /// The user that Postgres must run as: `None` means ourselves (we are not root).
    ///
    /// # Errors
    /// [`Error::NoAccount`] as root on a machine with neither user.
    pub fn for_postgres() -> Result<Option<Self>, Error> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let known = ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        let user = known.ok_or(Error::NoAccount)?;
        Ok(Some(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }))
    }

    /// Gives a file or directory to this user.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn give(self, path: &Path) -> Result<(), Error> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io(format!(
            "give {} to user {}",
            path.display(),
            self.uid
        )))
    }
}
