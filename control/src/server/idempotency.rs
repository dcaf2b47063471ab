//! `Idempotency-Key`: a POST that is sent again is not done again.
//!
//! Owns what a key means: for 24 hours the same caller, key and request get the first answer again, marked with
//! `Idempotency-Replayed: true`. A request that is still under way is 409, another request with the same key 422. Only
//! successes are kept; whatever was refused did nothing and is decided anew. The answer is sealed under a key derived from the
//! Idempotency-Key, which is not kept, so that a copy of the database shows no secret key. A client that hangs up does not
//! stop its request: it runs to its end and the answer waits. Without Postgres: 503, and nothing is done.

use std::convert::Infallible;
use std::time::Duration;

use authsome_core::error::Failure;
use authsome_core::id::{Id, Kind, Operation};
use authsome_core::key::Digest;
use authsome_core::seal::{Aad, ReplyRing, derive_key};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::BODY_LIMIT;
use crate::db::idempotency::{self, Claim, Claimed};
use crate::error::{Outcome, Problem};
use crate::identity::Caller;
use crate::state::App;

/// The header of the request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);
/// How much longer than a request may take it counts as under way.
const GRACE: Duration = Duration::from_secs(30);
/// The longest key, in characters.
const KEY_MAX: usize = 255;

/// The id of what a request creates: the same however often the request is sent with its key.
#[derive(Debug, Clone, Copy)]
pub struct FirstId(Option<Uuid>);

impl FirstId {
    /// That id; a new one for a request without a key.
    pub fn of<K: Kind>(self, app: &App) -> Id<K> {
        self.0
            .map_or_else(|| Id::generate(app.clock(), app.entropy()), Id::from_uuid)
    }

    /// Was a key sent?
    pub fn is_given(self) -> bool {
        self.0.is_some()
    }
}

impl FromRequestParts<App> for FirstId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(None)))
    }
}

/// What is kept of an answer.
#[derive(Serialize, Deserialize)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// One request and its key.
struct Once {
    app: App,
    caller: String,
    key: String,
    digest: Digest,
}

/// The layer. Whatever is no POST of a signed-in caller with a key passes through.
pub async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    match carry_out(app, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn carry_out(app: App, request: Request, next: Next) -> Outcome<Response> {
    let (mut parts, body) = request.into_parts();
    let Ok(caller) = Caller::from_request_parts(&mut parts, &app).await else {
        // Refused, or answered, by the handler as without the key.
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let key = read(&parts.headers)?;
    let body = to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| Failure::payload_too_large("The request body is larger than 1 MiB"))?;
    let once = Once {
        digest: Digest::of(key.as_bytes()),
        caller: caller.principal(),
        key,
        app,
    };
    let now = once.app.clock().now();
    let deadline = once.app.settings().request_deadline;
    let fingerprint = fingerprint(&parts, &body);
    let claim = Claim {
        caller: &once.caller,
        digest: once.digest.as_bytes(),
        fingerprint: fingerprint.as_bytes(),
        first_id: Id::<Operation>::generate(once.app.clock(), once.app.entropy()).uuid(),
        now,
        locked_until: now + deadline + GRACE,
        expires_at: now + KEPT,
    };
    let claimed = {
        let mut connection = once.app.pool().acquire().await?;
        idempotency::forget_some(&mut connection, now).await?;
        idempotency::claim(&mut connection, &claim).await?
    };
    match claimed {
        Claimed::Ours(first_id) => {
            parts.extensions.insert(FirstId(Some(first_id)));
            let request = Request::from_parts(parts, Body::from(body));
            // On its own, so that it comes to its end without the client.
            let running = tokio::spawn(async move {
                let answer = tokio::time::timeout(deadline, next.run(request)).await;
                let answer = answer.unwrap_or_else(|_| {
                    Problem::busy("The request took too long; try again", "timeout").into_response()
                });
                once.record(answer).await
            });
            running.await.map_err(Failure::internal)?
        }
        Claimed::InFlight => Err(
            Failure::conflict("A request with this Idempotency-Key is under way; try again")
                .with_reason("idempotency_in_flight")
                .retry_after(1)
                .into(),
        ),
        Claimed::Other => Err(Problem::unprocessable(
            "This Idempotency-Key was used for another request; use a new one",
            "idempotency_key_reused",
        )),
        Claimed::Answered(sealed) => once.replay(&sealed),
    }
}

impl Once {
    /// Keeps a success, forgets anything else.
    async fn record(self, answer: Response) -> Outcome<Response> {
        let mut connection = self.app.pool().acquire().await?;
        if !answer.status().is_success() {
            idempotency::release(&mut connection, &self.caller, self.digest.as_bytes()).await?;
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.map_err(Failure::internal)?;
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let reply = Reply {
            status: parts.status.as_u16(),
            headers: parts
                .headers
                .iter()
                .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
                .collect(),
            body: String::from_utf8(body.to_vec()).map_err(Failure::internal)?,
        };
        let plain = serde_json::to_vec(&reply).map_err(Failure::internal)?;
        let row = self.digest.to_string();
        let sealed = self.ring().seal(aad(&row), &plain, self.app.entropy());
        idempotency::answered(&mut connection, &self.caller, self.digest.as_bytes(), &sealed).await?;
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    fn replay(&self, sealed: &[u8]) -> Outcome<Response> {
        let row = self.digest.to_string();
        let plain = self.ring().open(aad(&row), sealed).map_err(Failure::internal)?;
        let reply: Reply = serde_json::from_slice(plain.expose_secret()).map_err(Failure::internal)?;
        let mut response = Response::new(Body::from(reply.body));
        *response.status_mut() = StatusCode::from_u16(reply.status).map_err(Failure::internal)?;
        for (name, value) in reply.headers {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) else {
                continue;
            };
            response.headers_mut().append(name, value);
        }
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    }

    fn ring(&self) -> ReplyRing {
        ReplyRing::single(derive_key(self.key.as_bytes(), self.caller.as_bytes()))
    }
}

fn aad(row: &str) -> Aad<'_> {
    Aad {
        table_column: "idempotency_keys.sealed",
        row,
    }
}

/// The one key of the request.
fn read(headers: &HeaderMap) -> Outcome<String> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = given.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sound = (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if sound && given.next().is_none() {
        return Ok(key.to_owned());
    }
    let message = "Idempotency-Key must be one value of 1 to 255 printable ASCII characters without spaces";
    Err(Failure::invalid_request(message).with_reason("idempotency_key").into())
}

/// The path is that below the base, so that both bases are one API.
fn fingerprint(parts: &Parts, body: &Bytes) -> Digest {
    let mut bytes = Vec::with_capacity(body.len() + 128);
    bytes.extend_from_slice(parts.method.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(parts.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(body);
    Digest::of(&bytes)
}
