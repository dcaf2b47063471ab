//! Everything that is wrong with the form of a JSON value, by the schema that is published of it. Pure.
//!
//! A reader of structures stops at the first field that it cannot read, and says so in words of its own. It decides what is read; the
//! schema is asked once it has refused, so that a client learns of all fields at once, in the words of the API.

use std::collections::HashMap;

use authsome_core::error::Failure;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use crate::error::{Fields, Outcome};

/// Reads a value, or refuses every field of it that is wrong. `below` is the name of the whole in the request, empty where it is the
/// request.
pub fn read<T: DeserializeOwned + ToSchema>(value: &Value, below: &str) -> Outcome<T> {
    let mut fields = Fields::new();
    let read = take(value, below, &mut fields);
    fields.finish()?;
    Ok(read.ok_or_else(|| Failure::invalid_request("The request is not understood"))?)
}

/// The same, into the refusals of a larger whole.
pub fn take<T: DeserializeOwned + ToSchema>(value: &Value, below: &str, fields: &mut Fields) -> Option<T> {
    let error = match serde_path_to_error::deserialize(value) {
        Ok(read) => return Some(read),
        Err(error) => error,
    };
    let told = fields.count();
    let shape = Shape::of::<T>();
    shape.check(&shape.whole, value, below, fields);
    // What no schema says, such as which texts are ids, only the reader knows, and it may say no more than that it cannot read.
    let fault = Fault::of(&error.path().to_string(), &error.into_inner().to_string());
    if fields.count() == told || fault.is_told_by_us {
        let path = match (fault.path.as_str(), below) {
            ("", "") => "body".to_owned(),
            ("", below) => below.to_owned(),
            (path, below) => member(below, path),
        };
        fields.refuse(path, fault.reason);
    }
    None
}

/// A schema and what it refers to.
struct Shape {
    whole: Value,
    named: HashMap<String, Value>,
}

impl Shape {
    fn of<T: ToSchema>() -> Self {
        let mut named = Vec::new();
        T::schemas(&mut named);
        // Schemas are made of texts, numbers and maps: writing them as JSON cannot fail.
        let json = |schema| serde_json::to_value(schema).unwrap_or_default();
        Self {
            whole: json(T::schema()),
            named: named.into_iter().map(|(name, schema)| (name, json(schema))).collect(),
        }
    }

