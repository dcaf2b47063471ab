//! The text of an id on the stack, for places where an allocation per id would count.

use std::fmt;
use std::ops::Deref;

use super::base32;

/// The longest prefix there is.
pub(super) const PREFIX_MAX: usize = 3;
const MAX: usize = PREFIX_MAX + 1 + base32::LENGTH;

/// The whole text of an id. Dereferences to `str`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdText {
    bytes: [u8; MAX],
    length: u8,
}

impl IdText {
    /// The same as bytes, for what is written and not read as text: nothing has to be proved of them again.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    pub(super) fn of(prefix: &'static str, value: u128) -> Self {
        let mut bytes = [0; MAX];
        let start = prefix.len() + 1;
        bytes[..prefix.len()].copy_from_slice(prefix.as_bytes());
        bytes[prefix.len()] = b'_';
        let mut suffix = [0; base32::LENGTH];
        base32::encode(value, &mut suffix);
        bytes[start..start + base32::LENGTH].copy_from_slice(&suffix);
        // At most 30, by the assertion in `Id::from_uuid`.
        let length = u8::try_from(start + base32::LENGTH).unwrap_or(u8::MAX);
        Self { bytes, length }
    }
}

/// The 26 characters of an id after its prefix. Dereferences to `str`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdSuffix([u8; base32::LENGTH]);

impl IdSuffix {
    pub(super) fn of(value: u128) -> Self {
        let mut bytes = [0; base32::LENGTH];
        base32::encode(value, &mut bytes);
        Self(bytes)
    }
}

impl Deref for IdText {
    type Target = str;

    fn deref(&self) -> &str {
        // Only ASCII is ever written into `bytes`, so this never falls back.
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl Deref for IdSuffix {
    type Target = str;

    fn deref(&self) -> &str {
        // Only ASCII is ever written into it, so this never falls back.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

macro_rules! prints_as_str {
    ($($type:ty),*) => {$(
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self)
            }
        }
    )*};
}

prints_as_str!(IdText, IdSuffix);
