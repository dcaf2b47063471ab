//! What there is of applications in a cluster, as the watches and the answers to our own calls told it.
//!
//! Bounded by what the cluster holds of ours. It keeps what comparisons and roll-outs need and no more: no managed fields, no
//! status but of namespaces and of what has pods, and of Secrets a hash of each value. Looking here costs no call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authsome_core::id::ApplicationId;
use kube::api::DynamicObject;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::kind::Kind;
use super::manifest::{APP_LABEL, hash};
use crate::runtime::moves::Moves;

/// One object.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its metadata that matter, spec and, where it has pods, status.
    pub body: Arc<Value>,
    /// It is on its way out.
    pub deleting: bool,
    /// Which of those that had its name one after the other it is.
    pub uid: Option<Arc<str>>,
    version: u64,
}

#[cfg(test)]
impl Seen {
    /// One that is there.
    pub(super) fn new(body: Value) -> Self {
        Self {
            body: Arc::new(body),
            deleting: false,
            uid: None,
            version: 1,
        }
    }
}

type Place = (Kind, String);

/// How an object was told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// By a watch or an answer: the higher version counts.
    InOrder,
    /// By a list: it counts.
    InList,
}

#[derive(Default)]
struct Known {
    /// By namespace; a Namespace is in its own.
    objects: HashMap<String, BTreeMap<Place, Seen>>,
    /// Kinds that were listed completely.
    listed: HashSet<Kind>,
    /// Raised whenever something of a namespace changes that is not status.
    changes: HashMap<String, u64>,
    /// What was found as it should be: at which count of changes, and for which site.
    verified: HashMap<(String, &'static str), (u64, String)>,
}

/// What there is in one cluster.
#[derive(Default)]
pub struct Store {
    known: Mutex<Known>,
    /// Told of everything that changes, status included.
    pub changed: Notify,
    /// Applications of which something changed that is not status.
    pub(in crate::runtime) moves: Moves,
}

impl Store {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Seen> {
        let known = self.known();
        known.objects.get(namespace)?.get(&(kind, name.to_owned())).cloned()
    }

    /// All objects of a kind in a namespace.
    pub fn list(&self, kind: Kind, namespace: &str) -> Vec<(String, Seen)> {
        let known = self.known();
        let Some(objects) = known.objects.get(namespace) else {
            return Vec::new();
        };
        objects
            .range((kind, String::new())..)
            .take_while(|((other, _), _)| *other == kind)
            .map(|((_, name), seen)| (name.clone(), seen.clone()))
            .collect()
    }

    /// All objects of a kind, with their namespaces.
    pub fn all(&self, kind: Kind) -> Vec<(String, Seen)> {
        let known = self.known();
        let mut all = Vec::new();
        for (namespace, objects) in &known.objects {
            let of_kind = objects
                .range((kind, String::new())..)
                .take_while(|((other, _), _)| *other == kind);
            all.extend(of_kind.map(|(_, seen)| (namespace.clone(), seen.clone())));
        }
        all
    }

    /// Is there nothing of ours in a namespace, nor the namespace itself?
    pub fn is_empty(&self, namespace: &str) -> bool {
        self.known().objects.get(namespace).is_none_or(BTreeMap::is_empty)
    }

    /// How many objects are kept.
    pub fn len(&self) -> usize {
        self.known().objects.values().map(BTreeMap::len).sum()
    }

    /// Were all of these kinds listed?
    pub fn has_listed(&self, kinds: &[Kind]) -> bool {
        let known = self.known();
        kinds.iter().all(|kind| known.listed.contains(kind))
    }

    /// Was this part of a namespace found as it should be, for this site, and has nothing changed since?
    pub fn is_verified(&self, namespace: &str, part: &'static str, site: &str) -> bool {
        let known = self.known();
        let changes = known.changes.get(namespace).copied().unwrap_or(0);
        known
            .verified
            .get(&(namespace.to_owned(), part))
            .is_some_and(|(at, of)| *at == changes && of == site)
    }

