//! How often a password may be tried: by account, so that guessing is slow from however many addresses it comes, and without locking
//! its owner out.
//!
//! An attempt is counted before the password is looked at, so that many at once are no way around. The first five are free; then
//! each doubles the wait, from two seconds to a quarter of an hour, and a day without any forgets them all. Counted is the
//! e-mail address as it was typed, whether or not it has an account: the answers tell nothing of that.
//!
//! Whoever guesses from anywhere must not keep the owner away: attempts from a network that the account was used from lately are
//! counted apart, for that network alone. An owner who is somewhere new while somebody guesses chooses another password by mail,
//! which makes that network a known one. Counts are in Postgres, so that replicas share them; without it nobody signs in anyway.

use std::net::IpAddr;

use authsome_core::error::Failure;
use authsome_core::id::UserId;
use authsome_core::key::Digest;
use authsome_db::DbError;
use ipnet::IpNet;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::Actor;
use crate::db::sign_ins::{self, Attempts};
use crate::error::{Outcome, Problem};
use crate::server::network_of;
use crate::state::App;

/// Attempts without a wait.
const FREE: i32 = 5;
/// The wait after the last of them.
const FIRST: Duration = Duration::seconds(2);
/// The longest wait.
const LONGEST: Duration = Duration::minutes(15);
/// After as long without an attempt it is as if there had been none.
const FORGOTTEN: Duration = Duration::days(1);
/// For how long a network is known, and how many of a person are.
const PLACE_KEPT: Duration = Duration::days(90);
const PLACES: i64 = 20;

/// At which attempt the owner is told by mail.
pub const WORTH_A_LETTER: i32 = 20;

/// An attempt that was counted.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    subject: Digest,
    /// Which one it is, since the last right password.
    pub number: i32,
}

/// The next attempt, or how long to wait for it. Pure.
fn next(before: Attempts, now: OffsetDateTime) -> Result<Attempts, Duration> {
    if before.next_at > now {
        return Err(before.next_at - now);
    }
    let made = if now - before.last_at > FORGOTTEN {
        0
    } else {
        before.attempts
    };
    let attempts = made.saturating_add(1);
    Ok(Attempts {
        attempts,
        last_at: now,
        next_at: now + wait_after(attempts),
    })
}

/// The wait after as many attempts. Pure.
fn wait_after(attempts: i32) -> Duration {
    let Ok(doublings) = u32::try_from(attempts.saturating_sub(FREE)) else {
        return Duration::ZERO;
    };
    // Past ten doublings it is longer than the longest.
    (FIRST * 2_i32.pow(doublings.min(10))).min(LONGEST)
}

/// Counts an attempt to sign in to the account with this address.
pub async fn of_account(app: &App, actor: &Actor, email: &str) -> Outcome<Attempt> {
    let now = app.clock().now();
    let place = actor.address.map(network_of);
    let mut transaction = app.pool().begin().await?;
    let known = match place {
        Some(place) => sign_ins::is_known_place(&mut transaction, email, place, now - PLACE_KEPT).await?,
        None => false,
    };
    let subject = subject(email, place.filter(|_| known));
    let attempt = count(&mut transaction, subject, now).await?;
    transaction.commit().await?;
    Ok(attempt)
}

/// Counts an attempt to give the password of an account by whoever is signed in to it.
pub async fn of_person(app: &App, user: UserId) -> Outcome<Attempt> {
    let mut transaction = app.pool().begin().await?;
    let subject = Digest::of(format!("authsome.password.v1:{user}").as_bytes());
    let attempt = count(&mut transaction, subject, app.clock().now()).await?;
    transaction.commit().await?;
    Ok(attempt)
}

async fn count(connection: &mut PgConnection, subject: Digest, now: OffsetDateTime) -> Outcome<Attempt> {
    let before = sign_ins::lock(connection, &subject, now).await?;
    let after = next(before, now).map_err(too_many)?;
    sign_ins::set(connection, &subject, &after).await?;
    Ok(Attempt {
        subject,
        number: after.attempts,
    })
}

