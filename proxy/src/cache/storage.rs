//! Where responses are kept: in memory, bounded in bytes, each application within its share.
//!
//! What leaves for want of room is asked for again. An entry's whole key is compared, not only its hash, and the key begins
//! with the application's id, so no application can ever be answered with what is another's. Nothing here fails or waits.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use authsome_core::id::ApplicationId;
use bytes::{Bytes, BytesMut};
use foldhash::quality::RandomState;
use http::header;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use pingora::Result;
use pingora::cache::key::{CacheHashKey, HashBinary};
use pingora::cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora::cache::trace::SpanHandle;
use pingora::cache::{CacheKey, CacheMeta};
use pingora::http::ResponseHeader;

use super::metrics::CacheMetrics;

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of everything, bytes.
    pub bytes: u64,
    /// Of one response, bytes.
    pub object: usize,
}

/// No application holds more than this part of the cache.
const SHARE: u64 = 4;
/// What an entry costs besides its key, head and body: bookkeeping of the map, the entry, the header map.
const OVERHEAD: usize = 1024;
/// About what a header line costs besides its text.
const LINE: usize = 96;

/// What the edge adds to an entry; travels as an extension of the library's meta data.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) app: ApplicationId,
    pub(super) tags: Arc<[Box<str>]>,
    /// The newest purge that was known when the response was asked for.
    pub(super) purge_known: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    primary: HashBinary,
    variance: Option<HashBinary>,
}

impl Name {
    fn of(key: &impl CacheHashKey) -> Self {
        Self {
            primary: key.primary_bin(),
            variance: key.variance_bin(),
        }
    }
}

/// A response in memory.
#[derive(Debug)]
pub(super) struct Object {
    key: Box<[u8]>,
    origin: Origin,
    fresh_until: SystemTime,
    created: SystemTime,
    epoch: SystemTime,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    variance: Option<HashBinary>,
    varies: bool,
    /// As the head says.
    length: Option<usize>,
    header: ResponseHeader,
    /// The lines of the head as they are sent.
    lines: Box<[u8]>,
    body: Bytes,
}

impl Object {
    fn new(key: Box<[u8]>, origin: Origin, meta: &CacheMeta, body: Bytes) -> Self {
        let header = meta.response_header_copy();
        let mut lines = Vec::new();
        header.header_to_h1_wire(&mut lines);
        Self {
            key,
            origin,
            fresh_until: meta.fresh_until(),
            created: meta.created(),
            epoch: meta.epoch(),
            stale_while_revalidate: meta.stale_while_revalidate_sec(),
            stale_if_error: meta.stale_if_error_sec(),
            variance: meta.variance(),
            varies: header.headers.contains_key(header::VARY),
            length: header
                .headers
                .get(header::CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok()),
            header,
            lines: lines.into(),
            body,
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn header(&self) -> &ResponseHeader {
        &self.header
    }

    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn fresh_until(&self) -> SystemTime {
        self.fresh_until
    }

    pub(super) fn epoch(&self) -> SystemTime {
        self.epoch
    }

    pub(super) fn variance(&self) -> Option<HashBinary> {
        self.variance
    }

    /// May the response differ by what else a request says?
    pub(super) fn varies(&self) -> bool {
        self.varies
    }

    /// Does the head say how long the body is, and is it?
    pub(super) fn says_length(&self) -> bool {
        self.length == Some(self.body.len())
    }

    fn meta(&self) -> CacheMeta {
        let mut meta = CacheMeta::new(
            self.fresh_until,
            self.created,
            self.stale_while_revalidate,
            self.stale_if_error,
            self.header.clone(),
        );
        if self.epoch != self.created {
            meta.set_epoch_override(self.epoch);
        }
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        meta.extensions_mut().insert(self.origin.clone());
        meta
    }

    fn weight(&self) -> usize {
        let lines: usize = self
            .header
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + LINE)
            .sum();
        OVERHEAD + self.key.len() + lines + self.lines.len() + self.body.len()
    }
}

/// Responses in memory.
pub(super) struct Memory {
    objects: Cache<Name, Arc<Object>, RandomState>,
    held: Arc<Held>,
    bounds: Bounds,
    metrics: CacheMetrics,
}

/// Bytes of each application that has any.
#[derive(Debug, Default)]
struct Held(Mutex<HashMap<ApplicationId, u64>>);

impl Held {
    fn of(&self, app: &ApplicationId) -> u64 {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(app).copied().unwrap_or(0)
    }

    fn add(&self, app: ApplicationId, bytes: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(app).or_default() += bytes;
    }

