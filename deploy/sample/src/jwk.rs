//! The instance's signing key: an ES256 key made once, kept in its database, published as a JWK.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::error::ApiError;

/// A new key: its private half as PKCS#8 and its public half as a JWK.
///
/// # Errors
/// [`ApiError::Internal`] when the system gives no randomness.
pub(crate) fn generate() -> Result<(Vec<u8>, Value), ApiError> {
    let random = SystemRandom::new();
    let failed = |_| ApiError::Internal("cannot make a signing key".to_owned());
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref(), &random)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let public = jwk(pair.public_key().as_ref())
        .ok_or_else(|| ApiError::Internal("a P-256 key of an unexpected length".to_owned()))?;
    Ok((private.as_ref().to_vec(), public))
}

/// The JWK of an uncompressed P-256 point: 0x04, 32 bytes x, 32 bytes y.
fn jwk(point: &[u8]) -> Option<Value> {
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    // The thumbprint of RFC 7638: required members only, in this order.
    let thumbprint = digest(
        &SHA256,
        format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes(),
    );
    let kid = URL_SAFE_NO_PAD.encode(thumbprint.as_ref());
    Some(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": kid }))
}
