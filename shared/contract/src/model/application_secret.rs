//! Secrets that a team gives to its application's instance: credentials of identity providers and of mail servers. Written by
//! control, read by the provisioner, and by nobody else ever again.
//!
//! Owns which names there are, how large values may be, and where a sealed value belongs. A name is the environment variable
//! under which the instance finds the value; names that the platform sets itself cannot be chosen, since only those of a closed
//! set and those that begin with `CUSTOM_` can.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::seal::{Aad, PlatformRing, SealError};
use authsome_core::secret::{ExposeSecret, SecretString};

/// The column of sealed values.
const COLUMN: &str = "application_secrets.sealed";
/// What a team's own names begin with.
const CUSTOM: &str = "CUSTOM_";
/// The longest name, in characters.
const NAME_MAX: usize = 64;
/// The largest value, in bytes. 64 of them fit into a Kubernetes Secret (1 MiB) and into an environment (2 MiB).
pub const VALUE_MAX: usize = 8 * 1024;
/// The most secrets of an application.
pub const COUNT_MAX: usize = 64;

/// Names with a meaning to the instance, in order.
pub const WELL_KNOWN: [&str; 16] = [
    "MAILER_RESEND_API_KEY",
    "MAILER_SMTP_PASSWORD",
    "SMS_TWILIO_AUTH_TOKEN",
    "SOCIAL_APPLE_CLIENT_SECRET",
    "SOCIAL_APPLE_PRIVATE_KEY",
    "SOCIAL_DISCORD_CLIENT_SECRET",
    "SOCIAL_FACEBOOK_CLIENT_SECRET",
    "SOCIAL_GITHUB_CLIENT_SECRET",
    "SOCIAL_GITLAB_CLIENT_SECRET",
    "SOCIAL_GOOGLE_CLIENT_SECRET",
    "SOCIAL_LINKEDIN_CLIENT_SECRET",
    "SOCIAL_MICROSOFT_CLIENT_SECRET",
    "SOCIAL_SLACK_CLIENT_SECRET",
    "SOCIAL_TWITTER_CLIENT_SECRET",
    "SSO_OIDC_CLIENT_SECRET",
    "SSO_SAML_PRIVATE_KEY",
];

/// The name of a secret: one of [`WELL_KNOWN`], or `CUSTOM_` and what a team likes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// A text is not the name of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of the known names, such as MAILER_SMTP_PASSWORD, or CUSTOM_ followed by 1 to 57 capital letters, digits and \
     underscores"
)]
pub struct SecretNameError;

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        let legal = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        let custom = text
            .strip_prefix(CUSTOM)
            .is_some_and(|rest| !rest.is_empty() && text.len() <= NAME_MAX && rest.bytes().all(legal));
        if custom || WELL_KNOWN.binary_search(&text).is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretNameError)
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a value cannot be a secret. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretValueError {
    /// There is none, or it is too long.
    #[error("must be from 1 to {VALUE_MAX} bytes long")]
    Length,
    /// No environment can hold it.
    #[error("must not contain the character U+0000")]
    Nul,
}

/// Whether a value can be kept and given to an instance.
///
/// # Errors
/// [`SecretValueError`]
pub fn check_value(value: &SecretString) -> Result<(), SecretValueError> {
    let text = value.expose_secret();
    match () {
        () if text.contains('\0') => Err(SecretValueError::Nul),
        () if (1..=VALUE_MAX).contains(&text.len()) => Ok(()),
        () => Err(SecretValueError::Length),
    }
}

/// The end of a value by which its team knows it again: four characters of an API key of at least 24. Shorter values are
/// passwords, of which four characters tell too much, and texts of several lines end alike.
pub fn last_four(value: &SecretString) -> Option<&str> {
    let text = value.expose_secret();
    let key = text.len() >= 24 && text.bytes().all(|c| c.is_ascii_graphic());
    key.then(|| &text[text.len() - 4..])
}

fn row(application: ApplicationId, name: &SecretName) -> String {
    format!("{application}/{name}")
}

/// Seals a value for its row.
pub fn seal(
    ring: &PlatformRing,
    application: ApplicationId,
    name: &SecretName,
    value: &SecretString,
    entropy: &dyn Entropy,
) -> Vec<u8> {
    let aad = Aad {
        table_column: COLUMN,
        row: &row(application, name),
    };
    ring.seal(aad, value.expose_secret().as_bytes(), entropy)
}

