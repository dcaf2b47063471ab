//! The routing table as a stream of a real NATS server, filled at once: what the relay makes of a whole database.

use std::time::Duration;

use async_nats::jetstream;
use authsome_contract::wire::{Change, Heartbeat, names};
use authsome_core::clock::{Clock, SystemClock};
use futures::StreamExt;

/// Messages that are under way at once.
const UNDER_WAY: usize = 4_096;

/// Fills the stream, with the mark that it is complete at its end. Returns what the relay's heartbeat would say.
pub async fn fill(client: &async_nats::Client, changes: impl Iterator<Item = Change>) -> Heartbeat {
    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config {
        name: names::EDGE_STREAM.to_owned(),
        subjects: vec![names::EDGE_SUBJECTS.to_owned()],
        max_messages_per_subject: 1,
        storage: jetstream::stream::StorageType::File,
        allow_direct: true,
        ..jetstream::stream::Config::default()
    };
    let stream = context.create_stream(config).await.unwrap();
    let acks = futures::stream::iter(changes.chain([Change::Complete]))
        .map(|change| {
            let context = &context;
            async move {
                let payload = change.payload().unwrap();
                let ack = context.publish(change.subject(), payload.into()).await.unwrap();
                ack.await.unwrap().sequence
            }
        })
        .buffered(UNDER_WAY);
    let sequence = acks
        .fold(0, |newest, sequence| async move { sequence.max(newest) })
        .await;
    Heartbeat {
        epoch: 1,
        incarnation: i64::try_from(stream.cached_info().created.unix_timestamp_nanos()).unwrap(),
        position: sequence,
        sequence,
        database_time_ms: 0,
    }
}

/// The relay's heartbeat, until it is dropped.
pub async fn beat(client: async_nats::Client, heartbeat: Heartbeat) {
    loop {
        let heartbeat = Heartbeat {
            database_time_ms: SystemClock.unix_millis(),
            ..heartbeat
        };
        let payload = serde_json::to_vec(&heartbeat).unwrap();
        client.publish(names::RELAY_HEARTBEAT, payload.into()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
