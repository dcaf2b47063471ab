//! Server-side apply, as far as it matters: every field of an apply has an owner, a field of another owner is a conflict unless
//! forced, and a field that its only owner leaves out is gone. Selectors are one field each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::objects::{Key, Objects};

/// The managers that own the fields in conflict.
pub struct Conflict(pub Vec<(String, String)>);

/// The fields of a document by their paths. Lists whose elements have a name are sets of named elements; all others are one
/// field.
fn fields(document: &Value) -> BTreeMap<String, Value> {
    fn walk(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) if !members.is_empty() && !is_atomic(path) => {
                for (name, value) in members {
                    walk(value, &format!("{path}\u{1}{name}"), found);
                }
            }
            Value::Array(elements) if key_of(elements).is_some() => {
                let key = key_of(elements).unwrap();
                for element in elements {
                    walk(
                        element,
                        &format!("{path}\u{1}[{key}={}]", element[key].as_str().unwrap()),
                        found,
                    );
                }
            }
            leaf => {
                found.insert(path.to_owned(), leaf.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(document, "", &mut found);
    found
}

/// As the API declares selectors (`+structType=atomic`, `+mapType=atomic`).
fn is_atomic(path: &str) -> bool {
    let name = path.rsplit('\u{1}').next().unwrap_or_default();
    ["selector", "podSelector", "namespaceSelector", "labelSelector"].contains(&name)
}

fn key_of(elements: &[Value]) -> Option<&'static str> {
    ["name", "mountPath"].into_iter().find(|key| {
        !elements.is_empty()
            && elements
                .iter()
                .all(|element| element.get(key).is_some_and(Value::is_string))
    })
}

fn at<'a>(document: &'a mut Value, path: &str) -> &'a mut Value {
    let mut place = document;
    for part in path.split('\u{1}').skip(1) {
        let element = part.strip_prefix('[').and_then(|part| part.strip_suffix(']'));
        place = if let Some(element) = element {
            let (key, name) = element.split_once('=').unwrap();
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            let elements = place.as_array_mut().unwrap();
            let known = elements.iter().position(|element| element[key] == name);
            let position = known.unwrap_or_else(|| {
                let mut element = Map::new();
                element.insert(key.to_owned(), name.into());
                elements.push(element.into());
                elements.len() - 1
            });
            &mut elements[position]
        } else {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            &mut place[part]
        };
    }
    place
}

fn remove(document: &mut Value, path: &str) {
    let (parent, last) = path.rsplit_once('\u{1}').unwrap();
    let parent = at(document, parent);
    if let Some(element) = last.strip_prefix('[').and_then(|last| last.strip_suffix(']')) {
        let (key, name) = element.split_once('=').unwrap();
        if let Some(elements) = parent.as_array_mut() {
            elements.retain(|element| element[key] != name);
        }
    } else if let Some(members) = parent.as_object_mut() {
        members.remove(last);
    }
}

const IDENTITY: [&str; 4] = [
    "\u{1}apiVersion",
    "\u{1}kind",
    "\u{1}metadata\u{1}name",
    "\u{1}metadata\u{1}namespace",
];

/// Applies a document for a manager.
pub fn apply(
    objects: &mut Objects,
    key: &Key,
    document: &Value,
    manager: &str,
    force: bool,
    defaults: impl FnOnce(&mut Value),
) -> Result<Value, Conflict> {
    let wanted = fields(document);
    let mut live = objects.get(key).cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let present = fields(&live);
    let mut owners = objects.owners.get(key).cloned().unwrap_or_default();
    let mut conflicts = Vec::new();
    for (path, value) in wanted.iter().filter(|(path, _)| !IDENTITY.contains(&path.as_str())) {
        let differs = present.get(path).is_some_and(|present| present != value);
        let others: Vec<String> = owners
            .get(path)
            .into_iter()
            .flatten()
            .filter(|other| *other != manager)
            .cloned()
            .collect();
        if differs && !others.is_empty() {
            conflicts.extend(others.into_iter().map(|other| (other, path.replace('\u{1}', "."))));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(Conflict(conflicts));
    }
    // What this manager leaves out and nobody else owns goes.
    let given_up: Vec<String> = owners
        .iter()
        .filter(|(path, of)| of.contains(manager) && !wanted.contains_key(*path))
        .map(|(path, _)| path.clone())
        .collect();
    for path in given_up {
        let of = owners.get_mut(&path).unwrap();
        of.remove(manager);
        if of.is_empty() {
            owners.remove(&path);
            remove(&mut live, &path);
        }
    }
    for (path, value) in &wanted {
        let place = at(&mut live, path);
        let differs = place != value;
        *place = value.clone();
        let of = owners.entry(path.clone()).or_default();
        if differs {
            of.clear();
        }
        of.insert(manager.to_owned());
    }
    defaults(&mut live);
    objects.owners.insert(key.clone(), owners);
    Ok(objects.put(key, live))
}

/// Writes an object for a manager that does not apply: whatever it changes becomes its own.
pub fn update(objects: &mut Objects, key: &Key, object: Value, manager: &str) -> Value {
    let before = objects.get(key).map(fields).unwrap_or_default();
    let after = fields(&object);
    let mut owners = objects.owners.get(key).cloned().unwrap_or_default();
    for (path, value) in &after {
        if before.get(path) != Some(value) && !path.contains("\u{1}status") {
            owners.insert(path.clone(), BTreeSet::from([manager.to_owned()]));
        }
    }
    owners.retain(|path, _| after.contains_key(path));
    objects.owners.insert(key.clone(), owners);
    objects.put(key, object)
}
