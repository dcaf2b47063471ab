//! The examples of the document are right by the document.

use authsome_control::api;
use regex::Regex;
use serde_json::Value;

/// What of `value` is wrong by `schema`: as much of JSON Schema as the document uses.
fn fault(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fault(document, document.pointer(&reference[1..]).unwrap(), value, at);
    }
    if let Some(one) = schema["oneOf"].as_array() {
        let fitting = one.iter().filter(|schema| fault(document, schema, value, at).is_none());
        return (fitting.count() != 1).then(|| format!("{at}: fits not exactly one"));
    }
    let mut faults = schema["allOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|schema| fault(document, schema, value, at));
    if let Some(found) = faults.next() {
        return Some(found);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |name: &Value| name == kind || (kind == "integer" && name == "number");
    let allowed = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is),
        one => is(one),
    };
    if !allowed {
        return Some(format!("{at}: is {kind}"));
    }
    if schema["enum"].as_array().is_some_and(|names| !names.contains(value)) {
        return Some(format!("{at}: {value} is none of the names"));
    }
    let beyond = |least: &str, most: &str, count: u64| {
        schema[least].as_u64().is_some_and(|least| count < least)
            || schema[most].as_u64().is_some_and(|most| count > most)
    };
    match value {
        Value::String(text) => {
            let pattern = schema["pattern"].as_str().map(|pattern| Regex::new(pattern).unwrap());
            let wrong = pattern.is_some_and(|pattern| !pattern.is_match(text))
                || beyond("minLength", "maxLength", text.chars().count() as u64);
            wrong.then(|| format!("{at}: {text}"))
        }
        Value::Number(number) => {
            beyond("minimum", "maximum", number.as_u64().unwrap_or(0)).then(|| format!("{at}: {number}"))
        }
        Value::Array(items) => {
            if beyond("minItems", "maxItems", items.len() as u64) {
                return Some(format!("{at}: so many items"));
            }
            let mut items = items.iter().enumerate();
            items.find_map(|(nth, item)| fault(document, &schema["items"], item, &format!("{at}/{nth}")))
        }
        Value::Object(fields) => {
            let required = schema["required"].as_array().into_iter().flatten();
            for name in required.filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    return Some(format!("{at}: lacks {name}"));
                }
            }
            fields
                .iter()
                .find_map(|(name, value)| match schema["properties"].get(name) {
                    Some(schema) => fault(document, schema, value, &format!("{at}/{name}")),
                    None if schema["additionalProperties"] == false => Some(format!("{at}: has no {name}")),
                    None => None,
                })
        }
        Value::Null | Value::Bool(_) => None,
    }
}

#[test]
fn every_request_body_has_an_example_that_is_right_by_its_schema() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    let mut seen = 0;
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let Some(body) = operation.get("requestBody") else {
                continue;
            };
            let schema = &body["content"]["application/json"]["schema"];
            let reference = schema["$ref"].as_str().or_else(|| {
                let one = schema["oneOf"].as_array()?;
                one.iter().find_map(|schema| schema["$ref"].as_str())
            });
            let reference = reference.unwrap_or_else(|| panic!("{}: {schema}", operation["operationId"]));
            let named = document.pointer(&reference[1..]).unwrap();
            assert!(named["examples"][0].is_object(), "{reference} has no example");
            assert_eq!(
                named["additionalProperties"], false,
                "{reference} takes what it does not know"
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn examples_are_right_by_their_schemas() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    let mut seen = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_eq!(fault(&document, schema, example, name), None);
            let mut wrong = example.clone();
            wrong.as_object_mut().unwrap().clear();
            assert_eq!(
                fault(&document, schema, &wrong, name).is_none(),
                !needs_something(&document, schema),
                "{name}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 38, "{seen}");
}

/// Has members that must be there.
fn needs_something(document: &Value, schema: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return needs_something(document, document.pointer(&reference[1..]).unwrap());
    }
    let mut parts = schema["allOf"].as_array().into_iter().flatten();
    schema["required"].as_array().is_some_and(|names| !names.is_empty())
        || parts.any(|part| needs_something(document, part))
}

#[test]
fn every_answer_that_is_one_thing_has_an_example() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    let mut seen = 0;
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let good = operation["responses"].as_object().unwrap().iter();
            for (status, response) in good.filter(|(status, _)| status.starts_with('2')) {
                let Some(reference) = response["content"]["application/json"]["schema"]["$ref"].as_str() else {
                    continue;
                };
                let named = document.pointer(&reference[1..]).unwrap();
                assert!(
                    reference.contains("/Page_") || named["examples"][0].is_object(),
                    "{} {status}: {reference} has no example",
                    operation["operationId"]
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn names_of_closed_sets_are_enumerations() {
    let document = api::document();
    let of_names = Regex::new(r#""pattern": "\^\([a-z_0-9]+(\|[a-z_0-9]+)+\)\$""#).unwrap();
    assert!(of_names.is_match(r#""pattern": "^(free|pro)$""#));
    assert_eq!(of_names.find(&document).map(|found| found.as_str()), None);
    let document: Value = serde_json::from_str(&document).unwrap();
    let property = |schema: &str, name: &str| {
        let schema = &document["components"]["schemas"][schema]["properties"][name]["$ref"];
        document.pointer(&schema.as_str().unwrap()[1..]).unwrap()["enum"].clone()
    };
    let statuses: Vec<&str> = authsome_contract::model::AppStatus::ALL
        .iter()
        .map(|status| status.as_str())
        .collect();
    assert_eq!(property("Application", "status"), serde_json::json!(statuses));
    for (schema, name) in [
        ("Operation", "status"),
        ("Step", "status"),
        ("Delivery", "status"),
        ("Key", "type"),
        ("ErrorBody", "code"),
    ] {
        assert!(property(schema, name).as_array().unwrap().len() > 1, "{schema}.{name}");
    }
}
