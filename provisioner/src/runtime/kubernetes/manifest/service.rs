//! Where the edge finds the instances: a headless Service, whose name resolves to the pods that are ready.

use serde_json::json;

use super::super::kind::Kind;
use super::{Component, Manifest, NAME, Spec, selector};

/// The Service of the instances.
pub fn service(spec: &Spec<'_>) -> Manifest {
    let body = json!({ "spec": {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": selector(Component::Instance),
        "ports": [{ "name": "http", "protocol": "TCP", "port": spec.settings.image.port, "targetPort": "http" }],
    }});
    spec.component(Kind::Service, NAME, Component::Instance, body)
}

impl Spec<'_> {
    /// The name of a Service of this application, within the cluster.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.{}", self.site.namespace, self.settings.cluster_domain)
    }

    /// `name:port` of the instances' Service.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host(NAME), self.settings.image.port)
    }
}
