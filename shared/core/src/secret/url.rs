//! Addresses with a password in them, such as `postgres://app:pw@db:5432/control`.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// The address of a dependency. `Display` and `Debug` show scheme, host, port and path; `***` stands for user and
/// password, and the query is left out, since drivers take passwords there too. Several comma-separated addresses are one
/// value, as NATS has it.
#[derive(Clone)]
pub struct SecretUrl(SecretString);

/// A text is not an address. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form scheme://[user[:password]@]host[:port][/path]")]
pub struct SecretUrlError;

impl SecretUrl {
    /// Accepts any text with a scheme and something after it, without blanks or control characters. The driver that
    /// connects is the judge of the rest.
    pub fn parse(text: &str) -> Result<Self, SecretUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(SecretUrlError)?;
        let scheme_formed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let rest_formed = !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
        if scheme_formed && rest_formed {
            Ok(Self(text.into()))
        } else {
            Err(SecretUrlError)
        }
    }

    /// The whole address, for the driver.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The part before `://`.
    pub fn scheme(&self) -> &str {
        self.expose().split_once("://").map_or("", |(scheme, _)| scheme)
    }
}

impl FromStr for SecretUrl {
    type Err = SecretUrlError;

    fn from_str(text: &str) -> Result<Self, SecretUrlError> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::deserialize(deserializer)?;
        Self::parse(text.expose_secret()).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = format!(",{}://", self.scheme());
        let text = self.expose();
        let rest = &text[self.scheme().len() + "://".len()..];
        for (position, address) in rest.split(separator.as_str()).enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}://", self.scheme())?;
            // Everything up to the last '@' is taken for user and password: a password may hold '/', '?' or '@' without
            // being encoded, and it is better to hide a host than to show half a password.
            let shown = match address.rsplit_once('@') {
                Some((_, shown)) => {
                    f.write_str("***@")?;
                    shown
                }
                None => address,
            };
            f.write_str(shown.split(['?', '#']).next().unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        SecretUrl::parse(text).unwrap().to_string()
    }

    #[test]
    fn an_address_is_shown_without_user_password_and_query() {
        assert_eq!(
            shown("postgres://app:hunter2@db.internal:5432/control"),
            "postgres://***@db.internal:5432/control"
        );
        assert_eq!(shown("redis://:hunter2@[::1]:6379/0"), "redis://***@[::1]:6379/0");
        assert_eq!(
            shown("postgres://db/control?password=hunter2#x"),
            "postgres://db/control"
        );
        assert_eq!(shown("nats://127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(shown("postgres://u@/db?host=/run/pg"), "postgres://***@/db");
    }

    #[test]
    fn every_one_of_several_addresses_is_masked() {
        assert_eq!(
            shown("nats://u:pw@a:4222,nats://u:pw@b:4222"),
            "nats://***@a:4222,nats://***@b:4222"
        );
        assert_eq!(shown("nats://u:pw@a:4222,b:4222"), "nats://***@a:4222,b:4222");
    }

    #[test]
    fn debug_is_as_careful_as_display() {
        let url = SecretUrl::parse("redis://:hunter2@cache/").unwrap();
        assert_eq!(format!("{url:?}"), "SecretUrl(redis://***@cache/)");
        assert_eq!(url.expose(), "redis://:hunter2@cache/");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in [
            "",
            "hunter2",
            "://x",
            "postgres://",
            "po st://x",
            "1a://x",
            "redis://a b",
            "redis://a\n",
        ] {
            let error = SecretUrl::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn no_password_is_ever_shown(password in "[!-~]{1,8}") {
            let marked = format!("<<{password}>>");
            let url = SecretUrl::parse(&format!("postgres://app:{marked}@db:5432/control")).unwrap();
            prop_assert_eq!(url.to_string(), "postgres://***@db:5432/control");
        }
    }
}
