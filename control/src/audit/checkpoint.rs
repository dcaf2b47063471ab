//! Signed heads of the chains of the audit trail. Pure but for the key.
//!
//! The key is the operator's (`audit.signing_key`), and its public half is published with every checkpoint. Whoever keeps a
//! checkpoint, or a head, outside the database can tell later that nothing before it was changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use crate::db::audit_trail::Checkpoint;

/// What a signing key must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 bytes in base64")]
pub struct BadSigningKey;

/// Signs checkpoints (Ed25519, RFC 8032).
pub struct Signer(Ed25519KeyPair);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// From a seed of 32 bytes in base64.
    pub fn parse(seed: &SecretString) -> Result<Self, BadSigningKey> {
        let bytes = Zeroizing::new(
            STANDARD
                .decode(seed.expose_secret().trim())
                .map_err(|_| BadSigningKey)?,
        );
        let pair = Ed25519KeyPair::from_seed_unchecked(&bytes).map_err(|_| BadSigningKey)?;
        Ok(Self(pair))
    }

    /// The public half.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// A checkpoint of this head.
    pub fn sign(&self, chain: &str, seq: i64, hash: &[u8], now: OffsetDateTime) -> Checkpoint {
        // As Postgres keeps it: to the microsecond.
        let micros = now.unix_timestamp_nanos() / 1_000;
        let signed_at = OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).unwrap_or(now);
        let signature = self.0.sign(&message(chain, seq, hash, signed_at));
        Checkpoint {
            chain: chain.to_owned(),
            seq,
            hash: hash.to_vec(),
            signed_at,
            public_key: self.public_key().to_vec(),
            signature: signature.as_ref().to_vec(),
        }
    }
}

/// Did the holder of the key that it names sign it?
pub fn is_genuine(checkpoint: &Checkpoint) -> bool {
    let message = message(
        &checkpoint.chain,
        checkpoint.seq,
        &checkpoint.hash,
        checkpoint.signed_at,
    );
    UnparsedPublicKey::new(&ED25519, &checkpoint.public_key)
        .verify(&message, &checkpoint.signature)
        .is_ok()
}

/// What is signed. The name of the chain has no line break.
fn message(chain: &str, seq: i64, hash: &[u8], signed_at: OffsetDateTime) -> Vec<u8> {
    let micros = signed_at.unix_timestamp_nanos() / 1_000;
    let mut message = format!("authsome.audit-checkpoint.v1\n{chain}\n{seq}\n{micros}\n").into_bytes();
    message.extend_from_slice(hash);
    message
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_checkpoint_is_genuine_until_a_part_of_it_is_changed() {
        let signer = Signer::parse(&STANDARD.encode([7; 32]).into()).unwrap();
        let signed = signer.sign("ws_1", 5, &[1; 32], datetime!(2026-01-01 00:00:00.123456789 UTC));
        assert!(is_genuine(&signed));
        let altered = [
            Checkpoint {
                chain: "ws_2".to_owned(),
                ..signed.clone()
            },
            Checkpoint {
                seq: 6,
                ..signed.clone()
            },
            Checkpoint {
                hash: vec![2; 32],
                ..signed.clone()
            },
            Checkpoint {
                signed_at: datetime!(2026-01-02 00:00 UTC),
                ..signed.clone()
            },
            Checkpoint {
                public_key: vec![0; 32],
                ..signed.clone()
            },
            Checkpoint {
                signature: vec![0; 64],
                ..signed.clone()
            },
        ];
        for checkpoint in altered {
            assert!(!is_genuine(&checkpoint), "{checkpoint:?}");
        }
    }

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        for bad in ["", "x", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            assert_eq!(
                Signer::parse(&bad.to_owned().into()).map(|_| ()),
                Err(BadSigningKey),
                "{bad}"
            );
        }
    }
}
