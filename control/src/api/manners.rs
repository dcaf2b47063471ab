//! What the document says of all operations alike: `Idempotency-Key` on every POST of a signed-in caller, `If-None-Match` on every GET
//! with a tag, the types of merge patches, and what any operation may answer besides its own results. An answer that does not say what it means is described by what it holds.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};

/// Completes the document.
pub(super) fn describe(document: &mut OpenApi) {
    let OpenApi { paths, components, .. } = document;
    for item in paths.paths.values_mut() {
        if let Some(operation) = &mut item.post
            && is_for_callers(operation)
        {
            take_key(operation);
        }
        for operation in [&mut item.post, &mut item.patch, &mut item.put].into_iter().flatten() {
            refuses(operation, "413", "The request body is larger than 1 MiB");
            if operation.request_body.is_some() {
                refuses(operation, "408", "The request body did not arrive in time");
                refuses(operation, "415", "The request body is not JSON in UTF-8");
            }
        }
        if let Some(operation) = &mut item.patch {
            take_merge_patch(operation);
        }
        if let Some(operation) = &mut item.get {
            tell_unchanged(operation);
        }
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.put,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            refuses(operation, "429", "Too many requests; try again after `Retry-After`");
            if is_for_callers(operation) {
                refuses(
                    operation,
                    "403",
                    "The caller is a service token that has not the scope, or this is for people only",
                );
            }
            say_what_is_answered(operation, components.as_ref());
        }
    }
}

/// A response without a description is not valid (OpenAPI 3.1, section 4.8.17), and tools refuse the whole document for it. A page is
/// what the operation lists; everything else is what its schema says of itself.
fn say_what_is_answered(operation: &mut Operation, components: Option<&Components>) {
    let summary = operation.summary.clone().unwrap_or_default();
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        if !response.description.is_empty() {
            continue;
        }
        let schema = response.content.values().find_map(|content| match content {
            RefOr::T(content) => content.schema.as_ref(),
            RefOr::Ref(_) => None,
        });
        let name = match schema {
            Some(RefOr::Ref(reference)) => reference.ref_location.rsplit('/').next().unwrap_or_default(),
            _ => continue,
        };
        response.description = if name.starts_with("Page_") {
            summary.clone()
        } else {
            components
                .and_then(|components| components.schemas.get(name))
                .and_then(description)
                .unwrap_or_default()
                .to_owned()
        };
    }
}

/// What a schema says of itself.
fn description(schema: &RefOr<Schema>) -> Option<&str> {
    let RefOr::T(schema) = schema else { return None };
    match schema {
        Schema::Object(object) => object.description.as_deref(),
        Schema::Array(array) => array.description.as_deref(),
        Schema::AllOf(all) => all.description.as_deref(),
        Schema::OneOf(one) => one.description.as_deref(),
        Schema::AnyOf(any) => any.description.as_deref(),
        _ => None,
    }
}

/// Needs a token.
fn is_for_callers(operation: &Operation) -> bool {
    let needs = operation.security.as_ref().and_then(|security| security.first());
    needs.is_some_and(|needs| serde_json::to_value(needs).is_ok_and(|value| value.get("bearer").is_some()))
}

fn take_key(operation: &mut Operation) {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some("^[!-~]+$"))
        .build();
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Makes the request safe to send again: for 24 hours the same key and request get the first answer again, with \
             the header `Idempotency-Replayed: true`",
        ))
        .schema(Some(text))
        .build();
    operation.parameters.get_or_insert_default().push(parameter.into());
    refuses(
        operation,
        "409",
        "A request with the same `Idempotency-Key` is under way",
    );
    refuses(operation, "422", "The `Idempotency-Key` was used for another request");
}

/// RFC 7396 has a type of its own, which says more than `application/json`, and both are taken.
fn take_merge_patch(operation: &mut Operation) {
    if let Some(RefOr::T(body)) = &mut operation.request_body
        && let Some(content) = body.content.get("application/json").cloned()
    {
        body.content.insert("application/merge-patch+json".to_owned(), content);
    }
}

/// An answer with a tag is not sent to whoever has it.
fn tell_unchanged(operation: &mut Operation) {
    let Some(RefOr::T(response)) = operation.responses.responses.get("200") else {
        return;
    };
    let Some(tag) = response.headers.get("ETag").cloned() else {
        return;
    };
    let parameter = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The `ETag` of an answer that the client has: 304 without a body while it is the present one",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .build();
    operation.parameters.get_or_insert_default().push(parameter.into());
    let mut unchanged = ResponseBuilder::new()
        .description("The client has it already: `If-None-Match` names it")
        .build();
    unchanged.headers.insert("ETag".to_owned(), tag);
    operation.responses.responses.insert("304".to_owned(), unchanged.into());
}

fn refuses(operation: &mut Operation, status: &str, description: &str) {
    let responses: &mut BTreeMap<String, RefOr<Response>> = &mut operation.responses.responses;
    responses.entry(status.to_owned()).or_insert_with(|| {
        let body = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ErrorEnvelope")))
            .build();
        ResponseBuilder::new()
            .description(description)
            .content("application/json", body)
            .build()
            .into()
    });
}
