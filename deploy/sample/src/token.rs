//! Opaque session and refresh tokens: 32 random bytes for the client, SHA-256 of the text for the database.

use authsome_core::entropy::{self, Entropy};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// A fresh token: 43 URL-safe characters.
pub(crate) fn generate(entropy: &dyn Entropy) -> String {
    URL_SAFE_NO_PAD.encode(entropy::bytes::<32>(entropy))
}

/// What is kept of a token.
pub(crate) fn digest_of(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}
