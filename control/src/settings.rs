//! What the operator decides and clients may see: public addresses, regions, plans. No secret is ever among them.

use std::time::Duration;

use authsome_contract::model::Plan;
use authsome_core::id::ApplicationId;
use ipnet::IpNet;

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients reach this API, without a trailing slash: `https://api.authsome.cloud`.
    pub api_url: String,
    /// Where customers' requests go, without a trailing slash.
    pub edge_url: String,
    /// Where people find the dashboard, without a trailing slash.
    pub dashboard_url: String,
    /// The domain below which the edge gives every application a host of its own.
    pub apps_domain: Option<String>,
    /// Regions in which applications may be created; the first is the default. Never empty.
    pub regions: Vec<String>,
    /// Plans that a person may choose for a new workspace without talking to anybody.
    pub self_service_plans: Vec<Plan>,
    /// Load balancers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a request may take until the head of its answer is there.
    pub request_deadline: Duration,
}

impl Settings {
    /// The address under which the edge serves an application.
    pub fn application_url(&self, id: ApplicationId) -> String {
        format!("{}/v1/{id}", self.edge_url)
    }

    /// The page of an application in the dashboard.
    pub fn application_page(&self, id: ApplicationId) -> String {
        format!("{}/applications/{id}", self.dashboard_url)
    }

    /// The region of an application that names none.
    pub fn default_region(&self) -> &str {
        self.regions.first().map_or("default", String::as_str)
    }
}
