//! The instance's own application id and credentials: what an instance may offer, and the form in which the edge is given it.
//!
//! Pure. What an instance answers is not trusted: an offer is taken as a whole or not at all, and nothing in it is put into
//! a header that could be more than one value. An edge that cannot open what is sealed here forwards nothing to the
//! application, so only what was read and checked is ever sealed.

use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::seal::{Aad, EdgeRing, SealError};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What the credentials are sealed for; the edge opens them under the same name.
pub const COLUMN: &str = "applications.edge_credentials";

/// The longest answer that is read, in bytes; a manifest has under a kilobyte.
pub const LARGEST: usize = 64 * 1024;

/// The longest value, in bytes.
const LONGEST: usize = 256;

/// Paths that the edge forwards without a key.
const OPEN: &str = "/.well-known/";

/// What an instance wants to be shown. Holds secrets: not for logs.
#[derive(Default)]
pub struct InstanceCredentials {
    /// Its own name of its application.
    app_id: Option<String>,
    /// For callers with a publishable key.
    publishable_key: Option<SecretString>,
    /// For callers with a secret key.
    service_key: Option<SecretString>,
}

/// Why an offer is not taken. Never shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It is longer than [`LARGEST`].
    #[error("the answer has more than {LARGEST} bytes")]
    TooLarge,
    /// It is no JSON object with text in the known members.
    #[error("the answer is not a JSON object with the expected members")]
    Form,
    /// A member cannot be what it is said to be.
    #[error("{0} is not of the expected form")]
    Value(&'static str),
    /// A secret stands where everybody can read it.
    #[error("service_key is offered below {OPEN}, which needs no key")]
    Open,
}

/// The members of an answer that are read; it may have others.
#[derive(Deserialize)]
struct Offer {
    platform_app_id: Option<String>,
    publishable_key: Option<SecretString>,
    service_key: Option<SecretString>,
}

impl InstanceCredentials {
    /// Reads what an instance answers at `path`; `None` where that offers nothing.
    ///
    /// # Errors
    /// [`OfferError`]: nothing of the answer is to be used.
    pub fn offered(path: &str, body: &[u8]) -> Result<Option<Self>, OfferError> {
        if body.len() > LARGEST {
            return Err(OfferError::TooLarge);
        }
        let offer: Offer = serde_json::from_slice(body).map_err(|_| OfferError::Form)?;
        if offer.service_key.is_some() && path.starts_with(OPEN) {
            return Err(OfferError::Open);
        }
        let is_id = |id: &String| is_word(id);
        let is_key = |key: &SecretString, prefixes: &[&str]| {
            let key = key.expose_secret();
            is_word(key) && prefixes.iter().any(|prefix| key.starts_with(prefix))
        };
        if !offer.platform_app_id.as_ref().is_none_or(is_id) {
            return Err(OfferError::Value("platform_app_id"));
        }
        if !offer.publishable_key.as_ref().is_none_or(|key| is_key(key, &["pk_"])) {
            return Err(OfferError::Value("publishable_key"));
        }
        if !offer
            .service_key
            .as_ref()
            .is_none_or(|key| is_key(key, &["sk_", "ask_"]))
        {
            return Err(OfferError::Value("service_key"));
        }
        let found = Self {
            app_id: offer.platform_app_id,
            publishable_key: offer.publishable_key,
            service_key: offer.service_key,
        };
        let is_something = found.app_id.is_some() || found.publishable_key.is_some() || found.service_key.is_some();
        Ok(is_something.then_some(found))
    }

    /// As the edge reads it.
    fn text(&self) -> SecretString {
        let secret = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        let members = [
            ("appId", self.app_id.clone()),
            ("publishableKey", secret(&self.publishable_key)),
            ("serviceKey", secret(&self.service_key)),
        ];
        let members: Map<String, Value> = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))))
            .collect();
        SecretString::from(Value::Object(members).to_string())
    }

    /// Sealed for the edge, in the row of the application.
    pub fn seal(&self, ring: &EdgeRing, id: ApplicationId, entropy: &dyn Entropy) -> Vec<u8> {
        ring.seal(place(&id.text()), self.text().expose_secret().as_bytes(), entropy)
    }

    /// Is this what is sealed there already, under the key that seals now?
    pub fn is_sealed_as(&self, ring: &EdgeRing, id: ApplicationId, sealed: &[u8]) -> bool {
        let opened: Result<SecretString, SealError> = ring.open_text(place(&id.text()), sealed);
        !ring.needs_reseal(sealed) && opened.is_ok_and(|opened| opened.expose_secret() == self.text().expose_secret())
    }
}

fn place(row: &str) -> Aad<'_> {
    Aad {
        table_column: COLUMN,
        row,
    }
}

