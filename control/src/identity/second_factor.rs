//! The second factor at a sign-in, and where it is switched on and off.
//!
//! Five wrong codes in a row and none is looked at for a quarter of an hour. A recovery code works once. The secret is sealed
//! under the platform's ring; without one (`encryption.key`) nobody can switch a second factor on.

use authsome_core::error::Failure;
use authsome_core::id::UserId;
use authsome_core::seal::{Aad, PlatformRing};
use secrecy::ExposeSecret;
use sqlx::PgConnection;
use time::Duration;

use super::totp;
use crate::db::second_factors::{self, Factor};
use crate::error::{Outcome, Problem};
use crate::state::App;

/// Wrong codes in a row.
const FAILURES: i32 = 5;
/// How long no code is looked at after them.
const LOCK: Duration = Duration::minutes(15);

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is right, or there is no second factor to ask for.
    Passed,
    /// None was given.
    Missing,
    /// It is wrong, or was used before.
    Wrong,
    /// None is looked at for as many seconds.
    Locked(u64),
}

impl Verdict {
    /// For the audit trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Locked(_) => "locked",
        }
    }

    /// Nothing, or what the client is told.
    pub fn require(self) -> Outcome<()> {
        let problem: Problem = match self {
            Self::Passed => return Ok(()),
            Self::Missing => Failure::unauthorized("Send the code of your authenticator, or a recovery code")
                .with_reason("second_factor_required")
                .into(),
            Self::Wrong => Failure::unauthorized("The code is wrong, or was used before")
                .with_reason("second_factor_wrong")
                .into(),
            Self::Locked(seconds) => Failure::rate_limited("Too many wrong codes; try again later", seconds)
                .with_reason("second_factor_locked")
                .into(),
        };
        Err(problem)
    }
}

/// Looks at the code of a person who has a confirmed second factor. What it finds out is part of the transaction, which
/// must be committed whatever the verdict.
pub async fn check(connection: &mut PgConnection, app: &App, user: UserId, code: Option<&str>) -> Outcome<Verdict> {
    let factor = second_factors::lock(connection, user).await?;
    let Some(factor) = factor.filter(|factor| factor.confirmed) else {
        return Ok(Verdict::Passed);
    };
    judge(connection, app, user, &factor, code).await
}

/// As [`check`], for a factor that may not be confirmed yet: a right code confirms it.
pub async fn judge(
    connection: &mut PgConnection,
    app: &App,
    user: UserId,
    factor: &Factor,
    code: Option<&str>,
) -> Outcome<Verdict> {
    let now = app.clock().now();
    let Some(code) = code.map(str::trim).filter(|code| !code.is_empty()) else {
        return Ok(Verdict::Missing);
    };
    if let Some(until) = factor.locked_until.filter(|until| *until > now) {
        return Ok(Verdict::Locked(
            u64::try_from((until - now).whole_seconds()).unwrap_or(0) + 1,
        ));
    }
    let secret = ring(app)?
        .open(aad(&user.to_string()), &factor.secret)
        .map_err(Failure::internal)?;
    let step = totp::step_of(secret.expose_secret(), code, factor.last_step, now);
    let recovered = step.is_none()
        && factor.confirmed
        && second_factors::use_code(connection, user, &totp::recovery_digest(code), now).await?;
    if step.is_some() || recovered {
        second_factors::passed(connection, user, step.unwrap_or(0), now).await?;
        return Ok(Verdict::Passed);
    }
    let failures = factor.failures + 1;
    let locked = (failures >= FAILURES).then(|| now + LOCK);
    let failures = if locked.is_some() { 0 } else { failures };
    second_factors::failed(connection, user, failures, locked).await?;
    Ok(Verdict::Wrong)
}

/// The ring that seals secrets.
pub fn ring(app: &App) -> Outcome<&PlatformRing> {
    app.ring().map(|ring| &**ring).ok_or_else(|| {
        Failure::unavailable("Second factors are not set up on this installation")
            .with_reason("not_configured")
            .into()
    })
}

/// Where a secret is.
pub fn aad(row: &str) -> Aad<'_> {
    Aad {
        table_column: "second_factors.secret",
        row,
    }
}
