//! Sends the letters that wait in the queue.
//!
//! Replicas share the queue: a letter is claimed for some minutes before it is sent, so it goes out once, or, if the process
//! ends between the server's "yes" and the note of it, twice with the same `Message-ID`. Whatever may pass is tried again with a growing
//! pause for three days; what the server refuses for good is dropped. The mail server away: letters go out later. Postgres
//! away: the same. No mail server configured: letters wait, and the log says so once.

use std::time::Duration;

use authsome_core::retry::Backoff;
use authsome_db::DbError;
use futures::{StreamExt, stream};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::TaskError;
use crate::db::{mails, sessions};
use crate::identity::attempts;
use crate::mail::{self, Smtp};
use crate::state::App;

/// Between two looks at the queue.
const PACE: Duration = Duration::from_secs(1);
/// Letters claimed at once, and how many of them are under way at the same time.
const BATCH: i64 = 20;
const AT_ONCE: usize = 4;
/// How long a claimed letter is left to whoever claimed it: longer than a batch can take.
const LEASE: time::Duration = time::Duration::minutes(10);
/// After a failed attempt.
const PAUSE: Backoff = Backoff {
    base: Duration::from_secs(10),
    factor: 2.0,
    max: Duration::from_mins(15),
};
/// How long a letter is worth sending.
const PATIENCE: time::Duration = time::Duration::days(3);
/// How long ended letters are kept, for whoever asks what became of one.
const KEPT: time::Duration = time::Duration::days(30);
/// Between two rounds of tidying.
const UPKEEP: Duration = Duration::from_mins(10);

/// Counts of the mailer.
#[derive(Debug, Clone)]
pub struct MailMetrics {
    outcomes: IntCounterVec,
    waiting: IntGauge,
}

impl MailMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let outcomes = IntCounterVec::new(
            Opts::new("authsome_mail_total", "Attempts to send a letter, by outcome"),
            &["outcome"],
        )?;
        for outcome in ["sent", "later", "dropped"] {
            outcomes.with_label_values(&[outcome]);
        }
        let waiting = IntGauge::new("authsome_mail_waiting", "Letters in the queue, as of the last tidying")?;
        registry.register(Box::new(outcomes.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        Ok(Self { outcomes, waiting })
    }

    fn count(&self, outcome: &str) {
        self.outcomes.with_label_values(&[outcome]).inc();
    }
}

/// What the task works with.
pub struct Mailer {
    /// Queue, clock, secrets for links.
    pub app: App,
    /// The mail server, if one is configured.
    pub server: Option<Smtp>,
    /// Counters.
    pub metrics: MailMetrics,
}

impl Mailer {
    /// Sends letters until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        if self.server.is_none() {
            tracing::warn!(
                "mail.url is not set: letters (confirmations, invitations, new passwords) wait in the queue"
            );
        }
        stop.run_until_cancelled(self.work()).await;
        Ok(())
    }

    async fn work(&self) {
        let mut tidy = Instant::now();
        let mut troubled = false;
        loop {
            if let Some(server) = &self.server {
                match self.pass(server).await {
                    Ok(later) if later > 0 && !troubled => {
                        tracing::warn!(letters = later, "letters could not be sent; they are tried again");
                        troubled = true;
                    }
                    Ok(0) => troubled = false,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "the queue of mail cannot be read; trying again"),
                }
            }
            if tidy <= Instant::now() {
                tidy = Instant::now() + UPKEEP;
                if let Err(error) = self.upkeep().await {
                    tracing::debug!(%error, "old letters and sessions cannot be forgotten; trying again");
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Sends everything that is due, and says how many letters have to be tried again.
    pub async fn pass(&self, server: &Smtp) -> Result<usize, DbError> {
        let mut later = 0;
        loop {
            let now = self.app.clock().now();
            let mut connection = self.app.pool().acquire().await?;
            let due = mails::claim(&mut connection, now, now + LEASE, BATCH).await?;
            drop(connection);
            let full = i64::try_from(due.len()).is_ok_and(|letters| letters == BATCH);
            let results: Vec<_> = stream::iter(due)
                .map(|letter| self.handle(server, letter))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for result in results {
                later += usize::from(!result?);
            }
            if !full || later > 0 {
                return Ok(later);
            }
        }
    }

    /// Sends, drops or puts off one letter; `false` if it has to be tried again.
    async fn handle(&self, server: &Smtp, due: mails::Due) -> Result<bool, DbError> {
        let result = self.deliver(server, &due).await;
        let mut connection = self.app.pool().acquire().await?;
        let now = self.app.clock().now();
        let end = match result {
            Ok(()) => {
                self.metrics.count("sent");
                mails::end(&mut connection, due.id, "sent", None, now).await?;
                true
            }
            Err(Undelivered::Drop(reason)) => {
                self.metrics.count("dropped");
                tracing::info!(mail = %due.id, kind = due.kind, reason, "a letter was dropped");
                mails::end(&mut connection, due.id, "dropped", Some(&reason), now).await?;
                true
            }
            Err(Undelivered::Later(reason)) if now - due.created_at > PATIENCE => {
                self.metrics.count("dropped");
                tracing::error!(mail = %due.id, kind = due.kind, reason, "a letter could not be sent for days and was given up");
                mails::end(&mut connection, due.id, "dropped", Some(&reason), now).await?;
                true
            }
            Err(Undelivered::Later(reason)) => {
                self.metrics.count("later");
                tracing::debug!(mail = %due.id, kind = due.kind, reason, "a letter could not be sent yet");
                let attempt = u32::try_from(due.attempts - 1).unwrap_or(0);
                // Never at once: the jitter may be nothing.
                let pause = PAUSE.delay(attempt, self.app.entropy()) + PAUSE.base;
                mails::put_off(&mut connection, due.id, now + pause, &reason).await?;
                false
            }
        };
        Ok(end)
    }

    async fn deliver(&self, server: &Smtp, due: &mails::Due) -> Result<(), Undelivered> {
        let letter = mail::letter(&due.kind, &due.params)
            // A newer release in the middle of a roll-out wrote it; it will send it.
            .ok_or_else(|| Undelivered::Later("a kind of letter that this release does not know".to_owned()))?;
        let later = |error: String| Undelivered::Later(error);
        let mut connection = self
            .app
            .pool()
            .acquire()
            .await
            .map_err(|error| later(error.to_string()))?;
        let content = mail::compose(&mut connection, &self.app, &due.recipient, &letter)
            .await
            .map_err(|problem| later(problem.failure().to_string()))?;
        drop(connection);
        let content = content.ok_or_else(|| Undelivered::Drop("there is nothing to say any longer".to_owned()))?;
        server
            .send(due.id, &due.recipient, self.app.clock().now(), content)
            .await
            .map_err(|error| match error {
                mail::SendError::Refused(reason) => Undelivered::Drop(reason),
                mail::SendError::Later(reason) => Undelivered::Later(reason),
            })
    }

    async fn upkeep(&self) -> Result<(), DbError> {
        let now = self.app.clock().now();
        let mut connection = self.app.pool().acquire().await?;
        self.metrics
            .waiting
            .set(mails::forget(&mut connection, now - KEPT).await?);
        sessions::forget(&mut connection, now - KEPT).await?;
        attempts::tidy(&mut connection, now).await
    }
}

enum Undelivered {
    Drop(String),
    Later(String),
}
