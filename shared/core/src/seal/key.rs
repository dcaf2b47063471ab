//! The keys of a ring: from configuration, or derived from something that only one party knows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use secrecy::zeroize::Zeroizing;

/// The id of a key that was configured, or derived, without one.
const DEFAULT_ID: u32 = 1;

/// One key with the id that sealed values name it by. `Debug` shows the id only.
pub struct SealKey {
    id: u32,
    cipher: LessSafeKey,
}

/// Why configured keys do not make a ring. Never repeats a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// There is no key at all.
    #[error("at least one sealing key is needed")]
    Empty,
    /// The part before the colon is not a number of 32 bits.
    #[error("sealing key number {0} (from 1) must be id:base64 with a numeric id")]
    Id(usize),
    /// The part after the colon is not base64 of 32 bytes.
    #[error("sealing key number {0} (from 1) is not the base64 of 32 bytes")]
    Key(usize),
    /// Two keys have the same id.
    #[error("two sealing keys have the id {0}")]
    Duplicate(u32),
}

impl SealKey {
    /// A key of 32 bytes.
    pub fn new(id: u32, key: &[u8; 32]) -> Self {
        let Ok(key) = UnboundKey::new(&AES_256_GCM, key) else {
            unreachable!("an AES-256 key has 32 bytes");
        };
        Self {
            id,
            cipher: LessSafeKey::new(key),
        }
    }

    /// The id that sealed values carry.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

pub(super) fn parse_list(text: &str) -> Result<Vec<SealKey>, RingError> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .enumerate()
        .map(|(position, entry)| parse(position + 1, entry))
        .collect()
}

fn parse(position: usize, entry: &str) -> Result<SealKey, RingError> {
    let (id, encoded) = match entry.split_once(':') {
        Some((id, encoded)) => (id.trim().parse().map_err(|_| RingError::Id(position))?, encoded.trim()),
        None => (DEFAULT_ID, entry),
    };
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| RingError::Key(position))?);
    let key: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| RingError::Key(position))?;
    Ok(SealKey::new(id, key))
}

/// A key from a secret that is not itself a key, by HKDF-SHA256: so that a stored reply opens only for whoever sends the
/// same `Idempotency-Key` again. Different contexts give independent keys. No stronger than the secret is hard to guess.
pub fn derive_key(secret: &[u8], context: &[u8]) -> SealKey {
    let salt = Salt::new(HKDF_SHA256, b"authsome.derived-key.v1");
    let pseudo_random = salt.extract(secret);
    let info = [context];
    let Ok(material) = pseudo_random.expand(&info, &AES_256_GCM) else {
        unreachable!("HKDF-SHA256 gives up to 8160 bytes, a key needs 32");
    };
    SealKey {
        id: DEFAULT_ID,
        cipher: LessSafeKey::new(UnboundKey::from(material)),
    }
}
