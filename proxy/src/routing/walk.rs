//! Reading the whole table from Postgres, page by page: the last resort of a cold start, and the new ground to stand on when
//! the feed has begun anew and is silent. A page that is not answered ends the walk; it is begun again later.

use super::Shared;
use super::loaded::LoadedFrom;
use super::postgres::{Head, PostgresError, WholeSource};

/// Rows in a page: about 10 ms of the database's time.
const PAGE: i64 = 2_000;

/// Puts everything that Postgres holds into the table. Returns where the database stood before, which the table has then
/// reached.
pub(super) async fn walk(shared: &Shared, postgres: &WholeSource) -> Result<Head, PostgresError> {
    let walked = pages(shared, postgres).await;
    shared.metrics.upkeep.loaded("postgres", walked.is_ok());
    let (head, apps, keys, hosts) = walked?;
    tracing::info!(
        apps,
        keys,
        hosts,
        position = head.position,
        "read the routing table from Postgres"
    );
    shared.loaded.by(LoadedFrom::Postgres);
    Ok(head)
}

async fn pages(shared: &Shared, postgres: &WholeSource) -> Result<(Head, usize, usize, usize), PostgresError> {
    let head = postgres.head().await?;
    let ticket = || shared.table.ticket(shared.clock.unix_millis());
    let (mut apps, mut keys, mut hosts) = (0, 0, 0);
    let mut after = String::new();
    loop {
        let drawn = ticket();
        let page = postgres.apps(&after, PAGE).await?;
        apps += page.records.len();
        for record in page.records {
            shared.table.settle_app(&drawn, record);
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut after = Vec::new();
    loop {
        let drawn = ticket();
        let page = postgres.keys(&after, PAGE).await?;
        keys += page.records.len();
        for record in page.records {
            shared.table.settle_key_of_page(&drawn, record);
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
        // Other tasks of this runtime answer misses.
        tokio::task::yield_now().await;
    }
    let mut after = String::new();
    loop {
        let drawn = ticket();
        let page = postgres.hosts(&after, PAGE).await?;
        hosts += page.records.len();
        for record in page.records {
            shared.table.settle_host_of_page(&drawn, record);
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok((head, apps, keys, hosts))
}
