//! A miss: Redis, then Postgres, then the table.
//!
//! Each name is filled once at a time (`flight`), under a deadline. No answer, or no permit in time, is [`Unavailable`]: the
//! caller says 503 and nothing is remembered, so a key that was created a millisecond ago is never refused as unknown.
//! Absence in Redis means "ask Postgres"; absence in Postgres is remembered for a moment.

use std::sync::Arc;

use authsome_contract::model::{AppRecord, KeyRecord};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use super::entry::{AppSlot, KeyEntry};
use super::fence::Ticket;
use super::flight::Outcome;
use super::metrics::{FillOutcome, Source, TableName};
use super::postgres::{PostgresError, PostgresSource};
use super::redis::{Answer, RedisSource, Trust};
use super::table::{Absence, Settled};
use super::{Shared, Unavailable};

mod hosts;

/// A change that keeps passing while the same name is read again and again: its last reading is believed, not kept.
const READINGS: usize = 3;

pub(super) struct Filler {
    pub(super) shared: Arc<Shared>,
    pub(super) redis: RedisSource,
    pub(super) postgres: PostgresSource,
}

/// What Redis contributed.
enum FromRedis<T> {
    Settled(T),
    Absent,
    AskPostgres,
}

impl Filler {
    pub(super) async fn key(&self, digest: Digest) -> Outcome<Arc<KeyEntry>> {
        let now_ms = self.shared.clock.unix_millis();
        if !self.shared.table.key_just_changed(&digest, now_ms) {
            match self.key_from_redis(&digest).await {
                FromRedis::Settled(entry) => return Ok(Some(entry)),
                FromRedis::Absent => return Ok(None),
                FromRedis::AskPostgres => {}
            }
        }
        self.key_from_postgres(digest).await
    }

    /// The key as Postgres has it now, which is kept.
    pub(super) async fn key_from_postgres(&self, digest: Digest) -> Outcome<Arc<KeyEntry>> {
        for reading in 1..=READINGS {
            let ticket = self.ticket();
            match self.postgres.key(&digest).await {
                Ok(Some(row)) => {
                    self.answered(row.database_ms);
                    let (key, app) = row.value;
                    let Settled::Accepted(slot) = self.shared.table.settle_app(&ticket, app) else {
                        return Err(self.behind(TableName::App));
                    };
                    return match self.shared.table.settle_key(&ticket, key, slot) {
                        Settled::Accepted(entry) => Ok(Some(self.found(TableName::Key, Source::Postgres, entry))),
                        Settled::Behind => Err(self.behind(TableName::Key)),
                    };
                }
                Ok(None) => {
                    self.shared.table.pulse().release();
                    let absence = self.shared.table.settle_absent_key(&ticket, &digest);
                    if absence == Absence::Kept || reading == READINGS {
                        self.shared
                            .metrics
                            .fill(TableName::Key, Source::Postgres, FillOutcome::Absent);
                        return Ok(None);
                    }
                }
                Err(error) => return Err(self.unanswered(TableName::Key, &error)),
            }
        }
        Ok(None)
    }

    pub(super) async fn app(&self, id: ApplicationId) -> Outcome<Arc<AppSlot>> {
        let now_ms = self.shared.clock.unix_millis();
        if let Some(slot) = self.shared.table.fresh_slot(&id, now_ms) {
            return Ok(Some(slot));
        }
        match self.app_from_redis(&id).await {
            FromRedis::Settled(slot) => return Ok(Some(slot)),
            FromRedis::Absent => return Ok(None),
            FromRedis::AskPostgres => {}
        }
        self.app_from_postgres(id).await
    }

    /// The application as Postgres has it now, which is kept.
    pub(super) async fn app_from_postgres(&self, id: ApplicationId) -> Outcome<Arc<AppSlot>> {
        for reading in 1..=READINGS {
            let ticket = self.ticket();
            match self.postgres.app(&id).await {
                Ok(Some(row)) => {
                    self.answered(row.database_ms);
                    return match self.shared.table.settle_app(&ticket, row.value) {
                        Settled::Accepted(slot) => Ok(Some(self.found(TableName::App, Source::Postgres, slot))),
                        Settled::Behind => Err(self.behind(TableName::App)),
                    };
                }
                Ok(None) => {
                    self.shared.table.pulse().release();
                    let absence = self.shared.table.settle_absent_app(&ticket, &id);
                    if absence == Absence::Kept || reading == READINGS {
                        self.shared
                            .metrics
                            .fill(TableName::App, Source::Postgres, FillOutcome::Absent);
                        return Ok(None);
                    }
                }
                Err(error) => return Err(self.unanswered(TableName::App, &error)),
            }
        }
        Ok(None)
    }

