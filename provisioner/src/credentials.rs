//! The generated passwords of an application: sealed and committed before they are first used.
//!
//! There are two of each kind. One is in use; the other is made anew by a rotation, taken into use, and the first is then
//! closed. Each of these is recorded, so that a rotation goes on where it was left, whoever left it.
//!
//! A worker that dies after it set a password and before it said so leaves a successor that finds the same one here. If the
//! control database is away, nothing is generated; if a sealing key is missing, that is said plainly, since a new password in
//! the place of a lost one would lock running instances out.

use authsome_core::entropy::{self, Entropy};
use authsome_core::id::ApplicationId;
use authsome_core::seal::{Aad, PlatformRing, SealError};
use authsome_core::secret::Zeroizing;
use authsome_db::DbError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;

use crate::database::{self, Slot};
use crate::db::{self, RecordError, credentials::Stored};
use crate::lease::{Fence, Fenced};
use crate::redis;

/// What a credential is sealed for.
const COLUMN: &str = "application_credentials.sealed";

/// What a password opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A login role of the application's database.
    Database(Slot),
    /// One of the two passwords of the application's Redis user.
    Redis(Slot),
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Database(Slot::A),
        Self::Database(Slot::B),
        Self::Redis(Slot::A),
        Self::Redis(Slot::B),
    ];

    /// Name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database(Slot::A) => "database_a",
            Self::Database(Slot::B) => "database_b",
            Self::Redis(Slot::A) => "redis_a",
            Self::Redis(Slot::B) => "redis_b",
        }
    }

    fn username(self, id: ApplicationId) -> String {
        match self {
            Self::Database(slot) => database::names::login(id, slot),
            Self::Redis(_) => redis::user(id),
        }
    }
}

/// Why there are no credentials to use. Holds none.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The lease is lost.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The control database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A recorded credential does not open.
    #[error("credential {kind} of the application")]
    Sealed {
        /// Which.
        kind: &'static str,
        /// Why.
        source: SealError,
    },
    /// A credential that was recorded a moment ago is not there.
    #[error("credential {0} of the application is not recorded")]
    Missing(&'static str),
}

impl From<RecordError> for CredentialError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Db(error) => Self::Db(error),
            // Recording credentials moves no status.
            RecordError::Fenced(_) | RecordError::Transition(_) => Self::Fenced(Fenced),
        }
    }
}

/// The passwords of one application.
pub struct Credentials {
    passwords: [SecretString; 4],
    states: [State; 4],
}

/// Where a password is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    active: bool,
    open: bool,
    generation: i64,
}

/// One of two passwords that are for the same thing, as the other sees it.
#[derive(Debug, Clone, Copy)]
struct Pair {
    used: (Kind, State),
    idle: (Kind, State),
}

impl Pair {
    /// Was a new password made for a rotation of this generation, or is one half done that can only be completed?
    fn is_renewed(self, generation: i64) -> bool {
        self.used.1.generation == generation || self.idle.1.generation == generation || self.is_replaced()
    }

    /// Is the idle one new and for this generation?
    fn is_next(self, generation: i64) -> bool {
        self.idle.1.open && self.idle.1.generation == generation && generation > self.used.1.generation
    }

    /// Was the idle one in use before, and opens still?
    fn is_replaced(self) -> bool {
        self.idle.1.open && self.used.1.generation > self.idle.1.generation
    }
}

impl Credentials {
    /// One password.
    pub fn password(&self, kind: Kind) -> &SecretString {
        &self.passwords[position(kind)]
    }

    /// Every password, those that open nothing any more included.
    pub fn all(&self) -> impl Iterator<Item = &SecretString> {
        self.passwords.iter()
    }

    /// The passwords of the database, in the order of [`Slot::ALL`]; `None` for a closed role.
    pub fn database(&self) -> [Option<&SecretString>; 2] {
        Slot::ALL.map(|slot| self.open(Kind::Database(slot)))
    }

    /// The passwords of Redis, in the order of [`Slot::ALL`]; `None` for one that opens nothing.
    pub fn redis(&self) -> [Option<&SecretString>; 2] {
        Slot::ALL.map(|slot| self.open(Kind::Redis(slot)))
    }

    /// The login role that instances use.
    pub fn active_database(&self) -> Slot {
        self.active(Kind::Database)
    }

    /// The Redis password that instances use.
    pub fn active_redis(&self) -> Slot {
        self.active(Kind::Redis)
    }

    /// The same without what a rotation replaced; `None` where that is nothing.
    pub fn without_replaced(&self) -> Option<Self> {
        let mut rest = Self {
            passwords: self.passwords.clone(),
            states: self.states,
        };
        let replaced = self.replaced();
        for kind in &replaced {
            rest.states[position(*kind)].open = false;
        }
        (!replaced.is_empty()).then_some(rest)
    }

    /// Does a rotation of this generation have its new passwords?
    pub fn are_renewed(&self, generation: i64) -> bool {
        self.pairs().iter().all(|pair| pair.is_renewed(generation))
    }

    /// Are there passwords of this generation that instances do not use yet?
    pub fn has_next(&self, generation: i64) -> bool {
        self.pairs().iter().any(|pair| pair.is_next(generation))
    }

