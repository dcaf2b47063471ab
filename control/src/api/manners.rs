//! What the document says of all operations alike: `Idempotency-Key` on every POST of a signed-in caller, and what any
//! operation may answer besides its own results.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};

/// Completes the document.
pub(super) fn describe(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.patch, &mut item.put, &mut item.delete]
            .into_iter()
            .flatten()
        {
            refuses(operation, "429", "Too many requests; try again after `Retry-After`");
        }
        if let Some(operation) = &mut item.post {
            refuses(operation, "413", "The request body is larger than 1 MiB");
            refuses(operation, "429", "Too many requests; try again after `Retry-After`");
            if is_for_callers(operation) {
                take_key(operation);
            }
        }
        if let Some(operation) = &mut item.patch {
            refuses(operation, "413", "The request body is larger than 1 MiB");
        }
        for operation in [&mut item.post, &mut item.patch, &mut item.put].into_iter().flatten() {
            if operation.request_body.is_some() {
                refuses(operation, "415", "The request body is not JSON");
            }
        }
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
