//! When keys were used, as edges tell it.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::wire::{KeyUse, KeyUses, names};
use authsome_control::tasks::connect;
use authsome_control::tasks::key_uses::KeyUsesTask;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::KeyId;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use tokio_util::sync::CancellationToken;

use crate::rows::{self, Rows};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_latest_use_stays_and_no_version_changes() {
    let rows = Rows::new().await;
    let application = rows.application().await;
    rows.key(application).await;
    let id: KeyId = sqlx::query_scalar("SELECT id FROM api_keys")
        .fetch_one(&rows.pool)
        .await
        .unwrap();
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let stop = CancellationToken::new();
    for _replica in 0..2 {
        let task = KeyUsesTask {
            pool: rows.pool.clone(),
            nats: connect::nats(&SecretUrl::parse(&server.url()).unwrap(), "control")
                .await
                .unwrap(),
            clock: Arc::new(SystemClock),
        };
        tokio::spawn(task.run(stop.clone()));
    }
    let nats = server.connect().await.unwrap();
    let confirmed = async |payload: Vec<u8>| {
        wait_for("the confirmation", SOON, async || {
            nats.request(names::KEY_USES, payload.clone().into()).await
        })
        .await
        .unwrap();
    };
    let now = u32::try_from(SystemClock.unix_millis() / 60_000).unwrap();
    for (minute, expected) in [(now - 5, now - 5), (now - 9, now - 5), (now - 1, now - 1)] {
        let uses = KeyUses {
            // A key that is gone does not hold up the others.
            uses: vec![KeyUse { id, minute }, KeyUse { id: rows::id(), minute }],
        };
        confirmed(serde_json::to_vec(&uses).unwrap()).await;
        let (seconds, version): (i64, i64) =
            sqlx::query_as("SELECT extract(epoch FROM last_used_at)::bigint, version FROM api_keys")
                .fetch_one(&rows.pool)
                .await
                .unwrap();
        assert_eq!((seconds, version), (i64::from(expected) * 60, 1));
    }
    // What is no message is answered too, since it would be no better the next time.
    confirmed(b"not JSON".to_vec()).await;
    let announced: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE topic = 'key'")
        .fetch_one(&rows.pool)
        .await
        .unwrap();
    assert_eq!(announced, 1, "only its creation travels");
    stop.cancel();
}
