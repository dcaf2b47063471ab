//! How soon a change is on the stream.

use std::time::{Duration, Instant};

use authsome_contract::{
    model::KeyState,
    wire::{Change, names},
};
use futures::StreamExt;

use super::fixture::{SOON, World};

#[tokio::test]
async fn a_revocation_is_on_the_stream_within_100_ms_of_its_commit() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    world.heartbeat(|_| true).await;
    let mut seen = world.nats.subscribe(names::EDGE_SUBJECTS).await.unwrap();
    // Answered on the same connection, so the server has the subscription by then.
    world.jetstream().get_stream(names::EDGE_STREAM).await.unwrap();
    let mut took = Vec::new();
    for _ in 0..20 {
        let key = world.rows.key(app).await;
        world.settled().await;
        world.rows.revoke(&key).await;
        let committed = Instant::now();
        let (at, record) = loop {
            let message = tokio::time::timeout(SOON, seen.next()).await.unwrap().unwrap();
            match Change::decode(&message.subject, &message.payload).unwrap() {
                Change::Key(digest, record) if digest == key && record.version.row == 2 => {
                    break (committed.elapsed(), record.record.unwrap());
                }
                _ => {}
            }
        };
        took.push(at);
        assert_eq!(
            record.state,
            KeyState::Revoked,
            "a record with its state, not a tombstone"
        );
    }
    took.sort();
    println!("commit to stream: median {:?}, worst {:?}", took[10], took[19]);
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
}
