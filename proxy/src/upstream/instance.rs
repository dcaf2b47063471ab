//! Credentials of an instance, which stand in for the platform's key on the last stretch.
//!
//! Owns the form of the sealed JSON. If the ring or a key of it is missing, the application is not forwarded to at all: its
//! instance would answer every request with its own 401, which reads as the caller's fault.

use authsome_contract::model::AppRecord;
use authsome_core::seal::{Aad, EdgeRing, SealError};
use authsome_core::secret::{ExposeSecret, SecretString};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

/// Table and column that the credentials are sealed for; the row is the application's id.
pub const EDGE_CREDENTIALS_COLUMN: &str = "applications.edge_credentials";

/// What an instance wants to be shown. All empty if it has no credentials of its own.
#[derive(Clone, Default, Debug)]
pub struct InstanceCredentials {
    /// For callers with a publishable key, and on open paths.
    pub publishable_key: Option<HeaderValue>,
    /// The instance's own name of its application, beside `service_key`.
    pub app_id: Option<HeaderValue>,
    /// For callers with a secret key.
    pub service_key: Option<HeaderValue>,
}

/// Why sealed credentials cannot be used. Never shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The edge was started without a ring.
    #[error("the application has sealed credentials and encryption.edge_key is not set")]
    NoRing,
    /// The record holds something that is not base64.
    #[error("the sealed credentials are not base64")]
    Encoding,
    /// They do not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// They open, and are not what was expected.
    #[error("the unsealed credentials are not of the expected form")]
    Form,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unsealed {
    publishable_key: Option<SecretString>,
    app_id: Option<String>,
    service_key: Option<SecretString>,
}

impl InstanceCredentials {
    /// Opens the credentials of a record, if it has any.
    pub fn unseal(record: &AppRecord, ring: Option<&EdgeRing>) -> Result<Self, CredentialsError> {
        let Some(encoded) = &record.edge_credentials else {
            return Ok(Self::default());
        };
        let ring = ring.ok_or(CredentialsError::NoRing)?;
        let sealed = STANDARD.decode(encoded).map_err(|_| CredentialsError::Encoding)?;
        let row = record.id.text();
        let text = ring.open_text(
            Aad {
                table_column: EDGE_CREDENTIALS_COLUMN,
                row: &row,
            },
            &sealed,
        )?;
        let unsealed: Unsealed = serde_json::from_str(text.expose_secret()).map_err(|_| CredentialsError::Form)?;
        Ok(Self {
            publishable_key: unsealed.publishable_key.map(|key| secret_value(&key)).transpose()?,
            app_id: unsealed
                .app_id
                .map(|id| HeaderValue::from_str(&id))
                .transpose()
                .map_err(|_| CredentialsError::Form)?,
            service_key: unsealed.service_key.map(|key| secret_value(&key)).transpose()?,
        })
    }
}

/// Marked sensitive, so that `Debug` of a header map does not show it.
fn secret_value(secret: &SecretString) -> Result<HeaderValue, CredentialsError> {
    let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| CredentialsError::Form)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use authsome_contract::model::{CachePolicy, CachePurges, Environment, Plan, Serve, Version};
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::id::{ApplicationId, WorkspaceId};

    use super::*;

    fn ring() -> EdgeRing {
        EdgeRing::parse(&STANDARD.encode([7; 32])).unwrap()
    }

    fn record(sealed: Option<String>) -> AppRecord {
        let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(1));
        AppRecord {
            id: ApplicationId::generate(&clock, &entropy),
            workspace_id: WorkspaceId::generate(&clock, &entropy),
            environment: Environment::Staging,
            region: "eu".into(),
            serve: Serve::Yes,
            endpoints: vec![],
            base_path: String::new(),
            plan: Plan::Pro,
            quota_exhausted: false,
            origins: vec![],
            path_policy: vec![],
            edge_credentials: sealed,
            strict_seconds: None,
            secret_from_browsers: false,
            limits: None,
            cache_policy: CachePolicy::default(),
            cache_purges: CachePurges::default(),
            instance_service: None,
            instance_tls: None,
            version: Version { epoch: 1, row: 1 },
        }
    }

    fn sealed(json: &str, row: &str) -> String {
        let aad = Aad {
            table_column: EDGE_CREDENTIALS_COLUMN,
            row,
        };
        STANDARD.encode(ring().seal(aad, json.as_bytes(), &SeededEntropy::new(5)))
    }

    #[test]
    fn credentials_open_for_their_own_application_only() {
        let id = record(None).id.to_string();
        let json = r#"{"publishableKey":"pk_instance","appId":"aapp_1","serviceKey":"ask_2","later":1}"#;
        let opened = InstanceCredentials::unseal(&record(Some(sealed(json, &id))), Some(&ring())).unwrap();
        assert_eq!(opened.publishable_key.unwrap(), "pk_instance");
        assert_eq!(opened.app_id.unwrap(), "aapp_1");
        assert_eq!(opened.service_key.unwrap(), "ask_2");
        let moved = InstanceCredentials::unseal(&record(Some(sealed(json, "app_other"))), Some(&ring()));
        assert_eq!(moved.unwrap_err(), CredentialsError::Seal(SealError::Refused));
    }

    #[test]
    fn what_cannot_be_opened_is_an_error_and_not_an_absence() {
        let id = record(None).id.to_string();
        assert!(
            InstanceCredentials::unseal(&record(None), None)
                .unwrap()
                .service_key
                .is_none()
        );
        let unseal =
            |text: String, ring: Option<&EdgeRing>| InstanceCredentials::unseal(&record(Some(text)), ring).unwrap_err();
        assert_eq!(unseal(sealed("{}", &id), None), CredentialsError::NoRing);
        assert_eq!(unseal("???".into(), Some(&ring())), CredentialsError::Encoding);
        assert_eq!(unseal(sealed("[]", &id), Some(&ring())), CredentialsError::Form);
        assert_eq!(
            unseal(sealed(r#"{"serviceKey":"a\nb"}"#, &id), Some(&ring())),
            CredentialsError::Form
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let id = record(None).id.to_string();
        let json = r#"{"publishableKey":"visible-pk","serviceKey":"visible-sk"}"#;
        let opened = InstanceCredentials::unseal(&record(Some(sealed(json, &id))), Some(&ring())).unwrap();
        assert!(!format!("{opened:?}").contains("visible"));
    }
}
