//! The dashboard: pages for people, made on the server, with the commands and queries of the API.
//!
//! Everything can be read without JavaScript; the one script copies keys and refreshes progress. Pages that cannot be made
//! (no database, no access, no such thing) are pages too: a layer around them turns a
//! [`Problem`](crate::error::Problem) into one, and a missing session into the sign-in page.

mod account;
mod applications;
mod assets;
mod form;
mod invitation;
mod keys;
mod login;
mod page;
mod visitor;
mod workspaces;

use axum::{
    Router, middleware,
    response::Redirect,
    routing::{get, post},
};

pub use page::missing;

use crate::state::App;

/// The pages, at the root of the main port.
pub fn router() -> Router<App> {
    Router::new()
        .route("/", get(async || Redirect::to("/workspaces")))
        .route("/login", get(login::form).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route("/sign-up", get(account::sign_up_form).post(account::sign_up))
        .route("/verify-email", get(account::verify_form).post(account::verify))
        .route("/forgot-password", get(account::forgot_form).post(account::forgot))
        .route("/reset-password", get(account::reset_form).post(account::reset))
        .route("/invitation", get(invitation::form).post(invitation::accept))
        .route("/workspaces", get(workspaces::list).post(workspaces::create))
        .route("/workspaces/{id}", get(workspaces::show))
        .route(
            "/workspaces/{id}/applications",
            get(workspaces::shown).post(applications::create),
        )
        .route("/applications/{id}", get(applications::show))
        .route("/applications/{id}/progress", get(applications::progress))
        .route("/applications/{id}/keys", get(keys::shown).post(keys::create))
        .route("/applications/{id}/keys/{key}/revoke", post(keys::revoke))
        .route("/static/dashboard.css", get(assets::style))
        .route("/static/dashboard.js", get(assets::script))
        .route("/static/icon.svg", get(assets::icon))
        .layer(middleware::from_fn(page::wrap))
}
