//! Identity providers of one's own account.

use authsome_core::error::Failure;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::audit::{self, Deed};
use crate::db::accounts;
use crate::db::identities;
use crate::error::{Fields, Outcome};
use crate::identity::federated::{self, IdentityId};
use crate::identity::{Caller, attempts};
use crate::mail::{self, Letter};
use crate::state::App;

/// Links the identity that a token proves to the caller's account. Whoever only has a session must not make themselves a lasting
/// way in, so the password is asked for where there is one.
pub async fn link(app: &App, caller: &Caller, token: &SecretString, password: SecretString) -> Outcome<()> {
    let token = token.expose_secret();
    let mut fields = Fields::new();
    let issuer = app.issuers().of(token);
    fields.require(
        issuer.is_some(),
        "token",
        "must be a token of an identity provider that is set up here",
    );
    fields.finish()?;
    let Some(issuer) = issuer else { return Ok(()) };
    let account = accounts::find(&mut *app.pool().acquire().await?, caller.user).await?;
    if let Some(hash) = account.and_then(|account| account.password_hash) {
        let attempt = attempts::of_person(app, caller.user).await?;
        if !app.passwords().verify(password, Some(hash)).await? {
            return Err(Failure::forbidden("The password is not right")
                .with_reason("wrong_password")
                .into());
        }
        attempts::right(&mut *app.pool().acquire().await?, &attempt).await?;
    }
    let claims = issuer.verify(token, app.clock().now()).await.map_err(|error| {
        tracing::debug!(%error, "token of an identity refused");
        Failure::invalid_request("The identity provider's token is not good; sign in there again")
            .with_details(json!({ "fields": { "token": "is not good" } }))
    })?;
    let mut transaction = app.pool().begin().await?;
    if !federated::link(&mut transaction, app, &caller.actor, caller.user, issuer, &claims).await? {
        return Err(Failure::conflict("This identity is linked to an account already")
            .with_reason("identity_taken")
            .into());
    }
    let letter = Letter::IdentityLinked { user: caller.user };
    mail::post(&mut transaction, app, &caller.email, &letter).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes an identity away, unless it is the only way in.
pub async fn remove(app: &App, caller: &Caller, id: IdentityId) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    // One at a time, so that two cannot take the last two.
    let account = accounts::lock(&mut transaction, caller.user).await?;
    let removed = identities::remove(&mut transaction, caller.user, id).await?;
    let removed = removed.ok_or_else(|| Failure::not_found("Identity not found"))?;
    let (_, left) = identities::of_user(&mut transaction, caller.user, 1, 0).await?;
    if left == 0 && account.is_none_or(|account| account.password_hash.is_none()) {
        return Err(
            Failure::conflict("This is the only way into your account; choose a password first")
                .with_reason("last_sign_in")
                .into(),
        );
    }
    let changes = json!({ "identity": id, "issuer": removed.issuer, "subject": removed.subject });
    let deed = Deed::of_user("auth.identity_unlink", Some(caller.user)).changing(changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(())
}
