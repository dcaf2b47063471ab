//! The response cache: what instances allow to be kept is answered without them, and the documents that everybody needs stay
//! there for a day while an instance is away.
//!
//! RFC 9111 through the forwarding library's cache, with storage of our own (`storage`) and our own judgement of what may be
//! kept (`policy`). Only requests that the gate has admitted come here. A full cache keeps less; nothing here makes a
//! request fail.

mod kept;
mod metrics;
mod policy;
mod purged;
mod status;
mod storage;
mod unlikely;

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::time::Duration;

use authsome_contract::model::AppRecord;
use authsome_core::id::ApplicationId;
use foldhash::quality::RandomState;
use http::{HeaderMap, header};
use pingora::cache::key::HashBinary;
use pingora::cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora::cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, HttpCache, RespCacheable, VarianceBuilder,
};
use pingora::http::{RequestHeader, ResponseHeader};

pub(crate) use kept::Kept;
pub use metrics::CacheMetrics;
pub(crate) use policy::CACHE_TAG;
pub use policy::{Asked, Usage};
pub use storage::Bounds;

use crate::filter::lines::Fields;
use crate::filter::name;
use metrics::Outcome;
use purged::Purged;
use storage::{Memory, Origin};
use unlikely::Unlikely;

/// What is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// `cache.bytes`: of memory for responses; 0 keeps none.
    pub bytes: u64,
    /// `cache.object_bytes`: of one response.
    pub object_bytes: usize,
    /// `cache.wait`: how long a request waits for another one that asks the same, before it asks by itself.
    pub wait: Duration,
}

/// Longest time for which one request holds up others that ask the same, whatever they are ready to wait.
const LOCK_AGE: Duration = Duration::from_secs(30);

/// A request's part in the cache.
#[derive(Debug)]
pub struct Part {
    usage: Usage,
    key: CacheKey,
    path: unlikely::Path,
    purge_known: i64,
    app: ApplicationId,
    /// When the request came, milliseconds since the Unix epoch.
    asked_ms: i64,
}

/// Responses that are kept. There is one in a process, and it is never dropped: the library wants it for ever.
#[derive(Clone, Copy)]
pub struct ResponseCache {
    memory: &'static Memory,
    lock: &'static CacheKeyLockImpl,
    unlikely: &'static Unlikely,
    purged: &'static Purged,
    metrics: &'static CacheMetrics,
    wait: Duration,
}

impl std::fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseCache").finish_non_exhaustive()
    }
}

/// Where a request leads, for the key.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Scheme and host as the client sees them: instances put them into what they answer.
    pub scheme: &'a str,
    /// See `scheme`.
    pub host: &'a [u8],
    /// Path before the application's own, on the shared host.
    pub prefix: &'a str,
    /// The target that the instance is asked for.
    pub target: &'a str,
}

impl ResponseCache {
    /// A cache with these bounds; `None` where it is switched off.
    pub fn new(settings: &CacheSettings, metrics: CacheMetrics) -> Option<Self> {
        if settings.bytes == 0 {
            return None;
        }
        let bounds = Bounds {
            bytes: settings.bytes,
            object: settings.object_bytes,
        };
        Some(Self {
            memory: Box::leak(Box::new(Memory::new(bounds, metrics.clone()))),
            lock: Box::leak(Box::new(CacheLock::new(LOCK_AGE))),
            unlikely: Box::leak(Box::new(Unlikely::new())),
            purged: Box::leak(Box::new(Purged::new())),
            metrics: Box::leak(Box::new(metrics)),
            wait: settings.wait,
        })
    }

    /// The part that a request may have. `None`: none, as for nearly all of them.
    pub fn part<H: Fields>(&self, app: &AppRecord, asked: &Asked<'_, H>, place: &Place<'_>) -> Option<Part> {
        let kind = policy::kind(&app.cache_policy, asked)?;
        let path = unlikely::Path::of(&app.id, asked.tail);
        // Asked before the head is read: that is so for nearly all of them.
        if kind == policy::Kind::Ordinary && self.unlikely.contains(path, asked.now_ms) {
            return None;
        }
        let usage = policy::usage(kind, asked)?;
        let key = key(&app.id, place);
        // On its way into the cache a request becomes a plain GET of the whole. Where nobody knows whether the answer may be
        // kept, what the client asked for is what the instance is asked.
        if kind == policy::Kind::Ordinary && usage.partial && !self.memory.holds(&key) {
            return None;
        }
        Some(Part {
            usage,
            key,
            path,
            purge_known: self
                .purged
                .with(app.id, &app.cache_purges)
                .map_or(i64::MIN, |purges| purges.newest()),
            app: app.id,
            asked_ms: asked.now_ms,
        })
    }

    /// Makes the library look into the cache for this request.
    pub fn enable(&self, cache: &mut HttpCache) {
        let mut overrides = CacheOptionOverrides::default();
        overrides.wait_timeout = Some(self.wait);
        cache.enable(self.memory, None, None, Some(self.lock), Some(overrides));
    }

    /// May what was found be used? `None`: as its time says.
    pub fn judge(&self, part: &Part, app: &AppRecord, meta: &CacheMeta) -> Option<ForcedFreshness> {
        let Some(origin) = meta.extensions().get::<Origin>() else {
            return Some(ForcedFreshness::ForceMiss);
        };
        if self.is_purged(app, origin) {
            return Some(ForcedFreshness::ForceMiss);
        }
        // Served stale still if the instance cannot be asked.
        part.usage
            .validate
            .then_some(ForcedFreshness::ForceExpiredServeStale { expired_at: None })
    }

