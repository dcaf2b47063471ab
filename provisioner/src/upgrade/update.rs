//! One application gets an image: a new intent and the ordinary update operation for it, in the caller's transaction.

use authsome_contract::model::{AppStatus, Step, status::Event as Move};
use authsome_contract::wire::Job;
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::{ApplicationId, OperationId, WorkspaceId};
use authsome_db::application::{TransitionError, transition};
use authsome_db::operation::{self, NewOperation};
use authsome_db::{DbError, outbox};
use sqlx::PgConnection;

use crate::db::fleet_image::{self, Image};

/// How long the update of one application may take.
const DEADLINE: time::Duration = time::Duration::minutes(10);

/// Why an application does not get an image.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("an application cannot be moved: {0}")]
    Transition(#[from] TransitionError),
}

/// What was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    pub(super) workspace: WorkspaceId,
    pub(super) generation: i64,
    pub(super) operation: OperationId,
}

/// Begins it. `None` where nothing is updated now, since the application is stopped: the image is not set then. One that cannot be
/// updated at all, or is not there, is a [`TransitionError`].
pub(super) async fn begin(
    connection: &mut PgConnection,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    id: ApplicationId,
    image: Image<'_>,
) -> Result<Option<Update>, UpdateError> {
    let Some((workspace, region)) = fleet_image::hold_workspace(connection, id).await? else {
        return Err(TransitionError::Missing(id).into());
    };
    let deadline_at = clock.now() + DEADLINE;
    if transition(connection, id, Move::Update, deadline_at).await? != AppStatus::Updating {
        return Ok(None);
    }
    let generation = fleet_image::intend(connection, id, image).await?;
    let new = NewOperation {
        id: OperationId::generate(clock, entropy),
        workspace_id: workspace,
        application_id: id,
        kind: JobKind::Update,
        generation,
        requested_by: None,
        deadline_at,
    };
    operation::insert(connection, &new, Step::of(JobKind::Update)).await?;
    let job = Job {
        operation_id: new.id,
        application_id: id,
        kind: JobKind::Update,
        generation,
        region,
    };
    outbox::enqueue_job(connection, &job).await?;
    Ok(Some(Update {
        workspace,
        generation,
        operation: new.id,
    }))
}
