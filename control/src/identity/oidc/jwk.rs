//! Public keys of an issuer (RFC 7517) and signatures by them, on ring. Pure.
//!
//! A key belongs to one algorithm by its very type, so that no token can have it used for another.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// The most keys of a set that are kept.
const KEYS: usize = 64;

/// An algorithm that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256; keys of 2048 to 8192 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name in a token or a key. Everything else, `none` above all, is no algorithm.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its name in tokens.
    pub(super) id: Option<String>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// What it can verify.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Is this its signature of `signed`?
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            .is_ok(),
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed, signature)
                .is_ok(),
            Material::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point)
                .verify(signed, signature)
                .is_ok(),
        }
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// As it is written. Fields of all types of key, of which one type has some.
#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that can be used; what is not understood is left out, as RFC 7517 (5) asks. `None` if it is no set.
pub(super) fn parse(document: &[u8]) -> Option<Vec<Key>> {
    let set: Set = serde_json::from_slice(document).ok()?;
    let keys = set
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value::<Written>(key).ok());
    Some(keys.filter_map(usable).take(KEYS).collect())
}

fn usable(written: Written) -> Option<Key> {
    let signs = written.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
    let verifies = written
        .key_ops
        .as_ref()
        .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if !signs || !verifies || written.kid.as_ref().is_some_and(|kid| kid.len() > 512) {
        return None;
    }
    let bytes = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?.trim_end_matches('=')).ok();
    let number = |part: &Option<String>| {
        let bytes = bytes(part)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        (zeros < bytes.len()).then(|| bytes[zeros..].to_vec())
    };
    let material = match (written.kty.as_str(), written.crv.as_deref()) {
        ("RSA", _) => Material::Rsa {
            modulus: number(&written.n).filter(|modulus| (256..=1024).contains(&modulus.len()))?,
            exponent: number(&written.e).filter(|exponent| exponent.len() <= 8)?,
        },
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(&written.x)?, bytes(&written.y)?);
            (x.len() == 32 && y.len() == 32).then_some(())?;
            Material::P256([&[4], &*x, &*y].concat())
        }
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&written.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    let key = Key {
        id: written.kid,
        material,
    };
    let said = written.alg.as_deref();
    said.is_none_or(|alg| Algorithm::of(alg) == Some(key.algorithm()))
        .then_some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(key: &serde_json::Value) -> Vec<Key> {
        parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_taken_for_what_it_is_and_for_signing_only() {
        let n = URL_SAFE_NO_PAD.encode([0xFF; 256]);
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let short = URL_SAFE_NO_PAD.encode([1; 31]);
        let small = URL_SAFE_NO_PAD.encode([0xFF; 128]);
        for (key, algorithm) in [
            (json!({"kty": "RSA", "n": n, "e": "AQAB"}), Some(Algorithm::Rs256)),
            (
                json!({"kty": "RSA", "n": n, "e": "AQAB", "use": "sig", "alg": "RS256", "kid": "a"}),
                Some(Algorithm::Rs256),
            ),
            (
                json!({"kty": "RSA", "n": n, "e": "AQAB", "key_ops": ["verify"]}),
                Some(Algorithm::Rs256),
            ),
            (
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}),
                Some(Algorithm::Es256),
            ),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": x}), Some(Algorithm::EdDsa)),
            // For something else, or of another kind than it says.
            (json!({"kty": "RSA", "n": n, "e": "AQAB", "use": "enc"}), None),
            (json!({"kty": "RSA", "n": n, "e": "AQAB", "key_ops": ["encrypt"]}), None),
            (json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS512"}), None),
            (json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "HS256"}), None),
            (
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": x, "alg": "RS256"}),
                None,
            ),
            // Too weak, too short, unknown, nonsense.
            (json!({"kty": "RSA", "n": small, "e": "AQAB"}), None),
            (json!({"kty": "RSA", "n": "", "e": "AQAB"}), None),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": short}), None),
            (json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}), None),
            (json!({"kty": "oct", "k": x}), None),
            (json!({"kty": 7}), None),
            (json!("key"), None),
        ] {
            let found = read(&key);
            assert_eq!(found.first().map(Key::algorithm), algorithm, "{key}");
        }
        assert!(parse(b"{}").is_none() && parse(b"[]").is_none() && parse(b"").is_none());
        let many = json!({ "keys": vec![json!({"kty": "OKP", "crv": "Ed25519", "x": x}); 1000] });
        assert_eq!(parse(many.to_string().as_bytes()).unwrap().len(), KEYS);
    }

    #[test]
    fn a_bad_key_verifies_nothing_and_breaks_nothing() {
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        for key in [
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
            json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xFF; 256]), "e": "AQAB"}),
        ] {
            let key = read(&key).remove(0);
            for signature in [&[][..], &[0; 64], &[0; 256], &[0; 10_000]] {
                assert!(!key.verifies(b"text", signature));
            }
        }
    }
}
