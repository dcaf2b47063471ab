//! Waiting until every edge has a change.

use std::collections::HashMap;
use std::time::Duration;

use authsome_db::DbError;
use sqlx::PgPool;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Edge, Edges, FORGOTTEN};
use crate::db::edges::{self, EdgeRow};
use crate::db::outbox::{self, Place};

/// Between two looks for the position that the relay gives; it does so within milliseconds of a commit.
const LOOK: Duration = Duration::from_millis(10);

/// What edges are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This entry of the outbox, whose position is not known yet.
    Entry(i64),
    /// Everything up to this position.
    Position(Place),
}

/// Who has it.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    /// How many edges have it.
    pub acked: usize,
    /// How many edges there are.
    pub total: usize,
    /// How long the slowest of those that have it took. `None`: none has it.
    pub slowest: Option<Duration>,
    /// Those that have not said that they have it.
    pub missing: Vec<Edge>,
}

impl Edges {
    /// Waits until every edge that counts has what was committed at `committed`, but not past `deadline`.
    pub async fn acknowledged(
        &self,
        pool: &PgPool,
        target: Target,
        committed: Instant,
        deadline: Instant,
    ) -> Result<Acknowledged, DbError> {
        let mut reports = self.0.reports.subscribe();
        let rows = timeout_at(deadline, rows(pool)).await;
        let rows = rows.unwrap_or(Err(sqlx::Error::PoolTimedOut.into()))?;
        if self.overlay(&rows).is_empty() {
            return Ok(Acknowledged::default());
        }
        let Ok(place) = timeout_at(deadline, place(pool, target)).await else {
            return Ok(self.standing(&rows, None, committed, &mut HashMap::new()));
        };
        let place = place?;
        let mut times = HashMap::new();
        loop {
            reports.mark_unchanged();
            let standing = self.standing(&rows, Some(place), committed, &mut times);
            if standing.missing.is_empty() || timeout_at(deadline, reports.changed()).await.is_err() {
                return Ok(standing);
            }
        }
    }

    fn standing(
        &self,
        rows: &[EdgeRow],
        place: Option<Place>,
        committed: Instant,
        times: &mut HashMap<Uuid, Duration>,
    ) -> Acknowledged {
        let members = self.overlay(rows);
        let total = members.len();
        let missing: Vec<Edge> = members
            .into_iter()
            .filter(|edge| {
                let has = place.is_some_and(|place| place.is_reached_by(edge));
                if has {
                    times.entry(edge.id).or_insert_with(|| committed.elapsed());
                }
                !has
            })
            .collect();
        Acknowledged {
            acked: total - missing.len(),
            total,
            slowest: times.values().max().copied(),
            missing,
        }
    }
}

impl Place {
    fn is_reached_by(self, edge: &Edge) -> bool {
        edge.epoch == self.epoch.unsigned_abs() && edge.position >= self.position.unsigned_abs()
    }
}

async fn rows(pool: &PgPool) -> Result<Vec<EdgeRow>, DbError> {
    let mut connection = pool.acquire().await?;
    edges::heard_within(&mut connection, FORGOTTEN.as_secs_f64()).await
}

async fn place(pool: &PgPool, target: Target) -> Result<Place, DbError> {
    let entry = match target {
        Target::Position(place) => return Ok(place),
        Target::Entry(entry) => entry,
    };
    loop {
        // Given back between two looks: a wait must not keep a connection from others.
        let mut connection = pool.acquire().await?;
        if let Some(place) = outbox::place(&mut connection, entry).await? {
            return Ok(place);
        }
        drop(connection);
        tokio::time::sleep(LOOK).await;
    }
}
