//! Standard Webhooks signatures (<https://www.standardwebhooks.com>, 1.0): HMAC-SHA256 of id, time and body. Pure.

use authsome_core::entropy::{self, Entropy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a new secret; the standard asks for 24 to 64.
const LENGTH: usize = 32;

/// A new secret, as it is shown.
pub fn new_secret(entropy: &dyn Entropy) -> SecretString {
    format!("{PREFIX}{}", STANDARD.encode(entropy::bytes::<LENGTH>(entropy))).into()
}

/// May this be a secret: `whsec_` and 24 to 64 bytes in base64?
pub fn is_secret(text: &str) -> bool {
    bytes(text).is_some_and(|bytes| (24..=64).contains(&bytes.len()))
}

/// The value of `webhook-signature`, with one signature for each secret.
pub fn sign(secrets: &[SecretString], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let signatures = secrets.iter().filter_map(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(secret.expose_secret())?);
        Some(format!("v1,{}", STANDARD.encode(hmac::sign(&key, signed.as_bytes()))))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

fn bytes(secret: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn the_example_of_the_standard_holds() {
        let secret: SecretString = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned().into();
        let signature = sign(
            &[secret],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_made_and_told() {
        let made = new_secret(&SeededEntropy::new(1));
        assert!(is_secret(made.expose_secret()));
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_!!!!",
        ] {
            assert!(!is_secret(bad), "{bad}");
        }
        let two = sign(&[made.clone(), made], "m", 1, "b");
        assert_eq!(two.split(' ').count(), 2);
    }
}