    fn is_purged(&self, app: &AppRecord, origin: &Origin) -> bool {
        let tags = || origin.tags.iter().map(|tag| &**tag);
        self.purged
            .with(app.id, &app.cache_purges)
            .is_some_and(|purges| purges.covers(origin.purge_known, tags()))
    }

    /// Is the response to be kept?
    pub fn keep(&self, part: &Part, response: &ResponseHeader) -> RespCacheable {
        let verdict = policy::keep(&part.usage, response);
        match verdict {
            RespCacheable::Cacheable(mut meta) => {
                let tags = policy::tags(&response.headers).into();
                meta.extensions_mut().insert(Origin {
                    app: part.app,
                    tags,
                    purge_known: part.purge_known,
                });
                RespCacheable::Cacheable(meta)
            }
            RespCacheable::Uncacheable(reason) => {
                // An error says nothing of what the path answers otherwise.
                if !response.status.is_server_error() && part.usage.kind == policy::Kind::Ordinary {
                    self.unlikely.note(part.path, part.asked_ms);
                }
                RespCacheable::Uncacheable(reason)
            }
        }
    }

    /// An unsafe request succeeded: what was kept of its target, and of where its answer points, holds no more (RFC 9111
    /// section 4.4).
    pub fn invalidate(&self, app: &ApplicationId, place: &Place<'_>, status: u16, response: &impl Fields) {
        if status >= 400 {
            return;
        }
        self.metrics.invalidated();
        self.memory.forget(&key(app, place));
        for name in [&name::LOCATION, &name::CONTENT_LOCATION] {
            let target = response.text(name);
            // Only of the instance that answered: an absolute address may be anybody's.
            if let Some(target) = target.filter(|target| target.starts_with('/') && !target.starts_with("//")) {
                self.memory.forget(&key(app, &Place { target, ..*place }));
            }
        }
    }

    /// Notes what became of a request with a part, and says it to the client (`Cache-Status`, RFC 9211).
    pub fn answered(&self, cache: &HttpCache, response: &mut ResponseHeader) {
        let phase = cache.phase();
        let outcome = match phase {
            CachePhase::Hit => Some(Outcome::Hit),
            CachePhase::Stale | CachePhase::StaleUpdating => Some(Outcome::Stale),
            CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => Some(Outcome::Revalidated),
            CachePhase::Miss | CachePhase::Expired => Some(Outcome::Miss),
            _ => None,
        };
        if let Some(outcome) = outcome {
            self.metrics.answered(outcome);
        }
        if let Some(value) = status::value(phase, cache.maybe_cache_meta()) {
            // Fails only beyond 32,768 headers.
            let _ = response.append_header(name::CACHE_STATUS.header().clone(), value);
        }
    }
}

impl Part {
    /// For the library.
    pub fn key(&self) -> CacheKey {
        self.key.clone()
    }

    /// May what is past its time be served while the instance is asked in the background?
    pub fn may_serve_while_asking(&self) -> bool {
        !self.usage.validate
    }

    /// The part of a request's headers that the kept response was chosen by.
    pub fn variance(meta: &CacheMeta, request: &RequestHeader, key_id: Option<&str>) -> Option<HashBinary> {
        Self::variance_of(meta.headers(), request, key_id)
    }

    fn variance_of(kept: &HeaderMap, request: &impl Fields, key_id: Option<&str>) -> Option<HashBinary> {
        let mut variance = VarianceBuilder::new();
        for vary in kept.get_all(header::VARY) {
            for name in vary.to_str().unwrap_or_default().split(',') {
                let name = name.trim().to_ascii_lowercase();
                if name.is_empty() {
                    continue;
                }
                // The client cannot send these; they follow from the key.
                let value = if name.starts_with("x-authsome-") {
                    key_id.unwrap_or_default().as_bytes().to_vec()
                } else {
                    let values: Vec<&[u8]> = request.all_named(&name).collect();
                    values.join(&b", "[..])
                };
                variance.add_owned_name_value(name, value);
            }
        }
        variance.finalize()
    }
}

/// Each component with its length before it, the application's id first: nothing that a client sends can look like another's
/// key. GET and HEAD share one.
fn key(app: &ApplicationId, place: &Place<'_>) -> CacheKey {
    let parts = [
        place.scheme.as_bytes(),
        place.host,
        place.prefix.as_bytes(),
        place.target.as_bytes(),
    ];
    let length: usize = parts.iter().map(|part| part.len() + 4).sum();
    let mut primary = Vec::with_capacity(16 + length);
    primary.extend_from_slice(app.uuid().as_bytes());
    for part in parts {
        primary.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        primary.extend_from_slice(part);
    }
    let short = in_short(&primary);
    let mut key = CacheKey::new(primary, "");
    key.set_primary_bin_override(short);
    key
}

/// By a seeded hash, which is not for keeping anybody out: whole keys are compared wherever something is found.
fn in_short(primary: &[u8]) -> HashBinary {
    static SEEDS: OnceLock<[RandomState; 2]> = OnceLock::new();
    let seeds = SEEDS.get_or_init(|| [RandomState::default(), RandomState::default()]);
    let [high, low] = seeds.each_ref().map(|seed| seed.hash_one(primary));
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}
