//! Creating applications: the intent, its first keys, and the operation that makes it real. What becomes of one afterwards is in
//! the files below.

pub mod config;
pub(in crate::command) mod lifecycle;
pub mod secret;
mod update;

use authsome_contract::model::{Environment, Plan, Step, WorkspaceStatus};
use authsome_contract::wire::Job;
use authsome_contract::wire::job::JobKind;
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, KeyId, OperationId, WorkspaceId};
use authsome_core::key::{ApiKey, KeyType};
use authsome_db::operation::{self, NewOperation};
use authsome_db::{DbError, outbox};
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::Duration;

use super::name;
use crate::audit::{self, Deed};
use crate::db::{applications, keys, memberships, workspaces};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

pub use lifecycle::{Begun, GRACE, Verb, act, staff};
pub use update::{Changes, update};

/// How long the first build may take before the reconciler looks at it.
const PROVISIONING_DEADLINE: Duration = Duration::minutes(10);

/// The reason of the refusal to create a thing a second time under the same id.
pub const ALREADY_CREATED: &str = "already_created";

/// What a new application is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewApplication<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its name within the workspace; made of the name where it is left out.
    pub slug: Option<&'a str>,
    /// What it is for; decides whether its keys say `live` or `test`.
    pub environment: Environment,
    /// One of the configured regions, or the default one.
    pub region: Option<&'a str>,
    /// Settings of the AuthSome instance: a JSON object.
    pub config: Option<&'a Value>,
}

/// An application that is being built, with its keys. The secret one is never shown again.
#[derive(Debug)]
pub struct Created {
    /// The application.
    pub application: applications::Application,
    /// The first public key.
    pub public_key: ApiKey,
    /// The first secret key.
    pub secret_key: ApiKey,
    /// The operation to watch.
    pub operation: OperationId,
}

/// Creates an application. The limit of the plan holds however many requests come at once: they take turns on the row of
/// the workspace.
pub async fn create(app: &App, caller: &Caller, workspace: WorkspaceId, new: NewApplication<'_>) -> Outcome<Created> {
    let id = ApplicationId::generate(app.clock(), app.entropy());
    write(app, caller, workspace, id, new).await
}

/// As [`create`], under an id that was made when the form was shown: however often the form is sent, it creates one
/// application. Every time but the first is a conflict with the reason [`ALREADY_CREATED`].
pub async fn create_once(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    id: ApplicationId,
    new: NewApplication<'_>,
) -> Outcome<Created> {
    let written = write(app, caller, workspace, id, new).await;
    if written.is_err() {
        // The first application may be what the second is refused for: it has the slug, or was the last of the plan.
        let mut connection = app.pool().acquire().await?;
        let found = memberships::role_at_application(&mut connection, caller.user, id).await?;
        if found.is_some() {
            return Err(already_created());
        }
    }
    written
}

async fn write(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    id: ApplicationId,
    new: NewApplication<'_>,
) -> Outcome<Created> {
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::CreateApplications).await?;
    if !caller.email_verified {
        let failure = Failure::forbidden("Confirm your e-mail address before you create an application");
        return Err(failure.with_reason("email_not_verified").into());
    }
    let input = validate(app, &new)?;
    let plan = workspaces::lock(&mut transaction, workspace).await?;
    let (plan, status) = plan.ok_or_else(|| Failure::not_found("Workspace not found"))?;
    if status != WorkspaceStatus::Active {
        let failure = Failure::conflict("The workspace is suspended; it cannot get new applications");
        return Err(failure.with_reason("workspace_suspended").into());
    }
    if let Some(limit) = plan.application_limit()
        && applications::count_towards_limit(&mut transaction, workspace).await? >= i64::from(limit)
    {
        return Err(limit_reached(plan, limit));
    }

    let row = applications::NewApplication {
        id,
        workspace_id: workspace,
        name: &input.name,
        slug: &input.slug,
        environment: new.environment,
        region: input.region,
        config: &input.config,
        namespace: &format!("authsome-app-{}", id.suffix()),
        resources: plan.resources(),
        deadline: now + PROVISIONING_DEADLINE,
        created_at: now,
    };
    applications::insert(&mut transaction, &row)
        .await
        .map_err(|error| duplicate(error, &input.slug))?;
    let public_key = first_key(&mut transaction, app, caller, id, new.environment, KeyType::Public).await?;
    let secret_key = first_key(&mut transaction, app, caller, id, new.environment, KeyType::Secret).await?;
    let operation = start(&mut transaction, app, caller, workspace, id, input.region).await?;
    let changes = json!({
        "name": input.name, "slug": input.slug, "environment": new.environment, "region": input.region,
    });
    let deed = Deed::of_application("application.create", workspace, id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let application = applications::get(&mut transaction, id, &crate::period::of(now)).await?;
    transaction.commit().await?;
    let application = application.ok_or_else(|| Failure::not_found("Application not found"))?;
    Ok(Created {
        application,
        public_key,
        secret_key,
        operation,
    })
}

