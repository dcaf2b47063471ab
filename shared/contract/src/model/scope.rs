//! Scopes of a secret key.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{UnknownName, closed::closed_set};

closed_set! {
    /// What a secret key may do.
    Scope, "scope" {
        /// Read users.
        UsersRead = "users:read",
        /// Create, change and delete users.
        UsersWrite = "users:write",
        /// List and end sessions.
        SessionsManage = "sessions:manage",
        /// Read organizations.
        OrganizationsRead = "organizations:read",
        /// Create, change and delete organizations.
        OrganizationsWrite = "organizations:write",
        /// Read the audit log.
        AuditRead = "audit:read",
    }
}

/// A set of scopes, or all of them (`*`), which includes what no named scope covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// `*`: everything, named or not.
    pub const ALL: Self = Self(0x80);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// The set with `scope` added.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | (1 << scope as u8))
    }

    /// Does the set allow what needs `scope`? `None` stands for what no named scope covers: only `*` allows it.
    pub const fn allows(self, scope: Option<Scope>) -> bool {
        if self.0 & Self::ALL.0 != 0 {
            return true;
        }
        match scope {
            Some(scope) => self.0 & (1 << scope as u8) != 0,
            None => false,
        }
    }

    /// The set as one byte, in which each scope has had the same bit since it was introduced and `*` the highest.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From [`Self::bits`]; `None` if there is a scope in it that this release does not know.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        let known = Self::ALL.0 | ((1 << Scope::ALL.len()) - 1);
        if bits & !known == 0 { Some(Self(bits)) } else { None }
    }

    /// From names as stored; `*` is [`Scopes::ALL`].
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, UnknownName> {
        names.into_iter().try_fold(Self::NONE, |set, name| match name.as_ref() {
            "*" => Ok(Self(set.0 | Self::ALL.0)),
            name => name.parse::<Scope>().map(|scope| set.with(scope)),
        })
    }

    /// The names, as stored and shown.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = (self.0 & Self::ALL.0 != 0).then_some("*");
        let named = Scope::ALL
            .iter()
            .filter(move |scope| self.0 & (1 << **scope as u8) != 0)
            .map(|scope| scope.as_str());
        all.into_iter().chain(named)
    }
}

impl std::fmt::Display for Scopes {
    /// Separated by spaces, as in OAuth.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::from_names(names).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_allows_exactly_its_members() {
        for &held in Scope::ALL {
            let set = Scopes::NONE.with(held);
            for &asked in Scope::ALL {
                assert_eq!(set.allows(Some(asked)), held == asked);
            }
            assert!(!set.allows(None), "what no scope names needs *");
        }
    }

    #[test]
    fn the_star_allows_everything_and_the_empty_set_nothing() {
        for &scope in Scope::ALL {
            assert!(Scopes::ALL.allows(Some(scope)));
            assert!(!Scopes::NONE.allows(Some(scope)));
        }
        assert!(Scopes::ALL.allows(None));
        assert!(!Scopes::NONE.allows(None));
    }

    #[test]
    fn bits_never_change_their_meaning() {
        let bits: Vec<u8> = Scope::ALL
            .iter()
            .map(|scope| Scopes::NONE.with(*scope).bits())
            .collect();
        assert_eq!(
            bits,
            [1, 2, 4, 8, 16, 32],
            "stored in files: append new scopes at the end"
        );
        assert_eq!(Scopes::ALL.bits(), 0x80);
        assert_eq!(Scopes::from_bits(0x83).unwrap().bits(), 0x83);
        assert_eq!(Scopes::from_bits(0x40), None);
    }

    #[test]
    fn names_survive_the_round_trip() {
        for names in [
            vec!["*"],
            vec!["users:read", "audit:read"],
            vec![],
            vec!["*", "users:read"],
        ] {
            let set = Scopes::from_names(&names).unwrap();
            assert_eq!(set.names().collect::<Vec<_>>(), names);
            let json = serde_json::to_string(&set).unwrap();
            assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), set);
        }
        assert!(Scopes::from_names(["users:everything"]).is_err());
    }
}
