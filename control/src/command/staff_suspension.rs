//! Stopping an application in the name of the platform's staff, from the command line.

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::{ApplicationId, EventId, OperationId};
use authsome_db::audit::{self, ActorType, Event};
use serde_json::json;
use sqlx::PgPool;

use super::application;
use crate::db::intents;
use crate::error::{Fields, Outcome};

/// The longest reason, in characters.
const REASON_MAX: usize = 500;

/// Stops the application for a reason that its team reads; without one, takes that back.
pub async fn set(
    pool: &PgPool,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    id: ApplicationId,
    reason: Option<&str>,
) -> Outcome<()> {
    let mut fields = Fields::new();
    let sound = |text: &str| (1..=REASON_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fields.require(
        reason.is_none_or(sound),
        "reason",
        "must be from 1 to 500 characters long, without control characters",
    );
    fields.finish()?;
    let mut transaction = pool.begin().await?;
    let operation = OperationId::generate(clock, entropy);
    let moved = application::staff(&mut transaction, id, reason, clock.now(), operation).await?;
    let workspace = intents::lock(&mut transaction, id)
        .await?
        .map(|intent| intent.workspace_id);
    let text = id.to_string();
    let event = Event {
        id: EventId::generate(clock, entropy),
        workspace_id: workspace,
        application_id: Some(id),
        actor_id: Some("staff"),
        actor_type: ActorType::Service,
        action: if reason.is_some() {
            "application.staff_suspend"
        } else {
            "application.staff_release"
        },
        resource: "application",
        resource_id: Some(&text),
        changes: json!({ "reason": reason, "status": moved }),
        ip_address: None,
        user_agent: None,
        succeeded: true,
        request_id: None,
    };
    audit::record(&mut transaction, &event).await?;
    transaction.commit().await?;
    Ok(())
}
