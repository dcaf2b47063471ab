use authsome_contract::model::{
    CachePolicy, CachePurges, Environment, KeyRecord, KeyState, PathRule, Plan, Scope, Scopes, Version,
};
use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::{KeyId, WorkspaceId};
use proptest::prelude::*;

use super::*;
use crate::filter::cors::Origin;

const NOW: i64 = 1_800_000_000_000;
const PEER: &str = "192.0.2.7";

fn app_id(seed: u64) -> ApplicationId {
    ApplicationId::generate(&ManualClock::default(), &SeededEntropy::new(seed))
}

fn app(id: ApplicationId) -> AppRecord {
    AppRecord {
        id,
        workspace_id: WorkspaceId::generate(&ManualClock::default(), &SeededEntropy::new(9)),
        environment: Environment::Production,
        region: "eu".into(),
        serve: Serve::Yes,
        endpoints: vec!["127.0.0.1:1".parse().unwrap()],
        base_path: String::new(),
        plan: Plan::Free,
        quota_exhausted: false,
        origins: vec![],
        path_policy: vec![],
        edge_credentials: None,
        strict_seconds: None,
        secret_from_browsers: false,
        limits: None,
        cache_policy: CachePolicy::default(),
        cache_purges: CachePurges::default(),
        instance_service: None,
        instance_tls: None,
        version: Version { epoch: 1, row: 1 },
    }
}

fn key(application_id: ApplicationId, key_type: KeyType) -> KeyRecord {
    KeyRecord {
        digest: Digest::of(key_type.as_str().as_bytes()),
        id: KeyId::generate(&ManualClock::default(), &SeededEntropy::new(3)),
        application_id,
        key_type,
        scopes: if key_type == KeyType::Secret {
            Scopes::ALL
        } else {
            Scopes::NONE
        },
        state: KeyState::Active,
        expires_at_ms: None,
        networks: vec![],
        origins: vec![],
        version: Version { epoch: 1, row: 1 },
    }
}

/// The whole routing table of a test.
#[derive(Clone)]
struct World {
    app: Option<AppRecord>,
    secret: Option<KeyRecord>,
    public: Option<KeyRecord>,
}

impl World {
    fn new() -> Self {
        let id = app_id(1);
        Self {
            app: Some(app(id)),
            secret: Some(key(id, KeyType::Secret)),
            public: Some(key(id, KeyType::Public)),
        }
    }

    fn serve(serve: Serve) -> Self {
        let mut world = Self::new();
        world.app.as_mut().unwrap().serve = serve;
        world
    }
}

const OPEN: (&str, &str) = ("GET", "/v1/health");
const PUBLISHABLE: (&str, &str) = ("POST", "/v1/signin");
const USERS_READ: (&str, &str) = ("GET", "/users");
const UNNAMED: (&str, &str) = ("GET", "/v1/admin/settings");

#[derive(Debug, Clone, Copy, PartialEq)]
enum With {
    Nothing,
    Public,
    Secret,
    Both,
}

const ALL_WITH: [With; 4] = [With::Nothing, With::Public, With::Secret, With::Both];

fn request(path: (&'static str, &'static str), with: With) -> Request<'static> {
    Request {
        method: path.0,
        app_id: app_id(1),
        tail: path.1,
        secret: matches!(with, With::Secret | With::Both).then(|| Digest::of(b"secret")),
        public: matches!(with, With::Public | With::Both).then(|| Digest::of(b"public")),
        client: Some(PEER.parse().unwrap()),
        browser: Browser::default(),
        now_ms: NOW,
        heartbeat_age_ms: Some(0),
    }
}

fn answer<T>(record: Option<&T>) -> Answer<&T> {
    record.map_or(Answer::Absent, Answer::Found)
}

