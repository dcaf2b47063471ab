//! Signing in with an e-mail address and a password.

use authsome_core::error::Failure;
use authsome_core::id::UserId;
use secrecy::SecretString;
use time::OffsetDateTime;

use super::Actor;
use crate::audit::{self, Deed};
use crate::db::users;
use crate::error::{Fields, Outcome};
use crate::state::App;

/// A person who has just signed in.
#[derive(Debug)]
pub struct Session {
    /// The bearer token.
    pub token: SecretString,
    /// When the token ends.
    pub expires_at: OffsetDateTime,
    /// The person.
    pub user: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// Signs a person in. An unknown address, a wrong password and a suspended account are the same 401 after the same work;
/// only the audit trail tells them apart.
pub async fn sign_in(app: &App, actor: &Actor, email: &str, password: SecretString) -> Outcome<Session> {
    let mut fields = Fields::new();
    fields.require(
        !email.is_empty() && email.len() <= 254,
        "email",
        "must be from 1 to 254 characters long",
    );
    fields.require(!email.contains('\0'), "email", "must not contain NUL");
    let length = secrecy::ExposeSecret::expose_secret(&password).len();
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
    let matches = app.passwords().verify(password, hash).await?;

    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let known = account.as_ref().map(|account| account.id);
    let account = account.filter(|account| matches && account.active);
    let deed = Deed::of_user("auth.login", known).refused(account.is_none());
    audit::record(&mut transaction, app, actor, &deed).await?;
    let Some(account) = account else {
        transaction.commit().await?;
        return Err(Failure::unauthorized("Invalid email or password").into());
    };
    users::signed_in(&mut transaction, account.id, now).await?;
    transaction.commit().await?;

    let (token, expires_at) = app.tokens().issue(account.id, now);
    Ok(Session {
        token,
        expires_at,
        user: account.id,
        email: account.email,
        name: account.name,
    })
}
