//! The routing table as the compacted JetStream stream `EDGE`, and the relay's heartbeat.
//!
//! Every publish names the sequence that it expects to be the last, so that of two leaders only one gets through; records
//! are read from Postgres after that sequence is known, so even a deposed one cannot publish what is older than the stream.
//! Messages carry the outbox position that they bring the stream to, by which a stream that lost its end is found out, and,
//! where it holds for readers too, that they may count on it ([`names::COVERS_HEADER`]): edges say by it how far they are.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_EXPECTED_LAST_SEQUENCE,
    jetstream::{
        self,
        context::{ContextBuilder, GetStreamErrorKind, PublishErrorKind},
        message::StreamMessage,
        stream::{Config, Info, LastRawMessageError, LastRawMessageErrorKind, StorageType},
    },
};
use authsome_contract::wire::{Change, Heartbeat, names};
use sqlx::PgPool;

use super::{
    Relay,
    delivery::{DeliveryError, Receiver},
    records::{Record, Table, announced},
};
use crate::db::outbox::{self, Entry, Pulse, Target};

/// Outbox position of a message; only this module reads it.
const POSITION: &str = "Authsome-Position";
/// Restore epoch, on the marker of completeness.
const EPOCH: &str = "Authsome-Epoch";

/// How long JetStream may take to answer or to acknowledge.
const ANSWER: Duration = Duration::from_secs(3);

/// JetStream with a bound on every answer.
pub(super) fn jetstream(nats: &async_nats::Client) -> jetstream::Context {
    ContextBuilder::new().timeout(ANSWER).build(nats.clone())
}

pub(super) struct Stream<'a> {
    relay: &'a Relay,
    pool: &'a PgPool,
    jetstream: jetstream::Context,
    /// Creation time of the stream, nanoseconds since the Unix epoch.
    incarnation: i64,
    /// Last sequence of the stream, as far as this process knows.
    sequence: u64,
}

impl<'a> Stream<'a> {
    pub(super) fn new(relay: &'a Relay, pool: &'a PgPool) -> Self {
        Self {
            relay,
            pool,
            jetstream: jetstream(&relay.nats),
            incarnation: 0,
            sequence: 0,
        }
    }

    fn adopt(&mut self, info: &Info) {
        self.incarnation = incarnation(info);
        self.sequence = info.state.last_sequence;
    }

    async fn create(&mut self) -> Result<(), DeliveryError> {
        let config = Config {
            name: names::EDGE_STREAM.to_owned(),
            subjects: vec![names::EDGE_SUBJECTS.to_owned()],
            max_messages_per_subject: 1,
            storage: StorageType::File,
            allow_direct: true,
            ..Config::default()
        };
        let stream = self
            .jetstream
            .create_stream(config)
            .await
            .map_err(DeliveryError::nats)?;
        self.adopt(stream.cached_info());
        Ok(())
    }

    /// Does the stream hold the whole table of this epoch, up to the cursor?
    async fn is_whole(
        &self,
        stream: &jetstream::stream::Stream,
        pulse: Pulse,
        cursor: i64,
    ) -> Result<bool, DeliveryError> {
        let Some(marker) = found(stream.get_last_raw_message_by_subject(names::EDGE_COMPLETE).await)? else {
            return Ok(false);
        };
        if number(&marker.headers, EPOCH) != Some(pulse.epoch) {
            return Ok(false);
        }
        let Some(newest) = found(stream.get_raw_message(self.sequence).await)? else {
            return Ok(false);
        };
        let published = outbox::last_record_position(&mut *self.connection().await?, cursor).await?;
        Ok(number(&newest.headers, POSITION).is_some_and(|position| published.is_none_or(|at| position >= at)))
    }

