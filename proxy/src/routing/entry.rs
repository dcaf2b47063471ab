//! What the table holds: a key with the way to its application, and the application as it stands now.
//!
//! A key entry is never changed, only replaced. It points at the slot of its application, which all keys of that
//! application share, so a change of the application is one pointer swap however many keys there are. Nothing here fails or
//! waits.

use std::mem::size_of;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use authsome_contract::model::{AppRecord, KeyRecord, Scopes, Version};
use authsome_core::id::ApplicationId;
use authsome_core::key::KeyType;
use http::HeaderValue;

use super::uses::Stamp;
use crate::meter;
use crate::upstream::Prepared;

/// What a look-up in the table says.
#[derive(Debug, Clone)]
pub enum Lookup<T> {
    /// It is there and fresh enough to be acted on.
    Hit(T),
    /// It was looked for a moment ago and did not exist.
    Absent,
    /// The table does not know; ask [`Routing::resolve_key`](super::Routing::resolve_key) or
    /// [`Routing::resolve_app`](super::Routing::resolve_app).
    Unknown,
}

/// An API key.
#[derive(Debug)]
pub struct KeyEntry {
    /// The key. May be revoked or expired: ask [`KeyRecord::is_usable`].
    pub record: KeyRecord,
    /// Its application.
    pub app: Arc<AppSlot>,
    /// What the instance is told of it.
    pub headers: KeyHeaders,
    pub(super) freshness: Freshness,
    pub(super) used: Stamp,
}

/// Values of identity headers that follow from the key, ready to be sent (cloning counts a reference).
#[derive(Debug, Clone)]
pub struct KeyHeaders {
    /// `X-AuthSome-Key-ID`.
    pub key_id: HeaderValue,
    /// `X-AuthSome-Key-Type`.
    pub key_type: HeaderValue,
    /// `X-AuthSome-Scopes`, separated by spaces.
    pub scopes: HeaderValue,
}

impl KeyEntry {
    pub(super) fn new(record: KeyRecord, app: Arc<AppSlot>, freshness: Freshness) -> Self {
        let headers = KeyHeaders {
            key_id: header(&record.id.text()),
            key_type: HeaderValue::from_static(match record.key_type {
                KeyType::Public => "public",
                KeyType::Secret => "secret",
            }),
            scopes: if record.scopes == Scopes::ALL {
                HeaderValue::from_static("*")
            } else {
                header(&record.scopes.to_string())
            },
        };
        Self {
            record,
            app,
            headers,
            freshness,
            used: Stamp::default(),
        }
    }

    /// Bytes of memory, near enough for a bound: the entry, what it owns, and moka's bookkeeping.
    pub(super) fn weight(&self) -> u32 {
        let origins: usize = self.record.origins.iter().map(|o| o.len() + size_of::<String>()).sum();
        let networks = self.record.networks.len() * size_of::<ipnet::IpNet>();
        let headers = self.headers.key_id.len() + self.headers.scopes.len() + 64;
        weight(size_of::<Self>() + origins + networks + headers)
    }
}

/// An application as it stands now. Replaced on every change of the record.
#[derive(Debug)]
pub struct AppEntry {
    /// The application.
    pub record: AppRecord,
    /// Its usage counters.
    pub usage: meter::Slot,
    /// Round robin over [`AppRecord::endpoints`].
    pub next_endpoint: AtomicUsize,
    /// What the instance and the client are told of it.
    pub headers: AppHeaders,
    /// What the way to its instances needs; worked out by the first request.
    pub prepared: OnceLock<Prepared>,
}

/// Values of headers that follow from the application, ready to be sent.
#[derive(Debug, Clone)]
pub struct AppHeaders {
    /// `X-AuthSome-App-ID`.
    pub app_id: HeaderValue,
    /// `X-AuthSome-Environment`.
    pub environment: HeaderValue,
    /// `X-AuthSome-Region`.
    pub region: HeaderValue,
}

