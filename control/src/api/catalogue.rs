//! What can be chosen: plans and regions.

use authsome_contract::model::Plan;
use axum::Json as Answer;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::fault::Refusals;
use crate::state::App;

/// The plans.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plans {
    data: Vec<PlanDetails>,
}

/// A plan and its limits; `null` is no limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanDetails {
    #[schema(value_type = crate::names::Plan)]
    id: Plan,
    /// It can be chosen without talking to anybody.
    self_service: bool,
    /// Applications of a workspace.
    applications: Option<u32>,
    /// For each API key.
    requests_per_second: u32,
    /// For each application, in a calendar month.
    requests_per_month: Option<u64>,
    body_bytes: u64,
    /// Of one instance.
    #[schema(example = "500m")]
    cpu: &'static str,
    #[schema(example = "512Mi")]
    memory: &'static str,
    #[schema(example = "5Gi")]
    storage: &'static str,
}

/// The regions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Regions {
    data: Vec<Region>,
}

/// Where applications can be created.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Region {
    #[schema(example = "eu-west-1")]
    id: String,
    /// Applications that name no region are created here.
    is_default: bool,
}

/// The plans and their limits
#[utoipa::path(get, path = "/plans", tag = "workspaces", operation_id = "listPlans", security(()),
    responses((status = 200, body = Plans), Refusals))]
pub(super) async fn plans(State(app): State<App>) -> Answer<Plans> {
    let data = Plan::ALL.iter().map(|plan| {
        let (limits, resources) = (plan.edge_limits(), plan.resources());
        PlanDetails {
            id: *plan,
            self_service: app.settings().self_service_plans.contains(plan),
            applications: plan.application_limit(),
            requests_per_second: limits.requests_per_second,
            requests_per_month: limits.requests_per_month,
            body_bytes: limits.body_bytes,
            cpu: resources.cpu,
            memory: resources.memory,
            storage: resources.storage,
        }
    });
    Answer(Plans { data: data.collect() })
}

/// The regions in which applications can be created
#[utoipa::path(get, path = "/regions", tag = "workspaces", operation_id = "listRegions", security(()),
    responses((status = 200, body = Regions), Refusals))]
pub(super) async fn regions(State(app): State<App>) -> Answer<Regions> {
    let settings = app.settings();
    let data = settings.regions.iter().map(|region| Region {
        id: region.clone(),
        is_default: region == settings.default_region(),
    });
    Answer(Regions { data: data.collect() })
}