    async fn key_from_redis(&self, digest: &Digest) -> FromRedis<Arc<KeyEntry>> {
        let ticket = self.ticket();
        let Some(found) = self.redis_answer(TableName::Key, self.redis.key(digest, self.trust()).await) else {
            return FromRedis::AskPostgres;
        };
        let Some(record): Option<KeyRecord> = found.record else {
            return match self.shared.table.settle_absent_key(&ticket, digest) {
                Absence::Kept => FromRedis::Absent,
                Absence::Overtaken => FromRedis::AskPostgres,
            };
        };
        let now_ms = self.shared.clock.unix_millis();
        let slot = match self.shared.table.fresh_slot(&record.application_id, now_ms) {
            Some(slot) => slot,
            None => match self.app_from_redis(&record.application_id).await {
                FromRedis::Settled(slot) => slot,
                // A key whose application is not there: Postgres knows which of the two is behind.
                FromRedis::Absent | FromRedis::AskPostgres => return FromRedis::AskPostgres,
            },
        };
        match self.shared.table.settle_key(&ticket, record, slot) {
            Settled::Accepted(entry) => FromRedis::Settled(self.found(TableName::Key, Source::Redis, entry)),
            Settled::Behind => self.redis_behind(TableName::Key),
        }
    }

    async fn app_from_redis(&self, id: &ApplicationId) -> FromRedis<Arc<AppSlot>> {
        let ticket = self.ticket();
        if self.shared.table.app_just_changed(id, ticket.at_ms) {
            return FromRedis::AskPostgres;
        }
        let Some(found) = self.redis_answer(TableName::App, self.redis.app(id, self.trust()).await) else {
            return FromRedis::AskPostgres;
        };
        let Some(record): Option<AppRecord> = found.record else {
            return match self.shared.table.settle_absent_app(&ticket, id) {
                Absence::Kept => FromRedis::Absent,
                Absence::Overtaken => FromRedis::AskPostgres,
            };
        };
        match self.shared.table.settle_app(&ticket, record) {
            Settled::Accepted(slot) => FromRedis::Settled(self.found(TableName::App, Source::Redis, slot)),
            Settled::Behind => self.redis_behind(TableName::App),
        }
    }

    fn redis_answer<R>(&self, table: TableName, answer: Answer<R>) -> Option<authsome_contract::wire::Versioned<R>> {
        let outcome = match answer {
            Answer::Found(versioned) => {
                self.shared.table.pulse().release();
                return Some(versioned);
            }
            Answer::Missing => FillOutcome::Absent,
            Answer::Untrusted => FillOutcome::Untrusted,
            Answer::Failed => FillOutcome::Unavailable,
        };
        self.shared.metrics.fill(table, Source::Redis, outcome);
        None
    }

    fn redis_behind<T>(&self, table: TableName) -> FromRedis<T> {
        self.shared
            .metrics
            .fill(table, Source::Redis, FillOutcome::RefusedStale);
        FromRedis::AskPostgres
    }

    fn ticket(&self) -> Ticket {
        self.shared.table.ticket(self.shared.clock.unix_millis())
    }

    fn trust(&self) -> Trust {
        let pulse = self.shared.table.pulse();
        Trust {
            database_now_ms: pulse.database_now_ms(self.shared.clock.unix_millis()),
            max_age_ms: i64::try_from(self.shared.settings.redis_trust.as_millis()).unwrap_or(i64::MAX),
            covered: pulse.is_comparable().then(|| pulse.covered()),
        }
    }

    fn found<T>(&self, table: TableName, source: Source, entry: T) -> T {
        self.shared.metrics.fill(table, source, FillOutcome::Found);
        entry
    }

    fn answered(&self, database_ms: i64) {
        let pulse = self.shared.table.pulse();
        pulse.release();
        pulse.learn_database_time(database_ms, self.shared.clock.unix_millis());
    }

    /// The database itself is behind what the feed has said: it was restored, and the epoch is not raised yet.
    fn behind(&self, table: TableName) -> Unavailable {
        self.shared
            .metrics
            .fill(table, Source::Postgres, FillOutcome::RefusedStale);
        tracing::warn!(
            table = table.as_str(),
            "Postgres has an older version than the feed; was it restored?"
        );
        Unavailable
    }

    fn unanswered(&self, table: TableName, error: &PostgresError) -> Unavailable {
        let outcome = match error {
            PostgresError::Row(_) => {
                tracing::error!(%error, "a routing record cannot be used");
                FillOutcome::Inconsistent
            }
            PostgresError::Query(_) => {
                tracing::debug!(%error, "a routing record cannot be read");
                FillOutcome::Unavailable
            }
            PostgresError::CircuitOpen | PostgresError::Silent => FillOutcome::Unavailable,
        };
        self.shared.metrics.fill(table, Source::Postgres, outcome);
        Unavailable
    }
}
