//! The audit trail. An event is written in the transaction of the change it records, or not at all.

use authsome_core::id::{ApplicationId, EventId, WorkspaceId};
use sqlx::PgConnection;

use crate::DbError;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorType {
    /// A person.
    User,
    /// A key of an application or workspace.
    ApiKey,
    /// The platform itself.
    Service,
}

impl ActorType {
    /// Name in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ApiKey => "api_key",
            Self::Service => "service",
        }
    }
}

/// An event to record.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its id.
    pub id: EventId,
    /// The workspace it concerns; `None` for a login.
    pub workspace_id: Option<WorkspaceId>,
    /// The application it concerns.
    pub application_id: Option<ApplicationId>,
    /// Id of the actor, when known.
    pub actor_id: Option<&'a str>,
    /// Kind of the actor.
    pub actor_type: ActorType,
    /// `noun.verb`, such as `application.create`.
    pub action: &'static str,
    /// What it was done to, such as `application`.
    pub resource: &'static str,
    /// Id of that.
    pub resource_id: Option<&'a str>,
    /// Before and after, secrets redacted by the caller.
    pub changes: serde_json::Value,
    /// Address of the caller, if it came from outside.
    pub ip_address: Option<std::net::IpAddr>,
    /// What the caller said it is.
    pub user_agent: Option<&'a str>,
    /// Did it succeed?
    pub succeeded: bool,
    /// Id of the request that did it.
    pub request_id: Option<&'a str>,
}

/// Records the event.
pub async fn record(connection: &mut PgConnection, event: &Event<'_>) -> Result<(), DbError> {
    let ip = event.ip_address.map(|ip| ip.to_string());
    sqlx::query!(
        "INSERT INTO audit_events (id, workspace_id, application_id, actor_id, actor_type, action, resource, resource_id,
                                   changes, ip_address, user_agent, status, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::inet, $11, $12, $13)",
        event.id as EventId,
        event.workspace_id as Option<WorkspaceId>,
        event.application_id as Option<ApplicationId>,
        event.actor_id,
        event.actor_type.as_str(),
        event.action,
        event.resource,
        event.resource_id,
        event.changes,
        ip,
        event.user_agent,
        if event.succeeded { "success" } else { "failure" },
        event.request_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}
