//! Reads from Postgres, at once, what the feed announced in a form that is not understood (a message of another release, or
//! a damaged one). Until then the edge goes on with what it holds and does not claim to have the change. Postgres away: it
//! is tried again, at longer and longer intervals.

use std::sync::Arc;
use std::time::Duration;

use super::claim::{Pending, Unread};
use super::fill::Filler;
use super::postgres::WholeSource;
use super::walk::walk;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// Mends for ever.
pub(super) async fn mend(filler: Arc<Filler>, postgres: Arc<WholeSource>) {
    let mut pause = RETRY_FIRST;
    loop {
        let claim = filler.shared.table.pulse().claim();
        let mut all = true;
        for pending in claim.unread().await {
            if is_read(&filler, &postgres, &pending).await {
                if claim.read(&pending) {
                    // Somebody may be waiting for it.
                    filler.shared.table.pulse().key_died().notify_one();
                }
            } else {
                all = false;
            }
        }
        if all {
            pause = RETRY_FIRST;
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }
}

/// Reads it. Returns whether the table now has what Postgres had when this began, or something newer.
async fn is_read(filler: &Filler, postgres: &WholeSource, pending: &Pending) -> bool {
    let (table, deadline) = (&filler.shared.table, filler.shared.settings.fill_deadline);
    match &pending.what {
        Unread::Key(digest) => {
            let Ok(Ok(found)) = tokio::time::timeout(deadline, filler.key_from_postgres(*digest)).await else {
                return false;
            };
            // A reading that another change of the same stretch overtook is not kept. What is not held is asked for.
            let held = table.key_version(digest);
            held.is_none_or(|held| found.is_some_and(|entry| held >= entry.record.version()))
        }
        Unread::App(id) => {
            let Ok(Ok(found)) = tokio::time::timeout(deadline, filler.app_from_postgres(*id)).await else {
                return false;
            };
            let held = table.app_version(id);
            held.is_none_or(|held| found.is_some_and(|slot| held >= slot.version()))
        }
        Unread::Host(host) => {
            let Ok(Ok(found)) = tokio::time::timeout(deadline, filler.host_from_postgres(host)).await else {
                return false;
            };
            let held = table.host_version(host);
            held.is_none_or(|held| found.is_some_and(|entry| held >= entry.record.version))
        }
        Unread::Everything => walk(&filler.shared, postgres).await.is_ok(),
    }
}
