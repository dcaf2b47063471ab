//! The paths of the API server.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use authsome_provisioner::runtime::kubernetes::Kind;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};

use super::controllers::OVER_QUOTA;
use super::objects::Key;
use super::{Call, Inner, apply};

type Parameters = HashMap<String, String>;

pub async fn start(inner: Arc<Inner>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(answer).with_state(inner);
    (
        address,
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }),
    )
}

/// What a path names.
struct Target {
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

fn target(path: &str, kinds: &[Kind]) -> Option<Target> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let find = |plural: &str| {
        kinds
            .iter()
            .copied()
            .find(|kind| kind.group() == group && kind.version() == version && kind.plural() == plural)
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..] if find(plural).is_some() => {
            (Some((*namespace).to_owned()), [&[*plural], rest].concat())
        }
        rest => (None, rest.to_vec()),
    };
    let (plural, name, subresource) = match rest.as_slice() {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(*name), None),
        [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    Some(Target {
        kind: find(plural)?,
        namespace,
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
    })
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    if let Some(status) = inner.trouble.lock().unwrap().answers {
        return failure(status, "InternalError", "on purpose");
    }
    let kinds = inner.kinds.lock().unwrap().clone();
    match (&method, uri.path()) {
        (&Method::GET, "/version") => {
            return json_reply(&json!({
                "major": "1", "minor": "30+", "gitVersion": "v1.30.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                "goVersion": "", "compiler": "", "platform": "",
            }));
        }
        (&Method::GET, "/api/v1/nodes") => return nodes(&inner),
        (&Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") => return review(&inner, &body),
        _ => {}
    }
    if method == Method::GET
        && let Some(namespace) = uri
            .path()
            .strip_prefix("/api/v1/namespaces/")
            .and_then(|rest| rest.strip_suffix("/events"))
    {
        return events(&inner, namespace, &parameters);
    }
    if method == Method::GET
        && let Some((group, version)) = uri
            .path()
            .strip_prefix("/apis/")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(_, version)| !version.contains('/'))
    {
        return kinds_of(&kinds, group, version);
    }
    let Some(target) = target(uri.path(), &kinds) else {
        return unknown(&inner, &method, &uri);
    };
    let watching = parameters.get("watch").is_some_and(|value| value == "true");
    let verb = match (&method, target.name.is_some()) {
        (&Method::GET, false) if watching => "watch",
        (&Method::GET, false) => "list",
        (&Method::GET, true) => "get",
        (&Method::PATCH, true) => "patch",
        (&Method::DELETE, true) => "delete",
        _ => return unknown(&inner, &method, &uri),
    };
    record(&inner, verb, &target);
    let denied = (verb.to_owned(), target.kind.plural().to_owned());
    if ["list", "watch"].contains(&verb) && inner.trouble.lock().unwrap().denied.contains(&denied) {
        return failure(403, "Forbidden", &format!("cannot {verb} resource {:?}", denied.1));
    }
    match verb {
        "list" => list(&inner, &target, &parameters),
        "watch" => watch(inner, &target, &parameters),
        "get" if target.kind == Kind::Pod && target.subresource.as_deref() == Some("log") => {
            let words = inner.trouble.lock().unwrap().last_words.clone();
            words
                .unwrap_or_else(|| "listening\npanic: cannot open the database\n".to_owned())
                .into_response()
        }
        "get" if target.subresource.is_none() => get(&inner, &target),
        "patch" if target.subresource.is_none() => patch(&inner, &target, &parameters, &body),
        "delete" => delete(&inner, &target, &body),
        _ => unknown(&inner, &method, &uri),
    }
}

