//! An API key as memory holds it: what the decision needs, in little room, and nothing that could be derived.
//!
//! A million keys are held and most are hardly used, so what a [`KeyRecord`] keeps in growable lists is one pointer here, for
//! the few keys that have lists, and header values are made when they are sent. Nothing here fails or waits.

mod form;

use std::sync::OnceLock;

use authsome_contract::model::{KeyRecord, KeyState, Scopes, Version};
use authsome_core::id::{ApplicationId, IdText, KeyId};
use authsome_core::key::{Digest, KeyType};
use http::HeaderValue;
use ipnet::IpNet;

/// A key. May be revoked or expired: ask [`HeldKey::is_usable`].
///
/// What every decision reads stands at the front, so that it lies in two cache lines.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct HeldKey {
    /// SHA-256 of the key; its name everywhere.
    pub digest: Digest,
    /// The application it opens.
    pub application_id: ApplicationId,
    /// `i64::MAX` is never.
    expires_at_ms: i64,
    /// Almost no key has any.
    lists: Option<Box<Lists>>,
    /// Of the row.
    row: u64,
    /// Of the row. Raised by operators, so never near the limit, at which it would stay.
    epoch: u32,
    /// Public or secret.
    pub key_type: KeyType,
    /// Usable, disabled or revoked.
    pub state: KeyState,
    /// What a secret key may do.
    pub scopes: Scopes,
    /// Id of the key.
    pub id: KeyId,
}

/// Restrictions that few keys have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lists {
    networks: Box<[IpNet]>,
    origins: Box<[String]>,
}

impl Lists {
    fn boxed(networks: Vec<IpNet>, origins: Vec<String>) -> Option<Box<Self>> {
        (!networks.is_empty() || !origins.is_empty()).then(|| {
            Box::new(Self {
                networks: networks.into(),
                origins: origins.into(),
            })
        })
    }
}

impl HeldKey {
    /// Does the key open its application at `now_ms` (milliseconds since the Unix epoch)? Revocation and expiry are both
    /// checked.
    pub fn is_usable(&self, now_ms: i64) -> bool {
        self.state == KeyState::Active && now_ms < self.expires_at_ms
    }

    /// The instant from which it is dead, by the clock alone; milliseconds since the Unix epoch.
    pub fn expires_at_ms(&self) -> Option<i64> {
        (self.expires_at_ms != i64::MAX).then_some(self.expires_at_ms)
    }

    /// Version of the row.
    pub fn version(&self) -> Version {
        Version {
            epoch: self.epoch.into(),
            row: self.row,
        }
    }

    /// Networks that may use it; empty is any.
    pub fn networks(&self) -> &[IpNet] {
        self.lists.as_ref().map_or(&[], |lists| &lists.networks)
    }

    /// Browser origins that may use a public key; empty is what the application allows.
    pub fn origins(&self) -> &[String] {
        self.lists.as_ref().map_or(&[], |lists| &lists.origins)
    }

    /// What the instance is told of it.
    pub fn headers(&self) -> KeyHeaders {
        KeyHeaders {
            key_id: self.id.text(),
            key_type: HeaderValue::from_static(self.key_type.as_str()),
            scopes: scopes_header(self.scopes),
        }
    }

    /// The record as it travels.
    pub fn record(&self) -> KeyRecord {
        KeyRecord {
            digest: self.digest,
            id: self.id,
            application_id: self.application_id,
            key_type: self.key_type,
            scopes: self.scopes,
            state: self.state,
            expires_at_ms: self.expires_at_ms(),
            networks: self.networks().to_vec(),
            origins: self.origins().to_vec(),
            version: self.version(),
        }
    }

    /// Bytes on the heap besides the key itself.
    pub(super) fn heap(&self) -> usize {
        let Some(lists) = &self.lists else { return 0 };
        let origins: usize = lists.origins.iter().map(|o| o.len() + size_of::<String>()).sum();
        size_of::<Lists>() + size_of_val(&*lists.networks) + origins
    }
}

