//! What can go wrong between a program and the control database.

use authsome_contract::model::UnknownName;

/// A failure of the control database, or of what stands in it.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database cannot be reached, or did not answer in time.
    #[error("the control database is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// A unique constraint refused the row.
    #[error("unique constraint {constraint}")]
    Duplicate {
        /// Name of the constraint or unique index.
        constraint: String,
    },
    /// A row holds what this release does not understand.
    #[error("{table}.{column} of {row}: {detail}")]
    Inconsistent {
        /// Table of the row.
        table: &'static str,
        /// Column that is wrong.
        column: &'static str,
        /// Key of the row.
        row: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The statement failed for another reason.
    #[error("the control database refused a statement: {0}")]
    Statement(#[source] sqlx::Error),
}

impl DbError {
    /// Is it worth trying again later?
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// A name in `column` of `row` that is not in its closed set.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over ids, which are Copy")]
    pub fn unknown_name(table: &'static str, column: &'static str, row: impl ToString, name: &UnknownName) -> Self {
        Self::Inconsistent {
            table,
            column,
            row: row.to_string(),
            detail: name.to_string(),
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => Self::Unavailable(error),
            E::Database(database) => {
                // SQLSTATE classes 08 (connection), 53 (resources), 57 (shutdown, cancelled by a timeout).
                let code = database.code().unwrap_or_default();
                if database.is_unique_violation() {
                    let constraint = database.constraint().unwrap_or("unknown").to_owned();
                    Self::Duplicate { constraint }
                } else if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) {
                    Self::Unavailable(error)
                } else {
                    Self::Statement(error)
                }
            }
            _ => Self::Statement(error),
        }
    }
}
