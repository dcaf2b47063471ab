//! SHA-256 digests: how a key is stored, found and named on the wire.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;

const LENGTH: usize = 32;

/// A SHA-256 digest. Text and JSON are 64 lower-case hexadecimal characters.
///
/// `==` is for tables; a digest given by a stranger is compared with [`Digest::same_as`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; LENGTH]);

/// Bytes or text that are not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 bytes, or 64 lower-case hexadecimal characters")]
pub struct DigestError;

impl Digest {
    /// The SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut out = [0; LENGTH];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// A digest that was computed before.
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// The first 64 bits: uniform, so they serve as a hash or as an index into a table of counters.
    pub fn leading_bits(&self) -> u64 {
        let mut leading = [0; 8];
        leading.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(leading)
    }

    /// Equality in a time that does not depend on where the two differ.
    pub fn same_as(&self, other: &Self) -> bool {
        let word = |bytes: &[u8; LENGTH], at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
            u64::from_ne_bytes(word)
        };
        // All bits that differ, wherever they do; four words take an eighth of what 32 bytes one by one take.
        let differing = (0..LENGTH / 8).fold(0, |so_far, at| so_far | (word(&self.0, at) ^ word(&other.0, at)));
        differing.ct_eq(&0).into()
    }

    fn hex(&self) -> [u8; 2 * LENGTH] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; 2 * LENGTH];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out
    }
}

impl Hash for Digest {
    /// Eight bytes of a cryptographic hash are as good as all of them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.leading_bits());
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits: &[u8; 2 * LENGTH] = text.as_bytes().try_into().map_err(|_| DigestError)?;
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(DigestError),
        };
        let mut out = [0; LENGTH];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (value(pair[0])? << 4) | value(pair[1])?;
        }
        Ok(Self(out))
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestError;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestError> {
        bytes.try_into().map(Self).map_err(|_| DigestError)
    }
}

impl TryFrom<Vec<u8>> for Digest {
    type Error = DigestError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, DigestError> {
        Self::try_from(bytes.as_slice())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal characters")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_published_test_vector_holds() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::of(b"abc").leading_bits(), 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn text_json_and_bytes_convert_both_ways() {
        let digest = Digest::of(b"abc");
        assert_eq!(ABC.parse(), Ok(digest));
        assert_eq!(Digest::try_from(digest.as_ref()), Ok(digest));
        assert_eq!(Digest::try_from(digest.as_bytes().to_vec()), Ok(digest));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{ABC}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn other_lengths_and_upper_case_are_refused() {
        for text in ["", "ba", &ABC[1..], &ABC.to_uppercase(), &ABC.replace('0', "g")] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError), "{text}");
        }
        assert_eq!(Digest::try_from([0_u8; 31].as_slice()), Err(DigestError));
    }

    #[test]
    fn constant_time_equality_agrees_with_equality() {
        let digest = Digest::of(b"abc");
        assert!(digest.same_as(&Digest::of(b"abc")));
        for bit in 0..256 {
            let mut other = *digest.as_bytes();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!digest.same_as(&Digest::from_bytes(other)));
        }
    }
}
