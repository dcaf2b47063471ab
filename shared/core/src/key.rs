//! API keys: how they are made, read, hashed and masked.
//!
//! A key is `{pk|sk}_{live|test}_{hint}_{secret}{crc}`: the hint is the last 8 characters of the application id, the
//! secret is 32 random bytes in base62 (43 characters), and the checksum is the CRC-32 of everything before it in base62
//! (6 characters): 66 characters of ASCII. [`PATTERN`] is the published form. Owns that format and nothing else: whether a
//! key is known, revoked or expired is asked elsewhere, and only for keys whose form and checksum are right, so a made-up
//! key costs no look-up. Reading a key allocates nothing and depends on nothing that can fail.

mod base62;
mod digest;

use std::fmt;
use std::str::FromStr;

use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use crate::id::ApplicationId;

pub use digest::{Digest, DigestError};

/// The form of a key, for secret scanners and for clients. A key of this form may still have a wrong checksum.
pub const PATTERN: &str = "^(pk|sk)_(live|test)_[0-9a-hjkmnp-tv-z]{8}_[0-9A-Za-z]{49}$";

/// The number of characters of every key.
pub const LENGTH: usize = MARKER + HINT + 1 + SECRET + CHECKSUM;

/// `sk_live_`: all four markers are of the same length.
const MARKER: usize = 8;
const HINT: usize = 8;
const SECRET: usize = base62::BYTES_WIDTH;
const CHECKSUM: usize = base62::U32_WIDTH;
const BODY: usize = LENGTH - CHECKSUM;

/// Who may hold the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// `pk_`: may be shipped in a browser or an app.
    Public,
    /// `sk_`: stays on the customer's servers.
    Secret,
}

impl KeyType {
    /// `"public"` or `"secret"`, as in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Secret => "secret",
        }
    }

    const fn marker(self) -> &'static str {
        match self {
            Self::Public => "pk",
            Self::Secret => "sk",
        }
    }
}

/// Which kind of environment the key's application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyMode {
    /// A production application.
    Live,
    /// A staging or development application.
    Test,
}

impl KeyMode {
    /// `"live"` or `"test"`, as in the key, in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// A text is not the name of a [`KeyType`] or [`KeyMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct KeyNameError {
    expected: &'static str,
}

impl FromStr for KeyType {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        match text {
            "public" => Ok(Self::Public),
            "secret" => Ok(Self::Secret),
            _ => Err(KeyNameError {
                expected: "\"public\" or \"secret\"",
            }),
        }
    }
}

impl FromStr for KeyMode {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        match text {
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            _ => Err(KeyNameError {
                expected: "\"live\" or \"test\"",
            }),
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for KeyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a key. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin with `pk_` or `sk_`: some other kind of token.
    #[error("not an API key")]
    NotAKey,
    /// It claims to be a key but is not of the form [`PATTERN`].
    #[error("malformed API key")]
    Malformed,
    /// The form is right but the checksum is not: mistyped, cut or made up.
    #[error("API key with a wrong checksum")]
    Checksum,
}

/// Whether a bearer token claims to be a key of the platform rather than a user's session.
pub fn looks_like_key(token: &str) -> bool {
    token.starts_with("pk_") || token.starts_with("sk_")
}

/// A whole key that was just made, to be shown once. Wiped from memory when dropped; `Debug` does not show it.
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
    key_type: KeyType,
    mode: KeyMode,
}

impl ApiKey {
    /// A new key of an application, with 256 random bits.
    pub fn generate(key_type: KeyType, mode: KeyMode, application: &ApplicationId, entropy: &dyn Entropy) -> Self {
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        let mut digits = base62::encode_bytes(&secret);

        // Exactly the capacity, so that no copy of the secret is left behind by a reallocation.
        let mut text = String::with_capacity(LENGTH);
        text.push_str(key_type.marker());
        text.push('_');
        text.push_str(mode.as_str());
        text.push('_');
        text.push_str(hint_of(&application.suffix()));
        text.push('_');
        text.extend(digits.iter().map(|&digit| char::from(digit)));
        let checksum = base62::encode_u32(crc32fast::hash(text.as_bytes()));
        text.extend(checksum.iter().map(|&digit| char::from(digit)));
        debug_assert_eq!(text.len(), LENGTH);

        secret.zeroize();
        digits.zeroize();
        Self {
            text: text.into(),
            key_type,
            mode,
        }
    }

