//! What the table holds: a key with the way to its application, and the application as it stands now.
//!
//! A key entry is never changed, only replaced. It points at the slot of its application, which all keys of that
//! application share, so a change of the application is one pointer swap however many keys there are. Nothing here fails or
//! waits.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use authsome_contract::model::{AppRecord, Version};
use authsome_core::id::ApplicationId;
use http::HeaderValue;

use super::freshness::Freshness;
use super::key::HeldKey;
use super::table::Presence;
use super::uses::Stamp;
use crate::limit::{AppLimits, Seat};
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
    /// The key. May be revoked or expired: ask [`HeldKey::is_usable`].
    pub record: HeldKey,
    /// Its application.
    pub app: Arc<AppSlot>,
    /// What was asked with it, for its rate limit.
    pub limit: Seat,
    pub(super) freshness: Freshness,
    pub(super) used: Stamp,
    pub(super) presence: Presence,
}

impl KeyEntry {
    pub(super) fn new(record: HeldKey, app: Arc<AppSlot>, freshness: Freshness) -> Self {
        Self {
            record,
            app,
            limit: Seat::default(),
            freshness,
            used: Stamp::default(),
            presence: Presence::default(),
        }
    }

    /// In the place of `held`, if there was one: its limit goes on where it was.
    pub(super) fn succeeding(self, held: Option<&Arc<Self>>) -> Self {
        Self {
            limit: held.map(|held| held.limit.handed_over()).unwrap_or_default(),
            ..self
        }
    }

    /// Bytes of memory, near enough for a bound: the entry, what it owns, and moka's bookkeeping.
    pub(super) fn weight(&self) -> u32 {
        weight(size_of::<Self>() + self.record.heap())
    }
}

/// An application as it stands now. Replaced on every change of the record.
#[derive(Debug)]
pub struct AppEntry {
    /// The application.
    pub record: AppRecord,
    /// Its usage counters.
    pub usage: meter::Slot,
    /// What the instance and the client are told of it.
    pub headers: AppHeaders,
    /// What its limits need, and what was asked of it without a key.
    pub limits: AppLimits,
    /// What the way to its instances needs; worked out by the first request.
    pub prepared: OnceLock<Prepared>,
    version: Version,
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
    /// `version` is that of the change that brought the record.
    pub(super) fn new(version: Version, record: AppRecord, usage: meter::Slot) -> Self {
        let headers = AppHeaders {
            app_id: header(&record.id.text()),
            environment: HeaderValue::from_static(record.environment.as_str()),
            region: header(&record.region),
        };
        Self {
            record,
            usage,
            headers,
            limits: AppLimits::default(),
            prepared: OnceLock::new(),
            version,
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
    /// `None`: the row is gone, or was never here.
    entry: ArcSwapOption<AppEntry>,
    pub(super) freshness: Freshness,
    id: ApplicationId,
    /// What is known while there is no entry.
    gone: Mutex<Version>,
}

/// What is known of an application.
#[derive(Debug)]
pub(super) struct AppState {
    pub(super) version: Version,
    /// `None`: the row is gone.
    pub(super) entry: Option<Arc<AppEntry>>,
}

impl AppSlot {
    pub(super) fn new(id: ApplicationId, state: AppState, freshness: Freshness) -> Self {
        Self {
            entry: ArcSwapOption::new(state.entry),
            freshness,
            id,
            gone: Mutex::new(state.version),
        }
    }

    /// The application as it now stands, or `None` when it is gone.
    pub fn load(&self) -> Option<Arc<AppEntry>> {
        self.entry.load_full()
    }

    /// Which application this is the place of.
    pub fn id(&self) -> ApplicationId {
        self.id
    }

    pub(super) fn version(&self) -> Version {
        match &*self.entry.load() {
            Some(entry) => entry.version,
            None => *self.gone(),
        }
    }

    /// Only under the lock of the application's fence: two writers would race over which is newer.
    pub(super) fn replace(&self, mut state: AppState) {
        // Nobody else has the new entry yet, so it can still be changed.
        if let (Some(new), Some(old)) = (state.entry.as_mut().and_then(Arc::get_mut), self.load()) {
            new.limits = old.limits.handed_over();
        }
        // First, so that whoever finds no entry finds the version of its absence.
        *self.gone() = state.version;
        self.entry.store(state.entry);
    }

    fn gone(&self) -> MutexGuard<'_, Version> {
        // A version is written at once: a panic elsewhere leaves none half written.
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn weight(&self) -> u32 {
        weight(size_of::<Self>() + self.entry.load().as_ref().map_or(0, |entry| entry.heap()))
    }
}

/// moka keeps about this much for each entry besides the value (`benches/table.rs` measures the whole).
pub(super) const BOOKKEEPING: usize = 300;

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + BOOKKEEPING).unwrap_or(u32::MAX)
}

/// Ids, scopes and region names are printable ASCII, so the empty value does not occur.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
