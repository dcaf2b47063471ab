//! JSON merge patch (RFC 7396): objects are merged, `null` takes a member away, anything else replaces. Pure.

use authsome_core::error::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Fields, Outcome};

/// What `before` becomes by the patch, or which field of the outcome is wrong. `below` is the name of the whole in the
/// request, empty where it is the request.
pub(super) fn merged<T: Serialize + DeserializeOwned>(before: &T, patch: Value, below: &str) -> Outcome<T> {
    if !patch.is_object() {
        let mut fields = Fields::new();
        fields.refuse(if below.is_empty() { "body" } else { below }, "must be an object");
        fields.finish()?;
    }
    let mut document = serde_json::to_value(before).map_err(Failure::internal)?;
    apply(&mut document, patch);
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        let path = match (below, path.as_str()) {
            ("", ".") => "body".to_owned(),
            ("", path) => path.to_owned(),
            (below, ".") => below.to_owned(),
            (below, path) => format!("{below}.{path}"),
        };
        let mut fields = Fields::new();
        fields.refuse(path, error.into_inner().to_string());
        match fields.finish() {
            Err(problem) => problem,
            Ok(()) => Failure::invalid_request("The settings are not understood").into(),
        }
    })
}

/// Changes `target` as `patch` says.
pub(super) fn apply(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(members) = target {
        for (name, value) in patch {
            if value.is_null() {
                members.remove(&name);
            } else {
                apply(members.entry(name).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_standard_hold() {
        // RFC 7396, appendix A.
        for (mut target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            apply(&mut target, patch);
            assert_eq!(target, expected);
        }
    }
}
