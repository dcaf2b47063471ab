//! The version of a row that is copied to other systems.

use serde::{Deserialize, Serialize};

/// (restore epoch, row version), ordered. A database trigger raises the row version on every change; a restore of the
/// database raises the epoch, so the pair never goes back. An older version never overwrites a newer one, in any cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Raised by `authsome-control admin restored`.
    pub epoch: u64,
    /// Raised by each change of the row, from 1.
    pub row: u64,
}

impl Version {
    /// From the two columns. Negative values do not occur (the columns start at 1 and only grow); they count as 0.
    pub fn from_columns(epoch: i64, version: i64) -> Self {
        Self {
            epoch: u64::try_from(epoch).unwrap_or(0),
            row: u64::try_from(version).unwrap_or(0),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_newer_whatever_the_row_version() {
        assert!(Version { epoch: 2, row: 1 } > Version { epoch: 1, row: 900 });
        assert!(Version { epoch: 1, row: 2 } > Version { epoch: 1, row: 1 });
    }
}
