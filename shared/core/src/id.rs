//! TypeIDs: a prefix that names the kind, and 26 characters of a UUIDv7.
//!
//! Owns the text form of every id on the platform (<https://github.com/jetify-com/typeid>, version 0.3). An id is 16
//! bytes, `Copy`, and sorts as its text does: by the time it was made. Parsing and printing allocate nothing and depend on
//! nothing that can fail.
//!
//! Written here because the published crate (`type-safe-id`) allocates in its errors, reads the system clock by itself, and
//! cannot be given sqlx's traits from outside.

mod base32;
mod kind;
#[cfg(feature = "sqlx")]
mod postgres;
mod text;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::Clock;
use crate::entropy::{self, Entropy};

pub use kind::{
    Application, ApplicationId, Event, EventId, Invitation, InvitationId, Key, KeyId, Kind, Member, MemberId,
    Operation, OperationId, Request, RequestId, Session, SessionId, Token, TokenId, User, UserId, Webhook, WebhookId,
    Workspace, WorkspaceId,
};
pub use text::{IdSuffix, IdText};

/// Why a text is not an id of the kind that was asked for. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not begin with the prefix of this kind.
    #[error("not {noun} id: it must begin with \"{prefix}_\"")]
    Prefix {
        /// The kind, with its article: "an application".
        noun: &'static str,
        /// The prefix that was expected.
        prefix: &'static str,
    },
    /// The prefix is right; what follows is not 26 characters of lower-case Crockford base32 of at most 128 bits.
    #[error("not {noun} id: \"{prefix}_\" must be followed by 26 characters of lower-case base32")]
    Suffix {
        /// The kind, with its article: "an application".
        noun: &'static str,
        /// The prefix of this kind.
        prefix: &'static str,
    },
}

/// An id of one kind: see the aliases, such as [`ApplicationId`].
pub struct Id<K: Kind> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Id<K> {
    /// A new id: a UUIDv7 of the clock's millisecond and 74 random bits. A clock before 1970 counts as 1970.
    pub fn generate(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        Self::at(clock.unix_millis(), entropy)
    }

    /// As [`Self::generate`], at a time that was read before: milliseconds since the Unix epoch.
    pub fn at(unix_millis: i64, entropy: &dyn Entropy) -> Self {
        let millis = u64::try_from(unix_millis).unwrap_or(0);
        Self::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &entropy::bytes(entropy)).into_uuid())
    }

    /// The id with this UUID, of whatever version.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        const { assert!(K::PREFIX.len() <= text::PREFIX_MAX) };
        Self {
            uuid,
            kind: PhantomData,
        }
    }

    /// The UUID inside.
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The 26 characters after the prefix: lower-case letters and digits, so safe in a DNS label or an SQL name.
    pub fn suffix(&self) -> IdSuffix {
        IdSuffix::of(self.uuid.as_u128())
    }

    /// The whole text, on the stack.
    pub fn text(&self) -> IdText {
        IdText::of(K::PREFIX, self.uuid.as_u128())
    }

    /// Reads the 26 characters after the prefix, as taken from the name of a namespace, database or host.
    pub fn from_suffix(suffix: &str) -> Result<Self, IdError> {
        base32::decode(suffix.as_bytes())
            .map(|value| Self::from_uuid(Uuid::from_u128(value)))
            .ok_or(IdError::Suffix {
                noun: K::NOUN,
                prefix: K::PREFIX,
            })
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let suffix = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or(IdError::Prefix {
                noun: K::NOUN,
                prefix: K::PREFIX,
            })?;
        Self::from_suffix(suffix)
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

// Not derived: a derive would ask the same of the kind, which is only a name.
impl<K: Kind> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Kind> Copy for Id<K> {}

impl<K: Kind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<K: Kind> Eq for Id<K> {}

impl<K: Kind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Kind> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<K: Kind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<K>(PhantomData<fn() -> K>);

        impl<K: Kind> Visitor<'_> for Text<K> {
            type Value = Id<K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} id", K::NOUN)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id<K>, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text(PhantomData))
    }
}

#[cfg(test)]
mod tests;
