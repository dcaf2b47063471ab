//! Sign-up, sign-in, sign-out and refresh.
//!
//! Replies about a user name it in `X-AuthSome-User-ID` too, which is how the platform counts active users.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::body::Body;
use super::caller::{COOKIE_NAME, Caller, Origin};
use crate::db::sessions::{self, NewSession};
use crate::db::users;
use crate::error::ApiError;
use crate::state::Instance;
use crate::{id, token};

static USER_ID: HeaderName = HeaderName::from_static("x-authsome-user-id");

/// Hashing takes time in proportion; nobody types more.
const LONGEST_PASSWORD: usize = 1024;

#[derive(Deserialize)]
pub(crate) struct SignUp {
    email: String,
    password: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    email: String,
    password: String,
}

#[derive(Deserialize)]
pub(crate) struct Refresh {
    refresh_token: String,
}

type Reply = (StatusCode, HeaderMap, Json<Value>);

/// `POST /v1/signup`
pub(crate) async fn sign_up(
    State(instance): State<Arc<Instance>>,
    origin: Origin,
    Body(body): Body<SignUp>,
) -> Result<Reply, ApiError> {
    let pool = instance.database()?;
    let email = email(&body.email)?;
    let length = body.password.chars().count();
    let shortest = instance.shortest_password();
    if !(shortest..=LONGEST_PASSWORD).contains(&length) {
        return Err(ApiError::BadRequest(format!(
            "password must have {shortest} to {LONGEST_PASSWORD} characters"
        )));
    }
    let name = body.name.trim();
    if name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(ApiError::BadRequest(
            "name must have at most 200 characters and no control characters".to_owned(),
        ));
    }
    // Asked before the costly hash; the insert still decides.
    if users::exists(pool, &email).await? {
        return Err(ApiError::EmailTaken);
    }
    let hash = instance.passwords.hash(body.password, &*instance.entropy).await?;
    let user_id = id::user(&*instance.clock, &*instance.entropy);
    users::insert(pool, &user_id, &email, name, &hash).await?;
    signed_in(&instance, &user_id, origin, StatusCode::CREATED).await
}

/// `POST /v1/signin`
pub(crate) async fn sign_in(
    State(instance): State<Arc<Instance>>,
    origin: Origin,
    Body(body): Body<SignIn>,
) -> Result<Reply, ApiError> {
    let pool = instance.database()?;
    let email = email(&body.email)?;
    if body.password.chars().count() > LONGEST_PASSWORD {
        return Err(ApiError::InvalidCredentials);
    }
    let (user_id, hash) = users::credentials(pool, &email).await?.unzip();
    let verified = instance.passwords.verify(body.password, hash).await?;
    match user_id {
        Some(user_id) if verified => signed_in(&instance, &user_id, origin, StatusCode::OK).await,
        _ => Err(ApiError::InvalidCredentials),
    }
}

/// `POST /v1/refresh`
pub(crate) async fn refresh(
    State(instance): State<Arc<Instance>>,
    Body(body): Body<Refresh>,
) -> Result<Reply, ApiError> {
    let tokens = Tokens::generate(&instance);
    let session = sessions::rotate(
        instance.database()?,
        &token::digest_of(&body.refresh_token),
        &token::digest_of(&tokens.session),
        &token::digest_of(&tokens.refresh),
        tokens.expires_at,
        tokens.refresh_expires_at,
    )
    .await?
    .ok_or(ApiError::Unauthenticated)?;
    instance
        .presence
        .seen(&session.id, &*instance.clock, instance.session_lifetime())
        .await;
    Ok((StatusCode::OK, tokens.headers(&session.user_id)?, Json(tokens.body()?)))
}

/// `POST /v1/signout`
pub(crate) async fn sign_out(
    State(instance): State<Arc<Instance>>,
    Caller(session): Caller,
) -> Result<Reply, ApiError> {
    sessions::delete(instance.database()?, &session.user_id, &session.id).await?;
    instance.presence.forget(&session.id).await;
    let mut headers = HeaderMap::new();
    headers.insert(
        SET_COOKIE,
        header(format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"))?,
    );
    Ok((StatusCode::OK, headers, Json(json!({ "status": "signed_out" }))))
}

async fn signed_in(instance: &Instance, user_id: &str, origin: Origin, status: StatusCode) -> Result<Reply, ApiError> {
    let pool = instance.database()?;
    let tokens = Tokens::generate(instance);
    let session = id::session(&*instance.clock, &*instance.entropy);
    sessions::insert(
        pool,
        NewSession {
            id: &session,
            user_id,
            token_hash: &token::digest_of(&tokens.session),
            refresh_hash: &token::digest_of(&tokens.refresh),
            expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at,
            user_agent: &origin.user_agent,
            ip_address: &origin.address,
        },
    )
    .await?;
    instance
        .presence
        .seen(&session, &*instance.clock, instance.session_lifetime())
        .await;
    let mut body = tokens.body()?;
    body["user"] = json!(users::get(pool, user_id).await?);
    Ok((status, tokens.headers(user_id)?, Json(body)))
}

/// What a client holds of a session.
struct Tokens {
    session: String,
    refresh: String,
    lifetime: Duration,
    expires_at: OffsetDateTime,
    refresh_expires_at: OffsetDateTime,
}

impl Tokens {
    fn generate(instance: &Instance) -> Self {
        let now = instance.clock.now();
        Self {
            session: token::generate(&*instance.entropy),
            refresh: token::generate(&*instance.entropy),
            lifetime: instance.session_lifetime(),
            expires_at: now + instance.session_lifetime(),
            refresh_expires_at: now + instance.refresh_lifetime(),
        }
    }

    fn body(&self) -> Result<Value, ApiError> {
        let expires_at = self
            .expires_at
            .format(&Rfc3339)
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        Ok(json!({ "session_token": self.session, "refresh_token": self.refresh, "expires_at": expires_at }))
    }

    fn headers(&self, user_id: &str) -> Result<HeaderMap, ApiError> {
        let age = self.lifetime.as_secs();
        let cookie = format!(
            "{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}",
            self.session
        );
        let mut headers = HeaderMap::new();
        headers.insert(SET_COOKIE, header(cookie)?);
        headers.insert(USER_ID.clone(), header(user_id.to_owned())?);
        Ok(headers)
    }
}

fn header(text: String) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(text).map_err(|error| ApiError::Internal(error.to_string()))
}

/// The form in which an e-mail address is kept and compared: trimmed and in lower case.
fn email(text: &str) -> Result<String, ApiError> {
    let email = text.trim().to_lowercase();
    let parts = email.rsplit_once('@');
    let sound = parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && email.len() <= 254
        && !email.contains(|c: char| c.is_whitespace() || c.is_control());
    if sound {
        Ok(email)
    } else {
        Err(ApiError::BadRequest("email must be an e-mail address".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_account_however_the_address_is_typed() {
        assert_eq!(email(" Ada@Example.COM ").unwrap(), "ada@example.com");
        for bad in ["", "ada", "@example.com", "ada@", "a b@example.com", "a\0@example.com"] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
        assert!(email(&format!("{}@example.com", "a".repeat(250))).is_err());
    }
}