/// Answers what is asked until there is a verdict; nothing may be asked twice.
fn verdict(world: &World, request: &Request<'_>) -> (Step, Vec<Ask>) {
    let [secret, public] = [&world.secret, &world.public].map(|key| key.clone().map(HeldKey::from));
    let (mut known, mut asked) = (Known::default(), Vec::new());
    loop {
        match decide(request, &known) {
            Step::Ask(ask) => {
                assert!(!asked.contains(&ask), "asked twice for {ask:?}");
                asked.push(ask);
                match ask {
                    Ask::Secret(_) => known.secret = answer(secret.as_ref()),
                    Ask::Public(_) => known.public = answer(public.as_ref()),
                    Ask::App(_) => known.app = answer(world.app.as_ref()),
                }
            }
            step => return (step, asked),
        }
    }
}

fn step(world: &World, path: (&'static str, &'static str), with: With) -> Step {
    verdict(world, &request(path, with)).0
}

#[test]
fn each_class_of_path_admits_exactly_its_credentials() {
    let world = World::new();
    let (public, secret) = (Step::Admit(Some(KeyType::Public)), Step::Admit(Some(KeyType::Secret)));
    let missing = Step::Refuse(Refusal::MissingKey);
    let needed = Step::Refuse(Refusal::SecretKeyNeeded);
    for (path, nothing, with_public) in [
        (OPEN, Step::Admit(None), public),
        (PUBLISHABLE, missing, public),
        (USERS_READ, missing, needed),
        (UNNAMED, missing, needed),
    ] {
        assert_eq!(step(&world, path, With::Nothing), nothing, "{path:?}");
        assert_eq!(step(&world, path, With::Public), with_public, "{path:?}");
        assert_eq!(step(&world, path, With::Secret), secret, "{path:?}");
        assert_eq!(step(&world, path, With::Both), secret, "{path:?}: the secret key wins");
    }
}

#[test]
fn a_strict_application_refuses_secret_keys_once_the_heartbeat_is_older_than_its_bound() {
    let stale = Step::Refuse(Refusal::StaleRouting);
    let (public, secret) = (Step::Admit(Some(KeyType::Public)), Step::Admit(Some(KeyType::Secret)));
    for (strict_seconds, heartbeat_age_ms, with_secret) in [
        (None, None, secret),
        (None, Some(i64::MAX), secret),
        (Some(30), Some(0), secret),
        (Some(30), Some(30_000), secret),
        (Some(30), Some(30_001), stale),
        (Some(30), None, stale),
    ] {
        let mut world = World::new();
        world.app.as_mut().unwrap().strict_seconds = strict_seconds;
        let decided = |path, with| {
            let request = Request {
                heartbeat_age_ms,
                ..request(path, with)
            };
            verdict(&world, &request).0
        };
        let case = (strict_seconds, heartbeat_age_ms);
        assert_eq!(decided(USERS_READ, With::Secret), with_secret, "{case:?}");
        assert_eq!(decided(PUBLISHABLE, With::Both), with_secret, "{case:?}");
        assert_eq!(decided(PUBLISHABLE, With::Public), public, "{case:?}");
        assert_eq!(decided(OPEN, With::Nothing), Step::Admit(None), "{case:?}");
    }
}

#[test]
fn a_bad_key_of_a_strict_application_is_the_same_401_however_stale_the_table() {
    let mut world = World::new();
    world.app.as_mut().unwrap().strict_seconds = Some(5);
    world.secret = None;
    let request = Request {
        heartbeat_age_ms: None,
        ..request(USERS_READ, With::Secret)
    };
    assert_eq!(verdict(&world, &request).0, Step::Refuse(Refusal::InvalidKey));
}

