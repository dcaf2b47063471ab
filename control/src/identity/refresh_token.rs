//! Refresh tokens, and what becomes of one that is shown. Pure: rows come in, a verdict goes out.
//!
//! A token is `ses_….<family>.<secret>`. The family is the same in all tokens of a sign-in, the secret is good once. Postgres holds
//! SHA-256 of both and nothing of the tokens that were used, but for a moment: whoever knows the family and not the present
//! secret shows a token that was used before, so two parties hold the session.
//!
//! The next token is made of the one before it and a salt (HMAC-SHA-256). While the salt is kept, whoever asks again with the
//! token gets the same answer, and several tabs of one browser agree on the token that is good. The salt alone makes nothing.

use std::str::FromStr;

use authsome_core::entropy::{self, Entropy};
use authsome_core::id::SessionId;
use authsome_core::key::Digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use time::{Duration, OffsetDateTime};

/// How long a used token may come back: a client whose answer was lost tries again, and tabs refresh side by side.
pub const LEEWAY: Duration = Duration::seconds(10);

/// Most uses that are remembered of one session, however many refreshes fit into [`LEEWAY`].
pub const USES_MAX: i64 = 32;

/// Longest part after the id. Those of the release before were 43 characters long.
const LONGEST: usize = 64;
const FAMILY: usize = 16;
const SECRET: usize = 24;

/// A token, as it was made or shown.
#[derive(Debug)]
pub struct RefreshToken {
    session: SessionId,
    /// `<family>.<secret>`; of the release before, a secret alone.
    rest: SecretString,
}

/// The digests of a session's tokens, as they are kept.
#[derive(Debug)]
pub struct Held<'a> {
    /// Of the token that is good.
    pub present: &'a [u8],
    /// Of the family; `None` if the release before made the token.
    pub family: Option<&'a [u8]>,
    /// Tokens that were used lately, oldest first.
    pub uses: &'a [Use],
}

/// A token that was used.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Use {
    pub digest: Vec<u8>,
    pub salt: Vec<u8>,
    pub used_at: OffsetDateTime,
}

/// What becomes of a token that is shown.
#[derive(Debug)]
pub enum Verdict {
    /// It is the good one: the next takes its place.
    Next,
    /// It was used a moment ago: this is the good one now.
    Again(RefreshToken),
    /// It was used before, and not a moment ago: two parties hold the session.
    Reused,
    /// Nothing that was ever given out, as far as can be told.
    Unknown,
}

impl RefreshToken {
    /// The first of a session.
    pub fn first(entropy: &dyn Entropy, session: SessionId) -> Self {
        let family = URL_SAFE_NO_PAD.encode(entropy::bytes::<FAMILY>(entropy));
        let secret = URL_SAFE_NO_PAD.encode(entropy::bytes::<SECRET>(entropy));
        Self {
            session,
            rest: format!("{family}.{secret}").into(),
        }
    }

    /// Reads what somebody shows.
    pub fn read(text: &SecretString) -> Option<Self> {
        let (id, rest) = text.expose_secret().split_once('.')?;
        (rest.len() <= LONGEST).then_some(())?;
        Some(Self {
            session: SessionId::from_str(id).ok()?,
            rest: rest.into(),
        })
    }

    /// Of which sign-in it says it is.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// By which it is recognised.
    pub fn digest(&self) -> Digest {
        Digest::of(self.rest.expose_secret().as_bytes())
    }

    /// By which its family is recognised. `None` for what is not shaped as a token of one: a text that was cut short on its
    /// way is nobody's theft.
    pub fn family(&self) -> Option<Digest> {
        let (family, secret) = self.rest.expose_secret().split_once('.')?;
        let decoded = |part: &str, length| URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| bytes.len() == length);
        (decoded(family, FAMILY) && decoded(secret, SECRET)).then(|| Digest::of(family.as_bytes()))
    }

    /// The text for its owner.
    pub fn text(&self) -> SecretString {
        format!("{}.{}", self.session, self.rest.expose_secret()).into()
    }

    /// The token after this one.
    #[must_use]
    pub fn next(&self, salt: &[u8]) -> Self {
        let rest = self.rest.expose_secret();
        let key = hmac::Key::new(hmac::HMAC_SHA256, rest.as_bytes());
        let made = |what: &[u8], length: usize| {
            let mut context = hmac::Context::with_key(&key);
            context.update(what);
            context.update(salt);
            URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..length])
        };
        let secret = made(b"authsome.refresh.secret.v1", SECRET);
        let rest = match rest.split_once('.') {
            Some((family, _)) => format!("{family}.{secret}"),
            None => format!("{}.{secret}", made(b"authsome.refresh.family.v1", FAMILY)),
        };
        Self {
            session: self.session,
            rest: rest.into(),
        }
    }
}

