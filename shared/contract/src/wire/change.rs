//! The routing feed: a record or its tombstone with its version, the relay's heartbeat, and the mark in Redis.

use authsome_core::{id::ApplicationId, key::Digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::names;
use crate::model::{AppRecord, HostRecord, KeyRecord, Version};

/// A record with its version, or a tombstone: the row is gone and nothing older may come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<R> {
    /// Of the row, or one above the last that the row had.
    pub version: Version,
    /// `None` is a tombstone.
    pub record: Option<R>,
}

/// A change on the feed. The subject says what changed; the payload is the [`Versioned`] record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An application.
    App(ApplicationId, Versioned<AppRecord>),
    /// An API key.
    Key(Digest, Versioned<KeyRecord>),
    /// A host name.
    Host(String, Versioned<HostRecord>),
    /// The stream now holds the whole table.
    Complete,
}

/// A feed message that this release does not understand.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Not a subject of the feed.
    #[error("subject {0:?} is not part of the feed")]
    Subject(String),
    /// The payload does not decode.
    #[error("payload of {subject}: {source}")]
    Payload {
        /// Where it came from.
        subject: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What a message of the feed is about, whatever it says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// An application.
    App(ApplicationId),
    /// An API key.
    Key(Digest),
    /// A host name.
    Host(String),
    /// The stream itself.
    Complete,
}

impl Named {
    /// From a subject of the `EDGE` stream.
    ///
    /// # Errors
    /// [`ChangeError::Subject`]: a kind of subject that this release does not know, or a name that is none.
    pub fn of(subject: &str) -> Result<Self, ChangeError> {
        let unknown = || ChangeError::Subject(subject.to_owned());
        if subject == names::EDGE_COMPLETE {
            return Ok(Self::Complete);
        }
        let (kind, name) = subject
            .strip_prefix("edge.")
            .and_then(|s| s.split_once('.'))
            .ok_or_else(unknown)?;
        match kind {
            "app" => Ok(Self::App(name.parse().map_err(|_| unknown())?)),
            "key" => Ok(Self::Key(name.parse().map_err(|_| unknown())?)),
            "host" => Ok(Self::Host(name.to_owned())),
            _ => Err(unknown()),
        }
    }
}

impl Change {
    /// From a message of the `EDGE` stream.
    pub fn decode(subject: &str, payload: &[u8]) -> Result<Self, ChangeError> {
        fn body<R: DeserializeOwned>(subject: &str, payload: &[u8]) -> Result<Versioned<R>, ChangeError> {
            serde_json::from_slice(payload).map_err(|source| ChangeError::Payload {
                subject: subject.to_owned(),
                source,
            })
        }
        Ok(match Named::of(subject)? {
            Named::App(id) => Self::App(id, body(subject, payload)?),
            Named::Key(digest) => Self::Key(digest, body(subject, payload)?),
            Named::Host(host) => Self::Host(host, body(subject, payload)?),
            Named::Complete => Self::Complete,
        })
    }

    /// Subject on the stream.
    pub fn subject(&self) -> String {
        match self {
            Self::App(id, _) => names::edge_app(id),
            Self::Key(digest, _) => names::edge_key(digest),
            Self::Host(host, _) => names::edge_host(host),
            Self::Complete => names::EDGE_COMPLETE.to_owned(),
        }
    }

    /// Key in Redis; the marker has none.
    pub fn redis_key(&self) -> Option<String> {
        match self {
            Self::App(id, _) => Some(names::redis_app(id)),
            Self::Key(digest, _) => Some(names::redis_key(digest)),
            Self::Host(host, _) => Some(names::redis_host(host)),
            Self::Complete => None,
        }
    }

    /// Version of the row; the marker has none.
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::App(_, v) => Some(v.version),
            Self::Key(_, v) => Some(v.version),
            Self::Host(_, v) => Some(v.version),
            Self::Complete => None,
        }
    }

    /// JSON of the payload.
    pub fn payload(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::App(_, v) => serde_json::to_vec(v),
            Self::Key(_, v) => serde_json::to_vec(v),
            Self::Host(_, v) => serde_json::to_vec(v),
            Self::Complete => Ok(b"{}".to_vec()),
        }
    }
}

/// Length of the version that a value in Redis begins with: twice 16 hexadecimal digits, so that byte order is version order
/// and the compare-and-set script needs no parser.
pub const REDIS_VERSION_LEN: usize = 32;

/// The text form of a version at the head of a value in Redis.
pub fn redis_version(version: Version) -> String {
    format!("{:016x}{:016x}", version.epoch, version.row)
}

/// A value in Redis: version, then the JSON of a [`Versioned`] record.
pub fn decode_redis<R: DeserializeOwned>(value: &[u8]) -> Result<Versioned<R>, serde_json::Error> {
    serde_json::from_slice(value.get(REDIS_VERSION_LEN..).unwrap_or_default())
}

/// The relay lives, and has got this far. Only this resets an edge's staleness clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Restore epoch.
    pub epoch: u64,
    /// Creation time of the `EDGE` stream, nanoseconds since the Unix epoch: another value is another stream.
    pub incarnation: i64,
    /// Outbox position that the stream holds.
    pub position: u64,
    /// Last stream sequence that the relay published.
    pub sequence: u64,
    /// The database's clock, milliseconds since the Unix epoch.
    pub database_time_ms: i64,
}

/// How far Redis has come. An edge trusts Redis only while the mark is young and not behind the edge itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Restore epoch.
    pub epoch: u64,
    /// Outbox position that Redis holds.
    pub position: u64,
    /// The database's clock when the relay last wrote it, milliseconds since the Unix epoch.
    pub renewed_at_ms: i64,
}

#[cfg(test)]
mod tests;
