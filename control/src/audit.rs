//! What is written into the audit trail, in the transaction of the change.
//!
//! Owns the vocabulary (`noun.verb`) and fills in who, from where, and in which request. If the event cannot be written, the
//! change does not happen either.

pub mod checkpoint;
pub mod verify;

use authsome_core::id::{ApplicationId, EventId, KeyId, MemberId, TokenId, UserId, WebhookId, WorkspaceId};
use authsome_db::audit::{ActorType, Event};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::Outcome;
use crate::identity::Actor;
use crate::state::App;

/// What was done, and to what. Its changes hold names and settings, never a secret.
#[derive(Debug)]
pub struct Deed {
    action: &'static str,
    resource: &'static str,
    resource_id: Option<String>,
    workspace: Option<WorkspaceId>,
    application: Option<ApplicationId>,
    changes: Value,
    succeeded: bool,
}

impl Deed {
    /// To a person; `None` where the person could not be told.
    pub fn of_user(action: &'static str, user: Option<UserId>) -> Self {
        Self {
            action,
            resource: "user",
            resource_id: user.map(|user| user.to_string()),
            workspace: None,
            application: None,
            changes: json!({}),
            succeeded: true,
        }
    }

    /// To a workspace.
    pub fn of_workspace(action: &'static str, workspace: WorkspaceId, changes: Value) -> Self {
        Self {
            resource: "workspace",
            resource_id: Some(workspace.to_string()),
            workspace: Some(workspace),
            changes,
            ..Self::of_user(action, None)
        }
    }

    /// To a member of a workspace.
    pub fn of_member(action: &'static str, workspace: WorkspaceId, member: MemberId, changes: Value) -> Self {
        Self {
            resource: "member",
            resource_id: Some(member.to_string()),
            ..Self::of_workspace(action, workspace, changes)
        }
    }

    /// To a service token.
    pub fn of_token(action: &'static str, workspace: WorkspaceId, token: TokenId, changes: Value) -> Self {
        Self {
            resource: "service_token",
            resource_id: Some(token.to_string()),
            ..Self::of_workspace(action, workspace, changes)
        }
    }

    /// To an application.
    pub fn of_application(
        action: &'static str,
        workspace: WorkspaceId,
        application: ApplicationId,
        changes: Value,
    ) -> Self {
        Self {
            resource: "application",
            resource_id: Some(application.to_string()),
            application: Some(application),
            ..Self::of_workspace(action, workspace, changes)
        }
    }

    /// To an API key.
    pub fn of_key(
        action: &'static str,
        workspace: WorkspaceId,
        application: ApplicationId,
        key: KeyId,
        changes: Value,
    ) -> Self {
        Self {
            resource: "api_key",
            resource_id: Some(key.to_string()),
            ..Self::of_application(action, workspace, application, changes)
        }
    }

    /// To a webhook endpoint, which may be that of one application.
    pub fn of_webhook(
        action: &'static str,
        workspace: WorkspaceId,
        application: Option<ApplicationId>,
        webhook: WebhookId,
        changes: Value,
    ) -> Self {
        Self {
            resource: "webhook",
            resource_id: Some(webhook.to_string()),
            application,
            ..Self::of_workspace(action, workspace, changes)
        }
    }

    /// With what was changed.
    #[must_use]
    pub fn changing(mut self, changes: Value) -> Self {
        self.changes = changes;
        self
    }

    /// Marks an attempt that was refused.
    #[must_use]
    pub fn refused(mut self, refused: bool) -> Self {
        self.succeeded = !refused;
        self
    }
}

/// Records the deed of a person. Before anybody is signed in, the person is the one it is about.
pub async fn record(connection: &mut PgConnection, app: &App, actor: &Actor, deed: &Deed) -> Outcome<()> {
    let request = actor.request.map(|id| id.to_string());
    let actor_id = match (actor.token.map(|token| token.to_string()), actor.user, deed.resource) {
        (Some(token), _, _) => Some(token),
        (None, Some(user), _) => Some(user.to_string()),
        (None, None, "user") => deed.resource_id.clone(),
        (None, None, _) => None,
    };
    let event = Event {
        id: EventId::generate(app.clock(), app.entropy()),
        workspace_id: deed.workspace,
        application_id: deed.application,
        actor_id: actor_id.as_deref(),
        // Somebody who needs no account, such as the finder of a key.
        actor_type: if actor.token.is_some() {
            ActorType::ApiKey
        } else if actor_id.is_none() && deed.workspace.is_some() {
            ActorType::Service
        } else {
            ActorType::User
        },
        action: deed.action,
        resource: deed.resource,
        resource_id: deed.resource_id.as_deref(),
        changes: deed.changes.clone(),
        ip_address: actor.address,
        user_agent: actor.user_agent.as_deref(),
        succeeded: deed.succeeded,
        request_id: request.as_deref(),
    };
    Ok(authsome_db::audit::record(connection, &event).await?)
}