impl AppEntry {
    pub(super) fn new(record: AppRecord, usage: meter::Slot) -> Self {
        let headers = AppHeaders {
            app_id: header(&record.id.text()),
            environment: HeaderValue::from_static(record.environment.as_str()),
            region: header(&record.region),
        };
        Self {
            record,
            usage,
            next_endpoint: AtomicUsize::new(0),
            headers,
            prepared: OnceLock::new(),
        }
    }

    fn heap(&self) -> usize {
        let record = &self.record;
        size_of::<Self>()
            + record.endpoints.len() * size_of::<std::net::SocketAddr>()
            + record
                .origins
                .iter()
                .map(|o| o.len() + size_of::<String>())
                .sum::<usize>()
            + record.path_policy.len() * 128
            + record.cache_policy.rules.len() * 128
            + record.cache_purges.tags.len() * 64
            + record.instance_service.as_ref().map_or(0, String::len)
            + record.instance_tls.as_ref().map_or(0, |tls| tls.server_name.len())
            + record.edge_credentials.as_ref().map_or(0, String::len)
            + record.region.len()
            + record.base_path.len()
    }
}

/// The place of an application in the table. At most one is alive for an application that anything refers to.
#[derive(Debug)]
pub struct AppSlot {
    id: ApplicationId,
    state: ArcSwap<AppState>,
    pub(super) freshness: Freshness,
}

#[derive(Debug)]
pub(super) struct AppState {
    pub(super) version: Version,
    /// `None`: the row is gone.
    pub(super) entry: Option<Arc<AppEntry>>,
}

impl AppSlot {
    pub(super) fn new(id: ApplicationId, state: AppState, freshness: Freshness) -> Self {
        Self {
            id,
            state: ArcSwap::from_pointee(state),
            freshness,
        }
    }

    /// The application as it now stands, or `None` when it is gone.
    pub fn load(&self) -> Option<Arc<AppEntry>> {
        self.state.load().entry.clone()
    }

    /// Which application this is the place of.
    pub fn id(&self) -> ApplicationId {
        self.id
    }

    pub(super) fn version(&self) -> Version {
        self.state.load().version
    }

    /// Only under the lock of the application's fence: two writers would race over which is newer.
    pub(super) fn replace(&self, state: AppState) {
        self.state.store(Arc::new(state));
    }

    pub(super) fn weight(&self) -> u32 {
        weight(size_of::<Self>() + self.state.load().entry.as_ref().map_or(0, |entry| entry.heap()))
    }
}

/// When an entry was last known to be the truth, and by which generation of the feed it is kept so.
#[derive(Debug)]
pub(super) struct Freshness {
    generation: AtomicU32,
    confirmed_ms: AtomicI64,
}

impl Freshness {
    pub(super) fn new(generation: u32, confirmed_ms: i64) -> Self {
        Self {
            generation: AtomicU32::new(generation),
            confirmed_ms: AtomicI64::new(confirmed_ms),
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn confirmed_ms(&self) -> i64 {
        self.confirmed_ms.load(Ordering::Relaxed)
    }

    /// Was it confirmed by something that was read at `at_ms` or later?
    pub(super) fn is_younger_than(&self, at_ms: i64) -> bool {
        self.confirmed_ms() >= at_ms
    }

    /// Never confirmed: nothing may be done with the entry before it is read.
    pub(super) const fn never() -> Self {
        Self {
            generation: AtomicU32::new(0),
            confirmed_ms: AtomicI64::new(0),
        }
    }

    /// Confirmed as this other one is.
    pub(super) fn confirm_like(&self, other: &Self) {
        self.confirm(other.generation(), other.confirmed_ms());
    }

    /// Read again from a source at `now_ms`, with the feed in `generation` when the reading began.
    pub(super) fn confirm(&self, generation: u32, now_ms: i64) {
        // Only forwards: a slow reading must not take back what a later one has confirmed.
        self.confirmed_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.generation.fetch_max(generation, Ordering::Relaxed);
    }
}

/// moka keeps about this much for each entry besides key and value.
const BOOKKEEPING: usize = 160;

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + BOOKKEEPING).unwrap_or(u32::MAX)
}

/// Ids, scopes and region names are printable ASCII, so the empty value does not occur.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
