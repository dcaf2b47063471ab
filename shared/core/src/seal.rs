//! Sealing of what is stored: AES-256-GCM under keys that can be rotated, bound to the place where it is stored.
//!
//! Owns the sealed format: `version (1) | key id (4, big-endian) | nonce (12) | ciphertext and tag`. The table, column and
//! row are authenticated with it, so that a sealed value copied into another row, column or ring does not open. Rings of
//! different purpose are different types: the edge is given an [`EdgeRing`] only, which opens instance credentials and
//! nothing else. Depends on nothing that can fail but the keys: a value sealed under a key that is no longer in the ring is
//! lost to this process, and says so with the key's id.

mod key;

use std::marker::PhantomData;

use ring::aead::{self, NONCE_LEN, Nonce};
use secrecy::zeroize::Zeroizing;
use secrecy::{SecretSlice, SecretString};

use crate::entropy::{self, Entropy};

pub use key::{RingError, SealKey, derive_key};

const VERSION: u8 = 1;
const HEADER: usize = 1 + size_of::<u32>();
const TAG: usize = 16;

/// Where a sealed value is stored. It opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Aad<'a> {
    /// Table and column: `"applications.database_url"`.
    pub table_column: &'static str,
    /// The row's primary key as text.
    pub row: &'a str,
}

/// Why a sealed value did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short to be a sealed value.
    #[error("sealed value is cut short")]
    Truncated,
    /// Sealed in a format that this program does not know.
    #[error("sealed value has the unknown format version {0}")]
    Version(u8),
    /// The key is not in the ring: removed too early, or another installation's value.
    #[error("sealed value needs key {0}, which is not in the ring")]
    UnknownKey(u32),
    /// Altered, or moved here from another row, column or ring.
    #[error("sealed value does not belong here or was altered")]
    Refused,
    /// It opened, but is not the UTF-8 text that was asked for.
    #[error("sealed value is not text")]
    NotText,
}

/// What the keys of a ring are for. Implemented by names only, never by values.
pub trait Purpose: Send + Sync + 'static {
    /// Authenticated with every value, so that even the same key cannot open another purpose's value.
    const NAME: &'static str;
}

/// The purpose of [`PlatformRing`]; never a value.
#[derive(Debug)]
pub enum Platform {}
/// The purpose of [`EdgeRing`]; never a value.
#[derive(Debug)]
pub enum Edge {}
/// The purpose of [`ReplyRing`]; never a value.
#[derive(Debug)]
pub enum Reply {}

impl Purpose for Platform {
    const NAME: &'static str = "platform";
}
impl Purpose for Edge {
    const NAME: &'static str = "edge";
}
impl Purpose for Reply {
    const NAME: &'static str = "reply";
}

/// Seals what control and provisioner keep: database URLs, customers' provider secrets.
pub type PlatformRing = SealRing<Platform>;
/// Seals the credentials that the edge injects towards an instance.
pub type EdgeRing = SealRing<Edge>;
/// Seals one stored reply under a key that only the client can name again: see [`derive_key`].
pub type ReplyRing = SealRing<Reply>;

/// Keys for one purpose. The first one seals; all of them open.
pub struct SealRing<P: Purpose> {
    active: SealKey,
    older: Vec<SealKey>,
    purpose: PhantomData<fn() -> P>,
}

impl<P: Purpose> SealRing<P> {
    /// A ring of one key.
    pub fn single(key: SealKey) -> Self {
        Self {
            active: key,
            older: Vec::new(),
            purpose: PhantomData,
        }
    }

    /// A ring whose first key seals.
    pub fn new(keys: impl IntoIterator<Item = SealKey>) -> Result<Self, RingError> {
        let mut keys = keys.into_iter();
        let mut ring = Self::single(keys.next().ok_or(RingError::Empty)?);
        for key in keys {
            if ring.key(key.id()).is_some() {
                return Err(RingError::Duplicate(key.id()));
            }
            ring.older.push(key);
        }
        Ok(ring)
    }

