//! A host that is not held: as a key's, but for its application, which is read only when it is not held either.

use std::sync::Arc;

use authsome_contract::model::HostRecord;
use authsome_core::id::ApplicationId;

use super::{Filler, FromRedis, READINGS};
use crate::routing::entry::AppSlot;
use crate::routing::flight::Outcome;
use crate::routing::host::HostEntry;
use crate::routing::metrics::{FillOutcome, Source, TableName};
use crate::routing::table::{Absence, Settled};

impl Filler {
    pub(in crate::routing) async fn host(&self, host: &Arc<str>) -> Outcome<Arc<HostEntry>> {
        let now_ms = self.shared.clock.unix_millis();
        if !self.shared.table.host_just_changed(host, now_ms) {
            match self.host_from_redis(host).await {
                FromRedis::Settled(entry) => return Ok(Some(entry)),
                FromRedis::Absent => return Ok(None),
                FromRedis::AskPostgres => {}
            }
        }
        self.host_from_postgres(host).await
    }

    /// The host as Postgres has it now, which is kept.
    pub(in crate::routing) async fn host_from_postgres(&self, host: &Arc<str>) -> Outcome<Arc<HostEntry>> {
        for reading in 1..=READINGS {
            let ticket = self.ticket();
            match self.postgres.host(host).await {
                Ok(Some(row)) => {
                    self.answered(row.database_ms);
                    let Some(slot) = self.slot_from_postgres(row.value.application_id).await? else {
                        // It went with its application between the two questions.
                        return Ok(None);
                    };
                    return match self.shared.table.settle_host(&ticket, row.value, slot) {
                        Settled::Accepted(entry) => Ok(Some(self.found(TableName::Host, Source::Postgres, entry))),
                        Settled::Behind => Err(self.behind(TableName::Host)),
                    };
                }
                Ok(None) => {
                    self.shared.table.pulse().release();
                    let absence = self.shared.table.settle_absent_host(&ticket, host);
                    if absence == Absence::Kept || reading == READINGS {
                        self.shared
                            .metrics
                            .fill(TableName::Host, Source::Postgres, FillOutcome::Absent);
                        return Ok(None);
                    }
                }
                Err(error) => return Err(self.unanswered(TableName::Host, &error)),
            }
        }
        Ok(None)
    }

    async fn slot_from_postgres(&self, id: ApplicationId) -> Outcome<Arc<AppSlot>> {
        let now_ms = self.shared.clock.unix_millis();
        match self.shared.table.fresh_slot(&id, now_ms) {
            Some(slot) => Ok(Some(slot)),
            None => self.app_from_postgres(id).await,
        }
    }

    async fn host_from_redis(&self, host: &Arc<str>) -> FromRedis<Arc<HostEntry>> {
        let ticket = self.ticket();
        let Some(found) = self.redis_answer(TableName::Host, self.redis.host(host, self.trust()).await) else {
            return FromRedis::AskPostgres;
        };
        let Some(record): Option<HostRecord> = found.record else {
            return match self.shared.table.settle_absent_host(&ticket, host) {
                Absence::Kept => FromRedis::Absent,
                Absence::Overtaken => FromRedis::AskPostgres,
            };
        };
        let now_ms = self.shared.clock.unix_millis();
        let slot = match self.shared.table.fresh_slot(&record.application_id, now_ms) {
            Some(slot) => slot,
            None => match self.app_from_redis(&record.application_id).await {
                FromRedis::Settled(slot) => slot,
                FromRedis::Absent | FromRedis::AskPostgres => return FromRedis::AskPostgres,
            },
        };
        match self.shared.table.settle_host(&ticket, record, slot) {
            Settled::Accepted(entry) => FromRedis::Settled(self.found(TableName::Host, Source::Redis, entry)),
            Settled::Behind => self.redis_behind(TableName::Host),
        }
    }
}
