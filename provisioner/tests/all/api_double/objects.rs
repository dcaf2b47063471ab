//! The objects of the server, their versions, and what happened to them, for watches.

use std::collections::{BTreeMap, BTreeSet};

use authsome_provisioner::runtime::kubernetes::Kind;
use serde_json::{Value, json};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub kind: Kind,
    pub name: String,
}

impl Key {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace } else { name };
        Self {
            namespace: namespace.to_owned(),
            kind,
            name: name.to_owned(),
        }
    }
}

/// One thing that happened.
#[derive(Clone)]
pub struct Happened {
    pub version: u64,
    pub what: &'static str,
    pub kind: Kind,
    pub object: Value,
}

#[derive(Default)]
pub struct Objects {
    all: BTreeMap<Key, Value>,
    /// Who owns which field.
    pub owners: BTreeMap<Key, BTreeMap<String, BTreeSet<String>>>,
    pub history: Vec<Happened>,
    version: u64,
    uid: u64,
}

impl Objects {
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.all.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.all.iter()
    }

    pub fn of<'a>(&'a self, kind: Kind, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.all
            .range(Key::new(Kind::Namespace, namespace, namespace)..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .filter(move |(key, _)| key.kind == kind)
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// Writes an object, with what the server itself adds. What does not change makes no new version.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Value {
        let before = self.all.get(key);
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        if let Some(before) = before {
            for fixed in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
                object["metadata"][fixed] = before["metadata"][fixed].clone();
            }
            if before == &object {
                return object;
            }
            if before["spec"] != object["spec"] {
                let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
                object["metadata"]["generation"] = generation.into();
            }
        } else {
            self.uid += 1;
            object["metadata"]["uid"] = format!("uid-{}", self.uid).into();
            object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
            object["metadata"]["generation"] = 1.into();
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.all.insert(key.clone(), object.clone());
        self.happened(what, key.kind, object.clone());
        object
    }

    /// Deletes an object; a namespace waits until the controllers have emptied it.
    pub fn delete(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.all.get(key)?.clone();
        if key.kind == Kind::Namespace && object["metadata"].get("deletionTimestamp").is_none() {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:01Z".into();
            object["status"] = json!({ "phase": "Terminating" });
            return Some(self.put(key, object));
        }
        self.all.remove(key);
        self.owners.remove(key);
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.happened("DELETED", key.kind, object.clone());
        Some(object)
    }

    fn happened(&mut self, what: &'static str, kind: Kind, object: Value) {
        self.history.push(Happened {
            version: self.version,
            what,
            kind,
            object,
        });
    }
}
