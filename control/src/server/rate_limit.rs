//! The layer that counts requests to the API: by plan for those who are signed in and for service tokens, by address for those who
//! are neither.

use authsome_contract::model::Plan;
use authsome_core::error::Failure;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue};

use super::limiter::{Decision, Rates, Sender};
use super::{ClientAddress, network_of};
use crate::db::memberships;
use crate::error::{Outcome, Problem};
use crate::identity::Caller;
use crate::state::App;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The layer.
pub async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    match decide(&app, request).await {
        Ok((request, None)) => next.run(request).await,
        Ok((request, Some(decision))) if decision.allowed => tell(next.run(request).await, &decision),
        Ok((_, Some(decision))) => tell(refused(&decision).into_response(), &decision),
        Err(problem) => problem.into_response(),
    }
}

/// The request, and what is decided of it; nothing where it cannot be told who sends it.
async fn decide(app: &App, request: Request) -> Outcome<(Request, Option<Decision>)> {
    let (mut parts, body) = request.into_parts();
    let signed_in = if parts.headers.contains_key(AUTHORIZATION) {
        Caller::from_request_parts(&mut parts, app).await.ok()
    } else {
        None
    };
    let address = parts.extensions.get::<ClientAddress>().map(|address| address.0);
    let who = match (signed_in, address) {
        (Some(caller), _) => {
            let (sender, plan) = plan_of(app, &caller).await?;
            // The handler need not look again.
            parts.extensions.insert(caller.clone());
            Some((sender, Rates::of(plan)))
        }
        (None, Some(address)) => Some((Sender::Network(network_of(address)), Rates::ANONYMOUS)),
        (None, None) => None,
    };
    let decision = match who {
        Some((sender, rates)) => Some(app.limiter().decide(sender, &rates).await),
        None => None,
    };
    Ok((Request::from_parts(parts, body), decision))
}

/// Who is counted, and by which plan: a person by the best of their workspaces, a service token by that of its own.
async fn plan_of(app: &App, caller: &Caller) -> Outcome<(Sender, Plan)> {
    let sender = match &caller.grant {
        Some(grant) => Sender::Token(grant.token),
        None => Sender::User(caller.user),
    };
    if let Some(plan) = app.limiter().known_plan(sender) {
        return Ok((sender, plan));
    }
    let mut connection = app.pool().acquire().await?;
    let plans = match &caller.grant {
        Some(grant) => memberships::plan_of_workspace(&mut connection, grant.workspace)
            .await?
            .into_iter()
            .collect(),
        None => memberships::plans(&mut connection, caller.user).await?,
    };
    let best = [Plan::Enterprise, Plan::Pro]
        .into_iter()
        .find(|plan| plans.contains(plan));
    let plan = best.unwrap_or(Plan::Free);
    app.limiter().learn_plan(sender, plan);
    Ok((sender, plan))
}

fn refused(decision: &Decision) -> Problem {
    let seconds = u64::try_from(decision.retry).unwrap_or(1).max(1);
    Failure::rate_limited("Too many requests; slow down", seconds).into()
}

fn tell(mut response: Response, decision: &Decision) -> Response {
    let headers = response.headers_mut();
    headers.insert(LIMIT, HeaderValue::from(decision.limit));
    headers.insert(REMAINING, HeaderValue::from(decision.remaining));
    headers.insert(RESET, HeaderValue::from(decision.reset));
    if !decision.allowed {
        headers.insert(RETRY_AFTER, HeaderValue::from(decision.retry.max(1)));
    }
    response
}
