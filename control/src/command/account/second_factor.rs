//! Switching the second factor on and off.

use authsome_core::entropy;
use authsome_core::error::Failure;
use secrecy::{SecretSlice, SecretString};
use serde_json::json;
use sqlx::PgConnection;

use crate::audit::{self, Deed};
use crate::db::{accounts, second_factors};
use crate::error::{Outcome, Problem};
use crate::identity::second_factor::{self, Verdict, aad, ring};
use crate::identity::{Caller, attempts, totp};
use crate::mail::{self, Letter};
use crate::state::App;

/// What an authenticator needs. Shown once.
#[derive(Debug)]
pub struct Begun {
    /// The secret, for people to type.
    pub secret: SecretString,
    /// The same for a picture.
    pub address: SecretString,
}

/// Begins to switch the second factor on: it is asked for once a first code was given to [`confirm`]. Whoever only has the
/// session must not be able to lock its person out, so the password is asked for.
pub async fn begin(app: &App, caller: &Caller, password: SecretString) -> Outcome<Begun> {
    let ring = ring(app)?;
    if !caller.email_verified {
        return Err(Failure::forbidden("Confirm your e-mail address first")
            .with_reason("email_not_verified")
            .into());
    }
    let account = accounts::find(&mut *app.pool().acquire().await?, caller.user).await?;
    let hash = account.and_then(|account| account.password_hash);
    let attempt = attempts::of_person(app, caller.user).await?;
    if !app.passwords().verify(password, hash).await? {
        return Err(Failure::forbidden("The password is not right")
            .with_reason("wrong_password")
            .into());
    }
    let secret: SecretSlice<u8> = entropy::bytes::<{ totp::SECRET }>(app.entropy()).to_vec().into();
    let bytes = secrecy::ExposeSecret::expose_secret(&secret);
    let sealed = ring.seal(aad(&caller.user.to_string()), bytes, app.entropy());
    let mut transaction = app.pool().begin().await?;
    attempts::right(&mut transaction, &attempt).await?;
    if !second_factors::begin(&mut transaction, caller.user, &sealed, app.clock().now()).await? {
        return Err(Failure::conflict("The second factor is on; switch it off first")
            .with_reason("second_factor_on")
            .into());
    }
    transaction.commit().await?;
    Ok(Begun {
        secret: totp::written(bytes).into(),
        address: totp::address(bytes, &caller.email).into(),
    })
}

/// Switches the second factor on by a first code, and gives recovery codes. They are shown once.
pub async fn confirm(app: &App, caller: &Caller, code: &str) -> Outcome<Vec<String>> {
    let mut transaction = app.pool().begin().await?;
    let factor = second_factors::lock(&mut transaction, caller.user).await?;
    let factor = factor.ok_or_else(|| {
        Failure::conflict("Begin to switch the second factor on first").with_reason("second_factor_off")
    })?;
    if factor.confirmed {
        return Err(Failure::conflict("The second factor is on")
            .with_reason("second_factor_on")
            .into());
    }
    let verdict = second_factor::judge(&mut transaction, app, caller.user, &factor, Some(code)).await?;
    if verdict != Verdict::Passed {
        transaction.commit().await?;
        return Err(wrong(verdict));
    }
    let codes = new_codes(&mut transaction, app, caller).await?;
    told(&mut transaction, app, caller, "auth.second_factor_on", true).await?;
    transaction.commit().await?;
    Ok(codes)
}

/// Switches the second factor off, by a code.
pub async fn remove(app: &App, caller: &Caller, code: &str) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    require_on(&mut transaction, caller).await?;
    let verdict = second_factor::check(&mut transaction, app, caller.user, Some(code)).await?;
    if verdict != Verdict::Passed {
        transaction.commit().await?;
        return Err(wrong(verdict));
    }
    second_factors::remove(&mut transaction, caller.user).await?;
    told(&mut transaction, app, caller, "auth.second_factor_off", false).await?;
    transaction.commit().await?;
    Ok(())
}

/// Other recovery codes, by a code. The old ones are void.
pub async fn renew_codes(app: &App, caller: &Caller, code: &str) -> Outcome<Vec<String>> {
    let mut transaction = app.pool().begin().await?;
    require_on(&mut transaction, caller).await?;
    let verdict = second_factor::check(&mut transaction, app, caller.user, Some(code)).await?;
    if verdict != Verdict::Passed {
        transaction.commit().await?;
        return Err(wrong(verdict));
    }
    let codes = new_codes(&mut transaction, app, caller).await?;
    let deed = Deed::of_user("auth.recovery_codes", Some(caller.user));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(codes)
}

async fn require_on(connection: &mut PgConnection, caller: &Caller) -> Outcome<()> {
    if second_factors::is_on(connection, caller.user).await? {
        return Ok(());
    }
    Err(Failure::conflict("The second factor is off")
        .with_reason("second_factor_off")
        .into())
}

async fn new_codes(connection: &mut PgConnection, app: &App, caller: &Caller) -> Outcome<Vec<String>> {
    let codes = totp::recovery_codes(app.entropy());
    let digests: Vec<_> = codes.iter().map(|code| totp::recovery_digest(code)).collect();
    second_factors::replace_codes(connection, caller.user, &digests).await?;
    Ok(codes)
}

async fn told(
    connection: &mut PgConnection,
    app: &App,
    caller: &Caller,
    action: &'static str,
    on: bool,
) -> Outcome<()> {
    let deed = Deed::of_user(action, Some(caller.user)).changing(json!({ "secondFactor": on }));
    audit::record(connection, app, &caller.actor, &deed).await?;
    let letter = Letter::SecondFactor { user: caller.user, on };
    mail::post(connection, app, &caller.email, &letter).await
}

/// 403 rather than 401: the session is good, the code is not.
fn wrong(verdict: Verdict) -> Problem {
    match verdict {
        Verdict::Locked(_) => match verdict.require() {
            Err(problem) => problem,
            Ok(()) => Failure::forbidden("The code is wrong").into(),
        },
        _ => Failure::forbidden("The code is wrong, or was used before")
            .with_reason("second_factor_wrong")
            .into(),
    }
}