    /// The namespaces of which this part was found as it should be.
    pub(super) fn verified_namespaces(&self, part: &'static str) -> Vec<String> {
        let known = self.known();
        let of_part = known.verified.keys().filter(|(_, other)| *other == part);
        of_part.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// This part of a namespace is to be looked at again, whatever was found.
    pub(super) fn doubt(&self, namespace: &str, part: &'static str) {
        self.known().verified.remove(&(namespace.to_owned(), part));
    }

    /// The count of changes of a namespace: to be read before a comparison whose result is kept.
    pub fn changes(&self, namespace: &str) -> u64 {
        self.known().changes.get(namespace).copied().unwrap_or(0)
    }

    /// This part of a namespace was found as it should be when `changes` was its count.
    pub fn verified(&self, namespace: &str, part: &'static str, site: &str, changes: u64) {
        let mut known = self.known();
        known
            .verified
            .insert((namespace.to_owned(), part), (changes, site.to_owned()));
    }

    /// The answer to a call of our own, which may be ahead of the watch.
    pub(super) fn answered(&self, kind: Kind, object: &DynamicObject) {
        self.take_in(kind, object, Said::InOrder);
    }

    /// The watch saw an object.
    pub(super) fn seen(&self, kind: Kind, object: &DynamicObject) {
        self.heard(kind, object, Said::InOrder);
    }

    /// A list has an object. What it says counts whatever its version: after a cluster's store was restored from a backup
    /// versions begin again below those that are known. What is newer than a list, the watch that follows it says.
    pub(super) fn in_list(&self, kind: Kind, object: &DynamicObject) {
        self.heard(kind, object, Said::InList);
    }

    fn heard(&self, kind: Kind, object: &DynamicObject, said: Said) {
        if self.take_in(kind, object, said)
            && let Some(application) = application(object)
        {
            self.moves.add(application);
        }
    }

    /// Returns whether something changed that is not status.
    fn take_in(&self, kind: Kind, object: &DynamicObject, said: Said) -> bool {
        let Some((namespace, name)) = place(kind, object) else {
            return false;
        };
        let version = version(object);
        let deleting = object.metadata.deletion_timestamp.is_some();
        let body = project(kind, object);
        let mut known = self.known();
        let objects = known.objects.entry(namespace.clone()).or_default();
        let before = objects.get(&(kind, name.clone()));
        if said == Said::InOrder && before.is_some_and(|before| before.version >= version) {
            return false;
        }
        let differs = before.is_none_or(|before| before.deleting != deleting || !same_but_status(&before.body, &body));
        let seen = Seen {
            body: Arc::new(body),
            deleting,
            uid: object.metadata.uid.as_deref().map(Arc::from),
            version,
        };
        objects.insert((kind, name), seen);
        if differs && kind != Kind::Pod {
            *known.changes.entry(namespace).or_default() += 1;
        }
        drop(known);
        self.changed.notify_waiters();
        differs && kind != Kind::Pod
    }

    /// The watch saw an object go.
    pub(super) fn gone(&self, kind: Kind, object: &DynamicObject) {
        let Some((namespace, name)) = place(kind, object) else {
            return;
        };
        // What was made again since is ahead of this.
        let known = self
            .known()
            .objects
            .get(&namespace)
            .and_then(|objects| objects.get(&(kind, name.clone())).map(|seen| seen.version));
        if known.is_none_or(|known| known > version(object)) {
            return;
        }
        self.remove(kind, &namespace, &name);
        if kind != Kind::Pod
            && let Some(application) = application(object)
        {
            self.moves.add(application);
        }
    }

    fn remove(&self, kind: Kind, namespace: &str, name: &str) {
        let mut known = self.known();
        if let Some(objects) = known.objects.get_mut(namespace) {
            objects.remove(&(kind, name.to_owned()));
            if objects.is_empty() {
                known.objects.remove(namespace);
            }
        }
        if kind != Kind::Pod {
            *known.changes.entry(namespace.to_owned()).or_default() += 1;
        }
        if kind == Kind::Namespace {
            known.verified.retain(|(of, _), _| of != namespace);
        }
        drop(known);
        self.changed.notify_waiters();
    }

    /// A kind was listed completely: what is not among `present` is gone.
    pub(super) fn listed(&self, kind: Kind, present: &HashSet<(String, String)>) {
        let missing: Vec<(String, String, Option<ApplicationId>)> = {
            let known = self.known();
            let all = known.objects.iter().flat_map(|(namespace, objects)| {
                objects
                    .iter()
                    .filter(|((other, _), _)| *other == kind)
                    .map(move |((_, name), seen)| (namespace.clone(), name.clone(), seen))
            });
            all.filter(|(namespace, name, _)| !present.contains(&(namespace.clone(), name.clone())))
                .map(|(namespace, name, seen)| {
                    let label = seen.body["metadata"]["labels"][APP_LABEL].as_str();
                    (namespace, name, label.and_then(|label| label.parse().ok()))
                })
                .collect()
        };
        for (namespace, name, application) in missing {
            self.remove(kind, &namespace, &name);
            if let Some(application) = application.filter(|_| kind != Kind::Pod) {
                self.moves.add(application);
            }
        }
        self.known().listed.insert(kind);
        self.changed.notify_waiters();
    }
}

/// The namespace and name under which an object is kept.
pub(super) fn place(kind: Kind, object: &DynamicObject) -> Option<(String, String)> {
    let name = object.metadata.name.clone()?;
    let namespace = if kind.is_namespaced() {
        object.metadata.namespace.clone()?
    } else {
        name.clone()
    };
    Some((namespace, name))
}

fn application(object: &DynamicObject) -> Option<ApplicationId> {
    object.metadata.labels.as_ref()?.get(APP_LABEL)?.parse().ok()
}

/// Resource versions are numbers that grow; where one is not, the last word counts.
fn version(object: &DynamicObject) -> u64 {
    let text = object.metadata.resource_version.as_deref().unwrap_or_default();
    text.parse().unwrap_or(u64::MAX)
}

fn same_but_status(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let rest = |object: &Map<String, Value>| -> Vec<(String, Value)> {
                object
                    .iter()
                    .filter(|(name, _)| *name != "status" && *name != "generation")
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            };
            rest(one) == rest(other)
        }
        _ => one == other,
    }
}

