//! What a warm decision takes from the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use authsome_contract::model::{
    AppRecord, CachePolicy, CachePurges, Environment, KeyRecord, KeyState, Plan, Scopes, Serve, Version,
};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::{Digest, KeyType};
use authsome_proxy::admission::warm;
use authsome_proxy::error::Refusal;
use authsome_proxy::gate::Request;
use authsome_proxy::limit::{LimitMetrics, LimitSettings, Limiter, Now};
use authsome_proxy::meter::{Meter, MeterMetrics, MeterSettings};
use authsome_proxy::routing::{self, RoutingMetrics, RoutingSettings};
use prometheus::Registry;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what each thread takes.
struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator can be counted in no other way; every call is passed on as it came"
)]
// SAFETY: every call goes to the system's allocator unchanged; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

const KEYS: u32 = 1_000;
const ROUNDS: u32 = 20;
const VERSION: Version = Version { epoch: 1, row: 1 };

#[test]
fn a_warm_decision_and_its_limit_take_nothing_from_the_heap() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy = SystemEntropy::new();
    let (meter, _) = Meter::open(
        MeterSettings {
            directory: directory.path().to_owned(),
            capacity: 64,
        },
        Arc::clone(&clock),
        Arc::new(SystemEntropy::new()),
        MeterMetrics::register(&registry).unwrap(),
    );
    let metrics = RoutingMetrics::register(&registry).unwrap();
    let (routing, _backend) = routing::new(RoutingSettings::default(), meter, clock, &entropy, metrics);
    let settings = LimitSettings {
        in_flight: 1,
        connections_per_address: 1,
        refusals_per_address: NonZeroU32::MIN,
        assumed_edges: 1,
    };
    let limiter = Limiter::new(&settings, LimitMetrics::register(&registry).unwrap(), Instant::now());
    let app_id = ApplicationId::generate(&SystemClock, &entropy);
    let app = AppRecord {
        id: app_id,
        workspace_id: WorkspaceId::generate(&SystemClock, &entropy),
        environment: Environment::Production,
        region: "local".to_owned(),
        serve: Serve::Yes,
        endpoints: vec!["127.0.0.1:9000".parse().unwrap()],
        base_path: String::new(),
        plan: Plan::Free,
        quota_exhausted: false,
        origins: Vec::new(),
        path_policy: Vec::new(),
        edge_credentials: None,
        strict_seconds: None,
        secret_from_browsers: false,
        limits: None,
        cache_policy: CachePolicy::default(),
        cache_purges: CachePurges::default(),
        instance_service: None,
        instance_tls: None,
        version: VERSION,
    };
    let versioned = Versioned {
        version: VERSION,
        record: Some(app),
    };
    routing.install(Change::App(app_id, versioned));
    for n in 0..KEYS {
        let record = KeyRecord {
            digest: Digest::of(&n.to_le_bytes()),
            id: KeyId::generate(&SystemClock, &entropy),
            application_id: app_id,
            key_type: KeyType::Secret,
            scopes: Scopes::ALL,
            state: KeyState::Active,
            expires_at_ms: None,
            networks: Vec::new(),
            origins: Vec::new(),
            version: VERSION,
        };
        let versioned = Versioned {
            version: VERSION,
            record: Some(record.clone()),
        };
        routing.install(Change::Key(record.digest, versioned));
    }
    let decide = |n: u32| {
        let request = Request {
            method: "GET",
            app_id,
            tail: "/users",
            secret: Some(Digest::of(&n.to_le_bytes())),
            public: None,
            client: None,
            browser: authsome_proxy::filter::cors::Browser::default(),
            heartbeat_age_ms: None,
            now_ms: SystemClock.unix_millis(),
        };
        let Ok(Ok(admission)) = warm(&routing, &request) else {
            return false;
        };
        let now = Now {
            unix_ms: request.now_ms,
            moment: limiter.moment_of(Instant::now()),
        };
        // Twenty requests of a key that may send ten at once: admitted and refused ones.
        let judged = limiter.judge(&admission, None, now);
        matches!(judged.refusal, None | Some(Refusal::RateLimited(_)))
    };
    // What is made once, and the table's own upkeep of what was just installed.
    assert!((0..KEYS).all(decide));
    let before = TAKEN.get();
    for _ in 0..ROUNDS {
        assert!((0..KEYS).all(decide));
    }
    let taken = TAKEN.get() - before;
    // One in a hundred is the table's own upkeep; anything of the decision itself would be one each.
    assert!(
        taken <= u64::from(KEYS * ROUNDS / 100),
        "{taken} in {} decisions",
        KEYS * ROUNDS
    );
}