    fn replaced(&self) -> Vec<Kind> {
        let pairs = self.pairs();
        let replaced = pairs.iter().filter(|pair| pair.is_replaced());
        replaced.map(|pair| pair.idle.0).collect()
    }

    fn open(&self, kind: Kind) -> Option<&SecretString> {
        self.states[position(kind)].open.then(|| self.password(kind))
    }

    fn active(&self, of: fn(Slot) -> Kind) -> Slot {
        if self.states[position(of(Slot::B))].active {
            Slot::B
        } else {
            Slot::A
        }
    }

    fn pairs(&self) -> [Pair; 2] {
        [Kind::Database as fn(Slot) -> Kind, Kind::Redis].map(|of| {
            let seen = |slot| (of(slot), self.states[position(of(slot))]);
            let (used, idle) = match self.active(of) {
                Slot::A => (Slot::A, Slot::B),
                Slot::B => (Slot::B, Slot::A),
            };
            Pair {
                used: seen(used),
                idle: seen(idle),
            }
        })
    }
}

fn position(kind: Kind) -> usize {
    match kind {
        Kind::Database(Slot::A) => 0,
        Kind::Database(Slot::B) => 1,
        Kind::Redis(Slot::A) => 2,
        Kind::Redis(Slot::B) => 3,
    }
}