    fn remove(&self, app: &ApplicationId, bytes: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_app) = held.get_mut(app) {
            *of_app = of_app.saturating_sub(bytes);
            if *of_app == 0 {
                held.remove(app);
            }
        }
    }
}

impl Memory {
    pub(super) fn new(bounds: Bounds, metrics: CacheMetrics) -> Self {
        let held = Arc::new(Held::default());
        let (leaving, evicted) = (Arc::clone(&held), metrics.clone());
        let objects = Cache::builder()
            .max_capacity(bounds.bytes)
            .weigher(|_, object: &Arc<Object>| u32::try_from(object.weight()).unwrap_or(u32::MAX))
            .eviction_listener(move |_, object: Arc<Object>, cause| {
                let weight = object.weight() as u64;
                leaving.remove(&object.origin.app, weight);
                evicted.left(weight);
                if cause == RemovalCause::Size {
                    evicted.evicted();
                }
            })
            // Seeded like the default, which takes several times as long.
            .build_with_hasher(RandomState::default());
        Self {
            objects,
            held,
            bounds,
            metrics,
        }
    }

    /// What is kept under this key, if it is not another variant's place.
    pub(super) fn find(&self, key: &CacheKey) -> Option<Arc<Object>> {
        self.objects
            .get(&Name::of(key))
            .filter(|object| *object.key == *key.primary_key())
    }

    /// Is there something under this key, whichever variant, fresh or not?
    pub(super) fn holds(&self, key: &CacheKey) -> bool {
        self.find(key).is_some()
    }

    fn put(&self, name: Name, object: Object) {
        let (app, weight) = (object.origin.app, object.weight() as u64);
        if self.held.of(&app).saturating_add(weight) > self.bounds.bytes / SHARE {
            self.metrics.refused_share();
            return;
        }
        // Before it is there: the listener may take it off again at once.
        self.held.add(app, weight);
        self.metrics.entered(weight);
        self.objects.insert(name, Arc::new(object));
    }

    /// Forgets every variant of what has this key: the library does not use a variant that is older than the primary one.
    pub(super) fn forget(&self, key: &CacheKey) {
        self.objects.invalidate(&Name::of(key));
    }
}

#[async_trait]
impl Storage for Memory {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        Ok(self.find(key).map(|object| {
            let hit: HitHandler = Box::new(Hit {
                rest: 0..object.body.len(),
                body: object.body.clone(),
            });
            (object.meta(), hit)
        }))
    }

    async fn get_miss_handler(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<MissHandler> {
        let origin = meta.extensions().get::<Origin>().cloned();
        let fill = origin.map(|origin| Object::new(key.primary_key().into(), origin, meta, Bytes::new()));
        Ok(Box::new(Fill {
            memory: self,
            name: Name::of(key),
            object: fill,
            body: BytesMut::new(),
        }))
    }

    async fn purge(&'static self, target: PurgeTarget<'_>, _: PurgeType, _: &SpanHandle) -> Result<PurgeOutcome> {
        let gone = self.objects.remove(&Name::of(target.key()));
        Ok(gone.map_or(PurgeOutcome::NotFound, |_| PurgeOutcome::Purged(None)))
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        let (Some(held), Some(origin)) = (self.find(key), meta.extensions().get::<Origin>()) else {
            return Ok(false);
        };
        let renewed = Object::new(held.key.clone(), origin.clone(), meta, held.body.clone());
        self.put(Name::of(key), renewed);
        Ok(true)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

struct Hit {
    body: Bytes,
    rest: Range<usize>,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let rest = std::mem::take(&mut self.rest);
        Ok((!rest.is_empty()).then(|| self.body.slice(rest)))
    }

    async fn finish(self: Box<Self>, _: &'static (dyn Storage + Sync), _: &CacheKey, _: &SpanHandle) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let end = end.unwrap_or(self.body.len()).min(self.body.len());
        self.rest = start.min(end)..end;
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// A response on its way in. Dropped without its end, it leaves nothing.
struct Fill {
    memory: &'static Memory,
    name: Name,
    /// `None`: it is too large, and only passed on.
    object: Option<Object>,
    body: BytesMut,
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        if self.object.is_none() {
            return Ok(());
        }
        if self.body.len() + data.len() > self.memory.bounds.object {
            self.memory.metrics.refused_size();
            self.object = None;
            self.body = BytesMut::new();
            return Ok(());
        }
        self.body.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let size = self.body.len();
        if let Some(mut object) = self.object {
            object.body = self.body.freeze();
            self.memory.put(self.name, object);
        }
        Ok(MissFinishType::Created(size))
    }
}

#[cfg(test)]
mod tests;
