//! An application with an image of its own: upgrades of the fleet leave it alone until it is let go.
//!
//! One transaction on the control database, carried out by the provisioners as an ordinary update. Without the database nothing
//! happens and the command says so.

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::{ApplicationId, EventId, OperationId};
use authsome_db::DbError;
use authsome_db::application::TransitionError;
use authsome_db::audit::{self, ActorType, Event};
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use super::update::{self, UpdateError};
use crate::db::fleet_image::{self, Image};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No registry has that.
    #[error("{0:?} is no image reference such as registry.example/authsome:1.6.2")]
    Image(String),
    /// It is not there, or its status allows no update.
    #[error("{0}")]
    Refused(#[source] TransitionError),
    /// The control database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for PinError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// What has become of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// The application.
    pub application: ApplicationId,
    /// The image that it is pinned to; none: it follows the fleet.
    pub image: Option<String>,
    /// The operation that gives it that image. None where it has it, and where it is stopped: then it starts with it.
    pub operation: Option<OperationId>,
}

/// Pins an application to an image, or with `None` lets it follow the fleet again. What it is already it stays.
pub async fn pin(
    pool: &PgPool,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    application: ApplicationId,
    image: Option<&str>,
) -> Result<Pinned, PinError> {
    if let Some(image) = image.filter(|image| !crate::runtime::kubernetes::manifest::is_image_reference(image)) {
        return Err(PinError::Image(image.to_owned()));
    }
    let mut transaction = pool.begin().await?;
    let report = |operation| Pinned {
        application,
        image: image.map(str::to_owned),
        operation,
    };
    // The workspace first, as everybody locks them.
    let held = fleet_image::hold_workspace(&mut transaction, application).await?;
    if held.is_some() && fleet_image::pinned(&mut transaction, application).await?.as_deref() == image {
        return Ok(report(None));
    }
    let begun = update::begin(&mut transaction, (clock, entropy), application, Image::Own(image)).await;
    let begun = begun.map_err(|error| match error {
        UpdateError::Db(error) | UpdateError::Transition(TransitionError::Db(error)) => PinError::Db(error),
        UpdateError::Transition(error) => PinError::Refused(error),
    })?;
    if begun.is_none() {
        fleet_image::set_image(&mut transaction, application, Image::Own(image)).await?;
    }
    let operation = begun.map(|begun| begun.operation);
    let text = application.to_string();
    let event = Event {
        id: EventId::generate(clock, entropy),
        workspace_id: held.map(|(workspace, _)| workspace),
        application_id: Some(application),
        actor_id: Some("staff"),
        actor_type: ActorType::Service,
        action: if image.is_some() {
            "application.image_pin"
        } else {
            "application.image_unpin"
        },
        resource: "application",
        resource_id: Some(&text),
        changes: json!({ "image": image, "operationId": operation }),
        ip_address: None,
        user_agent: None,
        succeeded: true,
        request_id: None,
    };
    audit::record(&mut transaction, &event).await?;
    transaction.commit().await?;
    Ok(report(operation))
}