/// The recorded credentials of the application under the lease; `None` while any is missing.
pub async fn recorded(
    pool: &PgPool,
    ring: &PlatformRing,
    application: ApplicationId,
) -> Result<Option<Credentials>, CredentialError> {
    let rows = db::credentials::load(pool, application).await?;
    match open(ring, application, &rows) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(CredentialError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The credentials of the application under the lease, generated and recorded first where they are missing.
pub async fn ensure(
    pool: &PgPool,
    ring: &PlatformRing,
    fence: &Fence,
    entropy: &dyn Entropy,
) -> Result<Credentials, CredentialError> {
    let id = fence.application_id();
    let rows = db::credentials::load(pool, id).await?;
    let missing = Kind::ALL
        .into_iter()
        .filter(|kind| !rows.iter().any(|row| row.kind == kind.as_str()));
    let new: Vec<Stored> = missing.map(|kind| generate(kind, 0, ring, id, entropy)).collect();
    if new.is_empty() {
        return open(ring, id, &rows);
    }
    db::credentials::record(pool, fence, &new).await?;
    // What counts is what is recorded, whoever recorded it.
    open(ring, id, &db::credentials::load(pool, id).await?)
}

fn generate(kind: Kind, generation: i64, ring: &PlatformRing, id: ApplicationId, entropy: &dyn Entropy) -> Stored {
    let password = generated_password(entropy);
    let row = row_name(id, kind);
    let sealed = ring.seal(
        Aad {
            table_column: COLUMN,
            row: &row,
        },
        password.expose_secret().as_bytes(),
        entropy,
    );
    // The first of each pair is in use until a rotation.
    let active = matches!(kind, Kind::Database(Slot::A) | Kind::Redis(Slot::A));
    Stored {
        kind: kind.as_str().to_owned(),
        username: kind.username(id),
        sealed,
        active,
        open: true,
        generation,
    }
}

/// Makes new passwords beside those in use, for a rotation of the intent's generation. Does nothing where they are made.
///
/// # Errors
/// [`CredentialError`]
pub async fn renew(
    pool: &PgPool,
    ring: &PlatformRing,
    fence: &Fence,
    generation: i64,
    entropy: &dyn Entropy,
) -> Result<(), CredentialError> {
    let id = fence.application_id();
    let credentials = ensure(pool, ring, fence, entropy).await?;
    let new: Vec<Stored> = credentials
        .pairs()
        .iter()
        .filter(|pair| !pair.is_renewed(generation))
        .map(|pair| generate(pair.idle.0, generation, ring, id, entropy))
        .collect();
    Ok(db::credentials::renew(pool, fence, &new).await?)
}

/// Lets instances use the passwords that were made for this generation.
///
/// # Errors
/// [`CredentialError`]
pub async fn switch(
    pool: &PgPool,
    fence: &Fence,
    credentials: &Credentials,
    generation: i64,
) -> Result<(), CredentialError> {
    let pairs = credentials.pairs();
    let next: Vec<(&str, &str)> = pairs
        .iter()
        .filter(|pair| pair.is_next(generation))
        .map(|pair| (pair.idle.0.as_str(), pair.used.0.as_str()))
        .collect();
    Ok(db::credentials::switch(pool, fence, &next).await?)
}

/// Records that what was replaced opens nothing any more.
///
/// # Errors
/// [`CredentialError`]
pub async fn close(pool: &PgPool, fence: &Fence, credentials: &Credentials) -> Result<(), CredentialError> {
    let kinds: Vec<&str> = credentials.replaced().into_iter().map(Kind::as_str).collect();
    Ok(db::credentials::close(pool, fence, &kinds).await?)
}

/// 32 random bytes in URL-safe base64: 43 characters that need no escape in any URL, shell or file.
fn generated_password(entropy: &dyn Entropy) -> SecretString {
    let bytes = Zeroizing::new(entropy::bytes::<32>(entropy));
    SecretString::from(URL_SAFE_NO_PAD.encode(*bytes))
}

/// The row's primary key as text.
fn row_name(id: ApplicationId, kind: Kind) -> String {
    format!("{id}/{}", kind.as_str())
}

fn open(ring: &PlatformRing, id: ApplicationId, rows: &[Stored]) -> Result<Credentials, CredentialError> {
    let mut states = [State::default(); 4];
    let mut opened = Vec::with_capacity(Kind::ALL.len());
    for kind in Kind::ALL {
        let name = kind.as_str();
        let row = rows
            .iter()
            .find(|row| row.kind == name)
            .ok_or(CredentialError::Missing(name))?;
        states[position(kind)] = State {
            active: row.active,
            open: row.open,
            generation: row.generation,
        };
        let aad = Aad {
            table_column: COLUMN,
            row: &row_name(id, kind),
        };
        let password = ring
            .open_text(aad, &row.sealed)
            .map_err(|source| CredentialError::Sealed { kind: name, source })?;
        opened.push(password);
    }
    match <[SecretString; 4]>::try_from(opened) {
        Ok(passwords) => Ok(Credentials { passwords, states }),
        Err(_) => Err(CredentialError::Missing("of any kind")),
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::seal::SealKey;

    use super::*;

    fn id() -> ApplicationId {
        ApplicationId::from_uuid(uuid::Uuid::from_u128(9))
    }

    fn rows(ring: &PlatformRing) -> Vec<Stored> {
        let entropy = SeededEntropy::new(1);
        Kind::ALL
            .into_iter()
            .map(|kind| generate(kind, 0, ring, id(), &entropy))
            .collect()
    }

    #[test]
    fn every_credential_is_another_and_holds_256_bits() {
        let ring = PlatformRing::single(SealKey::new(1, &[7; 32]));
        let credentials = open(&ring, id(), &rows(&ring)).unwrap();
        let texts: Vec<&str> = Kind::ALL
            .iter()
            .map(|kind| credentials.password(*kind).expose_secret())
            .collect();
        for (position, text) in texts.iter().enumerate() {
            assert_eq!(text.len(), 43);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            assert!(!texts[..position].contains(text));
        }
        assert_eq!(
            (credentials.active_database(), credentials.active_redis()),
            (Slot::A, Slot::A)
        );
    }

    #[test]
    fn a_credential_opens_only_in_its_own_row() {
        let ring = PlatformRing::single(SealKey::new(1, &[7; 32]));
        let mut rows = rows(&ring);
        let (a, b) = (rows[0].sealed.clone(), rows[1].sealed.clone());
        (rows[0].sealed, rows[1].sealed) = (b, a);
        assert!(matches!(
            open(&ring, id(), &rows),
            Err(CredentialError::Sealed { kind: "database_a", .. })
        ));
    }

    #[test]
    fn a_missing_sealing_key_is_said_and_not_papered_over() {
        let ring = PlatformRing::single(SealKey::new(1, &[7; 32]));
        let other = PlatformRing::single(SealKey::new(2, &[7; 32]));
        let error = open(&other, id(), &rows(&ring)).err().unwrap();
        assert!(
            matches!(
                error,
                CredentialError::Sealed {
                    source: SealError::UnknownKey(1),
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_rotation_goes_on_where_it_was_left_and_never_replaces_what_is_in_use() {
        let ring = PlatformRing::single(SealKey::new(1, &[7; 32]));
        let mut rows = rows(&ring);
        let seen = |rows: &[Stored]| open(&ring, id(), rows).unwrap();
        // Never rotated.
        assert!(!seen(&rows).are_renewed(5) && !seen(&rows).has_next(5) && seen(&rows).without_replaced().is_none());
        // Made.
        for row in [1, 3] {
            rows[row].generation = 5;
        }
        assert!(seen(&rows).are_renewed(5) && seen(&rows).has_next(5) && seen(&rows).without_replaced().is_none());
        // Another generation makes its own, since nobody uses these.
        assert!(!seen(&rows).are_renewed(6) && !seen(&rows).has_next(6));
        // In use.
        for (row, active) in [(0, false), (1, true), (2, false), (3, true)] {
            rows[row].active = active;
        }
        let used = seen(&rows);
        assert_eq!((used.active_database(), used.active_redis()), (Slot::B, Slot::B));
        assert!(used.are_renewed(5) && !used.has_next(5));
        // Another generation completes it: older instances may use what was replaced.
        assert!(used.are_renewed(6) && !used.has_next(6));
        let rest = used.without_replaced().unwrap();
        assert!(rest.database()[0].is_none() && rest.database()[1].is_some() && rest.redis()[0].is_none());
        // Closed.
        for row in [0, 2] {
            rows[row].open = false;
        }
        let closed = seen(&rows);
        assert!(closed.are_renewed(5) && closed.without_replaced().is_none());
        assert!(!closed.are_renewed(6), "the next rotation makes its own");
    }
}
