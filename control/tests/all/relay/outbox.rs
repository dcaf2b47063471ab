//! What becomes of an entry of the outbox: a job is queued once, and what everybody received is deleted.

use authsome_contract::wire::{Job, job::JobKind, names};
use authsome_testkit::wait_for;

use super::fixture::{SOON, World, count};
use crate::rows;

#[tokio::test]
async fn a_job_is_queued_once_even_if_it_is_delivered_twice() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let job = Job {
        operation_id: rows::id(),
        application_id: app,
        kind: JobKind::Provision,
        generation: 1,
        region: "local".to_owned(),
    };
    let mut connection = world.rows.pool.acquire().await.unwrap();
    authsome_db::outbox::enqueue_job(&mut connection, &job).await.unwrap();
    let relay = world.relay().await;
    world.settled().await;
    relay.kill();
    // As if it had been killed between the publish and the cursor.
    sqlx::query("UPDATE relay_cursors SET position = 0")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    let _next = world.relay().await;
    world.settled().await;
    let mut stream = world.jetstream().get_stream(names::JOBS_STREAM).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    let message = stream
        .get_last_raw_message_by_subject(&names::job("provision", "local"))
        .await
        .unwrap();
    assert_eq!(serde_json::from_slice::<Job>(&message.payload).unwrap(), job);
}

#[tokio::test]
async fn entries_that_everybody_received_are_deleted_after_an_hour() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let _relay = world.relay().await;
    world.settled().await;
    sqlx::query("UPDATE outbox SET created_at = now() - interval '61 minutes'")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world.rows.touch(app).await;
    wait_for("the old entry to go", SOON, async || {
        let left = count(&world.rows.pool, "SELECT count(*) FROM outbox").await;
        if left == 1 {
            Ok(())
        } else {
            Err(format!("{left} entries"))
        }
    })
    .await
    .unwrap();
    world.settled().await;
    assert_eq!(world.stream_app(app).await.unwrap().version.row, 2);
}
