//! Workspaces: created here; their settings and their end in files of their own.

mod ending;
mod settings;

pub use ending::{GRACE, delete, restore, transfer};
pub use settings::{Settings, update};

use authsome_contract::model::Plan;
use authsome_core::entropy;
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

/// How often a slug is made anew where the one before was taken. The second is random already.
const SLUGS_MAX: usize = 4;

/// Creates a workspace whose owner is the caller. A slug that is left out is made of the name, and is never taken.
pub async fn create(app: &App, caller: &Caller, new: NewWorkspace<'_>) -> Outcome<workspaces::Workspace> {
    let mut fields = Fields::new();
    let title = fields.take("name", name::title(new.name)).unwrap_or_default();
    if let Some(slug) = new.slug {
        fields.take("slug", own_slug(slug));
    }
    fields.finish()?;
    let plan = new.plan.unwrap_or(Plan::Free);
    if !app.settings().self_service_plans.contains(&plan) {
        let message =
            format!("The {plan} plan cannot be chosen here; create the workspace on the free plan and contact us");
        return Err(Failure::forbidden(message).with_reason("plan").into());
    }

    if let Some(slug) = new.slug {
        return insert(app, caller, &title, slug, plan)
            .await?
            .map_err(|error| slug_taken(error, slug));
    }
    let stem = name::stem(&title);
    let mut slug = stem.clone();
    let mut made = 1;
    loop {
        if !name::is_reserved(&slug) {
            match insert(app, caller, &title, &slug, plan).await? {
                Err(error) if made == SLUGS_MAX || !is_slug_taken(&error) => return Err(slug_taken(error, &slug)),
                Err(_) => {}
                Ok(workspace) => return Ok(workspace),
            }
        }
        slug = name::suffixed(&stem, &suffix(app));
        made += 1;
    }
}

/// The slug that somebody chose, or what is expected.
fn own_slug(slug: &str) -> Result<String, &'static str> {
    if name::is_reserved(slug) {
        return Err("is reserved; choose another");
    }
    name::slug(Some(slug), "")
}

/// Six letters and digits without those that look alike.
fn suffix(app: &App) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let random = entropy::bytes::<6>(app.entropy());
    random
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
        .collect()
}

/// In one transaction, which a taken slug ends: that is the inner error.
async fn insert(
    app: &App,
    caller: &Caller,
    title: &str,
    slug: &str,
    plan: Plan,
) -> Outcome<Result<workspaces::Workspace, DbError>> {
    let id = WorkspaceId::generate(app.clock(), app.entropy());
    let mut transaction = app.pool().begin().await?;
    if let Err(error) = workspaces::insert(&mut transaction, id, title, slug, caller.user, plan).await {
        return Ok(Err(error));
    }
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
    let workspace = workspace.ok_or_else(|| Failure::not_found("Workspace not found"))?;
    Ok(Ok(workspace))
}

/// The workspace as the caller sees it, who may.
pub async fn seen(connection: &mut PgConnection, caller: &Caller, id: WorkspaceId) -> Outcome<workspaces::Workspace> {
    identity::workspace(connection, caller, id, Action::ReadWorkspace).await?;
    settings::shown(connection, caller, id).await
}

fn is_slug_taken(error: &DbError) -> bool {
    matches!(error, DbError::Duplicate { constraint } if constraint == "workspaces_slug_key")
}

fn slug_taken(error: DbError, slug: &str) -> Problem {
    if is_slug_taken(&error) {
        super::application::taken("slug", &format!("The slug {slug:?} is taken; choose another"))
    } else {
        error.into()
    }
}
