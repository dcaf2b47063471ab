//! The workspaces of a person, and the applications of a workspace.

use askama::Template;
use authsome_contract::model::Environment;
use authsome_core::{
    error::Failure,
    id::{ApplicationId, Workspace as WorkspaceKind, WorkspaceId},
};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    form::Form,
    page::{Frame, Page, moment, shown_again},
    visitor::Visitor,
};
use crate::{
    command::workspace::{self, NewWorkspace},
    db::{
        applications::{self, Application, Filter},
        workspaces::{self, Workspace},
    },
    error::Outcome,
    identity::Action,
    period,
    server::extract::PathId,
    state::App,
};

/// More than anybody has; what is beyond is counted and reached through the API.
const SHOWN: i64 = 100;

#[derive(Template)]
#[template(path = "workspaces.html")]
struct WorkspacesPage {
    frame: Frame,
    workspaces: Vec<Workspace>,
    total: i64,
    name: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "workspace.html")]
struct WorkspacePage {
    frame: Frame,
    workspace: Workspace,
    applications: Vec<Application>,
    total: i64,
    may_create: bool,
    regions: Vec<String>,
    form: NewApplicationForm,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NewWorkspaceForm {
    csrf: String,
    name: String,
}

/// As it was sent, so that a refused form keeps what was typed.
#[derive(Debug, Deserialize)]
pub(super) struct NewApplicationForm {
    pub(super) csrf: String,
    /// Made with the form, so that sending it again makes nothing more.
    pub(super) id: ApplicationId,
    pub(super) name: String,
    pub(super) environment: String,
    pub(super) region: String,
}

impl NewApplicationForm {
    fn blank(app: &App) -> Self {
        Self {
            csrf: String::new(),
            id: ApplicationId::generate(app.clock(), app.entropy()),
            name: String::new(),
            environment: String::new(),
            region: String::new(),
        }
    }
}

pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Outcome<Response> {
    Ok(Page(list_page(&app, &visitor, String::new(), None).await?).into_response())
}

pub(super) async fn create(
    State(app): State<App>,
    visitor: Visitor,
    Form(form): Form<NewWorkspaceForm>,
) -> Outcome<Response> {
    visitor.check_form(&form.csrf)?;
    match workspace::create(
        &app,
        &visitor.caller,
        NewWorkspace {
            name: &form.name,
            slug: None,
            plan: None,
        },
    )
    .await
    {
        Ok(created) => Ok(Redirect::to(&format!("/workspaces/{}", created.id)).into_response()),
        Err(problem) => {
            let (status, error) = shown_again(problem)?;
            Ok((status, Page(list_page(&app, &visitor, form.name, Some(error)).await?)).into_response())
        }
    }
}

async fn list_page(app: &App, visitor: &Visitor, name: String, error: Option<String>) -> Outcome<WorkspacesPage> {
    let mut connection = app.pool().acquire().await?;
    let (workspaces, total) = workspaces::all_of_member(&mut connection, visitor.caller.user, None, SHOWN, 0).await?;
    Ok(WorkspacesPage {
        frame: Frame::of(visitor),
        workspaces,
        total,
        name,
        error,
    })
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    PathId(id): PathId<WorkspaceKind>,
) -> Outcome<Response> {
    Ok(page(&app, &visitor, id, NewApplicationForm::blank(&app), None)
        .await?
        .into_response())
}

/// The address of a page that shows a new application's key, asked for anew: the key is not shown again.
pub(super) async fn shown(PathId(id): PathId<WorkspaceKind>) -> Redirect {
    Redirect::to(&format!("/workspaces/{id}"))
}

/// The page of a workspace, perhaps with a form that was refused.
pub(super) async fn page(
    app: &App,
    visitor: &Visitor,
    id: WorkspaceId,
    form: NewApplicationForm,
    error: Option<String>,
) -> Outcome<impl IntoResponse + use<>> {
    let mut connection = app.pool().acquire().await?;
    let workspace = workspaces::of_member(&mut connection, visitor.caller.user, id)
        .await?
        .ok_or_else(|| Failure::not_found("There is no such workspace, or you are not a member of it"))?;
    let filter = Filter {
        environment: None,
        status: None,
        search: None,
        limit: SHOWN,
        offset: 0,
    };
    let (applications, total) =
        applications::of_workspace(&mut connection, id, &period::of(app.clock().now()), filter).await?;
    let mut frame = Frame::of(visitor);
    frame.refresh = applications
        .iter()
        .any(|application| application.status.is_transitional())
        .then_some(5);
    Ok(Page(WorkspacePage {
        frame,
        may_create: workspace.role.may(Action::CreateApplications),
        workspace,
        applications,
        total,
        regions: app.settings().regions.clone(),
        form,
        error,
    }))
}
