//! An application: where it is, its keys, and how far its latest operation has come.

use askama::Template;
use authsome_contract::model::Environment;
use authsome_core::{
    error::Failure,
    id::{Application as ApplicationKind, ApplicationId, KeyId, Workspace as WorkspaceKind},
};
use authsome_db::operation::{self, Filter, Operation, StepRow};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::{
    form::Form,
    page::{Frame, Page, moment, shown_again},
    visitor::Visitor,
    workspaces::{self as workspace_pages, NewApplicationForm},
};
use crate::{
    command::application::{self, ALREADY_CREATED, NewApplication},
    db::{
        applications::{self, Application},
        keys::{self, Key},
        workspaces::{self, Workspace},
    },
    error::{Outcome, Problem},
    identity::{self, Action},
    period,
    server::extract::{PathId, Query},
    state::App,
};

/// More than an application should have.
const KEYS_SHOWN: i64 = 100;

/// In the address of a page that a form leads to when it was sent before.
const CREATED_BEFORE: &str = "already-created";

/// A fragment of a page says so, so that the script reloads the whole when the operation has ended.
const LIVE: HeaderName = HeaderName::from_static("x-authsome-live");

#[derive(Template)]
#[template(path = "application.html")]
pub(super) struct ApplicationPage {
    frame: Frame,
    workspace: Workspace,
    application: Application,
    url: String,
    work: Option<Work>,
    /// `None`: the visitor may not see keys.
    keys: Option<Vec<Key>>,
    may_write_keys: bool,
    /// Keys that were just made, by name: this is the only time that they are seen.
    fresh: Vec<(String, String)>,
    /// Of the next key: the form is good for one.
    key_id: KeyId,
    notice: Option<&'static str>,
    error: Option<String>,
}

/// What changes while an operation runs.
#[derive(Template)]
#[template(path = "fragment.html")]
struct Fragment {
    application: Application,
    work: Option<Work>,
}

/// An operation and its steps.
#[derive(Debug)]
pub(super) struct Work {
    operation: Operation,
    steps: Vec<StepRow>,
}

impl Work {
    fn is_live(&self) -> bool {
        !self.operation.status.is_finished()
    }

    fn done(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| matches!(step.status.as_str(), "done" | "skipped"))
            .count()
    }
}

#[derive(Deserialize)]
pub(super) struct Notice {
    #[serde(default)]
    notice: String,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    PathId(id): PathId<ApplicationKind>,
    Query(query): Query<Notice>,
) -> Outcome<Response> {
    let mut page = page(&app, &visitor, id, Vec::new(), None).await?;
    page.notice =
        (query.notice == CREATED_BEFORE).then_some("This was already created. A secret key is shown only once.");
    Ok(Page(page).into_response())
}

/// The answer to a form that was sent before: what it made, without the secret.
pub(super) fn created_before(id: ApplicationId) -> Response {
    Redirect::to(&format!("/applications/{id}?notice={CREATED_BEFORE}")).into_response()
}

/// What changes while an operation runs, for the script.
pub(super) async fn progress(
    State(app): State<App>,
    visitor: Visitor,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<Response> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &visitor.caller, id, Action::ReadOperations).await?;
    // Before the application: an operation and the status that it leads to end together, and the last look must see both.
    let work = work(&mut connection, id).await?;
    let live = work.as_ref().is_some_and(Work::is_live);
    let application = applications::get(&mut connection, id, &period::of(app.clock().now()))
        .await?
        .ok_or_else(missing)?;
    let mut response = Page(Fragment { application, work }).into_response();
    response
        .headers_mut()
        .insert(LIVE, HeaderValue::from_static(if live { "yes" } else { "no" }));
    Ok(response)
}

pub(super) async fn create(
    State(app): State<App>,
    visitor: Visitor,
    PathId(workspace): PathId<WorkspaceKind>,
    Form(form): Form<NewApplicationForm>,
) -> Outcome<Response> {
    visitor.check_form(&form.csrf)?;
    let environment = form.environment.parse::<Environment>();
    let created = match environment {
        Ok(environment) => {
            let region = Some(form.region.as_str()).filter(|region| !region.is_empty());
            let new = NewApplication {
                name: &form.name,
                slug: None,
                environment,
                region,
                config: None,
            };
            application::create_once(&app, &visitor.caller, workspace, form.id, new).await
        }
        Err(_) => Err(Problem::from(Failure::invalid_request("Choose an environment"))),
    };
    match created {
        Ok(created) => {
            let fresh = vec![("Secret key".to_owned(), created.secret_key.expose().to_owned())];
            let page = page(&app, &visitor, created.application.id, fresh, None).await?;
            Ok((StatusCode::CREATED, Page(page)).into_response())
        }
        Err(problem) if problem.failure().reason() == Some(ALREADY_CREATED) => Ok(created_before(form.id)),
        Err(problem) => {
            let (status, error) = shown_again(problem)?;
            let page = workspace_pages::page(&app, &visitor, workspace, form, Some(error)).await?;
            Ok((status, page).into_response())
        }
    }
}

/// The page of an application, perhaps with keys that were just made or a form that was refused.
pub(super) async fn page(
    app: &App,
    visitor: &Visitor,
    id: ApplicationId,
    fresh: Vec<(String, String)>,
    error: Option<String>,
) -> Outcome<ApplicationPage> {
    let mut connection = app.pool().acquire().await?;
    let user = visitor.caller.user;
    let workspace = identity::application(&mut connection, &visitor.caller, id, Action::ReadApplications).await?;
    let workspace = workspaces::of_member(&mut connection, user, workspace)
        .await?
        .ok_or_else(missing)?;
    let work = work(&mut connection, id).await?;
    let application = applications::get(&mut connection, id, &period::of(app.clock().now()))
        .await?
        .ok_or_else(missing)?;
    let keys = if workspace.role.may(Action::ReadKeys) {
        Some(keys::of_application(&mut connection, id, KEYS_SHOWN, 0).await?.0)
    } else {
        None
    };
    let mut frame = Frame::of(visitor);
    // A page that shows a key once must not vanish by itself.
    frame.refresh = (fresh.is_empty() && work.as_ref().is_some_and(Work::is_live)).then_some(3);
    Ok(ApplicationPage {
        frame,
        url: app.settings().application_url(id),
        may_write_keys: workspace.role.may(Action::WriteKeys),
        workspace,
        application,
        work,
        keys,
        fresh,
        key_id: KeyId::generate(app.clock(), app.entropy()),
        notice: None,
        error,
    })
}

fn missing() -> Failure {
    Failure::not_found("There is no such application, or you are not a member of its workspace")
}

async fn work(connection: &mut sqlx::PgConnection, id: ApplicationId) -> Outcome<Option<Work>> {
    let newest = Filter {
        limit: 1,
        ..Filter::default()
    };
    let (rows, _) = operation::of_application(connection, id, newest).await?;
    let Some(operation) = rows.into_iter().next() else {
        return Ok(None);
    };
    let steps = operation::steps(connection, operation.id).await?;
    Ok(Some(Work { operation, steps }))
}
