//! Signed, expiring links that come by mail: proof that somebody reads an address.
//!
//! A link says what it is for, whom it is about and until when; it is signed with the same secrets as access tokens, so it
//! outlives their rotation. It holds a mark of the state that it was made for (the password, the address, the invitation)
//! and is good only while that state is: using it changes the state, so it works once, and no table of links is kept.

use std::fmt;
use std::str::FromStr;

use authsome_core::error::Failure;
use authsome_core::id::{Id, Kind};
use authsome_core::key::Digest;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::token::{ISSUER, Tokens};
use crate::error::{Outcome, Problem};

/// Never that of an access token.
const AUDIENCE: &str = "authsome-control/link";

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The address of an account is the person's.
    VerifyEmail,
    /// Choose another password.
    ResetPassword,
    /// Become a member of a workspace.
    Invitation,
}

impl Purpose {
    /// How long such a link is good.
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::VerifyEmail => Duration::hours(24),
            Self::ResetPassword => Duration::hours(1),
            Self::Invitation => Duration::days(7),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    purpose: Purpose,
    sub: String,
    mark: String,
    exp: i64,
}

/// What a link says, believed as far as its signature and its time go.
#[derive(Debug)]
pub struct Link<K: Kind> {
    /// Whom or what it is about.
    pub subject: Id<K>,
    mark: String,
}

impl<K: Kind> Link<K> {
    /// Refuses a link whose state is gone: it was used, or a newer one took its place.
    pub fn require(&self, state: &Mark) -> Outcome<()> {
        if Digest::of(self.mark.as_bytes()).same_as(&Digest::of(state.0.as_bytes())) {
            Ok(())
        } else {
            Err(no_longer())
        }
    }
}

/// A fingerprint of the state that a link is good for.
#[derive(Debug, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// Of texts that change when the link is used.
    pub fn of(parts: &[&str]) -> Self {
        let mut all = String::from("authsome.link.v1");
        for part in parts {
            // The length first, so that no two lists give the same text.
            let _ = fmt::Write::write_fmt(&mut all, format_args!(":{}:{part}", part.len()));
        }
        Self(Digest::of(all.as_bytes()).to_string().chars().take(32).collect())
    }
}

/// Signs a link. It ends `purpose.lifetime()` from now.
pub fn make<K: Kind>(tokens: &Tokens, purpose: Purpose, subject: Id<K>, mark: Mark, now: OffsetDateTime) -> String {
    tokens.sign(&Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        purpose,
        sub: subject.to_string(),
        mark: mark.0,
        exp: (now + purpose.lifetime()).unix_timestamp(),
    })
}

/// Reads a link. One text for every reason of refusal but age, which people can do something about.
pub fn read<K: Kind>(tokens: &Tokens, purpose: Purpose, text: &str, now: OffsetDateTime) -> Outcome<Link<K>> {
    let claims: Claims = tokens.opened(text).map_err(refused)?;
    if claims.iss != ISSUER || claims.aud != AUDIENCE || claims.purpose != purpose {
        return Err(refused(super::TokenError::Claims));
    }
    if claims.exp <= now.unix_timestamp() {
        return Err(no_longer());
    }
    let subject = Id::from_str(&claims.sub).map_err(|_| refused(super::TokenError::Malformed))?;
    Ok(Link {
        subject,
        mark: claims.mark,
    })
}

fn refused(error: super::TokenError) -> Problem {
    tracing::debug!(%error, "link refused");
    Failure::invalid_request("This link is not valid; copy it whole, or ask for another")
        .with_reason("link_invalid")
        .with_details(serde_json::json!({ "fields": { "token": "is not valid" } }))
        .into()
}

/// 400: the link was good once.
pub fn no_longer() -> Problem {
    Failure::invalid_request("This link was used or is too old; ask for another")
        .with_reason("link_expired")
        .with_details(serde_json::json!({ "fields": { "token": "was used or is too old" } }))
        .into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration as Std;

    use authsome_core::clock::{Clock, ManualClock};
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::id::{Member, MemberId, SessionId, User, UserId};
    use secrecy::ExposeSecret;

    use super::*;

    fn tokens(secret: &str, older: &[&str]) -> Tokens {
        let older: Vec<_> = older.iter().map(|secret| (*secret).to_owned().into()).collect();
        Tokens::new(&secret.to_owned().into(), &older, Std::from_hours(1))
    }

    const NEW: &str = "0123456789abcdef0123456789abcdef";
    const OLD: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn a_link_is_good_for_its_purpose_its_time_and_its_state_only() {
        let clock = ManualClock::default();
        let user = UserId::generate(&clock, &SeededEntropy::new(1));
        let tokens = tokens(NEW, &[]);
        let now = clock.now();
        let text = make(&tokens, Purpose::ResetPassword, user, Mark::of(&["hash"]), now);
        let read = |purpose, at| read::<User>(&tokens, purpose, &text, at);

        let link = read(Purpose::ResetPassword, now + Duration::minutes(59)).unwrap();
        assert_eq!(link.subject, user);
        assert!(link.require(&Mark::of(&["hash"])).is_ok());
        assert!(link.require(&Mark::of(&["another"])).is_err());
        assert!(read(Purpose::VerifyEmail, now).is_err());
        assert!(read(Purpose::Invitation, now).is_err());
        assert!(read(Purpose::ResetPassword, now + Duration::hours(1)).is_err());
    }

    #[test]
    fn a_link_outlives_the_rotation_of_the_secret() {
        let clock = ManualClock::default();
        let member = MemberId::generate(&clock, &SeededEntropy::new(1));
        let text = make(
            &tokens(OLD, &[]),
            Purpose::Invitation,
            member,
            Mark::of(&["a"]),
            clock.now(),
        );
        let read = |tokens: Tokens| read::<Member>(&tokens, Purpose::Invitation, &text, clock.now()).is_ok();
        assert!(read(tokens(NEW, &[OLD])));
        assert!(!read(tokens(NEW, &[])));
    }

    #[test]
    fn neither_is_an_access_token_a_link_nor_a_link_an_access_token() {
        let clock = ManualClock::default();
        let entropy = SeededEntropy::new(1);
        let user = UserId::generate(&clock, &entropy);
        let tokens = tokens(NEW, &[]);
        let (access, _) = tokens.issue(user, SessionId::generate(&clock, &entropy), clock.now());
        assert!(read::<User>(&tokens, Purpose::VerifyEmail, access.expose_secret(), clock.now()).is_err());
        let link = make(&tokens, Purpose::VerifyEmail, user, Mark::of(&[]), clock.now());
        assert!(tokens.verify(&link, clock.now()).is_err());
        for text in ["", "a", "a.b.c", &link[..link.len() - 1]] {
            assert!(
                read::<User>(&tokens, Purpose::VerifyEmail, text, clock.now()).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn marks_of_different_lists_differ() {
        assert_ne!(Mark::of(&["ab", "c"]), Mark::of(&["a", "bc"]));
        assert_ne!(Mark::of(&[]), Mark::of(&[""]));
    }
}
