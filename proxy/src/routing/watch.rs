//! What Postgres does for the table while the feed does not: at the start, if neither stream nor snapshot brought the whole
//! table, it is read page by page; and from the first heartbeat that is late Postgres is asked each second for what has
//! changed. A revocation that is committed as the relay dies is so late by two to three seconds, and one that is committed
//! later by about one, whether or not the relay gave it a position. Postgres away: the table is what it was, and asked for
//! again.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use tokio::time::Instant;

use super::Shared;
use super::postgres::{Asked, PostgresError, WholeSource};
use super::walk::walk;

/// What NATS gets for connecting before a cold start turns to Postgres, and what a stream gets that was read to its end and
/// is not whole: somebody may be writing it just now.
const HOPELESS: Duration = Duration::from_millis(500);
/// What a connected NATS gets for bringing something of the stream.
const STREAM: Duration = Duration::from_secs(3);
/// A heartbeat comes each second, at most half a second late. One that is later is not waited for: asking Postgres in vain
/// costs little, and the feed counts as silent only after three of them.
const LATE: Duration = Duration::from_millis(1600);
/// How often all this is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// For how long an answer stands, besides the time until the next question.
const SLACK: Duration = Duration::from_millis(1500);

/// Keeps watch for ever.
pub(super) async fn watch(shared: Arc<Shared>, postgres: Arc<WholeSource>, nats: async_nats::Client) {
    let mut watch = Watch {
        every: shared.settings.poll_every,
        shared,
        postgres,
        horizon: 0,
        generation: 0,
        progress: (Instant::now(), 0),
        asked: None,
        told: false,
    };
    while !watch.stream_had_its_turn(&nats) {
        tokio::time::sleep(LOOK).await;
    }
    loop {
        if let Some(need) = watch.need() {
            let outcome = watch.satisfy(need).await;
            watch.tell(outcome.as_ref().err());
            watch.asked = Some(Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What Postgres is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The table, which the feed vouches for but did not bring.
    Table,
    /// What has changed.
    News,
    /// Ground to stand on: nothing is known to be complete.
    Ground,
}

struct Watch {
    shared: Arc<Shared>,
    postgres: Arc<WholeSource>,
    every: Duration,
    /// Rows without a position of transactions before this one were seen; for `generation` only.
    horizon: u64,
    generation: u32,
    /// When the feed last brought something, and its sequence then.
    progress: (Instant, u64),
    /// When Postgres last answered, or did not.
    asked: Option<Instant>,
    told: bool,
}

impl Watch {
    /// Lives the feed, or does it show no sign of bringing the table?
    fn stream_had_its_turn(&mut self, nats: &async_nats::Client) -> bool {
        let loaded = &self.shared.loaded;
        let hopeless = loaded.from().is_none()
            && (nats.connection_state() != State::Connected || loaded.is_stream_known_to_lack());
        self.has_stalled(if hopeless { HOPELESS } else { STREAM })
            || self.shared.table.pulse().is_live(self.shared.clock.unix_millis())
    }

    /// Has the feed brought nothing for this long?
    fn has_stalled(&mut self, patience: Duration) -> bool {
        let sequence = self.shared.table.pulse().sequence();
        if sequence != self.progress.1 {
            self.progress = (Instant::now(), sequence);
        }
        self.progress.0.elapsed() >= patience
    }

    /// What Postgres is needed for now, if for anything and it was not asked just before.
    fn need(&mut self) -> Option<Need> {
        let (pulse, now_ms) = (self.shared.table.pulse(), self.shared.clock.unix_millis());
        let unloaded = self.shared.loaded.from().is_none();
        let need = if pulse.is_live(now_ms) && !pulse.is_late(now_ms, LATE) {
            self.horizon = 0;
            unloaded.then_some(Need::Table)
        } else if pulse.is_grounded() {
            Some(Need::News)
        } else if unloaded || self.has_stalled(STREAM) {
            Some(Need::Ground)
        } else {
            None
        };
        need.filter(|_| self.asked.is_none_or(|at| at.elapsed() >= self.every))
    }

    async fn satisfy(&mut self, need: Need) -> Result<(), PostgresError> {
        match need {
            Need::Table => walk(&self.shared, &self.postgres).await.map(|_| ()),
            Need::News => self.ask().await,
            Need::Ground => self.stand_anew().await,
        }
    }

    /// Asks for what has changed past what is covered.
    async fn ask(&mut self) -> Result<(), PostgresError> {
        let pulse = self.shared.table.pulse();
        let generation = pulse.generation();
        if self.generation != generation {
            self.generation = generation;
            self.horizon = 0;
        }
        let (epoch, position) = pulse.covered();
        let now_ms = self.shared.clock.unix_millis();
        match self.postgres.news(epoch, position, self.horizon).await {
            Ok(Asked::News(news)) => {
                self.shared.metrics.upkeep.polled(true);
                for change in news.changes {
                    let applied = self.shared.table.apply(change, now_ms, true);
                    self.shared.metrics.change(Some(applied));
                }
                let stands = self.every + SLACK;
                if pulse.asked(generation, now_ms, stands, epoch, news.head.position) {
                    self.horizon = news.horizon;
                    pulse.learn_database_time(news.head.database_ms, self.shared.clock.unix_millis());
                    pulse.claim().reach(epoch, news.head.position);
                }
                pulse.release();
                Ok(())
            }
            // Only late so far: the feed may bring it yet, and the whole table is not read for a heartbeat.
            Ok(Asked::TooMuch) if pulse.is_live(self.shared.clock.unix_millis()) => Ok(()),
            Ok(Asked::TooMuch) => {
                tracing::warn!(
                    position,
                    "Postgres cannot say what has changed since; reading the whole table"
                );
                self.stand_anew().await
            }
            Err(error) => {
                self.shared.metrics.upkeep.polled(false);
                Err(error)
            }
        }
    }

    /// Begins a generation of what Postgres holds.
    async fn stand_anew(&mut self) -> Result<(), PostgresError> {
        let pulse = self.shared.table.pulse();
        // Nothing is given up for a database that does not answer.
        self.postgres.head().await?;
        let began_ms = self.shared.clock.unix_millis();
        self.generation = pulse.next_generation();
        self.horizon = 0;
        let head = walk(&self.shared, &self.postgres).await?;
        // What was committed during the walk is asked for next; only that answer vouches for more than the walk's beginning.
        pulse.asked(self.generation, began_ms, Duration::ZERO, head.epoch, head.position);
        Ok(())
    }

    fn tell(&mut self, error: Option<&PostgresError>) {
        match error {
            Some(error) if !self.told => {
                tracing::warn!(%error, "neither the feed nor Postgres says what has changed; asking again");
                self.told = true;
            }
            Some(error) => tracing::debug!(%error, "Postgres does not say what has changed"),
            None => self.told = false,
        }
    }
}