/// What is kept of an object.
fn project(kind: Kind, object: &DynamicObject) -> Value {
    let mut body = Map::new();
    let metadata = &object.metadata;
    let mut kept = Map::new();
    if let Some(labels) = &metadata.labels {
        kept.insert(
            "labels".to_owned(),
            labels
                .iter()
                .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
                .collect(),
        );
    }
    if let Some(annotations) = &metadata.annotations {
        let ours = annotations
            .iter()
            .filter(|(name, _)| !name.starts_with("kubectl.kubernetes.io/"));
        kept.insert(
            "annotations".to_owned(),
            ours.map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect(),
        );
    }
    body.insert("metadata".to_owned(), kept.into());
    if let Some(generation) = metadata.generation {
        body.insert("generation".to_owned(), generation.into());
    }
    let Value::Object(data) = &object.data else {
        return body.into();
    };
    for (name, value) in data {
        match (kind, name.as_str()) {
            (Kind::Namespace | Kind::Deployment | Kind::StatefulSet | Kind::Job | Kind::Pod, "status") => {
                body.insert(name.clone(), value.clone());
            }
            (_, "apiVersion" | "kind" | "metadata" | "status") | (Kind::Pod, "spec") => {}
            (Kind::Secret, "data") => {
                body.insert(name.clone(), hashed(value));
            }
            _ => {
                body.insert(name.clone(), value.clone());
            }
        }
    }
    body.into()
}

/// The members of a Secret, each as its hash. Values are random or stand beside random ones in the same process only.
pub(super) fn hashed(data: &Value) -> Value {
    match data {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), hash(value).into()))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(version: &str, image: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {
                "name": "authsome",
                "namespace": "one",
                "resourceVersion": version,
            },
            "spec": { "image": image },
        }))
        .unwrap()
    }

    fn image(store: &Store) -> String {
        let seen = store.get(Kind::Deployment, "one", "authsome").unwrap();
        seen.body["spec"]["image"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_list_after_a_restore_counts_though_its_versions_are_lower_and_watches_go_on_from_it() {
        let store = Store::default();
        store.seen(Kind::Deployment, &object("900", "new"));
        let changes = store.changes("one");
        store.in_list(Kind::Deployment, &object("100", "restored"));
        assert_eq!(image(&store), "restored");
        assert!(store.changes("one") > changes, "it is compared again");
        store.seen(Kind::Deployment, &object("101", "next"));
        assert_eq!(image(&store), "next");
    }

    #[test]
    fn what_a_watch_says_late_is_not_taken_for_news() {
        let store = Store::default();
        store.answered(Kind::Deployment, &object("7", "new"));
        store.seen(Kind::Deployment, &object("6", "old"));
        assert_eq!(image(&store), "new");
    }
}
