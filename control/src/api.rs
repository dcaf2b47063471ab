//! The REST API: one file for each resource, handlers without decisions of their own.
//!
//! The OpenAPI document is made from the handlers; `control/openapi.json` is its committed copy, and a test compares them.

mod account;
mod application_actions;
mod application_logs;
mod application_metrics;
mod application_secrets;
mod applications;
mod audit;
mod auth;
mod catalogue;
mod edge_policy;
mod edges;
mod etag;
mod examples;
mod fault;
mod hosts;
mod identities;
mod key_changes;
mod keys;
mod manners;
mod members;
mod moment;
mod operation_events;
mod operations;
mod page;
mod reference;
mod second_factor;
mod tokens;
mod webhook_deliveries;
mod webhooks;
mod workspaces;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

pub use reference::router as reference;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AuthSome Cloud control API",
        description = "Workspaces, applications and their API keys. Long work answers 202 with an operation to watch.\n\n\
                       Every error has the body `{\"error\":{\"code\",\"message\",\"requestId\",…}}`; every answer has the \
                       header `X-Request-Id`.\n\n\
                       A path that is not of this document answers 404, and a method that a path does not have answers 405, both \
                       with that body; `Allow` names the methods that it has.",
        license(name = "Proprietary", url = "https://authsome.cloud/terms"),
    ),
    servers((url = "/api/v1"), (url = "/control/v1", description = "The same API")),
    tags(
        (name = "auth", description = "Accounts, signing in and out"),
        (name = "workspaces", description = "What a team owns and pays for"),
        (name = "members", description = "Who belongs to a workspace, and as what"),
        (name = "tokens", description = "Service tokens of a workspace, for programs"),
        (name = "applications", description = "Isolated AuthSome instances"),
        (name = "secrets", description = "What an application's instance is given and nobody can read again"),
        (name = "keys", description = "API keys of an application"),
        (name = "hosts", description = "Host names of an application, proved by DNS"),
        (name = "operations", description = "Long work and its steps"),
        (name = "webhooks", description = "Signed requests to servers of the team's own"),
        (name = "audit", description = "What happened in a workspace, as a chain of hashes"),
        (name = "edges", description = "Where requests of customers are decided, and how far changes have come there"),
    ),
    components(schemas(fault::ErrorEnvelope)),
    modifiers(&Bearer),
)]
struct Document;

/// The session token.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The routes with their description, without the base path.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(auth::sessions, auth::end_others))
        .routes(routes!(auth::end_session))
        .routes(routes!(identities::link, identities::list))
        .routes(routes!(identities::unlink))
        .routes(routes!(account::sign_up))
        .routes(routes!(account::verify_email))
        .routes(routes!(account::resend))
        .routes(routes!(account::forgot_password))
        .routes(routes!(account::reset_password))
        .routes(routes!(account::change_password))
        .routes(routes!(second_factor::begin))
        .routes(routes!(second_factor::confirm))
        .routes(routes!(second_factor::remove))
        .routes(routes!(second_factor::renew))
        .routes(routes!(workspaces::create, workspaces::list))
        .routes(routes!(workspaces::get, workspaces::update, workspaces::delete))
        .routes(routes!(workspaces::restore))
        .routes(routes!(workspaces::transfer))
        .routes(routes!(members::invite, members::list))
        .routes(routes!(members::get, members::update, members::remove))
        .routes(routes!(members::send_again))
        .routes(routes!(members::leave))
        .routes(routes!(members::accept))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(applications::create, applications::list))
        .routes(routes!(
            applications::get,
            edge_policy::update,
            application_actions::delete
        ))
        .routes(routes!(application_actions::restart))
        .routes(routes!(application_actions::rotate_credentials))
        .routes(routes!(application_actions::suspend))
        .routes(routes!(application_actions::resume))
        .routes(routes!(application_actions::retry))
        .routes(routes!(application_actions::undelete))
        .routes(routes!(application_metrics::get))
        .routes(routes!(application_logs::get))
        .routes(routes!(application_secrets::list))
        .routes(routes!(application_secrets::set, application_secrets::remove))
        .routes(routes!(catalogue::plans))
        .routes(routes!(catalogue::regions))
        .routes(routes!(edge_policy::purge))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(key_changes::get, key_changes::update, keys::revoke))
        .routes(routes!(key_changes::roll))
        .routes(routes!(key_changes::leaked))
        .routes(routes!(hosts::add, hosts::list))
        .routes(routes!(hosts::verify))
        .routes(routes!(hosts::remove))
        .routes(routes!(operations::get))
        .routes(routes!(operations::of_application))
        .routes(routes!(operations::of_workspace))
        .routes(routes!(operation_events::cancel))
        .routes(routes!(operation_events::watch))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::create_for_application, webhooks::list_of_application))
        .routes(routes!(webhooks::get, webhooks::update, webhooks::remove))
        .routes(routes!(webhook_deliveries::rotate))
        .routes(routes!(webhook_deliveries::deliveries))
        .routes(routes!(webhook_deliveries::replay))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::head))
        .routes(routes!(edges::list))
}

/// The OpenAPI document as it is served and committed, with a newline at its end.
pub fn document() -> String {
    let mut document = routes().to_openapi();
    manners::describe(&mut document);
    examples::add(&mut document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
