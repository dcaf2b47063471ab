//! Letters to people: what they say, and the queue that they wait in.
//!
//! Owns the kinds of letters and their words. A letter is queued in the transaction of what it tells of ([`post`]) and sent by
//! [`crate::tasks::mailer`]; without a mail server it waits in Postgres and nothing else is delayed. A row of the queue
//! names ids only: what a letter says is looked up, and its link signed, when it is sent, so that a letter about something
//! that is over by then is dropped, and the queue is no place to find links in.

mod compose;
mod transport;

use authsome_core::clock::Clock;
use authsome_core::entropy::{self, Entropy};
use authsome_core::id::{ApplicationId, KeyId, MemberId, UserId};
use authsome_db::DbError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::Duration;
use uuid::Uuid;

use crate::db::mails;
use crate::error::Outcome;
use crate::state::App;

pub use compose::{Content, compose};
pub use transport::{Security, SendError, Smtp, SmtpError};

/// For letters that anybody can cause: the shortest time between two of a kind to one address, …
const APART: Duration = Duration::minutes(1);
/// … and the most of a kind to one address in a day.
const A_DAY: i64 = 10;

/// A letter, with the ids of what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "params", rename_all = "snake_case")]
pub enum Letter {
    /// Somebody signed up with the address: a link to confirm it; or, where there is no account of this id because the address
    /// had one already, a word about that.
    SignUp {
        /// The account that was made, if one was.
        user: UserId,
    },
    /// A link to confirm the address.
    VerifyEmail {
        /// Whose address.
        user: UserId,
    },
    /// A link to choose another password, if the address has an account.
    ResetPassword {},
    /// The password was changed.
    PasswordChanged {
        /// Whose.
        user: UserId,
    },
    /// An identity provider's tokens are good for the account.
    IdentityLinked {
        /// Whose.
        user: UserId,
    },
    /// Somebody tries passwords.
    SignInAttempts {
        /// Whose.
        user: UserId,
    },
    /// The second factor was switched on or off.
    SecondFactor {
        /// Whose.
        user: UserId,
        /// On?
        on: bool,
    },
    /// A key was reported as leaked, and is revoked.
    KeyLeaked {
        /// Which one.
        key: KeyId,
    },
    /// An application has used up so much of what it may in a month.
    UsageThreshold {
        /// Which one.
        application: ApplicationId,
        /// The month, as `YYYY-MM`.
        period: String,
        /// Of what is allowed.
        percent: i32,
    },
    /// The record that proves a host name is missing.
    HostRecord {
        /// Where the name leads, or led.
        application: ApplicationId,
        /// The name.
        host: String,
        /// It does not lead there any more.
        lost: bool,
    },
    /// A link to become a member of a workspace.
    Invitation {
        /// The membership.
        member: MemberId,
    },
}

/// Queues a letter. It is sent only if the transaction commits.
pub async fn post(connection: &mut PgConnection, app: &App, recipient: &str, letter: &Letter) -> Outcome<()> {
    Ok(post_by(connection, app.clock(), app.entropy(), recipient, letter).await?)
}

/// As [`post`], for tasks.
pub async fn post_by(
    connection: &mut PgConnection,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    recipient: &str,
    letter: &Letter,
) -> Result<(), DbError> {
    let (kind, params) = row(letter);
    let millis = u64::try_from(clock.unix_millis()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &entropy::bytes(entropy)).into_uuid();
    mails::insert(connection, id, &kind, &params, recipient, clock.now()).await
}

/// As [`post`], for letters that anybody can have sent to any address: of one kind at most one a minute and ten a day. What is
/// above that is left out without a word, since a word would tell what was sent before.
pub async fn post_sparingly(connection: &mut PgConnection, app: &App, recipient: &str, letter: &Letter) -> Outcome<()> {
    let (kind, _) = row(letter);
    let now = app.clock().now();
    let (day, lately) =
        mails::written_since(connection, recipient, &kind, now - Duration::days(1), now - APART).await?;
    if day >= A_DAY || lately > 0 {
        tracing::debug!(kind, "too many letters to one address; this one is left out");
        return Ok(());
    }
    post(connection, app, recipient, letter).await
}

/// As [`post`], unless the address was sent as many letters of this kind in a day as it may be sent: then `false`.
pub async fn post_within_a_day(
    connection: &mut PgConnection,
    app: &App,
    recipient: &str,
    letter: &Letter,
) -> Outcome<bool> {
    let (kind, _) = row(letter);
    let now = app.clock().now();
    let (day, _) = mails::written_since(connection, recipient, &kind, now - Duration::days(1), now).await?;
    if day >= A_DAY {
        return Ok(false);
    }
    post(connection, app, recipient, letter).await?;
    Ok(true)
}

fn row(letter: &Letter) -> (String, Value) {
    // A struct of ids always serialises.
    let mut value = serde_json::to_value(letter).unwrap_or_default();
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    (kind, value["params"].take())
}

/// The letter of a row; `None` if this release knows no such letter.
pub fn letter(kind: &str, params: &Value) -> Option<Letter> {
    serde_json::from_value(json!({ "kind": kind, "params": params })).ok()
}

/// The `Message-ID` of a letter.
pub fn message_id(id: Uuid, domain: &str) -> String {
    format!("<{id}@{domain}>")
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn every_letter_survives_the_queue() {
        let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(1));
        let user = UserId::generate(&clock, &entropy);
        let member = MemberId::generate(&clock, &entropy);
        for written in [
            Letter::SignUp { user },
            Letter::VerifyEmail { user },
            Letter::ResetPassword {},
            Letter::PasswordChanged { user },
            Letter::SignInAttempts { user },
            Letter::IdentityLinked { user },
            Letter::SecondFactor { user, on: true },
            Letter::KeyLeaked {
                key: KeyId::generate(&clock, &entropy),
            },
            Letter::UsageThreshold {
                application: ApplicationId::generate(&clock, &entropy),
                period: "2026-11".to_owned(),
                percent: 80,
            },
            Letter::HostRecord {
                application: ApplicationId::generate(&clock, &entropy),
                host: "login.example.com".to_owned(),
                lost: true,
            },
            Letter::Invitation { member },
        ] {
            let (kind, params) = row(&written);
            assert!(params.is_object(), "{params}");
            assert_eq!(letter(&kind, &params), Some(written));
        }
        assert_eq!(letter("unheard_of", &json!({})), None);
    }
}
