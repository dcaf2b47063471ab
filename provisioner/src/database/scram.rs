//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), computed here, so that a password never travels to the server in a
//! statement: with `log_statement = all` the server's log has the verifier, from which the password cannot be had back.

use std::num::NonZeroU32;

use authsome_core::entropy::{self, Entropy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};

/// What Postgres itself uses. The passwords are 256 random bits, so more rounds would only cost time at every login.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// A verifier in the form that `PASSWORD '…'` takes: `SCRAM-SHA-256$<rounds>:<salt>$<StoredKey>:<ServerKey>`.
pub(super) struct Verifier(String);

impl Verifier {
    /// The verifier of a password of ASCII letters, digits and marks, which SASLprep leaves as it is.
    pub(super) fn of(password: &SecretString, entropy: &dyn Entropy) -> Self {
        Self::salted(
            password.expose_secret().as_bytes(),
            &entropy::bytes::<16>(entropy),
            ITERATIONS,
        )
    }

    fn salted(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0_u8; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let server_key = hmac::sign(&key, b"Server Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        Self(format!(
            "SCRAM-SHA-256${iterations}:{}${}:{}",
            STANDARD.encode(salt),
            STANDARD.encode(stored_key),
            STANDARD.encode(server_key)
        ))
    }

    /// The text, for a literal.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_verifier_of_the_published_exchange() {
        // RFC 7677, section 3: user "user", password "pencil", this salt, 4096 rounds. The stored and server keys are those
        // that its client proof and server signature verify against.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::salted(b"pencil", &salt, ITERATIONS);
        let server_key = verifier.as_str().rsplit(':').next().unwrap();
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(server_key).unwrap());
        let signature = STANDARD.encode(hmac::sign(&key, auth_message.as_bytes()));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn it_does_not_hold_the_password() {
        let password = SecretString::from("correct-horse");
        let verifier = Verifier::of(&password, &authsome_core::entropy::SeededEntropy::new(1));
        assert!(!verifier.as_str().contains("correct-horse"));
        assert!(verifier.as_str().starts_with("SCRAM-SHA-256$4096:"));
    }
}
