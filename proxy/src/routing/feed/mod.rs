//! The feed: changes from the JetStream stream `EDGE`, applied to what the table holds, and the relay's heartbeat, which
//! alone proves that nothing is missing. The stream is compacted, so read from its first message on it is the whole table;
//! it is so read at the start and whenever it is another stream than before.
//!
//! A plain ephemeral pull consumer with an explicit first sequence, attached anew by this module whenever in doubt: the
//! client library's ordered consumer was seen to stay silent for 52–80 s after the server's store was wiped, and then to
//! skip changes. While the feed is not live the table falls back to reading its entries again (see `pulse`). A change that
//! cannot be decoded is counted, logged once, skipped, and read from Postgres (see `mend`).

mod progress;
mod tracker;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, consumer};
use authsome_contract::model::KeyState;
use authsome_contract::wire::change::{ChangeError, Named};
use authsome_contract::wire::{Change, Heartbeat, names};
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use super::claim::Unread;
use super::loaded::LoadedFrom;
use super::table::Applied;
use progress::{Delivered, Progress};
use tracker::{Start, Tracker};
use verdict::{Reason, Verdict};

pub(super) use verdict::REASONS;

/// A tick decides how late a silence is noticed.
const TICK: Duration = Duration::from_millis(100);
/// For each call of the JetStream API.
const CALL: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("no answer from JetStream")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("stream: {0}")]
    Stream(#[from] jetstream::context::GetStreamError),
    #[error("consumer: {0}")]
    Consumer(#[from] jetstream::stream::ConsumerError),
    #[error("pull: {0}")]
    Pull(#[from] consumer::StreamError),
    #[error("message: {0}")]
    Message(#[from] consumer::pull::MessagesError),
    #[error("the consumer ended")]
    Ended,
}

/// Follows the feed for ever. Whatever goes wrong ends one attachment and begins another.
pub(super) async fn follow(shared: Arc<Shared>, nats: async_nats::Client) {
    let context = {
        let mut context = jetstream::new(nats.clone());
        context.set_timeout(CALL);
        context
    };
    let mut feed = Feed {
        nats,
        context,
        tracker: Tracker::new(shared.settings.whole),
        marked: false,
        shared,
        progress: Progress::default(),
        key_died: false,
        live: false,
        told: false,
    };
    let mut pause = RETRY_FIRST;
    let mut told = false;
    loop {
        match feed.attachment().await {
            Ok(reason) => {
                feed.doubt(reason);
                pause = RETRY_FIRST;
                told = false;
            }
            Err(error) => {
                feed.doubt(Reason::Disconnected);
                if !told {
                    tracing::warn!(%error, "the routing feed is away; entries are read again every few seconds");
                    told = true;
                }
                tracing::debug!(%error, "the routing feed is away");
            }
        }
        feed.shared.table.pulse().set_following(false);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

struct Feed {
    shared: Arc<Shared>,
    nats: async_nats::Client,
    context: jetstream::Context,
    tracker: Tracker,
    progress: Progress,
    /// The marker that this stream holds the whole table was seen.
    marked: bool,
    /// A key died by a change that is applied and not yet covered.
    key_died: bool,
    live: bool,
    /// It was told that something is not understood; the rest of this stream is only counted.
    told: bool,
}

impl Feed {
    /// One consumer's life. Returns why it must be replaced.
    async fn attachment(&mut self) -> Result<Reason, FeedError> {
        // Before the stream is looked at, so that a heartbeat heard here is younger than that look or caught by the
        // tracker's baseline.
        let mut heartbeats = tokio::time::timeout(CALL, self.nats.subscribe(names::RELAY_HEARTBEAT)).await??;
        let mut messages = self.attach().await?;
        self.shared.table.pulse().set_following(true);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let verdict = tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or(FeedError::Ended)??;
                    self.apply(&message)
                }
                heartbeat = heartbeats.next() => {
                    let Some(message) = heartbeat else { return Err(FeedError::Ended) };
                    self.hear(&message.payload)
                }
                _ = tick.tick() => self.tracker.verdict(Instant::now()),
            };
            if let Some(reason) = self.act(verdict) {
                return Ok(reason);
            }
        }
    }

    async fn attach(&mut self) -> Result<consumer::pull::Stream, FeedError> {
        let stream = tokio::time::timeout(CALL, self.context.get_stream(names::EDGE_STREAM)).await?;
        let stream = stream.inspect_err(|error| {
            if let GetStreamErrorKind::JetStream(said) = error.kind() {
                let missing = said.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND;
                self.shared.loaded.stream_lacks(missing);
            }
        })?;
        let info = stream.cached_info();
        let last = info.state.last_sequence;
        let incarnation = i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        let Start { sequence, anew } = self.tracker.attach(incarnation, last);
        if anew {
            self.marked = false;
            self.told = false;
            self.shared.loaded.stream_lacks(false);
            self.shared.table.pulse().next_generation();
        }
        self.progress = Progress::default();
        let config = consumer::pull::Config {
            deliver_policy: consumer::DeliverPolicy::ByStartSequence {
                start_sequence: sequence,
            },
            ack_policy: consumer::AckPolicy::None,
            inactive_threshold: Duration::from_secs(30),
            memory_storage: true,
            ..Default::default()
        };
        let consumer = tokio::time::timeout(CALL, stream.create_consumer(config)).await??;
        if consumer.cached_info().num_pending == 0 {
            self.tracker.nothing_pending(last);
        }
        self.shared.table.pulse().set_sequence(self.tracker.applied());
        self.note_whole();
        tracing::debug!(first = sequence, "following the routing feed");
        let pull = consumer
            .stream()
            .max_messages_per_batch(500)
            .heartbeat(Duration::from_secs(1));
        Ok(tokio::time::timeout(CALL, pull.expires(Duration::from_secs(30)).messages()).await??)
    }

    fn apply(&mut self, message: &jetstream::Message) -> Verdict {
        let now = Instant::now();
        match Change::decode(&message.subject, &message.payload) {
            Ok(change) => {
                self.key_died |= kills_a_key(&change);
                self.marked |= change == Change::Complete;
                let shared = &self.shared;
                let applied = shared
                    .table
                    .apply(change, shared.clock.unix_millis(), shared.settings.whole);
                self.shared.metrics.change(Some(applied));
                if applied == Applied::Updated {
                    tracing::debug!(subject = %message.subject, "applied a routing change");
                }
            }
            Err(error) => self.skip(&message.subject, &error),
        }
        match message.info() {
            Ok(info) => {
                let delivered = Delivered {
                    sequence: info.stream_sequence,
                    previous: self.tracker.applied(),
                    pending: info.pending,
                    covers: covered_by(message),
                };
                let verdict = self.tracker.delivered(info.stream_sequence, now);
                let position = self.progress.delivered(delivered);
                self.advance(self.shared.table.pulse().covered().0, position);
                self.note_whole();
                self.shared.table.pulse().set_sequence(self.tracker.applied());
                verdict
            }
            Err(error) => {
                tracing::error!(%error, "a routing change without a sequence");
                Verdict::Restart(Reason::Disconnected)
            }
        }
    }

    /// A change that is not understood. What it is about is read from Postgres, and not claimed before. A kind of change that
    /// this release does not hold is none of its business.
    fn skip(&mut self, subject: &str, error: &ChangeError) {
        self.shared.metrics.change(None);
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(%error, "a routing change cannot be understood and is read from Postgres; more are only counted");
        }
        let (table, now_ms) = (&self.shared.table, self.shared.clock.unix_millis());
        let unread = match Named::of(subject) {
            Ok(Named::Key(digest)) => {
                table.doubt_key(&digest, now_ms);
                Unread::Key(digest)
            }
            Ok(Named::App(id)) => {
                table.doubt_app(&id, now_ms);
                Unread::App(id)
            }
            Ok(Named::Host(host)) => {
                table.doubt_host(&host, now_ms);
                Unread::Host(host.into())
            }
            Ok(Named::Complete) | Err(_) => return,
        };
        table.pulse().claim().announce(unread);
    }

    fn hear(&mut self, payload: &[u8]) -> Verdict {
        let now = Instant::now();
        match serde_json::from_slice::<Heartbeat>(payload) {
            Ok(heartbeat) => {
                let now_ms = self.shared.clock.unix_millis();
                self.shared
                    .table
                    .pulse()
                    .learn_database_time(heartbeat.database_time_ms, now_ms);
                self.tracker.heard(heartbeat, now)
            }
            Err(error) => {
                self.shared.metrics.change(None);
                if !std::mem::replace(&mut self.told, true) {
                    tracing::error!(%error, "a heartbeat cannot be understood and is skipped");
                }
                self.tracker.verdict(now)
            }
        }
    }

    /// Makes the table know. Returns why the consumer must be replaced, if it must.
    fn act(&mut self, verdict: Verdict) -> Option<Reason> {
        match verdict {
            Verdict::Live { epoch, position, anew } => {
                let pulse = self.shared.table.pulse();
                // A verdict between heartbeats is worth no more than the last of them.
                let since = i64::try_from(self.tracker.since_heartbeat(Instant::now()).as_millis()).unwrap_or(0);
                let heard_ms = self.shared.clock.unix_millis().saturating_sub(since);
                pulse.beat(heard_ms, tracker::MISSED, epoch, position);
                if let Some((incarnation, database_ms)) = self.tracker.vouching() {
                    pulse.vouch(incarnation, database_ms);
                }
                let proven = self.progress.vouched(position);
                self.advance(epoch, proven);
                if !self.live {
                    tracing::info!(epoch, position, anew, "the routing feed is live");
                    self.live = true;
                }
                None
            }
            Verdict::Wait => None,
            Verdict::Doubt(reason) => {
                self.doubt(reason);
                None
            }
            Verdict::Restart(reason) => {
                self.doubt(reason);
                Some(reason)
            }
        }
    }

    /// The table is whole once everything is applied that the stream held when it was begun with, and the marker was among it.
    fn note_whole(&self) {
        if !self.tracker.is_caught_up() || !self.shared.settings.whole {
            return;
        }
        self.shared.loaded.stream_lacks(!self.marked);
        if self.marked {
            self.shared.loaded.by(LoadedFrom::Stream);
        }
    }

    /// Lets those who report know.
    fn advance(&mut self, epoch: u64, position: Option<u64>) {
        let Some(position) = position else { return };
        let pulse = self.shared.table.pulse();
        pulse.claim().reach(epoch, position);
        if std::mem::take(&mut self.key_died) {
            pulse.key_died().notify_one();
        }
    }

    fn doubt(&mut self, reason: Reason) {
        self.shared.table.pulse().silence();
        if self.live {
            self.live = false;
            self.shared.metrics.interrupted(reason.as_str());
            tracing::warn!(reason = reason.as_str(), "the routing feed is not live");
        }
    }
}

/// Is this a key that opens nothing any more?
fn kills_a_key(change: &Change) -> bool {
    matches!(change, Change::Key(_, versioned)
        if versioned.record.as_ref().is_none_or(|record| record.state != KeyState::Active))
}

fn covered_by(message: &jetstream::Message) -> Option<u64> {
    message
        .headers
        .as_ref()?
        .get(names::COVERS_HEADER)?
        .as_str()
        .parse()
        .ok()
}