/// 403: the plan allows no more.
fn limit_reached(plan: Plan, limit: u32) -> Problem {
    let message = format!("The {plan} plan allows {limit} applications; delete one or change the plan");
    Failure::forbidden(message)
        .with_reason("application_limit")
        .with_details(json!({ "plan": plan, "limit": limit }))
        .into()
}

/// 409 that names the field, as for wrong fields.
pub(super) fn taken(field: &str, message: &str) -> Problem {
    let details = json!({ "fields": { field: "is taken" } });
    Failure::conflict(message.to_owned())
        .with_reason("taken")
        .with_details(details)
        .into()
}

/// 409: the id is in use.
pub(super) fn already_created() -> Problem {
    Failure::conflict("This was already created")
        .with_reason(ALREADY_CREATED)
        .into()
}

struct Input<'a> {
    name: String,
    slug: String,
    region: &'a str,
    config: Value,
}

fn validate<'a>(app: &'a App, new: &NewApplication<'_>) -> Outcome<Input<'a>> {
    let mut fields = Fields::new();
    let name = fields.take("name", name::name(new.name));
    // One that is left out is made of the name, and cannot be of a wrong one.
    let slug = if name.is_some() || new.slug.is_some() {
        fields.take("slug", name::slug(new.slug, name.as_deref().unwrap_or_default()))
    } else {
        None
    };
    let settings = app.settings();
    let region = match new.region {
        None => Some(settings.default_region()),
        Some(asked) => {
            let known = settings
                .regions
                .iter()
                .map(String::as_str)
                .find(|region| *region == asked);
            let expected = || format!("must be one of {}", settings.regions.join(", "));
            fields.take("region", known.ok_or_else(expected))
        }
    };
    let config = new.config.cloned().unwrap_or_else(|| json!({}));
    config::check(&config, &mut fields);
    fields.finish()?;
    Ok(Input {
        name: name.unwrap_or_default(),
        slug: slug.unwrap_or_default(),
        region: region.unwrap_or_default(),
        config,
    })
}

async fn first_key(
    transaction: &mut PgConnection,
    app: &App,
    caller: &Caller,
    application: ApplicationId,
    environment: Environment,
    key_type: KeyType,
) -> Outcome<ApiKey> {
    let key = ApiKey::generate(key_type, environment.key_mode(), &application, app.entropy());
    let row = keys::NewKey {
        id: KeyId::generate(app.clock(), app.entropy()),
        application_id: application,
        name: match key_type {
            KeyType::Public => "Default public key",
            KeyType::Secret => "Default secret key",
        },
        key: &key,
        scopes: &["*".to_owned()],
        networks: &[],
        origins: &[],
        expires_at: None,
        created_by: caller.user,
        created_at: app.clock().now(),
    };
    keys::insert(transaction, &row).await?;
    Ok(key)
}

/// The operation, its steps and its job.
async fn start(
    transaction: &mut PgConnection,
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    application: ApplicationId,
    region: &str,
) -> Outcome<OperationId> {
    /// Of a new row.
    const GENERATION: i64 = 1;
    let new = NewOperation {
        id: OperationId::generate(app.clock(), app.entropy()),
        workspace_id: workspace,
        application_id: application,
        kind: JobKind::Provision,
        generation: GENERATION,
        requested_by: Some(caller.user),
        deadline_at: app.clock().now() + PROVISIONING_DEADLINE,
    };
    operation::insert(transaction, &new, Step::PROVISION).await?;
    let job = Job {
        operation_id: new.id,
        application_id: application,
        kind: new.kind,
        generation: GENERATION,
        region: region.to_owned(),
    };
    outbox::enqueue_job(transaction, &job).await?;
    Ok(new.id)
}

fn duplicate(error: DbError, slug: &str) -> Problem {
    match error {
        DbError::Duplicate { constraint } if constraint == "applications_pkey" => already_created(),
        DbError::Duplicate { constraint } if constraint == "idx_applications_workspace_slug" => taken(
            "slug",
            &format!("The slug {slug:?} is taken in this workspace; choose another"),
        ),
        other => other.into(),
    }
}