/// What becomes of a token that is shown at `now`.
pub fn judge(token: &RefreshToken, held: &Held<'_>, now: OffsetDateTime) -> Verdict {
    let digest = token.digest();
    if is(&digest, held.present) {
        return Verdict::Next;
    }
    if let Some(place) = held.uses.iter().position(|used| is(&digest, &used.digest)) {
        let since = &held.uses[place..];
        if now - since[0].used_at > LEEWAY {
            return Verdict::Reused;
        }
        let mut good = token.next(&since[0].salt);
        for used in &since[1..] {
            good = good.next(&used.salt);
        }
        // It is not where a replica of the release before has refreshed in between.
        return if is(&good.digest(), held.present) {
            Verdict::Again(good)
        } else {
            Verdict::Unknown
        };
    }
    let family = token.family().zip(held.family);
    if family.is_some_and(|(shown, family)| is(&shown, family)) {
        Verdict::Reused
    } else {
        Verdict::Unknown
    }
}

fn is(digest: &Digest, stored: &[u8]) -> bool {
    Digest::try_from(stored).is_ok_and(|stored| stored.same_as(digest))
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::{Clock, ManualClock};
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    /// A session that refreshes as the commands do.
    struct World {
        present: RefreshToken,
        uses: Vec<Use>,
        now: OffsetDateTime,
        entropy: SeededEntropy,
    }

    impl World {
        fn new() -> Self {
            let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(7));
            Self {
                present: RefreshToken::first(&entropy, SessionId::generate(&clock, &entropy)),
                uses: Vec::new(),
                now: clock.now(),
                entropy,
            }
        }

        fn rotate(&mut self) -> String {
            let salt = entropy::bytes::<32>(&self.entropy).to_vec();
            let next = self.present.next(&salt);
            self.uses.push(Use {
                digest: self.present.digest().as_bytes().to_vec(),
                salt,
                used_at: self.now,
            });
            self.present = next;
            self.shown()
        }

        fn shown(&self) -> String {
            self.present.text().expose_secret().to_owned()
        }

        fn judge(&self, text: &str) -> Verdict {
            let (present, family) = (self.present.digest(), self.present.family());
            let held = Held {
                present: &present.as_bytes()[..],
                family: family.as_ref().map(|family| &family.as_bytes()[..]),
                uses: &self.uses,
            };
            judge(&RefreshToken::read(&text.into()).unwrap(), &held, self.now)
        }
    }

    #[test]
    fn any_token_that_was_used_is_told_from_what_was_never_given_out() {
        let mut world = World::new();
        let mut old = vec![world.shown()];
        for _ in 0..50 {
            old.push(world.rotate());
        }
        let good = old.pop().unwrap();
        world.uses.clear();
        assert!(matches!(world.judge(&good), Verdict::Next));
        for token in &old {
            assert!(matches!(world.judge(token), Verdict::Reused));
        }
        let other = World {
            entropy: SeededEntropy::new(8),
            ..World::new()
        };
        let foreign = RefreshToken::first(&other.entropy, world.present.session());
        let (id, _) = good.split_once('.').unwrap();
        let bare = format!("{id}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let (short, long) = (&old[0][..old[0].len() - 1], format!("{}x", old[0]));
        for token in [foreign.text().expose_secret(), bare.as_str(), short, &long] {
            assert!(matches!(world.judge(token), Verdict::Unknown), "{token}");
        }
    }

    #[test]
    fn a_moment_after_its_use_a_token_leads_to_the_good_one_however_many_came_between() {
        let mut world = World::new();
        let first = world.shown();
        for _ in 0..5 {
            let newest = world.rotate();
            let Verdict::Again(good) = world.judge(&first) else {
                panic!("{:?}", world.judge(&first));
            };
            assert_eq!(good.text().expose_secret(), newest);
        }
        world.now += LEEWAY;
        assert!(matches!(world.judge(&first), Verdict::Again(_)));
        world.now += Duration::MILLISECOND;
        assert!(matches!(world.judge(&first), Verdict::Reused));
    }

    #[test]
    fn a_token_of_the_release_before_is_refreshed_into_a_family() {
        let mut world = World::new();
        let old = RefreshToken {
            session: world.present.session(),
            rest: "x".repeat(43).into(),
        };
        world.present = RefreshToken {
            session: old.session,
            rest: old.rest.clone(),
        };
        assert!(old.family().is_none());
        assert!(matches!(world.judge(&world.shown()), Verdict::Next));
        let newer = world.rotate();
        let shown = old.text();
        let Verdict::Again(again) = world.judge(shown.expose_secret()) else {
            panic!();
        };
        assert_eq!(again.text().expose_secret(), newer);
        assert!(again.family().is_some());
        assert!(newer.len() < 100, "the release before reads it too: {newer}");
    }
}