/// Opens the value of a row.
///
/// # Errors
/// [`SealError`] where the key is missing, or the value belongs to another row.
pub fn open(
    ring: &PlatformRing,
    application: ApplicationId,
    name: &SecretName,
    sealed: &[u8],
) -> Result<SecretString, SealError> {
    let aad = Aad {
        table_column: COLUMN,
        row: &row(application, name),
    };
    ring.open_text(aad, sealed)
}

/// The secrets of one application, by name. Cannot be printed.
#[derive(Debug, Clone, Default)]
pub struct ApplicationSecrets(BTreeMap<SecretName, SecretString>);

impl ApplicationSecrets {
    /// Each with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&SecretName, &SecretString)> {
        self.0.iter()
    }

    /// The value of a name.
    pub fn get(&self, name: &SecretName) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(SecretName, SecretString)> for ApplicationSecrets {
    fn from_iter<I: IntoIterator<Item = (SecretName, SecretString)>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;
    use authsome_core::seal::SealKey;

    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn known_names_are_in_order_and_each_is_one() {
        assert!(WELL_KNOWN.is_sorted());
        for name in WELL_KNOWN {
            assert_eq!(name.parse::<SecretName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn no_name_that_the_platform_or_the_system_sets_can_be_chosen() {
        let long = format!("CUSTOM_{}", "A".repeat(58));
        for name in [
            "",
            "DATABASE_URL",
            "REDIS_URL",
            "PORT",
            "LD_PRELOAD",
            "PATH",
            "CONFIG_JSON",
            "CUSTOM_",
            "CUSTOM_a",
            "CUSTOM_A=B",
            "CUSTOM_Ä",
            "custom_A",
            "CUSTOM_A\0",
            "MAILER_SMTP_PASSWORD ",
            long.as_str(),
        ] {
            assert_eq!(name.parse::<SecretName>(), Err(SecretNameError), "{name:?}");
        }
        let longest = format!("CUSTOM_{}", "9".repeat(57));
        for name in ["CUSTOM_A", "CUSTOM_STRIPE_KEY_2", longest.as_str()] {
            assert!(name.parse::<SecretName>().is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_value_fits_into_an_environment() {
        assert_eq!(check_value(&secret("x")), Ok(()));
        assert_eq!(check_value(&secret(&"ä".repeat(VALUE_MAX / 2))), Ok(()));
        assert_eq!(check_value(&secret("")), Err(SecretValueError::Length));
        assert_eq!(
            check_value(&secret(&"x".repeat(VALUE_MAX + 1))),
            Err(SecretValueError::Length)
        );
        assert_eq!(check_value(&secret("a\0b")), Err(SecretValueError::Nul));
    }

    #[test]
    fn only_long_keys_show_their_end() {
        assert_eq!(last_four(&secret("re_0123456789abcdefghWXYZ")), Some("WXYZ"));
        for hidden in [
            "hunter2",
            "twenty-three-characters",
            "a pass phrase with spaces in it",
            "-----BEGIN KEY-----\nx\n-----END KEY-----",
            "öööööööööööööööööööööööööööö",
        ] {
            assert_eq!(last_four(&secret(hidden)), None, "{hidden}");
        }
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_row_only_and_is_never_printed() {
        let ring = PlatformRing::single(SealKey::new(1, &[7; 32]));
        let (app, other) = (
            ApplicationId::from_uuid(uuid::Uuid::from_u128(1)),
            ApplicationId::from_uuid(uuid::Uuid::from_u128(2)),
        );
        let (name, second): (SecretName, SecretName) = ("CUSTOM_A".parse().unwrap(), "CUSTOM_B".parse().unwrap());
        let sealed = seal(&ring, app, &name, &secret("hunter2"), &SeededEntropy::new(1));
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        let opened = open(&ring, app, &name, &sealed).unwrap();
        assert_eq!(opened.expose_secret(), "hunter2");
        assert!(open(&ring, other, &name, &sealed).is_err() && open(&ring, app, &second, &sealed).is_err());
        let all: ApplicationSecrets = [(name.clone(), opened)].into_iter().collect();
        assert!(all.get(&name).is_some() && !format!("{all:?}").contains("hunter2"));
    }
}
