//! The routing table: look-ups and whole warm decisions at three sizes, what a key costs in memory, and loading a snapshot.
//!
//! The sizes in memory and the loading are printed before the criterion groups: they are measured once, in a fresh process.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authsome_contract::model::{
    AppRecord, CachePolicy, CachePurges, Environment, KeyRecord, KeyState, Plan, Scopes, Serve, Version,
};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::{Entropy, SeededEntropy};
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::{Digest, KeyType};
use authsome_proxy::admission::warm;
use authsome_proxy::gate::Request;
use authsome_proxy::meter::{Meter, MeterMetrics, MeterSettings};
use authsome_proxy::routing::{self, Backend, Lookup, Routing, RoutingMetrics, RoutingSettings, SnapshotSettings};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use prometheus::Registry;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VERSION: Version = Version { epoch: 1, row: 1 };
const KEYS: u64 = 1_000_000;
const APPS: u64 = 100_000;

struct Edge {
    routing: Routing,
    _backend: Backend,
    _directory: tempfile::TempDir,
}

/// A table that nothing leaves and whose entries stay good without a feed.
fn edge() -> Edge {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (meter, _) = Meter::open(
        MeterSettings {
            directory: directory.path().to_owned(),
            capacity: 64,
        },
        Arc::clone(&clock),
        Arc::new(SeededEntropy::new(1)),
        MeterMetrics::register(&registry).unwrap(),
    );
    let settings = RoutingSettings {
        keys_bytes: 4 << 30,
        apps_bytes: 4 << 30,
        stale_bound: Duration::from_hours(10),
        ..RoutingSettings::default()
    };
    let metrics = RoutingMetrics::register(&registry).unwrap();
    let (routing, backend) = routing::new(settings, meter, clock, &SeededEntropy::new(2), metrics);
    Edge {
        routing,
        _backend: backend,
        _directory: directory,
    }
}

fn uuid(seed: u64) -> Uuid {
    let entropy = SeededEntropy::new(seed);
    Uuid::from_u64_pair(entropy.next_u64(), entropy.next_u64())
}

fn app_id(n: u64) -> ApplicationId {
    ApplicationId::from_uuid(uuid(n))
}

/// Stands for the text of a key.
fn text(n: u64) -> [u8; 64] {
    let mut text = [b'k'; 64];
    text[..8].copy_from_slice(&n.to_le_bytes());
    text
}

fn app(n: u64) -> Change {
    let record = AppRecord {
        id: app_id(n),
        workspace_id: WorkspaceId::from_uuid(uuid(n + KEYS)),
        environment: Environment::Production,
        region: "eu-west-1".to_owned(),
        serve: Serve::Yes,
        endpoints: vec!["10.0.0.1:8080".parse().unwrap(), "10.0.0.2:8080".parse().unwrap()],
        base_path: String::new(),
        plan: Plan::Pro,
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
    Change::App(
        record.id,
        Versioned {
            version: VERSION,
            record: Some(record),
        },
    )
}

fn key(n: u64, apps: u64) -> Change {
    let record = KeyRecord {
        digest: Digest::of(&text(n)),
        id: KeyId::from_uuid(uuid(n + 2 * KEYS)),
        application_id: app_id(n % apps),
        key_type: KeyType::Secret,
        scopes: Scopes::ALL,
        state: KeyState::Active,
        expires_at_ms: None,
        networks: Vec::new(),
        origins: Vec::new(),
        version: VERSION,
    };
    Change::Key(
        record.digest,
        Versioned {
            version: VERSION,
            record: Some(record),
        },
    )
}

fn filled(keys: u64, apps: u64) -> Edge {
    let edge = edge();
    for n in 0..apps {
        edge.routing.install(app(n));
    }
    for n in 0..keys {
        edge.routing.install(key(n, apps));
    }
    edge
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
fn memory_and_snapshot(_: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let settings = SnapshotSettings::in_directory(directory.path().to_owned());
    let edge = edge();
    let empty = resident();
    for n in 0..APPS {
        edge.routing.install(app(n));
    }
    let with_apps = resident();
    let began = Instant::now();
    for n in 0..KEYS {
        edge.routing.install(key(n, APPS));
    }
    println!("routing: {KEYS} keys installed one by one in {:?}", began.elapsed());
    let with_keys = resident();
    println!(
        "routing: {} resident bytes an application, {} a key",
        (with_apps - empty) / APPS,
        (with_keys - with_apps) / KEYS
    );
    let began = Instant::now();
    edge.routing.write_snapshot(&settings).unwrap();
    println!(
        "routing: snapshot of {KEYS} keys and {APPS} applications written in {:?}",
        began.elapsed()
    );
    drop(edge);
    for _ in 0..3 {
        let edge = self::edge();
        let began = Instant::now();
        let counts = edge.routing.load_snapshot(&settings).unwrap();
        assert_eq!(counts, (APPS, KEYS));
        println!("routing: the same snapshot loaded in {:?}", began.elapsed());
    }
}

fn table(c: &mut Criterion) {
    for (keys, apps) in [(1_000, 100), (100_000, 10_000), (KEYS, APPS)] {
        let edge = filled(keys, apps);
        let now_ms = SystemClock.unix_millis();
        let texts: Vec<[u8; 64]> = (0..keys).map(text).collect();
        let digests: Vec<Digest> = texts.iter().map(|text| Digest::of(text)).collect();
        let order = SeededEntropy::new(3);
        let next = || usize::try_from(order.next_u64() % keys).unwrap();
        let mut group = c.benchmark_group("routing");
        group.bench_function(BenchmarkId::new("look up a key", keys), |b| {
            b.iter(|| matches!(edge.routing.key(black_box(&digests[next()]), now_ms), Lookup::Hit(_)));
        });
        group.bench_function(BenchmarkId::new("warm decision", keys), |b| {
            b.iter(|| {
                let n = next();
                let request = Request {
                    method: "GET",
                    app_id: app_id(n as u64 % apps),
                    tail: "/users",
                    secret: Some(Digest::of(black_box(&texts[n]))),
                    public: None,
                    client: None,
                    browser: authsome_proxy::filter::cors::Browser::default(),
                    heartbeat_age_ms: edge.routing.heartbeat_age_ms(now_ms),
                    now_ms,
                };
                assert!(warm(&edge.routing, &request).is_ok_and(|admitted| admitted.is_ok()));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, memory_and_snapshot, table);
criterion_main!(benches);