/// Every way in which a key can fail to open the application.
fn bad_keys(good: &KeyRecord) -> Vec<Option<KeyRecord>> {
    let other_type = match good.key_type {
        KeyType::Public => KeyType::Secret,
        KeyType::Secret => KeyType::Public,
    };
    vec![
        None,
        Some(KeyRecord {
            state: KeyState::Revoked,
            ..good.clone()
        }),
        Some(KeyRecord {
            state: KeyState::Disabled,
            ..good.clone()
        }),
        Some(KeyRecord {
            expires_at_ms: Some(NOW),
            ..good.clone()
        }),
        Some(KeyRecord {
            expires_at_ms: Some(0),
            ..good.clone()
        }),
        Some(KeyRecord {
            application_id: app_id(2),
            ..good.clone()
        }),
        Some(KeyRecord {
            digest: Digest::of(b"another"),
            ..good.clone()
        }),
        Some(KeyRecord {
            key_type: other_type,
            ..good.clone()
        }),
    ]
}

#[test]
fn a_key_that_does_not_open_the_application_is_always_the_same_401() {
    let states = [
        World::new(),
        World::serve(Serve::Refuse(Unavailability::Suspended)),
        World::serve(Serve::Refuse(Unavailability::Deleted)),
        World {
            app: None,
            ..World::new()
        },
    ];
    for world in states {
        for path in [OPEN, PUBLISHABLE, USERS_READ, UNNAMED] {
            for bad in bad_keys(world.secret.as_ref().unwrap()) {
                let world = World {
                    secret: bad,
                    ..world.clone()
                };
                assert_eq!(step(&world, path, With::Secret), Step::Refuse(Refusal::InvalidKey));
                assert_eq!(
                    step(&world, path, With::Both),
                    Step::Refuse(Refusal::InvalidKey),
                    "both must be good"
                );
            }
            for bad in bad_keys(world.public.as_ref().unwrap()) {
                let world = World {
                    public: bad,
                    ..world.clone()
                };
                assert_eq!(step(&world, path, With::Public), Step::Refuse(Refusal::InvalidKey));
                assert_eq!(
                    step(&world, path, With::Both),
                    Step::Refuse(Refusal::InvalidKey),
                    "both must be good"
                );
            }
        }
    }
}

#[test]
fn a_key_is_dead_from_the_very_millisecond_of_its_expiry() {
    let mut world = World::new();
    world.secret.as_mut().unwrap().expires_at_ms = Some(NOW + 1);
    assert_eq!(
        step(&world, USERS_READ, With::Secret),
        Step::Admit(Some(KeyType::Secret))
    );
    let later = Request {
        now_ms: NOW + 1,
        ..request(USERS_READ, With::Secret)
    };
    assert_eq!(verdict(&world, &later).0, Step::Refuse(Refusal::InvalidKey));
}

#[test]
fn a_deleted_application_answers_like_one_that_never_was() {
    let deleted = World::serve(Serve::Refuse(Unavailability::Deleted));
    let absent = World {
        app: None,
        ..World::new()
    };
    for path in [OPEN, PUBLISHABLE, USERS_READ, UNNAMED] {
        for with in ALL_WITH {
            let expected = match (with, path) {
                (With::Nothing, OPEN) => Refusal::UnknownApplication,
                (With::Nothing, _) => Refusal::MissingKey,
                _ => Refusal::InvalidKey,
            };
            assert_eq!(step(&deleted, path, with), Step::Refuse(expected), "{path:?} {with:?}");
            assert_eq!(step(&absent, path, with), Step::Refuse(expected), "{path:?} {with:?}");
        }
    }
}

#[test]
fn without_a_key_no_state_of_an_application_shows_on_a_keyed_path() {
    let mut worlds: Vec<World> = [
        Unavailability::Provisioning,
        Unavailability::Suspended,
        Unavailability::Failed,
    ]
    .map(|reason| World::serve(Serve::Refuse(reason)))
    .into();
    worlds.extend([
        World::new(),
        World {
            app: None,
            ..World::new()
        },
    ]);
    for world in worlds {
        for path in [PUBLISHABLE, USERS_READ, UNNAMED] {
            assert_eq!(step(&world, path, With::Nothing), Step::Refuse(Refusal::MissingKey));
        }
    }
}