    /// Names everything in `value` that is not as `schema` has it: as much of JSON Schema as our schemas use. Patterns are left to
    /// whoever reads the field, who has better words for them.
    fn check(&self, schema: &Value, value: &Value, path: &str, fields: &mut Fields) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            if let Some(schema) = self.named.get(name) {
                self.check(schema, value, path, fields);
            }
            return;
        }
        for part in list(&schema["allOf"]) {
            self.check(part, value, path, fields);
        }
        if !self.is_one_of(list(&schema["oneOf"]), value, path, fields) {
            return;
        }
        if let Some(expected) = expected(schema, value) {
            refuse(fields, path, expected);
            return;
        }
        match value {
            Value::Array(items) => {
                for (position, item) in items.iter().enumerate() {
                    self.check(&schema["items"], item, &format!("{path}[{position}]"), fields);
                }
            }
            Value::Object(members) => {
                for name in list(&schema["required"]).iter().filter_map(Value::as_str) {
                    if !members.contains_key(name) {
                        fields.refuse(member(path, name), "is required");
                    }
                }
                for (name, value) in members {
                    match schema["properties"].get(name) {
                        Some(schema) => self.check(schema, value, &member(path, name), fields),
                        None if schema["additionalProperties"] == false => {
                            fields.refuse(member(path, name), "is not known");
                        }
                        None => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Fits one of these, if there are any. Where only one of them is more than `null`, what is wrong is told by that one.
    fn is_one_of(&self, schemas: &[Value], value: &Value, path: &str, fields: &mut Fields) -> bool {
        let fits = |schema: &Value| {
            let mut found = Fields::new();
            self.check(schema, value, path, &mut found);
            found.count() == 0
        };
        if schemas.is_empty() || schemas.iter().any(fits) {
            return true;
        }
        let mut something = schemas.iter().filter(|schema| schema["type"] != "null");
        match (something.next(), something.next()) {
            (Some(only), None) => self.check(only, value, path, fields),
            _ => refuse(fields, path, "is in none of the forms that are known".to_owned()),
        }
        false
    }
}

/// What `schema` expects instead of this value, whose members and items are not looked at.
fn expected(schema: &Value, value: &Value) -> Option<String> {
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        kinds => list(kinds).iter().filter_map(Value::as_str).collect(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(kind, value)) {
        let names: Vec<&str> = kinds.iter().map(|kind| in_words(kind)).collect();
        return Some(format!("must be {}", names.join(" or ")));
    }
    if value.is_null() {
        return None;
    }
    let names = list(&schema["enum"]);
    if !names.is_empty() && !names.contains(value) {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        return Some(match names.as_slice() {
            [only] => format!("must be {only}"),
            names => format!("must be one of {}", names.join(", ")),
        });
    }
    let (least, most, unit) = match value {
        Value::String(_) => ("minLength", "maxLength", " characters long"),
        Value::Array(_) => ("minItems", "maxItems", " items"),
        _ => ("minimum", "maximum", ""),
    };
    let (least, most) = (schema[least].as_f64(), schema[most].as_f64());
    let size = match value {
        #[expect(clippy::cast_precision_loss, reason = "no text is as long")]
        Value::String(text) => text.chars().count() as f64,
        #[expect(clippy::cast_precision_loss, reason = "no list is as long")]
        Value::Array(items) => items.len() as f64,
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        _ => return None,
    };
    if least.is_some_and(|least| size < least) || most.is_some_and(|most| size > most) {
        return Some(match (least, most) {
            (Some(least), Some(most)) => format!("must be from {least} to {most}{unit}"),
            (Some(least), None) => format!("must be at least {least}{unit}"),
            (_, most) => format!("must be at most {}{unit}", most.unwrap_or_default()),
        });
    }
    let is_moment = schema["format"] != "date-time"
        || value
            .as_str()
            .is_some_and(|text| OffsetDateTime::parse(text, &Rfc3339).is_ok());
    (!is_moment).then(|| "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)".to_owned())
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn in_words(kind: &str) -> &str {
    match kind {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "an object",
        other => other,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn member(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn refuse(fields: &mut Fields, path: &str, reason: String) {
    fields.refuse(if path.is_empty() { "body" } else { path }, reason);
}

/// What a reader says.
struct Fault {
    /// Empty: the whole.
    path: String,
    reason: String,
    /// A type of ours has refused it, by more than its form.
    is_told_by_us: bool,
}

impl Fault {
    /// The reader's words repeat values, which may be secrets, and speak of types of this program.
    fn of(path: &str, words: &str) -> Self {
        let path = if path == "." { "" } else { path };
        let named = |start: &str| words.strip_prefix(start)?.split('`').next();
        if let Some(name) = named("missing field `") {
            return Self::plain(member(path, name), "is required");
        }
        if let Some(name) = named("unknown field `") {
            // The path of an unknown field ends with it already.
            let is_named = path == name || path.ends_with(&format!(".{name}"));
            let path = if is_named { path.to_owned() } else { member(path, name) };
            return Self::plain(path, "is not known");
        }
        for (start, reason) in [
            ("invalid type", "is not of the type that is expected"),
            ("invalid value: integer", "is out of range"),
            ("invalid value", "is not what is expected"),
            ("invalid length", "is not as long as is expected"),
            ("unknown variant", "is none of the names that are known"),
            ("data did not match", "is in none of the forms that are known"),
        ] {
            if words.starts_with(start) {
                return Self::plain(path.to_owned(), reason);
            }
        }
        Self {
            path: path.to_owned(),
            reason: words.split(" at line ").next().unwrap_or(words).to_owned(),
            is_told_by_us: true,
        }
    }

    fn plain(path: String, reason: &str) -> Self {
        Self {
            path,
            reason: reason.to_owned(),
            is_told_by_us: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::id::ApplicationId;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its form is looked at")]
    struct Order {
        #[schema(min_length = 1, max_length = 5)]
        name: String,
        kind: Kind,
        #[schema(value_type = Option<String>)]
        application_id: Option<ApplicationId>,
        #[serde(default, with = "time::serde::rfc3339::option")]
        until: Option<OffsetDateTime>,
        #[serde(default)]
        #[schema(max_items = 2)]
        lines: Vec<Line>,
        best: Option<Line>,
        #[serde(default)]
        rush: bool,
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Gift,
        Return,
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form is looked at")]
    struct Line {
        #[schema(minimum = 1, maximum = 9)]
        count: u8,
        #[serde(default)]
        price: f64,
    }

    fn told(value: &Value) -> Vec<(String, String)> {
        let problem = read::<Order>(value, "order").unwrap_err();
        let body = serde_json::to_value(problem.failure().to_body("req")).unwrap();
        let fields = body["error"]["details"]["fields"].as_object().unwrap().clone();
        let text = |value: Value| value.as_str().unwrap().to_owned();
        fields.into_iter().map(|(path, reason)| (path, text(reason))).collect()
    }

    #[test]
    fn every_wrong_field_is_told_at_once_in_our_words() {
        let wrong = json!({
            "name": 5, "kind": "loan", "until": "tomorrow", "rush": "yes", "colour": "red",
            "lines": [{ "count": 1 }, { "count": "2", "price": null, "size": 1 }], "best": {},
        });
        let expected = [
            ("order.best.count", "is required"),
            ("order.colour", "is not known"),
            ("order.kind", "must be one of gift, return"),
            ("order.lines[1].count", "must be a whole number"),
            ("order.lines[1].price", "must be a number"),
            ("order.lines[1].size", "is not known"),
            ("order.name", "must be a string"),
            ("order.rush", "must be true or false"),
            ("order.until", "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)"),
        ];
        let expected = expected.map(|(path, reason)| (path.to_owned(), reason.to_owned()));
        assert_eq!(told(&wrong), expected);
    }

    #[test]
    fn what_only_the_reader_knows_is_told_as_well() {
        let wrong = json!({ "name": "a", "kind": "gift", "applicationId": "app_x" });
        let told = told(&wrong);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, "order.applicationId");
    }

    #[test]
    fn sizes_are_told_where_the_form_is_wrong_anyway() {
        let line = json!({ "count": 10 });
        let wrong = json!({ "name": "abcdef", "lines": [line, line, line], "best": line });
        let expected = [
            ("order.best.count", "must be from 1 to 9"),
            ("order.kind", "is required"),
            ("order.lines", "must be at most 2 items"),
            ("order.name", "must be from 1 to 5 characters long"),
        ];
        let expected = expected.map(|(path, reason)| (path.to_owned(), reason.to_owned()));
        assert_eq!(told(&wrong), expected);
    }

    #[test]
    fn the_whole_is_named_where_it_is_wrong() {
        assert_eq!(told(&json!(3)), [("order".to_owned(), "must be an object".to_owned())]);
        let problem = read::<Kind>(&json!("loan"), "").unwrap_err();
        assert!(
            problem
                .failure()
                .to_string()
                .ends_with("body must be one of gift, return")
        );
    }

    #[test]
    fn what_a_reader_says_repeats_no_value() {
        for words in [
            "invalid type: string \"hunter2\", expected u32",
            "invalid value: integer `5000000000`, expected u32",
            "unknown variant `hunter2`, expected `a`",
        ] {
            let fault = Fault::of("a.b", words);
            assert_eq!(fault.path, "a.b");
            assert!(
                !fault.reason.contains("hunter2") && !fault.reason.contains("u32"),
                "{}",
                fault.reason
            );
        }
        let fault = Fault::of(".", "missing field `name` at line 1 column 2");
        assert_eq!((&*fault.path, &*fault.reason), ("name", "is required"));
    }
}
