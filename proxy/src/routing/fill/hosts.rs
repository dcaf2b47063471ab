//! A host that is not held: as a key, but for its application, which is read only when it is not held either.

use std::sync::Arc;

use authsome_contract::model::HostRecord;
use authsome_core::id::ApplicationId;

use super::{Filler, FromRedis};
use crate::routing::entry::AppSlot;
use crate::routing::fence::Ticket;
use crate::routing::flight::Outcome;
use crate::routing::host::HostEntry;
use crate::routing::metrics::TableName;

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
        let table = &self.shared.table;
        let ask = || self.postgres.host(host);
        let absent = |ticket: &Ticket| table.settle_absent_host(ticket, host);
        let settle = |ticket: Ticket, record: HostRecord| async move {
            let slot = self.slot_from_postgres(record.application_id).await?;
            // Without one, it went with its application between the two questions.
            Ok(slot.map(|slot| table.settle_host(&ticket, record, slot)))
        };
        self.answer_of_postgres(TableName::Host, ask, absent, settle).await
    }

    async fn slot_from_postgres(&self, id: ApplicationId) -> Outcome<Arc<AppSlot>> {
        let now_ms = self.shared.clock.unix_millis();
        match self.shared.table.fresh_slot(&id, now_ms) {
            Some(slot) => Ok(Some(slot)),
            None => self.app_from_postgres(id).await,
        }
    }

    async fn host_from_redis(&self, host: &Arc<str>) -> FromRedis<Arc<HostEntry>> {
        let (ticket, table) = (self.ticket(), &self.shared.table);
        let answer = self.redis.host(host, self.trust()).await;
        let absent = || table.settle_absent_host(&ticket, host);
        let settle = |record: HostRecord| async move {
            let slot = self.slot_from_redis(&record.application_id).await?;
            Some(table.settle_host(&ticket, record, slot))
        };
        self.answer_of_redis(TableName::Host, answer, absent, settle).await
    }
}
