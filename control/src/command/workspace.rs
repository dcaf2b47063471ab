//! Workspaces: created here; their settings and their end in files of their own.

mod ending;
mod settings;

pub use ending::{GRACE, delete, restore, transfer};
pub use settings::{Settings, update};

use authsome_contract::model::Plan;
use authsome_core::error::Failure;
use authsome_core::id::{MemberId, WorkspaceId};
use authsome_db::DbError;
use serde_json::json;
use sqlx::PgConnection;

use super::name;
use crate::audit::{self, Deed};
use crate::db::{memberships, workspaces};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller, Role};
use crate::state::App;

/// What a new workspace is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewWorkspace<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its name in addresses; made of the name where it is left out.
    pub slug: Option<&'a str>,
    /// `free`, unless another plan may be chosen without talking to anybody.
    pub plan: Option<Plan>,
}

/// Creates a workspace whose owner is the caller.
pub async fn create(app: &App, caller: &Caller, new: NewWorkspace<'_>) -> Outcome<workspaces::Workspace> {
    let mut fields = Fields::new();
    let title = fields.take("name", name::name(new.name));
    let slug = title
        .as_deref()
        .and_then(|title| fields.take("slug", name::slug(new.slug, title)));
    fields.finish()?;
    let (title, slug) = (title.unwrap_or_default(), slug.unwrap_or_default());
    let plan = new.plan.unwrap_or(Plan::Free);
    if !app.settings().self_service_plans.contains(&plan) {
        let message =
            format!("The {plan} plan cannot be chosen here; create the workspace on the free plan and contact us");
        return Err(Failure::forbidden(message).with_reason("plan").into());
    }

    let id = WorkspaceId::generate(app.clock(), app.entropy());
    let mut transaction = app.pool().begin().await?;
    workspaces::insert(&mut transaction, id, &title, &slug, caller.user, plan)
        .await
        .map_err(|error| slug_taken(error, &slug))?;
    let member = MemberId::generate(app.clock(), app.entropy());
    memberships::insert(&mut transaction, member, id, caller.user, &caller.email, Role::Owner).await?;
    let changes = json!({ "name": title, "slug": slug, "plan": plan });
    audit::record(
        &mut transaction,
        app,
        &caller.actor,
        &Deed::of_workspace("workspace.create", id, changes),
    )
    .await?;
    let workspace = workspaces::of_member(&mut transaction, caller.user, id).await?;
    transaction.commit().await?;
    app.limiter().forget_plan(caller.user);
    workspace.ok_or_else(|| Failure::not_found("Workspace not found").into())
}

/// The workspace as the caller sees it, who may.
pub async fn seen(connection: &mut PgConnection, caller: &Caller, id: WorkspaceId) -> Outcome<workspaces::Workspace> {
    identity::workspace(connection, caller, id, Action::ReadWorkspace).await?;
    settings::shown(connection, caller, id).await
}

fn slug_taken(error: DbError, slug: &str) -> Problem {
    match error {
        DbError::Duplicate { constraint } if constraint == "workspaces_slug_key" => {
            super::application::taken("slug", &format!("The slug {slug:?} is taken; choose another"))
        }
        other => other.into(),
    }
}
