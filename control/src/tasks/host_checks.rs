//! Looks for the records of verified host names again and again, since a domain that is not renewed, or is sold, belongs to somebody
//! else.
//!
//! Once a day each. A record that is gone is told of at once, by mail and webhook and in the API, and looked for four times a day;
//! after seven days without it the name stops leading to the application and is a claim again, as if its proof had never
//! been found. It comes back with `verify`. Name servers that do not answer prove nothing: the name is looked at again in an
//! hour, and its days do not count on their own. Replicas share the work. Postgres away: later.

use authsome_core::error::Chain;
use futures::StreamExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::TaskError;
use crate::audit::{self, Deed};
use crate::command::host::{record_name, record_value};
use crate::db::host_checks::{self, Due};
use crate::db::members::{self, Told};
use crate::db::{hosts, webhooks};
use crate::error::{Outcome, Problem};
use crate::identity::Actor;
use crate::mail::{self, Letter};
use crate::state::App;

/// Names of one look, and how many of them are asked for at once.
const BATCH: i64 = 100;
const AT_ONCE: usize = 8;
/// For how long a name that was taken is nobody else's, and when it comes again if the name servers are silent.
const TAKEN: time::Duration = time::Duration::hours(1);
/// Until the next look at a name whose record is there, …
const FOUND: time::Duration = time::Duration::days(1);
/// … and at one whose record is missing.
const MISSING: time::Duration = time::Duration::hours(6);
/// How long a name goes on without its record.
pub const GRACE: time::Duration = time::Duration::days(7);

/// What the task works with.
pub struct HostChecks {
    /// The platform.
    pub app: App,
}

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The record is there.
    Stands,
    /// It is missing since now.
    NewlyMissing,
    /// It is missing, and there is time.
    StillMissing,
    /// The time is up.
    Lost,
}

/// Pure.
fn judge(published: bool, missing_since: Option<time::OffsetDateTime>, now: time::OffsetDateTime) -> Verdict {
    match missing_since {
        _ if published => Verdict::Stands,
        None => Verdict::NewlyMissing,
        Some(since) if now - since < GRACE => Verdict::StillMissing,
        Some(_) => Verdict::Lost,
    }
}

impl HostChecks {
    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        let failed = |problem: &Problem| {
            tracing::debug!(error = %Chain(problem.failure()), "host names cannot be looked at; trying again");
        };
        super::sweep(stop, BATCH, || self.look(), failed).await;
        Ok(())
    }

    /// Looks at the names that are due, and says how many those were.
    pub async fn look(&self) -> Outcome<usize> {
        let now = self.app.clock().now();
        let due = {
            let mut connection = self.app.pool().acquire().await?;
            host_checks::take(&mut connection, now, now + TAKEN, BATCH).await?
        };
        let taken = due.len();
        let results: Vec<Outcome<()>> = futures::stream::iter(due)
            .map(|due| self.check(due))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for result in results {
            result?;
        }
        Ok(taken)
    }

    async fn check(&self, due: Due) -> Outcome<()> {
        let published = match self.app.dns().texts(&record_name(&due.host)).await {
            Ok(texts) => texts.contains(&record_value(&due.challenge)),
            Err(error) => {
                tracing::debug!(host = due.host, error = %Chain(&error), "the record of a host name could not be looked for");
                return Ok(());
            }
        };
        let now = self.app.clock().now();
        let mut transaction = self.app.pool().begin().await?;
        let verdict = judge(published, due.missing_since, now);
        let same = match verdict {
            Verdict::Stands => host_checks::found(&mut transaction, &due, None, now + FOUND).await?,
            Verdict::NewlyMissing => host_checks::found(&mut transaction, &due, Some(now), now + MISSING).await?,
            Verdict::StillMissing => {
                host_checks::found(&mut transaction, &due, due.missing_since, now + MISSING).await?
            }
            Verdict::Lost => host_checks::end(&mut transaction, &due).await?,
        };
        if same && matches!(verdict, Verdict::NewlyMissing | Verdict::Lost) {
            self.tell(&mut transaction, &due, verdict).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn tell(&self, connection: &mut sqlx::PgConnection, due: &Due, verdict: Verdict) -> Outcome<()> {
        let now = self.app.clock().now();
        let lost = verdict == Verdict::Lost;
        if lost {
            tracing::info!(host = due.host, application = %due.application_id, "a host name lost its proof");
            // Its team can prove it again by the same record.
            hosts::claim(connection, due.application_id, &due.host, &due.challenge, None, now).await?;
            // The webhook `host.lost` comes from this event.
            let changes = json!({ "host": due.host, "reason": "record_missing" });
            let deed = Deed::of_application("host.lose", due.workspace_id, due.application_id, changes);
            audit::record(connection, &self.app, &Actor::default(), &deed).await?;
        } else {
            let data = json!({
                "applicationId": due.application_id, "workspaceId": due.workspace_id, "host": due.host,
                "record": record_name(&due.host), "expected": record_value(&due.challenge),
                "stopsAt": (now + GRACE).format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
            });
            webhooks::emit(
                connection,
                due.workspace_id,
                Some(due.application_id),
                "host.missing",
                &data,
            )
            .await?;
        }
        let letter = Letter::HostRecord {
            application: due.application_id,
            host: due.host.clone(),
            lost,
        };
        for recipient in members::told(connection, due.workspace_id, Told::Security).await? {
            mail::post(connection, &self.app, &recipient, &letter).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_name_has_a_week_without_its_record() {
        let now = datetime!(2026-11-23 12:00 UTC);
        let since = |days| Some(now - time::Duration::days(days));
        assert_eq!(judge(true, None, now), Verdict::Stands);
        assert_eq!(judge(true, since(30), now), Verdict::Stands);
        assert_eq!(judge(false, None, now), Verdict::NewlyMissing);
        assert_eq!(judge(false, since(6), now), Verdict::StillMissing);
        assert_eq!(judge(false, since(7), now), Verdict::Lost);
    }
}