impl From<KeyRecord> for HeldKey {
    fn from(record: KeyRecord) -> Self {
        // Every field by name: one that is added to the record must find its place here.
        let KeyRecord {
            digest,
            id,
            application_id,
            key_type,
            scopes,
            state,
            expires_at_ms,
            networks,
            origins,
            version,
        } = record;
        Self {
            digest,
            application_id,
            expires_at_ms: expires_at_ms.unwrap_or(i64::MAX),
            lists: Lists::boxed(networks, origins),
            key_type,
            state,
            scopes,
            id,
            row: version.row,
            epoch: u32::try_from(version.epoch).unwrap_or(u32::MAX),
        }
    }
}

/// Values of identity headers that follow from the key. Made without touching the heap.
#[derive(Debug, Clone)]
pub struct KeyHeaders {
    /// `X-AuthSome-Key-ID`.
    pub key_id: IdText,
    /// `X-AuthSome-Key-Type`.
    pub key_type: HeaderValue,
    /// `X-AuthSome-Scopes`, separated by spaces.
    pub scopes: HeaderValue,
}

/// One value for each set of scopes that any key has, made when it is first asked for: cloning it counts nothing and copies
/// nothing. At most 256 sets exist, about 25 KiB of text in all.
fn scopes_header(scopes: Scopes) -> HeaderValue {
    static VALUES: [OnceLock<HeaderValue>; 256] = [const { OnceLock::new() }; 256];
    VALUES[usize::from(scopes.bits())]
        .get_or_init(|| {
            // `*` includes the named ones; telling them as well would only be read wrongly.
            let text = if scopes.allows(None) {
                "*".to_owned()
            } else {
                scopes.to_string()
            };
            // Names of scopes are printable ASCII: this does not panic.
            HeaderValue::from_static(text.leak())
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use authsome_contract::model::Scope;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn record() -> KeyRecord {
        KeyRecord {
            digest: Digest::of(b"a key"),
            id: KeyId::from_uuid(Uuid::from_u128(3)),
            application_id: ApplicationId::from_uuid(Uuid::from_u128(7)),
            key_type: KeyType::Secret,
            scopes: Scopes::ALL,
            state: KeyState::Active,
            expires_at_ms: None,
            networks: Vec::new(),
            origins: Vec::new(),
            version: Version { epoch: 1, row: 2 },
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was_put_in(
            expires_at_ms in prop::option::of(0..i64::MAX),
            networks in prop::collection::vec(prop::sample::select(vec!["192.0.2.0/24", "2001:db8::/32"]), 0..3),
            origins in prop::collection::vec("https://[a-z]{1,9}", 0..3),
            state in prop::sample::select(vec![KeyState::Active, KeyState::Disabled, KeyState::Revoked]),
            now_ms in any::<i64>(),
        ) {
            let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
            let record = KeyRecord { expires_at_ms, networks, origins, state, ..record() };
            let held = HeldKey::from(record.clone());
            prop_assert_eq!(held.record(), record.clone());
            // `i64::MAX` milliseconds is no time that any clock reaches.
            prop_assert_eq!(held.is_usable(now_ms.min(i64::MAX - 1)), record.is_usable(now_ms.min(i64::MAX - 1)));
        }
    }

    #[test]
    fn the_headers_tell_id_type_and_scopes() {
        let headers = HeldKey::from(record()).headers();
        assert_eq!(&*headers.key_id, KeyId::from_uuid(Uuid::from_u128(3)).to_string());
        assert_eq!(headers.key_type, "secret");
        assert_eq!(headers.scopes, "*");
        for names in [vec![], vec![Scope::UsersRead, Scope::AuditRead]] {
            let scopes = names.iter().fold(Scopes::NONE, |set, scope| set.with(*scope));
            let headers = HeldKey::from(KeyRecord {
                scopes,
                key_type: KeyType::Public,
                ..record()
            })
            .headers();
            assert_eq!(headers.scopes, scopes.to_string());
            assert_eq!(headers.key_type, "public");
        }
    }

    #[test]
    fn a_key_without_lists_takes_no_more_than_its_fields() {
        assert!(size_of::<HeldKey>() <= 96, "{}", size_of::<HeldKey>());
        assert_eq!(HeldKey::from(record()).heap(), 0);
    }
}
