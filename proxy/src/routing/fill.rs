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
use super::postgres::{Dated, PostgresError, PostgresSource};
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

    /// The key as Postgres has it now, which is kept. Its application comes with it.
    pub(super) async fn key_from_postgres(&self, digest: Digest) -> Outcome<Arc<KeyEntry>> {
        let table = &self.shared.table;
        let ask = || self.postgres.key(&digest);
        let absent = |ticket: &Ticket| table.settle_absent_key(ticket, &digest);
        let settle = |ticket: Ticket, (key, app)| async move {
            match table.settle_app(&ticket, app) {
                Settled::Accepted(slot) => Ok(Some(table.settle_key(&ticket, key, slot))),
                Settled::Behind => Err(self.behind(TableName::App)),
            }
        };
        self.answer_of_postgres(TableName::Key, ask, absent, settle).await
    }

    async fn key_from_redis(&self, digest: &Digest) -> FromRedis<Arc<KeyEntry>> {
        let (ticket, table) = (self.ticket(), &self.shared.table);
        let answer = self.redis.key(digest, self.trust()).await;
        let absent = || table.settle_absent_key(&ticket, digest);
        let settle = |record: KeyRecord| async move {
            let slot = self.slot_from_redis(&record.application_id).await?;
            Some(table.settle_key(&ticket, record, slot))
        };
        self.answer_of_redis(TableName::Key, answer, absent, settle).await
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
        let table = &self.shared.table;
        let ask = || self.postgres.app(&id);
        let absent = |ticket: &Ticket| table.settle_absent_app(ticket, &id);
        let settle = |ticket: Ticket, app| async move { Ok(Some(table.settle_app(&ticket, app))) };
        self.answer_of_postgres(TableName::App, ask, absent, settle).await
    }

    async fn app_from_redis(&self, id: &ApplicationId) -> FromRedis<Arc<AppSlot>> {
        let (ticket, table) = (self.ticket(), &self.shared.table);
        if table.app_just_changed(id, ticket.at_ms) {
            return FromRedis::AskPostgres;
        }
        let answer = self.redis.app(id, self.trust()).await;
        let absent = || table.settle_absent_app(&ticket, id);
        let settle = |record: AppRecord| async move { Some(table.settle_app(&ticket, record)) };
        self.answer_of_redis(TableName::App, answer, absent, settle).await
    }

    /// The application of a record that Redis has. `None`: Postgres knows which of the two is behind.
    async fn slot_from_redis(&self, id: &ApplicationId) -> Option<Arc<AppSlot>> {
        let now_ms = self.shared.clock.unix_millis();
        if let Some(slot) = self.shared.table.fresh_slot(id, now_ms) {
            return Some(slot);
        }
        match self.app_from_redis(id).await {
            FromRedis::Settled(slot) => Some(slot),
            FromRedis::Absent | FromRedis::AskPostgres => None,
        }
    }

    /// Asks until an answer stands. `settle` yields nothing for a record that is gone by now.
    async fn answer_of_postgres<R, T, A, S>(
        &self,
        table: TableName,
        ask: impl Fn() -> A,
        absent: impl Fn(&Ticket) -> Absence,
        settle: impl Fn(Ticket, R) -> S,
    ) -> Outcome<T>
    where
        A: Future<Output = Result<Option<Dated<R>>, PostgresError>>,
        S: Future<Output = Outcome<Settled<T>>>,
    {
        for reading in 1..=READINGS {
            let ticket = self.ticket();
            match ask().await {
                Ok(Some(row)) => {
                    self.answered(row.database_ms);
                    return match settle(ticket, row.value).await? {
                        Some(Settled::Accepted(entry)) => Ok(Some(self.found(table, Source::Postgres, entry))),
                        Some(Settled::Behind) => Err(self.behind(table)),
                        None => Ok(None),
                    };
                }
                Ok(None) => {
                    self.shared.table.pulse().release();
                    if absent(&ticket) == Absence::Kept || reading == READINGS {
                        self.shared.metrics.fill(table, Source::Postgres, FillOutcome::Absent);
                        return Ok(None);
                    }
                }
                Err(error) => return Err(self.unanswered(table, &error)),
            }
        }
        Ok(None)
    }

    /// What an answer of Redis settles. `settle` yields nothing where Postgres must be asked.
    async fn answer_of_redis<R, T, S>(
        &self,
        table: TableName,
        answer: Answer<R>,
        absent: impl Fn() -> Absence,
        settle: impl Fn(R) -> S,
    ) -> FromRedis<T>
    where
        S: Future<Output = Option<Settled<T>>>,
    {
        let Some(found) = self.redis_answer(table, answer) else {
            return FromRedis::AskPostgres;
        };
        let Some(record) = found.record else {
            return match absent() {
                Absence::Kept => FromRedis::Absent,
                Absence::Overtaken => FromRedis::AskPostgres,
            };
        };
        match settle(record).await {
            Some(Settled::Accepted(entry)) => FromRedis::Settled(self.found(table, Source::Redis, entry)),
            Some(Settled::Behind) => {
                let outcome = FillOutcome::RefusedStale;
                self.shared.metrics.fill(table, Source::Redis, outcome);
                FromRedis::AskPostgres
            }
            None => FromRedis::AskPostgres,
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
