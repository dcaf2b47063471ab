use authsome_core::{
    clock::SystemClock,
    entropy::SystemEntropy,
    id::{ApplicationId, Id, Kind},
    key::{Digest, KeyType},
};
use proptest::prelude::*;

use super::*;
use crate::model::{CachePolicy, CachePurges, Environment, KeyState, Plan, Scopes, Serve};

fn id<K: Kind>() -> Id<K> {
    Id::generate(&SystemClock, &SystemEntropy::new())
}

const VERSION: Version = Version { epoch: 1, row: 7 };

fn key() -> KeyRecord {
    KeyRecord {
        digest: Digest::of(b"a key"),
        id: id(),
        application_id: id(),
        key_type: KeyType::Secret,
        scopes: Scopes::ALL,
        state: KeyState::Active,
        expires_at_ms: Some(1_700_000_000_000),
        networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        origins: vec!["https://shop.example".to_owned()],
        version: VERSION,
    }
}

fn app() -> AppRecord {
    AppRecord {
        id: id(),
        workspace_id: id(),
        environment: Environment::Production,
        region: "local".to_owned(),
        serve: Serve::Refuse(crate::model::Refusal::Provisioning),
        endpoints: vec!["127.0.0.1:4000".parse().unwrap(), "[::1]:4001".parse().unwrap()],
        base_path: "/authsome".to_owned(),
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
    }
}

fn changes() -> Vec<Change> {
    let (key, app) = (key(), app());
    let host = HostRecord {
        host: "shop.example.com".to_owned(),
        application_id: app.id,
        version: VERSION,
    };
    vec![
        Change::App(
            app.id,
            Versioned {
                version: VERSION,
                record: None,
            },
        ),
        Change::Key(
            key.digest,
            Versioned {
                version: VERSION,
                record: None,
            },
        ),
        Change::Host(
            host.host.clone(),
            Versioned {
                version: VERSION,
                record: Some(host),
            },
        ),
        Change::App(
            app.id,
            Versioned {
                version: VERSION,
                record: Some(app),
            },
        ),
        Change::Key(
            key.digest,
            Versioned {
                version: VERSION,
                record: Some(key),
            },
        ),
        Change::Complete,
    ]
}

#[test]
fn a_change_survives_the_stream() {
    for change in changes() {
        let again = Change::decode(&change.subject(), &change.payload().unwrap()).unwrap();
        assert_eq!(again, change);
    }
}

#[test]
fn a_record_survives_redis_behind_its_version() {
    for change in changes() {
        let Change::Key(_, versioned) = &change else { continue };
        let mut value = redis_version(versioned.version).into_bytes();
        assert_eq!(value.len(), REDIS_VERSION_LEN);
        value.extend(change.payload().unwrap());
        assert_eq!(&decode_redis::<KeyRecord>(&value).unwrap(), versioned);
    }
    assert!(decode_redis::<KeyRecord>(b"short").is_err());
}

#[test]
fn fields_of_a_later_release_are_ignored_and_absent_ones_have_defaults() {
    let json = serde_json::to_value(app()).unwrap();
    let mut later = json.clone();
    later["somethingNew"] = serde_json::json!({"a": 1});
    let later: AppRecord = serde_json::from_value(later).unwrap();
    assert_eq!(serde_json::to_value(&later).unwrap(), json);
    let mut earlier = json;
    for field in ["endpoints", "basePath", "quotaExhausted"] {
        earlier.as_object_mut().unwrap().remove(field);
    }
    let earlier: AppRecord = serde_json::from_value(earlier).unwrap();
    assert!(earlier.endpoints.is_empty() && earlier.base_path.is_empty() && !earlier.quota_exhausted);
}

#[test]
fn what_is_not_of_the_feed_is_an_error() {
    let app: ApplicationId = id();
    for subject in [
        "edge",
        "edge.",
        "edge.app",
        "edge.app.x",
        "edge.key.zz",
        "edge.other.x",
        "app.provision.local",
        "",
    ] {
        assert!(matches!(
            Change::decode(subject, b"{}"),
            Err(ChangeError::Subject(_) | ChangeError::Payload { .. })
        ));
    }
    let broken = Change::decode(&names::edge_app(&app), b"not json");
    assert!(matches!(broken, Err(ChangeError::Payload { .. })), "{broken:?}");
}

proptest! {
    #[test]
    fn byte_order_in_redis_is_version_order(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
        let (a, b) = (Version { epoch: a.0, row: a.1 }, Version { epoch: b.0, row: b.1 });
        prop_assert_eq!(redis_version(a).cmp(&redis_version(b)), a.cmp(&b));
    }

    #[test]
    fn no_message_makes_the_reader_panic(subject in "edge\\.(app|key|host|complete)\\.[ -~]{0,70}", payload in any::<Vec<u8>>()) {
        let _ = Change::decode(&subject, &payload);
        let _ = decode_redis::<KeyRecord>(&payload);
    }
}
