//! Host names: one, in pages, as versions, and as the outbox announces them.

use std::collections::HashSet;

use authsome_contract::model::route::HostRow;
use authsome_contract::model::{HostRecord, Version};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::id::ApplicationId;
use sqlx::PgConnection;

use super::whole::{Page, WholeSource};
use super::{Dated, Lent, PostgresError, PostgresSource, is_broken_connection};

impl PostgresSource {
    /// The host, if it leads somewhere.
    pub(in crate::routing) async fn host(&self, host: &str) -> Result<Option<Dated<HostRecord>>, PostgresError> {
        let question = self.admitted().await?;
        let mut answer = self.host_once(host).await;
        if is_broken_connection(&answer) {
            answer = self.host_once(host).await;
        }
        question.answered(answer)
    }

    async fn host_once(&self, host: &str) -> Result<Option<Dated<HostRecord>>, PostgresError> {
        let mut lent = Lent(Some(self.pool.acquire().await?));
        let answer = one(lent.connection()?, host).await;
        lent.give_back_after(&answer);
        answer
    }
}

impl WholeSource {
    /// Hosts after `after` by name, at most `limit`.
    pub(in crate::routing) async fn hosts(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Page<HostRecord, String>, PostgresError> {
        let rows = self
            .bounded(async |connection| page(connection, after, limit).await)
            .await?;
        let next = rows.last().map(|row| row.host.clone());
        let records = rows.into_iter().map(HostRow::into_record).collect();
        Ok(Page { records, next })
    }

    /// Versions of the hosts after `after` by name, at most `limit`.
    pub(in crate::routing) async fn host_versions(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(String, Version)>, PostgresError> {
        let page = self.hosts(after, limit).await?;
        let named = page.records.into_iter();
        Ok(named.map(|record| (record.host, record.version)).collect())
    }
}

/// The announced hosts as they now are; one that leads nowhere is a tombstone of the announced version.
pub(super) async fn announced(
    connection: &mut PgConnection,
    announced: &[(&str, Version)],
) -> Result<Vec<Change>, PostgresError> {
    if announced.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = announced.iter().map(|(host, _)| (*host).to_owned()).collect();
    let mut found = HashSet::new();
    let mut changes = Vec::with_capacity(announced.len());
    for row in by_name(connection, &names).await? {
        let record = row.into_record();
        found.insert(record.host.clone());
        let versioned = Versioned {
            version: record.version,
            record: Some(record.clone()),
        };
        changes.push(Change::Host(record.host, versioned));
    }
    for (host, version) in announced.iter().filter(|(host, _)| !found.contains(*host)) {
        let gone = Versioned {
            version: *version,
            record: None,
        };
        changes.push(Change::Host((*host).to_owned(), gone));
    }
    Ok(changes)
}

async fn one(connection: &mut PgConnection, host: &str) -> Result<Option<Dated<HostRecord>>, PostgresError> {
    let row = sqlx::query!(
        r#"SELECT host AS "host!", application_id AS "application_id!: ApplicationId", epoch AS "epoch!",
                  version AS "version!", (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "database_ms!"
           FROM edge_hosts WHERE host = $1"#,
        host,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Dated {
        database_ms: row.database_ms,
        value: HostRecord {
            host: row.host,
            application_id: row.application_id,
            version: Version::from_columns(row.epoch, row.version),
        },
    }))
}

async fn page(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<HostRow>, PostgresError> {
    Ok(sqlx::query_as!(
        HostRow,
        r#"SELECT host AS "host!", application_id AS "application_id!: ApplicationId", epoch AS "epoch!",
                  version AS "version!"
           FROM edge_hosts WHERE host > $1 ORDER BY host LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

async fn by_name(connection: &mut PgConnection, names: &[String]) -> Result<Vec<HostRow>, PostgresError> {
    Ok(sqlx::query_as!(
        HostRow,
        r#"SELECT host AS "host!", application_id AS "application_id!: ApplicationId", epoch AS "epoch!",
                  version AS "version!"
           FROM edge_hosts WHERE host = ANY ($1)"#,
        names,
    )
    .fetch_all(connection)
    .await?)
}
