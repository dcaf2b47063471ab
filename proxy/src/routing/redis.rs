//! L2: the copy of the whole table that the relay keeps in Redis. Read only.
//!
//! An answer counts only together with the relay's mark, read in the same command: renewed within the last seconds and not
//! behind what this edge has already applied. Otherwise, and when Redis is away, slow or has no such key, Postgres is asked;
//! a short circuit keeps a dead Redis from costing every miss a timeout. What cannot be decoded counts as not there.

use std::time::Duration;

use authsome_contract::model::{AppRecord, HostRecord, KeyRecord};
use authsome_contract::wire::change::decode_redis;
use authsome_contract::wire::{Mark, Versioned, names};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use authsome_core::secret::SecretUrl;
use bytes::Bytes;
use fred::interfaces::KeysInterface;
use serde::de::DeserializeOwned;

use super::circuit::Circuit;
use crate::redis::{COMMAND_TIMEOUT, Connection, RedisAddressError};

const CIRCUIT_PAUSE: Duration = Duration::from_secs(1);

/// What Redis said.
#[derive(Debug)]
pub(super) enum Answer<R> {
    /// A record or its tombstone, and the mark vouches for it.
    Found(Versioned<R>),
    /// No such key. Not the same as "does not exist".
    Missing,
    /// The relay has not renewed its mark, or Redis is behind this edge.
    Untrusted,
    /// No answer.
    Failed,
}

/// What the mark must show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    /// The database's clock as estimated here, milliseconds since the Unix epoch.
    pub(super) database_now_ms: i64,
    /// How old the mark may be.
    pub(super) max_age_ms: i64,
    /// Epoch and position that this edge has applied; zeros when it has heard nothing yet. `None`: it has begun anew and
    /// does not know yet where it stands.
    pub(super) covered: Option<(u64, u64)>,
}

impl Trust {
    fn holds(&self, mark: &Mark) -> bool {
        let age = self.database_now_ms.saturating_sub(mark.renewed_at_ms);
        // A mark from the future is a clock that nothing can be concluded from.
        age.abs() < self.max_age_ms
            && self
                .covered
                .is_some_and(|covered| (mark.epoch, mark.position) >= covered)
    }
}

pub(super) struct RedisSource {
    connection: Connection,
    circuit: Circuit,
}

impl RedisSource {
    /// Starts connecting and returns at once; reconnects for ever. Must be called in the runtime that will use it.
    pub(super) fn connect(address: &SecretUrl) -> Result<Self, RedisAddressError> {
        Ok(Self {
            connection: Connection::start(address)?,
            circuit: Circuit::new(1, CIRCUIT_PAUSE),
        })
    }

    pub(super) async fn key(&self, digest: &Digest, trust: Trust) -> Answer<KeyRecord> {
        self.read(names::redis_key(digest), trust).await
    }

    pub(super) async fn app(&self, id: &ApplicationId, trust: Trust) -> Answer<AppRecord> {
        self.read(names::redis_app(id), trust).await
    }

    pub(super) async fn host(&self, host: &str, trust: Trust) -> Answer<HostRecord> {
        self.read(names::redis_host(host), trust).await
    }

    async fn read<R: DeserializeOwned>(&self, name: String, trust: Trust) -> Answer<R> {
        let Some(client) = self.connection.client().filter(|_| !self.circuit.is_open()) else {
            return Answer::Failed;
        };
        let names = vec![name, names::REDIS_MARK.to_owned()];
        let read = tokio::time::timeout(COMMAND_TIMEOUT, client.mget::<Vec<Option<Bytes>>, _>(names)).await;
        let values = match read {
            Ok(Ok(values)) => values,
            Ok(Err(error)) => return self.failed(&error),
            Err(elapsed) => return self.failed(&elapsed),
        };
        self.circuit.succeeded();
        let [value, mark] = values.as_slice() else {
            return Answer::Failed;
        };
        let mark = mark.as_ref().and_then(|mark| serde_json::from_slice::<Mark>(mark).ok());
        if !mark.is_some_and(|mark| trust.holds(&mark)) {
            return Answer::Untrusted;
        }
        match value.as_ref().map(|value| decode_redis(value)) {
            Some(Ok(versioned)) => Answer::Found(versioned),
            Some(Err(error)) => {
                tracing::warn!(%error, "a record in Redis cannot be decoded; asking Postgres");
                Answer::Missing
            }
            None => Answer::Missing,
        }
    }

    fn failed<R>(&self, error: &dyn std::fmt::Display) -> Answer<R> {
        if self.circuit.failed() {
            tracing::warn!(%error, "Redis does not answer; misses go to Postgres");
        }
        Answer::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn mark(renewed_at_ms: i64, epoch: u64, position: u64) -> Mark {
        Mark {
            epoch,
            position,
            renewed_at_ms,
        }
    }

    #[test]
    fn redis_is_trusted_only_with_a_young_mark_that_is_not_behind_the_edge() {
        let trust = Trust {
            database_now_ms: NOW,
            max_age_ms: 5_000,
            covered: Some((2, 40)),
        };
        assert!(trust.holds(&mark(NOW - 4_999, 2, 40)));
        assert!(trust.holds(&mark(NOW + 100, 3, 1)));
        assert!(!trust.holds(&mark(NOW - 5_000, 2, 40)), "old mark");
        assert!(!trust.holds(&mark(NOW, 2, 39)), "behind");
        assert!(!trust.holds(&mark(NOW, 1, 900)), "of an earlier epoch");
        assert!(!trust.holds(&mark(NOW + 60_000, 2, 40)), "from the future");
        let anew = Trust { covered: None, ..trust };
        assert!(!anew.holds(&mark(NOW, 2, 900)), "nothing to compare it with");
    }
}