    /// Reads keys as configured: comma-separated `id:base64` with the sealing one first, or one bare base64 key, which
    /// has the id 1 (so `2:<new>,1:<old>` rotates it).
    pub fn parse(text: &str) -> Result<Self, RingError> {
        Self::new(key::parse_list(text)?)
    }

    /// The id of the key that seals.
    pub fn active_key(&self) -> u32 {
        self.active.id()
    }

    /// Seals under the first key, with a fresh random nonce. The result is [`SealRing::OVERHEAD`] bytes longer.
    ///
    /// One key seals at most 2^32 values safely (random 96-bit nonces): rotate long before.
    pub fn seal(&self, aad: Aad<'_>, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = entropy::bytes(entropy);
        let mut sealed = Vec::with_capacity(plaintext.len() + Self::OVERHEAD);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.active.id().to_be_bytes());
        let bound = bind::<P>(&sealed, aad);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let Ok(tag) = self
            .active
            .cipher()
            .seal_in_place_separate_tag(nonce, bound, &mut sealed[HEADER + NONCE_LEN..])
        else {
            unreachable!("AES-GCM takes 64 GiB at once, a column at most 1 GiB");
        };
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens a value that was sealed for this very place.
    pub fn open(&self, aad: Aad<'_>, sealed: &[u8]) -> Result<SecretSlice<u8>, SealError> {
        let (id, header, rest) = split(sealed)?;
        let key = self.key(id).ok_or(SealError::UnknownKey(id))?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Truncated)?;
        if ciphertext.len() < TAG {
            return Err(SealError::Truncated);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Truncated)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let plaintext = key
            .cipher()
            .open_in_place(nonce, bind::<P>(header, aad), &mut buffer)
            .map_err(|_| SealError::Refused)?;
        // `to_vec` allocates exactly, so the box is made without a second copy.
        Ok(plaintext.to_vec().into())
    }

    /// Opens a value that is text, such as a URL.
    pub fn open_text(&self, aad: Aad<'_>, sealed: &[u8]) -> Result<SecretString, SealError> {
        use secrecy::ExposeSecret;
        let bytes = self.open(aad, sealed)?;
        str::from_utf8(bytes.expose_secret())
            .map(SecretString::from)
            .map_err(|_| SealError::NotText)
    }

    /// Whether a value was sealed under another key or format than the present one, and should be sealed anew.
    pub fn needs_reseal(&self, sealed: &[u8]) -> bool {
        !matches!(split(sealed), Ok((id, ..)) if id == self.active.id())
    }

    /// How many bytes longer a sealed value is.
    pub const OVERHEAD: usize = HEADER + NONCE_LEN + TAG;

    fn key(&self, id: u32) -> Option<&SealKey> {
        std::iter::once(&self.active)
            .chain(&self.older)
            .find(|key| key.id() == id)
    }
}

impl<P: Purpose> std::fmt::Debug for SealRing<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<u32> = std::iter::once(&self.active)
            .chain(&self.older)
            .map(SealKey::id)
            .collect();
        write!(f, "SealRing<{}>(keys {ids:?})", P::NAME)
    }
}

/// The key id, the header and what follows it.
fn split(sealed: &[u8]) -> Result<(u32, &[u8], &[u8]), SealError> {
    let version = *sealed.first().ok_or(SealError::Truncated)?;
    if version != VERSION {
        return Err(SealError::Version(version));
    }
    let (header, rest) = sealed.split_at_checked(HEADER).ok_or(SealError::Truncated)?;
    let id: [u8; 4] = header[1..].try_into().map_err(|_| SealError::Truncated)?;
    Ok((u32::from_be_bytes(id), header, rest))
}

/// Header, purpose, column and row, each with its length, so that no two places give the same bytes.
fn bind<P: Purpose>(header: &[u8], aad: Aad<'_>) -> aead::Aad<Vec<u8>> {
    let mut bound = Vec::with_capacity(64);
    for part in [
        header,
        P::NAME.as_bytes(),
        aad.table_column.as_bytes(),
        aad.row.as_bytes(),
    ] {
        bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bound.extend_from_slice(part);
    }
    aead::Aad::from(bound)
}

#[cfg(test)]
mod tests;