#[test]
fn an_application_that_does_not_serve_says_why_to_whom_it_may_serve() {
    for reason in [
        Unavailability::Provisioning,
        Unavailability::Suspended,
        Unavailability::Failed,
    ] {
        let world = World::serve(Serve::Refuse(reason));
        let told = Step::Refuse(Refusal::NotServing(reason));
        assert_eq!(step(&world, OPEN, With::Nothing), told);
        for path in [OPEN, PUBLISHABLE, USERS_READ] {
            for with in [With::Public, With::Secret, With::Both] {
                assert_eq!(step(&world, path, with), told);
            }
        }
    }
}

#[test]
fn a_secret_key_needs_the_scope_of_the_path() {
    let mut world = World::new();
    let cases = [
        (Scopes::NONE, USERS_READ, false),
        (Scopes::NONE.with(Scope::UsersRead), USERS_READ, true),
        (Scopes::NONE.with(Scope::UsersWrite), USERS_READ, false),
        (Scopes::NONE.with(Scope::UsersRead), ("DELETE", "/users/x"), false),
        (Scopes::NONE.with(Scope::UsersRead), UNNAMED, false),
        (Scopes::ALL, UNNAMED, true),
        (Scopes::NONE, PUBLISHABLE, true),
        (Scopes::NONE, OPEN, true),
    ];
    for (scopes, path, allowed) in cases {
        world.secret.as_mut().unwrap().scopes = scopes;
        let expected = if allowed {
            Step::Admit(Some(KeyType::Secret))
        } else {
            Step::Refuse(Refusal::MissingScope)
        };
        assert_eq!(step(&world, path, With::Secret), expected, "{scopes} {path:?}");
    }
}

#[test]
fn a_key_with_networks_is_accepted_from_them_only() {
    let mut world = World::new();
    world.secret.as_mut().unwrap().networks = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let from = |client: Option<&str>| {
        let client = client.map(|text| text.parse().unwrap());
        verdict(
            &world,
            &Request {
                client,
                ..request(USERS_READ, With::Secret)
            },
        )
        .0
    };
    let admitted = Step::Admit(Some(KeyType::Secret));
    for client in ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"] {
        assert_eq!(from(Some(client)), admitted, "{client}");
    }
    for client in [Some("192.0.3.7"), Some("::1"), Some("::ffff:192.0.3.7"), None] {
        assert_eq!(from(client), Step::Refuse(Refusal::Address), "{client:?}");
    }
}

const SHOP: &str = "https://shop.example.com";

