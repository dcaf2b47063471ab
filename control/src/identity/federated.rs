//! From a token of an identity provider to a person of ours.
//!
//! Issuer and subject are who somebody is; the address only helps the first time. It counts if the issuer says that it was confirmed
//! and may vouch for its domain. Then the account with the address is theirs, or one is made. Two things are different:
//!
//! - An account whose address nobody confirmed may have been made by somebody else who waits for its owner. Its password, second
//!   factor and sessions end as the owner comes.
//! - An account with a second factor is linked by its owner alone, signed in ([`crate::command::account::identities`]): nobody else
//!   would have been asked for a code.

use authsome_core::error::Failure;
use authsome_core::id::{Id, Kind, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::oidc::{Claims, Issuer, OidcError};
use super::{Actor, Caller};
use crate::audit::{self, Deed};
use crate::command::name;
use crate::db::identities::{self, Identity};
use crate::db::{accounts, sessions};
use crate::error::{Outcome, Problem};
use crate::mail::{self, Letter};
use crate::state::App;

/// Names the ids of identities; never a value.
#[derive(Debug)]
pub enum IdentityKind {}

impl Kind for IdentityKind {
    const PREFIX: &'static str = "idn";
    const NOUN: &'static str = "an identity";
}

/// The id of an identity: `idn_` and 26 characters.
pub type IdentityId = Id<IdentityKind>;

/// Whose token it is, if that person may use the platform. Links or makes the account the first time.
pub async fn caller(app: &App, issuer: &Issuer, token: &str, actor: Actor) -> Outcome<Caller> {
    let claims = proved(app, issuer, token).await?;
    let name = &issuer.settings().issuer;
    let known = {
        let mut connection = app.pool().acquire().await?;
        identities::person(&mut connection, name, &claims.sub).await?
    };
    let person = if let Some(person) = known {
        person
    } else {
        first_seen(app, issuer, &claims, &actor).await?;
        let mut connection = app.pool().acquire().await?;
        let person = identities::person(&mut connection, name, &claims.sub).await?;
        person.ok_or_else(refused)?
    };
    if !person.active {
        return Err(refused());
    }
    Ok(Caller {
        user: person.user,
        email: person.email,
        name: person.name,
        email_verified: person.email_verified,
        session: None,
        grant: None,
        actor: Actor {
            user: Some(person.user),
            ..actor
        },
    })
}

/// What a token proves; 401 if nothing, 503 if that cannot be told.
pub async fn proved(app: &App, issuer: &Issuer, token: &str) -> Outcome<Claims> {
    issuer.verify(token, app.clock().now()).await.map_err(|error| {
        tracing::debug!(%error, issuer = issuer.settings().issuer, "token of an issuer refused");
        if error == OidcError::Unavailable {
            return Failure::unavailable("The identity provider cannot be reached; try again")
                .with_reason("issuer_unavailable")
                .retry_after(5)
                .into();
        }
        refused()
    })
}

async fn first_seen(app: &App, issuer: &Issuer, claims: &Claims, actor: &Actor) -> Outcome<()> {
    let email = claims
        .verified_email()
        .and_then(|email| name::email(email).ok())
        .filter(|email| issuer.vouches_for(email))
        .ok_or_else(|| {
            Failure::unauthorized(
                "The identity provider does not say that your e-mail address is confirmed, which is needed the first time",
            )
            .with_reason("email_not_verified")
        })?;
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let mut found = identities::candidate(&mut transaction, &email).await?;
    if found.is_none() {
        if !issuer.settings().sign_up {
            return Err(Failure::unauthorized("There is no account for you; ask to be invited")
                .with_reason("no_account")
                .into());
        }
        let shown = claims.name.as_deref().and_then(|text| name::title(text).ok());
        let shown = shown.unwrap_or_else(|| email.split('@').next().unwrap_or("Somebody").to_owned());
        let id = UserId::generate(app.clock(), app.entropy());
        if identities::insert_account(&mut transaction, id, &email, &shown, now).await? {
            let deed = Deed::of_user("auth.sign_up", Some(id)).changing(json!({ "issuer": issuer.settings().issuer }));
            audit::record(&mut transaction, app, actor, &deed).await?;
            link(&mut transaction, app, actor, id, issuer, claims).await?;
            transaction.commit().await?;
            return Ok(());
        }
        // Made a moment ago, by a request beside this one.
        found = identities::candidate(&mut transaction, &email).await?;
    }
    let account = found.filter(|account| account.active).ok_or_else(refused)?;
    if account.verified && account.second_factor {
        return Err(Failure::unauthorized(
            "Your account has a second factor; sign in with your password and link the identity provider there",
        )
        .with_reason("link_required")
        .into());
    }
    if !account.verified {
        identities::disown(&mut transaction, account.user).await?;
        sessions::revoke_all(&mut transaction, account.user, None, now).await?;
        accounts::confirm(&mut transaction, account.user, now).await?;
    }
    if link(&mut transaction, app, actor, account.user, issuer, claims).await? {
        let letter = Letter::IdentityLinked { user: account.user };
        mail::post(&mut transaction, app, &account.email, &letter).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Links the identity, and says so in the audit trail; `false` if it is linked already.
pub async fn link(
    connection: &mut PgConnection,
    app: &App,
    actor: &Actor,
    user: UserId,
    issuer: &Issuer,
    claims: &Claims,
) -> Outcome<bool> {
    let identity = Identity {
        id: IdentityId::generate(app.clock(), app.entropy()),
        issuer: issuer.settings().issuer.clone(),
        subject: claims.sub.clone(),
        email: claims.email.as_deref().and_then(|email| name::email(email).ok()),
        linked_at: app.clock().now(),
    };
    if !identities::insert(connection, user, &identity).await? {
        return Ok(false);
    }
    let changes = json!({ "identity": identity.id, "issuer": identity.issuer, "subject": identity.subject });
    let deed = Deed::of_user("auth.identity_link", Some(user)).changing(changes);
    audit::record(connection, app, actor, &deed).await?;
    Ok(true)
}

fn refused() -> Problem {
    Failure::unauthorized("Invalid or expired token").into()
}
