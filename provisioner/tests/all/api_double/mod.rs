//! A small API server, for fast tests of what the provisioner says to one.
//!
//! A real HTTP server with real watches and server-side apply (owners of fields, conflicts, fields given up), and with just
//! enough controllers that pods come and go. It refuses whatever it does not know, and remembers every call that was made.

mod apply;
mod controllers;
mod objects;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use authsome_provisioner::runtime::kubernetes::Kind;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use objects::Key;
use objects::Objects;

/// One call, as a ClusterRole would name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub verb: String,
    pub group: String,
    /// With its subresource: `pods/log`.
    pub resource: String,
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    /// Images that no registry has.
    pub images: BTreeSet<String>,
    /// Images whose program has begun and does not answer yet.
    pub starting: BTreeSet<String>,
    /// Images whose program ends at once.
    pub crashing: BTreeSet<String>,
    /// Images whose program ends at once in one namespace: that and the image.
    pub crashing_in: BTreeSet<(String, String)>,
    /// What a program that ended wrote before.
    pub last_words: Option<String>,
    /// What the nodes have, if not the usual: CPU and memory of each.
    pub nodes: Option<Vec<(String, String)>>,
    /// Nothing fits anywhere.
    pub full: bool,
    /// No volume for whoever claims one.
    pub no_volumes: bool,
    /// What keeps namespaces from going away: a condition of theirs and its message.
    pub held: Option<(&'static str, &'static str)>,
    /// Pods over the quota.
    pub over_quota: bool,
    /// Permissions that are not granted: verb and resource.
    pub denied: BTreeSet<(String, String)>,
    /// The status of every answer, if not the right one.
    pub answers: Option<u16>,
}

/// The state behind the server.
#[derive(Default)]
pub struct Inner {
    objects: Mutex<Objects>,
    changed: Notify,
    calls: Mutex<BTreeMap<Call, u64>>,
    creations: Mutex<BTreeSet<Call>>,
    unknown: Mutex<Vec<String>>,
    trouble: Mutex<Trouble>,
    kinds: Mutex<Vec<Kind>>,
}

impl Inner {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }
}

/// A running API server.
pub struct ApiDouble {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for ApiDouble {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ApiDouble {
    /// A server with every kind.
    pub async fn start() -> Self {
        Self::with(&Kind::ALL).await
    }

    /// A server that has these kinds.
    pub async fn with(kinds: &[Kind]) -> Self {
        let inner = Arc::new(Inner::default());
        *inner.kinds.lock().unwrap() = kinds.to_vec();
        let (address, serving) = server::start(Arc::clone(&inner)).await;
        let controlling = tokio::spawn(controllers::run(Arc::clone(&inner)));
        let api = Self {
            address,
            inner,
            tasks: vec![serving, controlling],
        };
        for name in ["kube-system", "monitoring"] {
            api.make(Kind::Namespace, name, name, json!({}));
        }
        api
    }

    /// It has these kinds from now on.
    pub fn serve(&self, kinds: &[Kind]) {
        *self.inner.kinds.lock().unwrap() = kinds.to_vec();
    }

    /// A client for it.
    pub fn client(&self) -> kube::Client {
        let uri = format!("http://{}", self.address).parse().unwrap();
        kube::Client::try_from(kube::Config::new(uri)).unwrap()
    }

    /// A kubeconfig that names it.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: double\n\
             clusters: [{{name: double, cluster: {{server: 'http://{}'}}}}]\n\
             contexts: [{{name: double, context: {{cluster: double, user: double}}}}]\nusers: [{{name: double, user: {{}}}}]\n",
            self.address
        )
    }

    pub fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.inner.trouble.lock().unwrap());
        self.inner.changed.notify_waiters();
    }

    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.inner.objects().get(&Key::new(kind, namespace, name)).cloned()
    }

    pub fn list(&self, kind: Kind, namespace: &str) -> Vec<Value> {
        self.inner
            .objects()
            .of(kind, namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// All objects of a kind.
    pub fn all(&self, kind: Kind) -> Vec<Value> {
        let objects = self.inner.objects();
        let of_kind = objects.iter().filter(|(key, _)| key.kind == kind);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// Everything in a namespace, pods aside, as `Kind/name`.
    pub fn names(&self, namespace: &str) -> Vec<String> {
        self.inner
            .objects()
            .iter()
            .filter(|(key, _)| key.namespace == namespace && key.kind != Kind::Pod)
            .map(|(key, _)| format!("{}/{}", key.kind.name(), key.name))
            .collect()
    }

    /// Somebody else changes an object, as `kubectl edit` does.
    pub fn edit(&self, kind: Kind, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let key = Key::new(kind, namespace, name);
        let mut objects = self.inner.objects();
        let mut object = objects.get(&key).unwrap().clone();
        change(&mut object);
        apply::update(&mut objects, &key, object, "kubectl-edit");
        drop(objects);
        self.inner.changed.notify_waiters();
    }

    /// Somebody else makes an object.
    pub fn make(&self, kind: Kind, namespace: &str, name: &str, mut object: Value) {
        object["metadata"]["name"] = name.into();
        if kind.is_namespaced() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let key = Key::new(kind, namespace, name);
        apply::update(&mut self.inner.objects(), &key, object, "kubectl-create");
        self.inner.changed.notify_waiters();
    }

    /// Somebody else deletes an object.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        self.inner.objects().delete(&Key::new(kind, namespace, name));
        self.inner.changed.notify_waiters();
    }

    /// Every call so far, with how often it was made.
    pub fn calls(&self) -> BTreeMap<Call, u64> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// What a role must allow for the calls so far: those, and the creation of what an apply has made.
    pub fn used(&self) -> BTreeSet<Call> {
        let mut used = self.inner.creations.lock().unwrap().clone();
        used.extend(self.calls().into_keys());
        used
    }

    /// How many calls were made, watches that are open aside.
    pub fn count(&self) -> u64 {
        self.calls()
            .iter()
            .filter(|(call, _)| call.verb != "watch")
            .map(|(_, count)| count)
            .sum()
    }

    /// Calls that were refused because nobody knows them. A test ends by looking that there are none.
    pub fn unknown(&self) -> Vec<String> {
        self.inner.unknown.lock().unwrap().clone()
    }
}