    async fn connection(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, DeliveryError> {
        Ok(self.pool.acquire().await.map_err(authsome_db::DbError::from)?)
    }

    async fn fill(&mut self, pulse: Pulse) -> Result<(), DeliveryError> {
        tracing::info!(
            incarnation = self.incarnation,
            "writing the whole routing table to the stream"
        );
        let mut table = Table::new(self.pool, &self.relay.metrics, pulse, Target::Stream);
        let mut records = 0;
        while let Some(page) = table.next_page().await? {
            records += page.len();
            self.publish(page.iter().map(Message::from)).await?;
        }
        let complete = Message {
            subject: Change::Complete.subject(),
            payload: Change::Complete.payload()?,
            position: pulse.last,
            covers: false,
            epoch: Some(pulse.epoch),
        };
        self.publish(std::iter::once(complete)).await?;
        self.relay.metrics.filled(Target::Stream);
        tracing::info!(
            records,
            position = pulse.last,
            "the stream holds the whole routing table"
        );
        Ok(())
    }

    /// Publishes all, then awaits all acknowledgements. The first failure in order decides: what follows it fails as well,
    /// since the sequence that it expects is not reached.
    async fn publish(&mut self, messages: impl Iterator<Item = Message>) -> Result<(), DeliveryError> {
        let mut acks = Vec::new();
        for (expected, message) in (self.sequence..).zip(messages) {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, expected.to_string());
            headers.insert(POSITION, message.position.to_string());
            if message.covers {
                headers.insert(names::COVERS_HEADER, message.position.to_string());
            }
            if let Some(epoch) = message.epoch {
                headers.insert(EPOCH, epoch.to_string());
            }
            let ack = self
                .jetstream
                .publish_with_headers(message.subject, headers, message.payload.into())
                .await;
            acks.push(ack.map_err(DeliveryError::nats)?);
        }
        for ack in acks {
            match ack.await {
                Ok(ack) => self.sequence = ack.sequence,
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                    return Err(DeliveryError::Deposed);
                }
                Err(error) => return Err(DeliveryError::nats(error)),
            }
        }
        Ok(())
    }
}

impl Receiver for Stream<'_> {
    const TARGET: Target = Target::Stream;

    async fn prepare(&mut self, pulse: Pulse, cursor: i64) -> Result<i64, DeliveryError> {
        match self.jetstream.get_stream(names::EDGE_STREAM).await {
            Ok(stream) => {
                // A server that lost the end of its files may show sequences that this process saw used.
                let lost = incarnation(stream.cached_info()) == self.incarnation
                    && stream.cached_info().state.last_sequence < self.sequence;
                self.adopt(stream.cached_info());
                if stream.cached_info().state.messages > 0 {
                    let wanted = pulse.rebuild(Target::Stream).is_some();
                    if !wanted && !lost && self.is_whole(&stream, pulse, cursor).await? {
                        return Ok(cursor);
                    }
                    // Half a table may hold records whose rows are gone by now: begin with nothing. Edges load a new stream
                    // as a whole, so an altered message of the old one does not survive in them either.
                    tracing::warn!(
                        incarnation = self.incarnation,
                        wanted,
                        "the stream is not whole, or is to be rewritten, and is made anew"
                    );
                    self.jetstream
                        .delete_stream(names::EDGE_STREAM)
                        .await
                        .map_err(DeliveryError::nats)?;
                    self.create().await?;
                }
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    self.create().await?;
                }
                _ => return Err(DeliveryError::nats(error)),
            },
        }
        self.fill(pulse).await?;
        Ok(pulse.last)
    }

    async fn deliver(&mut self, entries: &[Entry], _: Pulse) -> Result<(), DeliveryError> {
        let records = announced(self.pool, entries, &self.relay.metrics).await?;
        self.publish(records.iter().map(Message::from)).await
    }

    /// Publishes the heartbeat, if the stream is still the one that was written and nobody else writes to it.
    async fn beat(&mut self, pulse: Pulse, position: i64) -> Result<(), DeliveryError> {
        let stream = self
            .jetstream
            .get_stream_no_info(names::EDGE_STREAM)
            .await
            .map_err(DeliveryError::nats)?;
        let info = stream.get_info().await.map_err(DeliveryError::nats)?;
        if incarnation(&info) != self.incarnation
            || info.state.last_sequence < self.sequence
            || info.state.messages == 0
        {
            return Err(DeliveryError::Lost("the stream is another, or lost messages"));
        }
        if info.state.last_sequence > self.sequence {
            return Err(DeliveryError::Deposed);
        }
        let heartbeat = Heartbeat {
            epoch: pulse.epoch.unsigned_abs(),
            incarnation: self.incarnation,
            position: position.unsigned_abs(),
            sequence: self.sequence,
            database_time_ms: pulse.database_time_ms,
        };
        let payload = serde_json::to_vec(&heartbeat)?;
        self.relay
            .nats
            .publish(names::RELAY_HEARTBEAT, payload.into())
            .await
            .map_err(DeliveryError::nats)
    }
}

struct Message {
    subject: String,
    payload: Vec<u8>,
    position: i64,
    covers: bool,
    epoch: Option<i64>,
}

impl From<&Record> for Message {
    fn from(record: &Record) -> Self {
        Self {
            subject: record.change.subject(),
            payload: record.payload.clone(),
            position: record.position,
            covers: record.covers,
            epoch: None,
        }
    }
}

fn found(answer: Result<StreamMessage, LastRawMessageError>) -> Result<Option<StreamMessage>, DeliveryError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(DeliveryError::nats(error)),
    }
}

fn incarnation(info: &Info) -> i64 {
    // Fits until the year 2262.
    i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.as_str().parse().ok()
}
