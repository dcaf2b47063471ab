//! The calls that look at one cluster: bounded in time, and without a lease, since they change nothing.
//!
//! What the watches see is not asked here but read from the store. An API server that is away makes calls end in
//! [`ClusterError::Unavailable`] or [`ClusterError::TimedOut`].

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams, ValidationDirective,
};
use serde_json::{Value, json};

use super::cluster::{CALL, Cluster};
use super::error::ClusterError;
use super::kind::Kind;
use super::manifest::{MANAGER, Manifest};
use crate::runtime::Container;

/// Bytes of a container's last lines at most.
const LAST_LINES: i64 = 4096;

impl Cluster {
    /// The last lines of a container, those of its last run if it has ended. `None` where there are none.
    pub(super) async fn last_lines(&self, namespace: &str, of: &Container) -> Option<String> {
        let parameters = LogParams {
            container: Some(of.name.clone()),
            tail_lines: Some(8),
            limit_bytes: Some(LAST_LINES),
            previous: of.previous,
            ..LogParams::default()
        };
        let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut text = match tokio::time::timeout(CALL, api.logs(&of.pod, &parameters)).await {
            Ok(Ok(text)) if !text.trim().is_empty() => text,
            _ => return None,
        };
        // What was cut short may be the first half of a secret, which nobody would know for one.
        if text.len() as u64 >= LAST_LINES.unsigned_abs() {
            text.truncate(text.rfind('\n').unwrap_or(0));
        }
        Some(text)
    }

    /// Lines of a container, each behind the time at which the cluster took it. Looking changes nothing, so it needs no lease.
    pub(super) async fn lines(
        &self,
        namespace: &str,
        pod: &str,
        parameters: &LogParams,
    ) -> Result<String, ClusterError> {
        let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client.clone(), namespace);
        let what = || format!("read the log of {pod}");
        match tokio::time::timeout(CALL, api.logs(pod, parameters)).await {
            Ok(answer) => answer.map_err(|error| ClusterError::from_kube(what(), error)),
            Err(_) => Err(ClusterError::TimedOut {
                what: what(),
                limit: CALL,
            }),
        }
    }

    /// The nodes; `None` where they may not be listed.
    pub(super) async fn nodes(&self) -> Result<Option<Vec<Value>>, ClusterError> {
        let nodes = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Node"), "nodes");
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &nodes);
        let what = || "list the nodes".to_owned();
        // From what the API server has in memory: seconds do not matter.
        let parameters = ListParams::default().match_any();
        match Self::bounded(what, api.list(&parameters)).await {
            Ok(nodes) => Ok(Some(nodes.items.into_iter().map(|node| node.data).collect())),
            Err(ClusterError::Refused { code: 401 | 403, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The quotas of a namespace by name, those of others too.
    pub(super) async fn quotas(&self, namespace: &str) -> Result<Vec<(String, Value)>, ClusterError> {
        let api = self.api(Kind::ResourceQuota, Some(namespace));
        let what = || format!("list the quotas of {namespace}");
        let quotas = Self::bounded(what, api.list(&ListParams::default())).await?;
        let named = quotas.items.into_iter().map(|quota| {
            let spec = quota.data.get("spec").cloned().unwrap_or_default();
            (quota.metadata.name.unwrap_or_default(), spec)
        });
        Ok(named.collect())
    }

    /// An object that lives in no namespace, whoever made it; `None` where there is none. A list of one, so that the ClusterRole
    /// needs no other verb.
    pub(super) async fn find(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, ClusterError> {
        let parameters = ListParams::default().fields(&format!("metadata.name={name}"));
        let api = self.api(kind, None);
        let what = || format!("look for {} {name}", kind.name());
        let found = Self::bounded(what, api.list(&parameters)).await?;
        Ok(found.items.into_iter().next())
    }

    /// Why the pods of a StatefulSet or a Job were last refused, in the API server's words. Neither says so in its status; only
    /// events do. `None` where there is no such event, or they may not be listed.
    pub(super) async fn refusal(&self, kind: Kind, namespace: &str, name: &str) -> Option<String> {
        let events = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Event"), "events");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &events);
        let of = format!(
            "involvedObject.kind={},involvedObject.name={name},reason=FailedCreate",
            kind.name()
        );
        let parameters = ListParams::default().match_any().fields(&of);
        let what = || format!("list the events of {} {namespace}/{name}", kind.name());
        let listed = match Self::bounded(what, api.list(&parameters)).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(%error, "cannot look why pods are refused");
                return None;
            }
        };
        // RFC 3339 in UTC: the order of the texts is that of the times.
        let at = |event: &DynamicObject| {
            let of = |name: &str| event.data[name].as_str().map(str::to_owned);
            of("lastTimestamp").or_else(|| of("eventTime"))
        };
        let last = listed.items.into_iter().max_by_key(at)?;
        last.data["message"].as_str().map(str::to_owned)
    }

    /// May this process do `verb` on `kind` in any namespace?
    pub async fn may(&self, verb: &str, kind: Kind, subresource: Option<&str>) -> Result<bool, ClusterError> {
        let mut attributes = json!({
            "verb": verb, "group": kind.group(), "resource": kind.plural(), "version": "*",
        });
        if let Some(subresource) = subresource {
            attributes["subresource"] = subresource.into();
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let what = || format!("ask for permission to {verb} {}", kind.plural());
        let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(|error| ClusterError::Config(error.to_string()))?;
        let answer: Value = Self::bounded(what, self.client.request(request)).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// The version of the API server, as `(major, minor)`.
    pub async fn version(&self) -> Result<(u32, u32), ClusterError> {
        let what = || "ask for the version of the API server".to_owned();
        let version = Self::bounded(what, self.client.apiserver_version()).await?;
        let number = |text: &str| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        Ok((number(&version.major), number(&version.minor)))
    }

    /// Does this cluster have a kind? Groups are there with some of their kinds only.
    pub async fn serves(&self, kind: Kind) -> Result<bool, ClusterError> {
        let what = || format!("list the kinds of {}", kind.api_version());
        let version = kind.api_version();
        match Self::bounded(what, self.client.list_api_group_resources(&version)).await {
            Ok(listed) => Ok(listed.resources.iter().any(|one| one.name == kind.plural())),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Would the server take this object? Nothing is made.
    pub async fn would_take(&self, manifest: &Manifest) -> Result<(), ClusterError> {
        let api = self.api(manifest.kind, manifest.namespace.as_deref());
        let parameters = PatchParams {
            dry_run: true,
            force: true,
            field_manager: Some(MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let what = || format!("try {}", manifest.what());
        let patch = Patch::Apply(&manifest.body);
        Self::bounded(what, api.patch(&manifest.name, &parameters, &patch)).await?;
        Ok(())
    }

    /// A call that changes nothing of any application.
    pub(super) async fn bounded<T>(
        what: impl Fn() -> String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ClusterError> {
        match tokio::time::timeout(CALL, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ClusterError::from_kube(what(), error)),
            Err(_) => Err(ClusterError::TimedOut {
                what: what(),
                limit: CALL,
            }),
        }
    }
}
