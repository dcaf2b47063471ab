//! Is an object as its manifest says? Only the fields that the manifest has are looked at: whatever else is there belongs to
//! the cluster or to others.

use std::fmt::Write;

use serde_json::Value;

use super::quantity::same_amount;

/// Where a live object differs from a manifest, as paths; nothing where it does not.
pub(super) fn differences(wanted: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(wanted, live, &mut String::new(), &mut found);
    found
}

fn walk(wanted: &Value, live: &Value, path: &mut String, found: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (name, value) in wanted {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                walk(value, live.get(name).unwrap_or(&Value::Null), path, found);
                path.truncate(length);
            }
        }
        // A server leaves out what is empty.
        (Value::Object(wanted), Value::Null) if wanted.is_empty() => {}
        (Value::Array(wanted), Value::Null) if wanted.is_empty() => {}
        (Value::String(wanted), Value::Null) if wanted.is_empty() => {}
        (Value::Bool(false), Value::Null) => {}
        (Value::Number(number), Value::Null) if number.as_i64() == Some(0) => {}
        (Value::Array(wanted), Value::Array(live)) => list(wanted, live, path, found),
        (Value::String(wanted), Value::String(live)) => {
            if !same_amount(wanted, live) {
                found.push(path.clone());
            }
        }
        (wanted, live) => {
            if wanted != live {
                found.push(path.clone());
            }
        }
    }
}

/// Lists whose elements have a name are compared by name, since others may add elements of their own (a sidecar, say);
/// all others must be the same, element by element.
fn list(wanted: &[Value], live: &[Value], path: &mut String, found: &mut Vec<String>) {
    let key = ["name", "mountPath"]
        .into_iter()
        .find(|key| !wanted.is_empty() && wanted.iter().all(|element| element.get(key).is_some()));
    let length = path.len();
    if let Some(key) = key {
        for element in wanted {
            let name = &element[key];
            // Writing into a string cannot fail.
            let _ = write!(path, "[{}]", name.as_str().unwrap_or_default());
            match live.iter().find(|other| &other[key] == name) {
                Some(other) => walk(element, other, path, found),
                None => found.push(path.clone()),
            }
            path.truncate(length);
        }
        return;
    }
    if wanted.len() != live.len() {
        found.push(path.clone());
        return;
    }
    for (position, (wanted, live)) in wanted.iter().zip(live).enumerate() {
        let _ = write!(path, "[{position}]");
        walk(wanted, live, path, found);
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_no_difference() {
        let wanted = json!({ "spec": { "a": 1, "containers": [{ "name": "x", "image": "i" }], "quota": "1000m" } });
        let live = json!({
            "spec": { "a": 1, "b": 2, "containers": [{ "name": "side" }, { "name": "x", "image": "i", "tty": false }], "quota": "1" },
            "status": {},
        });
        assert!(differences(&wanted, &live).is_empty());
    }

    #[test]
    fn what_is_changed_or_gone_is_named_by_its_path() {
        for (wanted, live, path) in [
            (json!({ "a": 1 }), json!({ "a": 2 }), ".a"),
            (json!({ "a": { "b": "x" } }), json!({ "a": {} }), ".a.b"),
            (json!({ "l": [1, 2] }), json!({ "l": [1] }), ".l"),
            (json!({ "l": [1, 2] }), json!({ "l": [1, 3] }), ".l[1]"),
            (
                json!({ "l": [{ "name": "x", "v": 1 }] }),
                json!({ "l": [{ "name": "x", "v": 2 }] }),
                ".l[x].v",
            ),
            (
                json!({ "l": [{ "name": "x" }] }),
                json!({ "l": [{ "name": "y" }] }),
                ".l[x]",
            ),
            (json!({ "q": "500m" }), json!({ "q": "600m" }), ".q"),
        ] {
            assert_eq!(differences(&wanted, &live), [path], "{wanted} {live}");
        }
    }

    #[test]
    fn what_a_server_leaves_out_because_it_is_empty_is_no_difference() {
        let wanted = json!({ "a": {}, "b": [], "c": "", "d": false, "e": 0 });
        assert!(differences(&wanted, &json!({})).is_empty());
        assert_eq!(differences(&json!({ "d": true }), &json!({})), [".d"]);
    }
}
