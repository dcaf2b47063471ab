//! Tells a team when an application has used up most, and all, of the month's requests: an event for webhooks and a letter, once
//! for each threshold and month, in the transaction that counted the requests.

use authsome_contract::model::Plan;
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_db::DbError;
use serde_json::json;
use sqlx::PgConnection;

use crate::db::members::{self, Told};
use crate::db::usage::Counter;
use crate::db::usage_thresholds::{self, Crossed, Limited};
use crate::db::webhooks;
use crate::mail::{self, Letter};
use crate::period;

/// In percent of what is allowed.
const THRESHOLDS: [i32; 2] = [80, 100];

/// The event of webhooks.
const EVENT: &str = "usage.threshold";

/// What an application may have in a month: its contract's number, else its plan's. Pure.
fn allowed(limited: &Limited) -> Option<i64> {
    let of_plan = || {
        limited
            .plan
            .edge_limits()
            .requests_per_month
            .and_then(|most| i64::try_from(most).ok())
    };
    limited.contract.or_else(of_plan).filter(|most| *most > 0)
}

/// The thresholds that so many requests have reached. Pure.
fn reached(requests: i64, allowed: i64) -> impl Iterator<Item = i32> {
    THRESHOLDS
        .into_iter()
        .filter(move |percent| i128::from(requests) * 100 >= i128::from(allowed) * i128::from(*percent))
}

/// Looks at the applications whose counters have just grown.
pub(super) async fn tell(
    connection: &mut PgConnection,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    counters: &[Counter],
) -> Result<(), DbError> {
    let now = clock.now();
    let period = period::of(now);
    let mut grown: Vec<String> = counters
        .iter()
        .filter(|counter| period::of(counter.hour) == period)
        .map(|counter| counter.application_id.to_string())
        .collect();
    grown.sort_unstable();
    grown.dedup();
    if grown.is_empty() {
        return Ok(());
    }
    let limiting: Vec<String> = Plan::ALL
        .iter()
        .filter(|plan| plan.edge_limits().requests_per_month.is_some())
        .map(|plan| plan.as_str().to_owned())
        .collect();
    for limited in usage_thresholds::limited(connection, &grown, &period, &limiting).await? {
        let Some(allowed) = allowed(&limited) else { continue };
        let mut highest = None;
        for percent in reached(limited.requests, allowed) {
            let crossed = Crossed {
                application_id: limited.application_id,
                period: &period,
                percent,
                requests: limited.requests,
                allowed,
            };
            if !usage_thresholds::cross(connection, &crossed, now).await? {
                continue;
            }
            highest = Some(percent);
            let data = json!({
                "applicationId": limited.application_id, "workspaceId": limited.workspace_id, "period": period,
                "threshold": percent, "requests": limited.requests, "limit": allowed,
            });
            webhooks::emit(
                connection,
                limited.workspace_id,
                Some(limited.application_id),
                EVENT,
                &data,
            )
            .await?;
        }
        // Whoever crosses both at once gets one letter.
        let Some(percent) = highest else { continue };
        let letter = Letter::UsageThreshold {
            application: limited.application_id,
            period: period.clone(),
            percent,
        };
        for recipient in members::told(connection, limited.workspace_id, Told::Billing).await? {
            mail::post_by(connection, clock, entropy, &recipient, &letter).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::id::{ApplicationId, WorkspaceId};

    use super::*;

    #[test]
    fn thresholds_are_reached_exactly() {
        let of = |requests, allowed| reached(requests, allowed).collect::<Vec<_>>();
        assert_eq!(of(79_999, 100_000), [] as [i32; 0]);
        assert_eq!(of(80_000, 100_000), [80]);
        assert_eq!(of(99_999, 100_000), [80]);
        assert_eq!(of(100_000, 100_000), [80, 100]);
        assert_eq!(of(i64::MAX, i64::MAX), [80, 100]);
        assert_eq!(of(1, 2), [] as [i32; 0]);
    }

    #[test]
    fn a_contract_goes_before_the_plan() {
        let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(1));
        let limited = |plan, contract| Limited {
            application_id: ApplicationId::generate(&clock, &entropy),
            workspace_id: WorkspaceId::generate(&clock, &entropy),
            requests: 0,
            plan,
            contract,
        };
        assert_eq!(allowed(&limited(Plan::Free, None)), Some(100_000));
        assert_eq!(allowed(&limited(Plan::Free, Some(5))), Some(5));
        assert_eq!(allowed(&limited(Plan::Pro, None)), None);
        assert_eq!(allowed(&limited(Plan::Enterprise, Some(7))), Some(7));
    }
}