fn page(origin: Option<&'static str>) -> Browser<'static> {
    Browser {
        origin: match origin {
            None => Origin::Unsaid,
            Some("null") => Origin::Opaque,
            Some(origin) => Origin::Of(origin),
        },
        is_one: origin.is_some(),
        is_at_home: false,
    }
}

#[test]
fn a_secret_key_with_the_marks_of_a_browser_is_refused_unless_the_application_allows_it() {
    let (admitted, refused) = (
        Step::Admit(Some(KeyType::Secret)),
        Step::Refuse(Refusal::SecretInBrowser),
    );
    let fetched = Browser {
        is_one: true,
        ..page(None)
    };
    for (allowed, browser, expected) in [
        (false, page(None), admitted),
        (false, page(Some(SHOP)), refused),
        (false, page(Some("null")), refused),
        (false, fetched, refused),
        (true, page(Some(SHOP)), admitted),
        (true, fetched, admitted),
    ] {
        let mut world = World::new();
        let app = world.app.as_mut().unwrap();
        app.origins = vec![SHOP.to_owned()];
        app.secret_from_browsers = allowed;
        for (path, with) in [
            (USERS_READ, With::Secret),
            (PUBLISHABLE, With::Both),
            (OPEN, With::Secret),
        ] {
            let request = Request {
                browser,
                ..request(path, with)
            };
            assert_eq!(verdict(&world, &request).0, expected, "{path:?} {browser:?}");
        }
    }
}

#[test]
fn a_publishable_key_is_for_the_pages_that_are_listed() {
    let (admitted, refused) = (Step::Admit(Some(KeyType::Public)), Step::Refuse(Refusal::Origin));
    for (of_key, origin, expected) in [
        (&[][..], None, admitted),
        (&[], Some(SHOP), admitted),
        (&[], Some("https://evil.test"), refused),
        (&[], Some("null"), refused),
        (
            &["https://kiosk.example.com"],
            Some("https://kiosk.example.com"),
            admitted,
        ),
        (&["https://kiosk.example.com"], Some(SHOP), refused),
        (&["https://kiosk.example.com"], None, admitted),
    ] {
        let mut world = World::new();
        world.app.as_mut().unwrap().origins = vec![SHOP.to_owned()];
        world.public.as_mut().unwrap().origins = of_key.iter().map(ToString::to_string).collect();
        let browser = page(origin);
        let decided = |path, with| {
            let request = Request {
                browser,
                ..request(path, with)
            };
            verdict(&world, &request).0
        };
        assert_eq!(decided(PUBLISHABLE, With::Public), expected, "{of_key:?} {origin:?}");
        assert_eq!(decided(OPEN, With::Public), expected, "{of_key:?} {origin:?}");
        assert_eq!(
            decided(OPEN, With::Nothing),
            Step::Admit(None),
            "an open path is for everybody"
        );
        assert_eq!(decided(PUBLISHABLE, With::Nothing), Step::Refuse(Refusal::MissingKey));
    }
}

#[test]
fn the_policy_of_the_application_is_the_one_that_counts() {
    let mut world = World::new();
    world.app.as_mut().unwrap().path_policy = vec![
        PathRule {
            methods: vec![],
            pattern: "/hooks/**".into(),
            class: PathClass::Open,
        },
        PathRule {
            methods: vec!["POST".into()],
            pattern: "/v1/signin".into(),
            class: PathClass::Secret(None),
        },
    ];
    assert_eq!(step(&world, ("PUT", "/hooks/x"), With::Nothing), Step::Admit(None));
    assert_eq!(
        step(&world, PUBLISHABLE, With::Public),
        Step::Refuse(Refusal::SecretKeyNeeded)
    );
    let absent = World { app: None, ..world };
    assert_eq!(
        step(&absent, ("PUT", "/hooks/x"), With::Nothing),
        Step::Refuse(Refusal::MissingKey)
    );
}

#[test]
fn a_wrong_key_costs_one_look_up_and_none_of_the_application() {
    let world = World {
        secret: None,
        ..World::new()
    };
    let (_, asked) = verdict(&world, &request(USERS_READ, With::Secret));
    assert_eq!(asked, [Ask::Secret(Digest::of(b"secret"))]);
}

proptest! {
    #[test]
    fn nobody_is_admitted_without_a_live_key_of_the_application_except_on_open_paths(
        with in prop::sample::select(&ALL_WITH[..]),
        path in prop::sample::select(&[OPEN, PUBLISHABLE, USERS_READ, UNNAMED][..]),
        bad_secret in 0_usize..9, bad_public in 0_usize..9, there: bool,
    ) {
        let mut world = World::new();
        if let Some(bad) = bad_keys(world.secret.as_ref().unwrap()).into_iter().nth(bad_secret) { world.secret = bad; }
        if let Some(bad) = bad_keys(world.public.as_ref().unwrap()).into_iter().nth(bad_public) { world.public = bad; }
        if !there { world.app = None; }
        let good = |index: usize| index == 8;
        if let Step::Admit(by) = step(&world, path, with) {
            prop_assert!(there);
            match by {
                Some(KeyType::Secret) => prop_assert!(good(bad_secret) && matches!(with, With::Secret | With::Both)),
                Some(KeyType::Public) => prop_assert!(good(bad_public) && with == With::Public),
                None => prop_assert!(path == OPEN && with == With::Nothing),
            }
        }
    }
}
