//! Judges the groups of the list again and again, and ends those that nobody would let in now.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Serve;
use authsome_core::clock::Clock;
use authsome_core::key::KeyType;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Ended, Live, Subject};
use crate::gate::is_vouched_for;
use crate::routing::{AppEntry, KeyEntry, Lookup, Routing, Unavailable};

/// Between two rounds: a fifth of what a revocation may take to close a connection.
const ROUND: Duration = Duration::from_millis(200);

/// Questions to the table's sources at once.
const QUESTIONS: usize = 64;

/// Until a group that the table does not hold is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What is to become of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stays,
    Ends(Ended),
    /// The table does not know.
    Ask,
}

impl Live {
    /// Watches over the list until `stop` holds true.
    ///
    /// # Errors
    /// None; it must only not end early.
    pub async fn watch(
        self,
        routing: Routing,
        clock: Arc<dyn Clock>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Infallible> {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            never = self.rounds(&routing, &*clock) => match never {},
        }
    }

    async fn rounds(&self, routing: &Routing, clock: &dyn Clock) -> Infallible {
        let mut tick = tokio::time::interval(ROUND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: HashMap<Subject, Instant> = HashMap::new();
        let mut questions = FuturesUnordered::new();
        loop {
            tokio::select! {
                now = tick.tick() => {
                    asked.retain(|_, at| *at + ASK_AGAIN > now);
                    for subject in self.subjects() {
                        match look(routing, &subject, clock.unix_millis()) {
                            Verdict::Stays => {}
                            Verdict::Ends(why) => self.end(&subject, why),
                            Verdict::Ask => {
                                if questions.len() < QUESTIONS && !asked.contains_key(&subject) {
                                    asked.insert(subject, now);
                                    questions.push(async move { (subject, ask(routing, &subject, clock).await) });
                                }
                            }
                        }
                    }
                }
                Some((subject, verdict)) = questions.next(), if !questions.is_empty() => {
                    if let Verdict::Ends(why) = verdict {
                        self.end(&subject, why);
                    }
                }
            }
        }
    }
}

/// By what is in memory.
fn look(routing: &Routing, subject: &Subject, now_ms: i64) -> Verdict {
    match &subject.key {
        Some(digest) => match routing.peek_key(digest, now_ms) {
            Lookup::Hit(entry) => match of_key(&entry, routing, now_ms) {
                // The key may be here before its application is.
                Verdict::Ask => look_at_app(routing, subject, now_ms),
                verdict => verdict,
            },
            Lookup::Absent => Verdict::Ends(Ended::Key),
            Lookup::Unknown => Verdict::Ask,
        },
        None => look_at_app(routing, subject, now_ms),
    }
}

fn look_at_app(routing: &Routing, subject: &Subject, now_ms: i64) -> Verdict {
    match routing.peek_app(&subject.app, now_ms) {
        Lookup::Hit(entry) => of_app(&entry),
        Lookup::Absent => Verdict::Ends(Ended::Application),
        Lookup::Unknown => Verdict::Ask,
    }
}

/// By what the sources say. Nobody answers: it stays.
async fn ask(routing: &Routing, subject: &Subject, clock: &dyn Clock) -> Verdict {
    if let Some(digest) = subject.key {
        match routing.resolve_key(digest).await {
            Ok(Some(entry)) => match of_key(&entry, routing, clock.unix_millis()) {
                Verdict::Ask => {}
                verdict => return verdict,
            },
            Ok(None) => return Verdict::Ends(Ended::Key),
            Err(Unavailable) => return Verdict::Stays,
        }
    }
    match routing.resolve_app(subject.app).await {
        Ok(Some(entry)) => of_app(&entry),
        Ok(None) => Verdict::Ends(Ended::Application),
        Err(Unavailable) => Verdict::Stays,
    }
}

/// [`Verdict::Ask`] if the application is not here.
fn of_key(entry: &KeyEntry, routing: &Routing, now_ms: i64) -> Verdict {
    if !entry.record.is_usable(now_ms) {
        let expired = entry.record.expires_at_ms().is_some_and(|at| at <= now_ms);
        return Verdict::Ends(if expired { Ended::Expired } else { Ended::Key });
    }
    let Some(app) = entry.app.load() else {
        return Verdict::Ask;
    };
    let is_secret = entry.record.key_type == KeyType::Secret;
    if is_secret && !is_vouched_for(&app.record, routing.heartbeat_age_ms(now_ms)) {
        return Verdict::Ends(Ended::Unvouched);
    }
    of_app(&app)
}

fn of_app(entry: &AppEntry) -> Verdict {
    match entry.record.serve {
        Serve::Yes => Verdict::Stays,
        Serve::Refuse(_) => Verdict::Ends(Ended::Application),
    }
}
