//! Environment variables: a copy taken once, and which one belongs to which key.

use std::collections::BTreeMap;

const PREFIX: &str = "AUTHSOME_";

/// Keys that are also read from a variable without the prefix.
pub const SEED_VARIABLES: [(&str, &str); 6] = [
    ("database.url", "DATABASE_URL"),
    ("redis.url", "REDIS_URL"),
    ("nats.url", "NATS_URL"),
    ("jwt.secret", "JWT_SECRET"),
    ("encryption.key", "ENCRYPTION_KEY"),
    ("log.level", "LOG_LEVEL"),
];

/// The variable of a key: `AUTHSOME_DATABASE_URL` for `database.url`.
pub fn variable_of(key: &str) -> String {
    let name = key.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    });
    PREFIX.chars().chain(name).collect()
}

/// A copy of environment variables. Given as a value, so that tests have their own.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of the process. Bytes that are not UTF-8 become U+FFFD, which no setting accepts.
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self(
            std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        )
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of the variables that claim to be settings.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with(PREFIX))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Names only: the values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