/// The password was right: what was counted with the attempt is forgotten.
pub async fn right(connection: &mut PgConnection, attempt: &Attempt) -> Outcome<()> {
    Ok(sign_ins::clear(connection, &attempt.subject).await?)
}

/// The person was recognised in this network: whoever guesses from elsewhere does not slow them here.
pub async fn recognised(
    connection: &mut PgConnection,
    app: &App,
    user: UserId,
    address: Option<IpAddr>,
) -> Outcome<()> {
    if let Some(address) = address {
        sign_ins::remember_place(connection, user, network_of(address), app.clock().now(), PLACES).await?;
    }
    Ok(())
}

/// The account's password is another one: all guesses at the old one are void.
pub async fn begin_anew(connection: &mut PgConnection, email: &str) -> Outcome<()> {
    Ok(sign_ins::clear(connection, &subject(email, None)).await?)
}

/// Forgets what is too old to matter.
pub async fn tidy(connection: &mut PgConnection, now: OffsetDateTime) -> Result<(), DbError> {
    sign_ins::forget(connection, now - FORGOTTEN, now - PLACE_KEPT).await
}

fn subject(email: &str, place: Option<IpNet>) -> Digest {
    let place = place.map(|place| place.to_string()).unwrap_or_default();
    Digest::of(format!("authsome.sign-in.v1:{place}:{}", email.to_lowercase()).as_bytes())
}

fn too_many(wait: Duration) -> Problem {
    let seconds = u64::try_from(wait.whole_seconds()).unwrap_or(0) + 1;
    Failure::rate_limited(
        "Too many wrong passwords; try again later, or choose another password",
        seconds,
    )
    .with_reason("too_many_attempts")
    .into()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn none() -> Attempts {
        Attempts {
            attempts: 0,
            last_at: START,
            next_at: START,
        }
    }

    #[test]
    fn five_attempts_are_free_and_then_each_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let waits: Vec<i64> = (1..=20).map(|attempts| wait_after(attempts).whole_seconds()).collect();
        assert_eq!(waits[..8], [0, 0, 0, 0, 2, 4, 8, 16]);
        assert!(waits.is_sorted());
        assert_eq!(waits[19], 900);
        assert_eq!(wait_after(i32::MAX), LONGEST);
        assert_eq!(wait_after(i32::MIN), Duration::ZERO);
    }

    #[test]
    fn whoever_never_rests_has_a_hundred_and_ten_guesses_a_day() {
        let (mut state, mut now, mut made) = (none(), START, 0);
        while now < START + Duration::days(1) {
            match next(state, now) {
                Ok(after) => {
                    state = after;
                    made += 1;
                }
                Err(wait) => now += wait,
            }
        }
        assert!((90..=110).contains(&made), "{made}");
    }

    #[test]
    fn a_day_of_rest_forgets_everything() {
        let tired = Attempts {
            attempts: 100,
            last_at: START,
            next_at: START + LONGEST,
        };
        assert_eq!(next(tired, START + Duration::minutes(1)), Err(Duration::minutes(14)));
        assert_eq!(next(tired, START + LONGEST).unwrap().attempts, 101);
        assert_eq!(next(tired, START + Duration::days(1)).unwrap().attempts, 101);
        assert_eq!(next(tired, START + Duration::hours(25)).unwrap().attempts, 1);
    }

    #[test]
    fn case_does_not_make_another_account_and_a_place_makes_another_count() {
        assert_eq!(subject("Ada@Example.com", None), subject("ada@example.com", None));
        let place = |text: &str| Some(network_of(text.parse().unwrap()));
        assert_ne!(subject("a@x.io", None), subject("a@x.io", place("192.0.2.1")));
        assert_ne!(
            subject("a@x.io", place("192.0.2.2")),
            subject("a@x.io", place("192.0.2.1"))
        );
        assert_eq!(
            subject("a@x.io", place("2001:db8::1")),
            subject("a@x.io", place("2001:db8::2"))
        );
    }
}
