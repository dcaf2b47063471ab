//! A key as bytes, for the snapshot: half of the room and a tenth of the time of JSON.
//!
//! ```text
//! digest (32) | id (16) | application (16) | epoch (4) | row (8) | expires at (8) | type (1) | state (1) | scopes (1)
//! and for the few keys that have lists:
//! networks: number (4), of each family (1), address (4 or 16), prefix (1) | origins: number (4), of each length (4), text
//! ```
//! Numbers are little endian. A later release may append to this, after the lists, which it then always writes; what follows
//! what is known here is not looked at. Nothing here panics, whatever the bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use authsome_contract::model::{KeyState, Scopes};
use authsome_core::id::{ApplicationId, KeyId};
use authsome_core::key::{Digest, KeyType};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use uuid::Uuid;

use super::{HeldKey, Lists};

const V4: u8 = 4;
const V6: u8 = 6;

impl HeldKey {
    /// Appends the key to `out`.
    pub(in crate::routing) fn write_to(&self, out: &mut Vec<u8>) {
        // Every field by name: one that is added to the key must find its place here, at the end.
        let Self {
            digest,
            application_id,
            expires_at_ms,
            lists,
            key_type,
            state,
            scopes,
            id,
            row,
            epoch,
        } = self;
        out.extend_from_slice(digest.as_bytes());
        out.extend_from_slice(id.uuid().as_bytes());
        out.extend_from_slice(application_id.uuid().as_bytes());
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&row.to_le_bytes());
        out.extend_from_slice(&expires_at_ms.to_le_bytes());
        out.push(match key_type {
            KeyType::Public => 0,
            KeyType::Secret => 1,
        });
        out.push(match state {
            KeyState::Active => 0,
            KeyState::Disabled => 1,
            KeyState::Revoked => 2,
        });
        out.push(scopes.bits());
        if let Some(lists) = lists {
            lists.write_to(out);
        }
    }

    /// What [`Self::write_to`] wrote; `None` if these bytes are no key, or one that this release does not understand.
    pub(in crate::routing) fn read_from(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        Some(Self {
            digest: Digest::from_bytes(rest.take()?),
            id: KeyId::from_uuid(Uuid::from_bytes(rest.take()?)),
            application_id: ApplicationId::from_uuid(Uuid::from_bytes(rest.take()?)),
            epoch: u32::from_le_bytes(rest.take()?),
            row: u64::from_le_bytes(rest.take()?),
            expires_at_ms: i64::from_le_bytes(rest.take()?),
            key_type: match rest.take()? {
                [0] => KeyType::Public,
                [1] => KeyType::Secret,
                _ => return None,
            },
            state: match rest.take()? {
                [0] => KeyState::Active,
                [1] => KeyState::Disabled,
                [2] => KeyState::Revoked,
                _ => return None,
            },
            scopes: Scopes::from_bits(u8::from_le_bytes(rest.take()?))?,
            lists: if rest.0.is_empty() {
                None
            } else {
                Lists::boxed(rest.networks()?, rest.origins()?)
            },
        })
    }
}

impl Lists {
    fn write_to(&self, out: &mut Vec<u8>) {
        let Self { networks, origins } = self;
        // Far fewer than 2³² of either: a record that long would not have reached the edge.
        let number = |n: usize| u32::try_from(n).unwrap_or(0).to_le_bytes();
        out.extend_from_slice(&number(networks.len()));
        for network in networks {
            match network {
                IpNet::V4(network) => {
                    out.push(V4);
                    out.extend_from_slice(&network.addr().octets());
                }
                IpNet::V6(network) => {
                    out.push(V6);
                    out.extend_from_slice(&network.addr().octets());
                }
            }
            out.push(network.prefix_len());
        }
        out.extend_from_slice(&number(origins.len()));
        for origin in origins {
            out.extend_from_slice(&number(origin.len()));
            out.extend_from_slice(origin.as_bytes());
        }
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// Not allocated for what the count claims, but as they come.
    fn networks(&mut self) -> Option<Vec<IpNet>> {
        (0..self.number()?).map(|_| self.network()).collect()
    }

    /// As [`Self::networks`].
    fn origins(&mut self) -> Option<Vec<String>> {
        (0..self.number()?).map(|_| self.text()).collect()
    }

    fn network(&mut self) -> Option<IpNet> {
        match self.take()? {
            [V4] => {
                let address = Ipv4Addr::from(self.take::<4>()?);
                let [prefix] = self.take()?;
                Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
            }
            [V6] => {
                let address = Ipv6Addr::from(self.take::<16>()?);
                let [prefix] = self.take()?;
                Ipv6Net::new(address, prefix).ok().map(IpNet::V6)
            }
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        str::from_utf8(text).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use authsome_contract::model::{KeyRecord, Scope, Version};
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = KeyRecord> {
        let networks = prop::sample::select(vec!["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]);
        let types = prop::sample::select(vec![KeyType::Public, KeyType::Secret]);
        let states = prop::sample::select(vec![KeyState::Active, KeyState::Disabled, KeyState::Revoked]);
        let scopes = prop::sample::subsequence(Scope::ALL, 0..=Scope::ALL.len());
        (
            (any::<[u8; 32]>(), any::<u128>(), any::<u128>(), any::<(u32, u64)>()),
            (types, states, scopes, any::<bool>(), prop::option::of(any::<i64>())),
            prop::collection::vec(networks, 0..4),
            prop::collection::vec("[a-zé:/]{0,12}", 0..4),
        )
            .prop_map(
                |((digest, id, app, (epoch, row)), (key_type, state, scopes, all, expires), networks, origins)| {
                    let some = if all { Scopes::ALL } else { Scopes::NONE };
                    KeyRecord {
                        digest: Digest::from_bytes(digest),
                        id: KeyId::from_uuid(Uuid::from_u128(id)),
                        application_id: ApplicationId::from_uuid(Uuid::from_u128(app)),
                        key_type,
                        scopes: scopes.into_iter().fold(some, Scopes::with),
                        state,
                        expires_at_ms: expires,
                        networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
                        origins,
                        version: Version {
                            epoch: epoch.into(),
                            row,
                        },
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written_and_whatever_a_later_release_appends_is_passed_over(
            record in record(), more in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let key = HeldKey::from(record);
            let mut bytes = Vec::new();
            key.write_to(&mut bytes);
            prop_assert_eq!(HeldKey::read_from(&bytes), Some(key.clone()));
            if key.lists.is_none() {
                bytes.extend([0; 8]);
            }
            bytes.extend(more);
            prop_assert_eq!(HeldKey::read_from(&bytes), Some(key));
        }

        #[test]
        fn no_bytes_make_it_panic_and_no_cut_is_taken_for_the_whole(record in record(), noise in any::<[u8; 8]>()) {
            let key = HeldKey::from(record);
            let mut bytes = Vec::new();
            key.write_to(&mut bytes);
            for end in 0..bytes.len() {
                let cut = HeldKey::read_from(&bytes[..end]);
                // Only the lists as a whole can be missing; the block's checksum is what tells that they are.
                prop_assert!(cut.is_none_or(|cut| cut.lists.is_none()));
            }
            for (at, byte) in noise.into_iter().enumerate() {
                let index = (usize::from(byte) * 7 + at) % bytes.len();
                bytes[index] ^= byte;
            }
            let _ = HeldKey::read_from(&bytes);
        }
    }
}
