//! Made-up applications and keys, the same in every run.

use authsome_contract::model::{
    AppRecord, CachePolicy, CachePurges, Environment, HostRecord, KeyRecord, KeyState, Plan, Scopes, Serve, Version,
};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::clock::SystemClock;
use authsome_core::entropy::{Entropy, SeededEntropy, SystemEntropy};
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::{Digest, KeyType};
use uuid::Uuid;

/// Keys of the largest table.
pub const KEYS: u64 = 1_000_000;
/// Applications of the largest table.
pub const APPS: u64 = 100_000;
/// Of every record.
pub const VERSION: Version = Version { epoch: 1, row: 1 };
/// As long as a key.
pub const TEXT: usize = authsome_core::key::LENGTH;

fn uuid(seed: u64) -> Uuid {
    let entropy = SeededEntropy::new(seed);
    Uuid::from_u64_pair(entropy.next_u64(), entropy.next_u64())
}

/// Id of the application with this number.
pub fn app_id(n: u64) -> ApplicationId {
    ApplicationId::from_uuid(uuid(n))
}

/// Stands for the text of the key with this number.
pub fn text(n: u64) -> [u8; TEXT] {
    let mut text = [b'k'; TEXT];
    text[..8].copy_from_slice(&n.to_le_bytes());
    text
}

/// An application with two instances, as the feed brings it.
pub fn app(n: u64) -> Change {
    app_with(app_id(n), &["10.0.0.1:8080", "10.0.0.2:8080"], Plan::Pro)
}

/// An application with one instance, as the feed brings it.
pub fn app_of(id: ApplicationId, endpoint: &str, plan: Plan) -> Change {
    app_with(id, &[endpoint], plan)
}

fn app_with(id: ApplicationId, endpoints: &[&str], plan: Plan) -> Change {
    let record = AppRecord {
        id,
        workspace_id: WorkspaceId::from_uuid(id.uuid()),
        environment: Environment::Production,
        region: "eu-west-1".to_owned(),
        serve: Serve::Yes,
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        base_path: String::new(),
        plan,
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

/// A secret key of one of the first `apps` applications, as the feed brings it.
pub fn key(n: u64, apps: u64) -> Change {
    key_with(
        app_id(n % apps),
        Digest::of(&text(n)),
        KeyId::from_uuid(uuid(n + 2 * KEYS)),
    )
}

/// A secret key with every scope, as the feed brings it.
pub fn key_of(app: ApplicationId, digest: Digest) -> Change {
    key_with(app, digest, KeyId::generate(&SystemClock, &SystemEntropy::new()))
}

fn key_with(application_id: ApplicationId, digest: Digest, id: KeyId) -> Change {
    let record = KeyRecord {
        digest,
        id,
        application_id,
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

/// A host name of the application with this number, as the feed brings it.
pub fn host(n: u64) -> Change {
    let record = HostRecord {
        host: format!("login.shop-{n}.example"),
        application_id: app_id(n),
        version: VERSION,
    };
    Change::Host(
        record.host.clone(),
        Versioned {
            version: VERSION,
            record: Some(record),
        },
    )
}

/// The numbers below `n`, in an order without a pattern.
pub fn shuffled(n: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n).collect();
    let entropy = SeededEntropy::new(3);
    for last in (1..order.len()).rev() {
        let bound = last as u64 + 1;
        order.swap(last, usize::try_from(entropy.next_u64() % bound).unwrap());
    }
    order
}