/// One word of what ids and keys are made of: safe in a header.
fn is_word(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::seal::SealKey;
    use proptest::prelude::*;

    use super::*;

    const MANIFEST: &str = "/.well-known/authsome/manifest";
    const PATH: &str = "/v1/admin/bootstrap";

    fn text_of(path: &str, body: &str) -> Result<Option<String>, OfferError> {
        let offered = InstanceCredentials::offered(path, body.as_bytes())?;
        Ok(offered.map(|found| found.text().expose_secret().to_owned()))
    }

    #[test]
    fn what_is_offered_is_read_in_the_form_that_the_edge_reads() {
        let public = r#"{"platform_app_id":"aapp_1","publishable_key":"pk_live_2","version":"1"}"#;
        let expected = r#"{"appId":"aapp_1","publishableKey":"pk_live_2"}"#;
        assert_eq!(text_of(MANIFEST, public), Ok(Some(expected.to_owned())));
        let named = r#"{"platform_app_id":"aapp_1"}"#;
        assert_eq!(text_of(MANIFEST, named), Ok(Some(r#"{"appId":"aapp_1"}"#.to_owned())));
        let service = r#"{"platform_app_id":"aapp_1","service_key":"ask_3"}"#;
        let expected = r#"{"appId":"aapp_1","serviceKey":"ask_3"}"#;
        assert_eq!(text_of(PATH, service), Ok(Some(expected.to_owned())));
    }

    #[test]
    fn an_answer_without_any_of_them_offers_nothing() {
        for body in ["{}", r#"{"version":"1.6.2"}"#, r#"{"publishable_key":null}"#] {
            assert_eq!(text_of(MANIFEST, body), Ok(None), "{body}");
        }
    }

    #[test]
    fn an_offer_that_is_not_right_in_every_part_is_not_taken() {
        let long = format!(r#"{{"publishable_key":"pk_{}"}}"#, "x".repeat(LONGEST));
        let huge = format!(r#"{{"publishable_key":"pk_1","more":"{}"}}"#, "x".repeat(LARGEST));
        let table = [
            ("", OfferError::Form),
            ("<html>", OfferError::Form),
            ("[]", OfferError::Form),
            (r#"{"publishable_key":7}"#, OfferError::Form),
            (r#"{"publishable_key":"pk_1","platform_app_id":[]}"#, OfferError::Form),
            (r#"{"publishable_key":"sk_1"}"#, OfferError::Value("publishable_key")),
            (
                r#"{"publishable_key":"pk_1\r\nx: y"}"#,
                OfferError::Value("publishable_key"),
            ),
            (r#"{"publishable_key":""}"#, OfferError::Value("publishable_key")),
            (&long, OfferError::Value("publishable_key")),
            (
                r#"{"publishable_key":"pk_1","platform_app_id":"a b"}"#,
                OfferError::Value("platform_app_id"),
            ),
            (
                r#"{"publishable_key":"pk_1","platform_app_id":""}"#,
                OfferError::Value("platform_app_id"),
            ),
            (r#"{"service_key":"ask_1"}"#, OfferError::Open),
            (&huge, OfferError::TooLarge),
        ];
        for (body, expected) in table {
            assert_eq!(
                text_of(MANIFEST, body),
                Err(expected),
                "{}",
                &body[..body.len().min(60)]
            );
        }
        assert_eq!(
            text_of(PATH, r#"{"service_key":"pk_1"}"#),
            Err(OfferError::Value("service_key"))
        );
    }

    #[test]
    fn the_same_is_recognised_and_another_value_row_or_key_is_not() {
        let [id, other] = [1, 2].map(|n| ApplicationId::from_uuid(uuid::Uuid::from_u128(n)));
        let offered = |key: &str| {
            let body = format!(r#"{{"publishable_key":"{key}"}}"#);
            InstanceCredentials::offered(MANIFEST, body.as_bytes())
                .unwrap()
                .unwrap()
        };
        let old = || SealKey::new(1, &[7; 32]);
        let ring = EdgeRing::single(old());
        let sealed = offered("pk_1").seal(&ring, id, &SeededEntropy::new(1));
        assert!(offered("pk_1").is_sealed_as(&ring, id, &sealed));
        assert!(!offered("pk_2").is_sealed_as(&ring, id, &sealed));
        assert!(!offered("pk_1").is_sealed_as(&ring, other, &sealed));
        let newer = EdgeRing::new([SealKey::new(2, &[8; 32]), old()]).unwrap();
        assert!(!offered("pk_1").is_sealed_as(&newer, id, &sealed));
    }

    proptest! {
        #[test]
        fn whatever_an_instance_answers_no_value_leaves_its_header(body in ".{0,200}", key in ".{0,20}") {
            let offer = serde_json::json!({ "publishable_key": format!("pk_{key}"), "platform_app_id": key });
            for body in [body, offer.to_string()] {
                if let Ok(Some(text)) = text_of(PATH, &body) {
                    prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
                }
            }
        }
    }
}