    /// The key in clear, to show it once or (a public one) to store it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The key as [`ParsedKey::parse`] would give it.
    pub fn parsed(&self) -> ParsedKey<'_> {
        ParsedKey {
            text: self.expose(),
            key_type: self.key_type,
            mode: self.mode,
        }
    }

    /// See [`ParsedKey::digest`].
    pub fn digest(&self) -> Digest {
        self.parsed().digest()
    }

    /// See [`ParsedKey::masked`].
    pub fn masked(&self) -> String {
        self.parsed().masked()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.masked())
    }
}

/// A text whose form and checksum are those of a key. Borrows it; `Debug` shows the masked form.
#[derive(Clone, Copy)]
pub struct ParsedKey<'a> {
    text: &'a str,
    key_type: KeyType,
    mode: KeyMode,
}

impl<'a> ParsedKey<'a> {
    /// Checks length, characters and checksum. Allocates nothing; at most 66 bytes are looked at.
    pub fn parse(text: &'a str) -> Result<Self, KeyError> {
        if !looks_like_key(text) {
            return Err(KeyError::NotAKey);
        }
        let (key_type, mode) = form(text.as_bytes()).ok_or(KeyError::Malformed)?;
        let (body, checksum) = text.as_bytes().split_at(BODY);
        if base62::encode_u32(crc32fast::hash(body)) != checksum {
            return Err(KeyError::Checksum);
        }
        Ok(Self { text, key_type, mode })
    }

    /// Public or secret.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Live or test.
    pub fn mode(&self) -> KeyMode {
        self.mode
    }

    /// The last 8 characters of the id of the key's application: a hint for people, not proof.
    pub fn hint(&self) -> &'a str {
        &self.text[MARKER..MARKER + HINT]
    }

    /// The key in clear.
    pub fn expose(&self) -> &'a str {
        self.text
    }

    /// SHA-256 of the whole key: how keys are stored and found.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// What may be shown of a secret key for ever: `sk_live_ab12cd34_…wXyz`.
    pub fn masked(&self) -> String {
        let (front, back) = (&self.text[..=MARKER + HINT], &self.text[LENGTH - 4..]);
        format!("{front}…{back}")
    }
}

impl fmt::Debug for ParsedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParsedKey({})", self.masked())
    }
}

/// The last 8 characters of a suffix: 40 of its random bits.
fn hint_of(suffix: &str) -> &str {
    &suffix[suffix.len() - HINT..]
}

/// What [`PATTERN`] says, without a regular expression.
fn form(text: &[u8]) -> Option<(KeyType, KeyMode)> {
    let text: &[u8; LENGTH] = text.try_into().ok()?;
    let (marker, rest) = text.split_at(MARKER);
    let (hint, rest) = rest.split_at(HINT);
    let (separator, digits) = rest.split_at(1);
    let kind = match marker {
        b"pk_live_" => (KeyType::Public, KeyMode::Live),
        b"pk_test_" => (KeyType::Public, KeyMode::Test),
        b"sk_live_" => (KeyType::Secret, KeyMode::Live),
        b"sk_test_" => (KeyType::Secret, KeyMode::Test),
        _ => return None,
    };
    let is_hint =
        |c: &u8| matches!(c, b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z');
    let formed = hint.iter().all(is_hint) && separator == b"_" && digits.iter().all(u8::is_ascii_alphanumeric);
    formed.then_some(kind)
}

#[cfg(test)]
mod tests;
