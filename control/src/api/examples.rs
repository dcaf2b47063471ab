//! An example for each request body and for the answers that matter most, in the document. A test holds each to its schema.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{OpenApi, RefOr};

/// By the name of the schema. It is a file of this program, so that only a test can find it unreadable.
const EXAMPLES: &str = include_str!("examples.json");

/// Adds the examples to the schemas of the document.
pub(super) fn add(document: &mut OpenApi) {
    let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    let Some(components) = &mut document.components else {
        return;
    };
    for (name, example) in examples {
        match components.schemas.get_mut(&name) {
            Some(RefOr::T(Schema::Object(object))) => object.examples = vec![example],
            Some(RefOr::T(Schema::AllOf(all))) => all.examples = vec![example],
            _ => {}
        }
    }
}
