//! Signing in with an e-mail address and a password, and staying signed in.
//!
//! A sign-in is a session: an access token (JWT) that names it, and a refresh token that is good for one use and brings the next
//! pair. Refresh tokens are kept as SHA-256 only and do not depend on the secrets that sign access tokens. One that was
//! used before comes back, however long ago: two parties hold the session, and it ends for both (RFC 9700, 4.14.2), but for a
//! moment in which an answer may have been lost on its way. See [`super::refresh_token`].

use authsome_core::entropy;
use authsome_core::error::Failure;
use authsome_core::id::{SessionId, UserId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::refresh_token::{self, Held, LEEWAY, RefreshToken, USES_MAX, Verdict as Shown};
use super::second_factor::{self, Verdict};
use super::{Actor, attempts};
use crate::audit::{self, Deed};
use crate::db::sessions::{self, NewSession, Rotation};
use crate::db::users;
use crate::error::{Fields, Outcome, Problem};
use crate::mail::{self, Letter};
use crate::state::App;

/// How long a session lasts without a refresh.
const LIFETIME: Duration = Duration::days(30);

/// A person who has just signed in, or stayed so.
#[derive(Debug)]
pub struct Session {
    /// The bearer token.
    pub token: SecretString,
    /// When the token ends.
    pub expires_at: OffsetDateTime,
    /// Good once, for the next pair.
    pub refresh_token: SecretString,
    /// When the refresh token ends.
    pub refresh_expires_at: OffsetDateTime,
    /// The person.
    pub user: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// Signs a person in. An unknown address, a wrong password and a suspended account are the same 401 after the same work;
/// only the audit trail tells them apart. Whoever knows the password is asked for the second factor, if there is one. How often
/// it may be tried is decided by [`attempts`].
pub async fn sign_in(
    app: &App,
    actor: &Actor,
    email: &str,
    password: SecretString,
    code: Option<&str>,
) -> Outcome<Session> {
    let mut fields = Fields::new();
    fields.require(
        !email.is_empty() && email.len() <= 254,
        "email",
        "must be from 1 to 254 characters long",
    );
    fields.require(!email.contains('\0'), "email", "must not contain NUL");
    let length = password.expose_secret().len();
    fields.require(
        (1..=1024).contains(&length),
        "password",
        "must be from 1 to 1024 bytes long",
    );
    fields.finish()?;

    let account = users::by_email(&mut *app.pool().acquire().await?, email).await?;
    let (account, hash) = match account {
        Some(mut account) => {
            let hash = account.password_hash.take();
            (Some(account), hash)
        }
        None => (None, None),
    };
    // By the account's own spelling: what the database takes for one address must be one here.
    let spelt = account.as_ref().map_or(email, |account| account.email.as_str());
    let attempt = attempts::of_account(app, actor, spelt).await?;
    let matches = app.passwords().verify(password, hash).await?;

    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let known = account.as_ref().map(|account| account.id);
    if let Some(account) = account
        .as_ref()
        .filter(|account| !matches && account.active && attempt.number == attempts::WORTH_A_LETTER)
    {
        let letter = Letter::SignInAttempts { user: account.id };
        mail::post_sparingly(&mut transaction, app, &account.email, &letter).await?;
    }
    let account = account.filter(|account| matches && account.active);
    if account.is_some() {
        attempts::right(&mut transaction, &attempt).await?;
    }
    let verdict = match &account {
        Some(account) => second_factor::check(&mut transaction, app, account.id, code).await?,
        None => Verdict::Passed,
    };
    let passed = account.is_some() && verdict == Verdict::Passed;
    let mut deed = Deed::of_user("auth.login", known).refused(!passed);
    if verdict != Verdict::Passed {
        deed = deed.changing(json!({ "secondFactor": verdict.as_str() }));
    }
    audit::record(&mut transaction, app, actor, &deed).await?;
    let Some(account) = account.filter(|_| passed) else {
        transaction.commit().await?;
        verdict.require()?;
        return Err(Failure::unauthorized("Invalid email or password").into());
    };
    users::signed_in(&mut transaction, account.id, now).await?;
    attempts::recognised(&mut transaction, app, account.id, actor.address).await?;
    let session = begin(&mut transaction, app, actor, account.id, account.email, account.name).await?;
    transaction.commit().await?;
    Ok(session)
}

/// A new session for a person whom the caller has recognised.
async fn begin(
    connection: &mut PgConnection,
    app: &App,
    actor: &Actor,
    user: UserId,
    email: String,
    name: String,
) -> Outcome<Session> {
    let now = app.clock().now();
    let id = SessionId::generate(app.clock(), app.entropy());
    let refresh = RefreshToken::first(app.entropy(), id);
    let new = NewSession {
        id,
        user,
        refresh: refresh.digest(),
        family: refresh.family(),
        address: actor.address,
        user_agent: actor.user_agent.as_deref(),
        at: now,
        expires_at: now + LIFETIME,
    };
    sessions::insert(connection, &new).await?;
    let (token, expires_at) = app.tokens().issue(user, id, now);
    Ok(Session {
        token,
        expires_at,
        refresh_token: refresh.text(),
        refresh_expires_at: now + LIFETIME,
        user,
        email,
        name,
    })
}

/// The next pair of tokens for a refresh token. Whatever is wrong with it is the same 401.
pub async fn refresh(app: &App, actor: &Actor, text: &SecretString) -> Outcome<Session> {
    let shown = RefreshToken::read(text).ok_or_else(over)?;
    let id = shown.session();
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let held = sessions::lock(&mut transaction, id, now).await?.ok_or_else(over)?;
    if !held.good {
        return Err(over());
    }
    let uses = sessions::uses(&mut transaction, id).await?;
    let known = Held {
        present: &held.refresh,
        family: held.family.as_deref(),
        uses: &uses,
    };
    let (refresh, refresh_expires_at) = match refresh_token::judge(&shown, &known, now) {
        Shown::Next => {
            let salt = entropy::bytes::<32>(app.entropy());
            let next = shown.next(&salt);
            let rotation = Rotation {
                used: shown.digest(),
                salt: &salt,
                next: next.digest(),
                family: next.family(),
                at: now,
                expires_at: now + LIFETIME,
            };
            sessions::rotate(&mut transaction, id, &rotation).await?;
            sessions::forget_uses(&mut transaction, id, now - LEEWAY, USES_MAX).await?;
            transaction.commit().await?;
            (next, now + LIFETIME)
        }
        Shown::Again(good) => (good, held.expires_at),
        Shown::Reused => {
            sessions::revoke(&mut transaction, held.user, id, now).await?;
            let deed = Deed::of_user("auth.refresh_reuse", Some(held.user)).refused(true);
            audit::record(&mut transaction, app, actor, &deed).await?;
            transaction.commit().await?;
            return Err(over());
        }
        Shown::Unknown => return Err(over()),
    };
    let (token, expires_at) = app.tokens().issue(held.user, id, now);
    Ok(Session {
        token,
        expires_at,
        refresh_token: refresh.text(),
        refresh_expires_at,
        user: held.user,
        email: held.email,
        name: held.name,
    })
}

fn over() -> Problem {
    Failure::unauthorized("The session is over; sign in again")
        .with_reason("session_over")
        .into()
}
