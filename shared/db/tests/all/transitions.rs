use authsome_contract::{
    model::{AppStatus, Step, status::Event},
    wire::{Job, job::JobKind},
};
use authsome_core::{
    clock::{Clock, SystemClock},
    id::{ApplicationId, OperationId},
};
use authsome_db::{
    application::{self, TransitionError},
    operation::{self, NewOperation, OperationStatus},
    outbox,
};
use time::Duration;

use crate::fixture::{id, tenancy};

#[tokio::test]
async fn only_legal_transitions_happen_and_settled_states_have_no_deadline() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let mut connection = tenancy.pool.acquire().await.unwrap();
    let deadline = SystemClock.now() + Duration::minutes(5);
    let next = application::transition(&mut connection, app, Event::Succeeded, deadline)
        .await
        .unwrap();
    assert_eq!(next, AppStatus::Active);
    let kept: Option<time::OffsetDateTime> =
        sqlx::query_scalar("SELECT status_deadline FROM applications WHERE id = $1")
            .bind(app)
            .fetch_one(&tenancy.pool)
            .await
            .unwrap();
    assert_eq!(kept, None);
    let refused = application::transition(&mut connection, app, Event::Resume, deadline).await;
    assert!(matches!(refused, Err(TransitionError::Illegal(_))), "{refused:?}");
    let unknown: ApplicationId = id();
    let refused = application::transition(&mut connection, unknown, Event::Delete, deadline).await;
    assert!(matches!(refused, Err(TransitionError::Missing(_))), "{refused:?}");
}

#[tokio::test]
async fn an_operation_is_read_back_with_its_steps_in_order_and_its_job_waits_in_the_outbox() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let mut tx = tenancy.pool.begin().await.unwrap();
    let new = NewOperation {
        id: id::<authsome_core::id::Operation>(),
        workspace_id: tenancy.workspace,
        application_id: app,
        kind: JobKind::Provision,
        generation: 1,
        requested_by: Some(tenancy.owner),
        deadline_at: SystemClock.now() + Duration::minutes(10),
    };
    operation::insert(&mut tx, &new, Step::PROVISION).await.unwrap();
    let job = Job {
        operation_id: new.id,
        application_id: app,
        kind: JobKind::Provision,
        generation: 1,
        region: "local".to_owned(),
    };
    outbox::enqueue_job(&mut tx, &job).await.unwrap();
    tx.commit().await.unwrap();

    let mut connection = tenancy.pool.acquire().await.unwrap();
    let read = operation::get(&mut connection, new.id).await.unwrap().unwrap();
    assert_eq!(read.status, OperationStatus::Queued);
    assert_eq!(read.kind, JobKind::Provision);
    let steps: Vec<Step> = operation::steps(&mut connection, new.id)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.step)
        .collect();
    assert_eq!(steps, Step::PROVISION);
    let filter = operation::Filter {
        limit: 10,
        ..operation::Filter::default()
    };
    let (listed, total) = operation::of_application(&mut connection, app, filter).await.unwrap();
    assert_eq!(total, 1);
    assert_eq!(
        listed
            .iter()
            .map(|operation| operation.id)
            .collect::<Vec<OperationId>>(),
        [new.id]
    );
    let payload: serde_json::Value = sqlx::query_scalar("SELECT payload FROM outbox WHERE topic = 'job' AND ref = $1")
        .bind(new.id.to_string())
        .fetch_one(&tenancy.pool)
        .await
        .unwrap();
    assert_eq!(serde_json::from_value::<Job>(payload).unwrap(), job);
}