/// Three of them, with room for thousands.
fn nodes(inner: &Inner) -> Response {
    let call = Call {
        verb: "list".to_owned(),
        group: String::new(),
        resource: "nodes".to_owned(),
    };
    *inner.calls.lock().unwrap().entry(call).or_default() += 1;
    let trouble = inner.trouble.lock().unwrap().clone();
    if trouble.denied.contains(&("list".to_owned(), "nodes".to_owned())) {
        return failure(
            403,
            "Forbidden",
            "nodes is forbidden: the service account cannot list resource \"nodes\"",
        );
    }
    let usual = vec![("4000".to_owned(), "16Ti".to_owned()); 3];
    let items: Vec<Value> = trouble
        .nodes
        .unwrap_or(usual)
        .into_iter()
        .enumerate()
        .map(|(number, (cpu, memory))| {
            json!({
                "metadata": { "name": format!("node-{number}") },
                "spec": {},
                "status": {
                    "allocatable": { "cpu": cpu, "memory": memory, "pods": "110" },
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            })
        })
        .collect();
    json_reply(
        &json!({ "kind": "NodeList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }),
    )
}

/// Of pods that were refused, while there is a reason to refuse them.
fn events(inner: &Inner, namespace: &str, parameters: &Parameters) -> Response {
    let call = Call {
        verb: "list".to_owned(),
        group: String::new(),
        resource: "events".to_owned(),
    };
    *inner.calls.lock().unwrap().entry(call).or_default() += 1;
    let trouble = inner.trouble.lock().unwrap().clone();
    if trouble.denied.contains(&("list".to_owned(), "events".to_owned())) {
        return failure(403, "Forbidden", "events is forbidden: cannot list resource \"events\"");
    }
    let selector = parameters.get("fieldSelector").map(String::as_str).unwrap_or_default();
    let of = |name: &str| {
        let mut parts = selector.split(',').filter_map(|part| part.split_once('='));
        parts.find(|(field, _)| *field == name).map(|(_, value)| value)
    };
    let (kind, name) = (of("involvedObject.kind"), of("involvedObject.name"));
    let event = |at: &str, message: &str| {
        json!({
            "metadata": { "name": format!("{at}.x"), "namespace": namespace },
            "involvedObject": { "kind": kind, "name": name, "namespace": namespace },
            "reason": "FailedCreate", "type": "Warning", "lastTimestamp": at, "message": message,
        })
    };
    let items = if trouble.over_quota && of("reason") == Some("FailedCreate") {
        vec![
            event("2026-01-01T00:00:09Z", OVER_QUOTA),
            event("2026-01-01T00:00:08Z", "something else, before"),
        ]
    } else {
        Vec::new()
    };
    json_reply(
        &json!({ "kind": "EventList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }),
    )
}

fn record(inner: &Inner, verb: &str, target: &Target) {
    let subresource = target
        .subresource
        .as_ref()
        .map(|name| format!("/{name}"))
        .unwrap_or_default();
    let call = Call {
        verb: verb.to_owned(),
        group: target.kind.group().to_owned(),
        resource: format!("{}{subresource}", target.kind.plural()),
    };
    *inner.calls.lock().unwrap().entry(call).or_default() += 1;
}

fn unknown(inner: &Inner, method: &Method, uri: &Uri) -> Response {
    inner.unknown.lock().unwrap().push(format!("{method} {uri}"));
    failure(404, "NotFound", "the server could not find the requested resource")
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), json_reply(&status)).into_response()
}

fn json_reply(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// What a group has. A real server answers for a group that is not there with words that are not JSON.
fn kinds_of(kinds: &[Kind], group: &str, version: &str) -> Response {
    let of_group = |kind: &&Kind| kind.group() == group && kind.version() == version;
    let resources: Vec<Value> = kinds
        .iter()
        .filter(of_group)
        .map(|kind| {
            json!({
                "name": kind.plural(), "singularName": "", "kind": kind.name(), "namespaced": kind.is_namespaced(), "verbs": [],
            })
        })
        .collect();
    if resources.is_empty() {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    json_reply(&json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"), "resources": resources,
    }))
}

fn review(inner: &Inner, body: &Bytes) -> Response {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    let attributes = &review["spec"]["resourceAttributes"];
    let of = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
    let denied = inner
        .trouble
        .lock()
        .unwrap()
        .denied
        .contains(&(of("verb"), of("resource")));
    review["status"] = json!({ "allowed": !denied });
    json_reply(&review)
}

fn selects(parameters: &Parameters, object: &Value) -> bool {
    let selector = parameters.get("labelSelector").map(String::as_str).unwrap_or_default();
    selector.split(',').filter(|part| !part.is_empty()).all(|part| {
        let (name, value) = part.split_once('=').unwrap();
        object["metadata"]["labels"][name] == value
    })
}

fn get(inner: &Inner, target: &Target) -> Response {
    let name = target.name.clone().unwrap();
    let key = Key::new(target.kind, target.namespace.as_deref().unwrap_or_default(), &name);
    match inner.objects().get(&key) {
        Some(object) => json_reply(object),
        None => failure(404, "NotFound", &format!("{name:?} not found")),
    }
}

fn list(inner: &Inner, target: &Target, parameters: &Parameters) -> Response {
    let objects = inner.objects();
    let items: Vec<&Value> = objects
        .iter()
        .filter(|(key, object)| {
            key.kind == target.kind
                && target
                    .namespace
                    .as_ref()
                    .is_none_or(|namespace| *namespace == key.namespace)
                && selects(parameters, object)
                && parameters.get("fieldSelector").is_none_or(|selector| {
                    selector
                        .strip_prefix("metadata.name=")
                        .is_some_and(|name| name == key.name)
                })
        })
        .map(|(_, object)| object)
        .collect();
    json_reply(&json!({
        "kind": format!("{}List", target.kind.name()),
        "apiVersion": target.kind.api_version(),
        "metadata": { "resourceVersion": objects.version().to_string() },
        "items": items,
    }))
}

fn watch(inner: Arc<Inner>, target: &Target, parameters: &Parameters) -> Response {
    let kind = target.kind;
    let parameters = parameters.clone();
    let after: u64 = parameters
        .get("resourceVersion")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let begin = inner
        .objects()
        .history
        .partition_point(|happened| happened.version <= after);
    let events = stream::unfold(begin, move |mut position| {
        let (inner, parameters) = (Arc::clone(&inner), parameters.clone());
        async move {
            loop {
                let changed = inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let mut lines = String::new();
                {
                    let objects = inner.objects();
                    for happened in &objects.history[position..] {
                        if happened.kind == kind {
                            // What loses its labels is gone for who selects by them.
                            let selected = selects(&parameters, &happened.object);
                            let what = if selected { happened.what } else { "DELETED" };
                            let event = json!({ "type": what, "object": happened.object });
                            lines += &event.to_string();
                            lines.push('\n');
                        }
                    }
                    position = objects.history.len();
                }
                if !lines.is_empty() {
                    return Some((Ok::<_, std::convert::Infallible>(lines), position));
                }
                changed.await;
            }
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response()
}

fn patch(inner: &Inner, target: &Target, parameters: &Parameters, body: &Bytes) -> Response {
    let manager = parameters.get("fieldManager").cloned().unwrap_or_default();
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        return failure(400, "BadRequest", "the body is not JSON");
    };
    let name = target.name.clone().unwrap();
    let key = Key::new(target.kind, target.namespace.as_deref().unwrap_or_default(), &name);
    let mut objects = inner.objects();
    let namespace = Key::new(Kind::Namespace, "", &key.namespace);
    if target.kind.is_namespaced() {
        match objects.get(&namespace) {
            None => return failure(404, "NotFound", &format!("namespaces {:?} not found", key.namespace)),
            Some(namespace) if namespace["metadata"].get("deletionTimestamp").is_some() => {
                return failure(
                    403,
                    "Forbidden",
                    "unable to create new content in namespace because it is being terminated",
                );
            }
            Some(_) => {}
        }
    }
    let written = if parameters.contains_key("fieldValidation") {
        // The real server asks for both verbs then.
        if objects.get(&key).is_none() {
            let resource = target.kind.plural().to_owned();
            let denied = &inner.trouble.lock().unwrap().denied;
            if denied.contains(&("create".to_owned(), resource.clone())) {
                return failure(403, "Forbidden", &format!("cannot create resource {resource:?}"));
            }
            let call = Call {
                verb: "create".to_owned(),
                group: target.kind.group().to_owned(),
                resource,
            };
            inner.creations.lock().unwrap().insert(call);
        }
        let force = parameters.get("force").is_some_and(|value| value == "true");
        let kind = target.kind;
        apply::apply(&mut objects, &key, &document, &manager, force, |object| {
            defaults(kind, object);
        })
    } else {
        let Some(mut object) = objects.get(&key).cloned() else {
            return failure(404, "NotFound", &format!("{name:?} not found"));
        };
        merge(&mut object, &document);
        Ok(apply::update(&mut objects, &key, object, &manager))
    };
    drop(objects);
    inner.changed.notify_waiters();
    match written {
        Ok(object) => json_reply(&object),
        Err(apply::Conflict(fields)) => {
            let (other, field) = &fields[0];
            let message = format!(
                "Apply failed with {} conflicts: conflict with {other:?}: {field}",
                fields.len()
            );
            failure(409, "Conflict", &message)
        }
    }
}

/// What a server fills in.
fn defaults(kind: Kind, object: &mut Value) {
    match kind {
        Kind::Deployment | Kind::StatefulSet if object["spec"].get("replicas").is_none() => {
            object["spec"]["replicas"] = 1.into();
        }
        Kind::Service => object["spec"]["sessionAffinity"] = "None".into(),
        Kind::Namespace => object["status"] = json!({ "phase": "Active" }),
        _ => {}
    }
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    object.remove(name);
                } else {
                    merge(object.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn delete(inner: &Inner, target: &Target, body: &Bytes) -> Response {
    let name = target.name.clone().unwrap();
    let key = Key::new(target.kind, target.namespace.as_deref().unwrap_or_default(), &name);
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    let wanted = &options["preconditions"]["uid"];
    let mut objects = inner.objects();
    if let Some(object) = objects.get(&key)
        && !wanted.is_null()
        && *wanted != object["metadata"]["uid"]
    {
        return failure(
            409,
            "Conflict",
            "the UID in the precondition does not match the UID in record",
        );
    }
    let deleted = objects.delete(&key);
    drop(objects);
    inner.changed.notify_waiters();
    match deleted {
        Some(object) => json_reply(&object),
        None => failure(404, "NotFound", &format!("{name:?} not found")),
    }
}
