use authsome_contract::model::{KeyRecord, Plan, Scopes, Serve, Version};
use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::{Digest, KeyType};
use http::HeaderMap;
use proptest::prelude::*;

use super::super::sets::Sets;
use super::*;

const SHOP: &str = "https://shop.example.com";

fn app(environment: Environment, origins: &[&str]) -> AppRecord {
    let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(1));
    AppRecord {
        id: ApplicationId::generate(&clock, &entropy),
        workspace_id: WorkspaceId::generate(&clock, &entropy),
        environment,
        region: "eu".into(),
        serve: Serve::Yes,
        endpoints: vec![],
        base_path: String::new(),
        plan: Plan::Pro,
        quota_exhausted: false,
        origins: origins.iter().map(ToString::to_string).collect(),
        path_policy: vec![],
        edge_credentials: None,
        strict_seconds: None,
        secret_from_browsers: false,
        limits: None,
        cache_policy: authsome_contract::model::CachePolicy::default(),
        cache_purges: authsome_contract::model::CachePurges::default(),
        instance_service: None,
        instance_tls: None,
        version: Version { epoch: 1, row: 1 },
    }
}

fn key(origins: &[&str]) -> HeldKey {
    let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(2));
    HeldKey::from(KeyRecord {
        digest: Digest::of(b"key"),
        id: KeyId::generate(&clock, &entropy),
        application_id: ApplicationId::generate(&clock, &entropy),
        key_type: KeyType::Public,
        scopes: Scopes::NONE,
        state: authsome_contract::model::KeyState::Active,
        expires_at_ms: None,
        networks: vec![],
        origins: origins.iter().map(ToString::to_string).collect(),
        version: Version { epoch: 1, row: 1 },
    })
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn from(origin: &str) -> HeaderMap {
    headers(&[("origin", origin)])
}

fn may_call(app: &AppRecord, origin: &str) -> bool {
    Browser::of(&from(origin), None).may_call(app)
}

#[test]
fn origins_are_exact() {
    let app = app(Environment::Production, &[SHOP, "capacitor://localhost"]);
    assert!(may_call(&app, SHOP));
    assert!(may_call(&app, "capacitor://localhost"));
    for other in [
        "http://shop.example.com",
        "https://shop.example.com:8443",
        "https://shop.example.com.evil.test",
        "https://evil.test/https://shop.example.com",
        "https://example.com",
        "https://Shop.example.com",
        "https://shop.example.com/",
        "https://shop.example.com ",
        "*",
        "null",
        "",
        "http://localhost:3000",
        "http://127.0.0.1",
    ] {
        assert!(!may_call(&app, other), "{other}");
    }
    assert!(
        Browser::of(&headers(&[]), None).may_call(&app),
        "no page, no rule about pages"
    );
    let twice = headers(&[("origin", SHOP), ("origin", SHOP)]);
    assert!(!Browser::of(&twice, None).may_call(&app));
    let null = self::app(Environment::Development, &["null"]);
    assert!(!may_call(&null, "null"), "not even where somebody has listed it");
}

#[test]
fn a_developers_machine_may_call_what_is_not_production() {
    for environment in [Environment::Staging, Environment::Development] {
        let app = app(environment, &[]);
        for local in [
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
            "http://127.0.0.1",
        ] {
            assert!(may_call(&app, local), "{local}");
        }
        for other in [
            "https://localhost:3000",
            "http://localhost.evil.test",
            "http://localhost:",
            "http://localhost:3000.evil.test",
            "http://localhost:123456",
            "http://127.0.0.10",
            "http://127.0.0.1.evil.test:80",
            "http://localhost@evil.test",
        ] {
            assert!(!may_call(&app, other), "{other}");
        }
    }
}

#[test]
fn a_key_with_origins_may_be_used_there_and_nowhere_else() {
    let app = app(Environment::Staging, &[SHOP]);
    let may_use = |key: &HeldKey, origin: &str| Browser::of(&from(origin), None).may_use(key, &app);
    let own = key(&["https://kiosk.example.com"]);
    assert!(may_use(&own, "https://kiosk.example.com"));
    for other in [SHOP, "http://localhost:3000", "null"] {
        assert!(!may_use(&own, other), "{other}");
    }
    assert!(may_use(&key(&[]), SHOP));
    assert!(may_use(&key(&[]), "http://localhost:3000"));
    assert!(!may_use(&key(&[]), "https://kiosk.example.com"));
    assert!(Browser::of(&headers(&[]), None).may_use(&own, &app));
}

#[test]
fn a_page_of_the_applications_own_host_is_at_home_there() {
    let app = app(Environment::Production, &[]);
    let at = |origin: &str, own_host| {
        let headers = from(origin);
        let browser = Browser::of(&headers, own_host);
        (browser.may_call(&app), browser.may_use(&key(&[SHOP]), &app))
    };
    let home = Some(("https", "Auth.example.com"));
    assert_eq!(at("https://auth.example.com", home), (true, true));
    assert_eq!(at("http://auth.example.com", home), (false, false));
    assert_eq!(at("https://auth.example.com:444", home), (false, false));
    assert_eq!(
        at("https://auth.example.com", None),
        (false, false),
        "the shared host is nobody's home"
    );
}

#[test]
fn a_browser_is_known_by_either_mark() {
    let is_one = |lines: &[(&'static str, &str)]| Browser::of(&headers(lines), None).is_one;
    assert!(is_one(&[("origin", SHOP)]));
    assert!(is_one(&[("origin", "null")]));
    assert!(is_one(&[("sec-fetch-site", "none")]));
    assert!(!is_one(&[("user-agent", "Mozilla/5.0"), ("sec-fetch-mode", "cors")]));
}

fn applied(grant: &Grant, lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut answer = headers(lines);
    answer.strike_sets(Sets::BROWSERS_ARE_TOLD);
    grant.apply(&mut answer);
    answer
}

#[test]
fn what_the_instance_says_to_browsers_is_replaced() {
    let foreign = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-origin", "https://evil.test"),
        ("access-control-allow-credentials", "false"),
        ("access-control-expose-headers", "*"),
        ("access-control-allow-methods", "*"),
        ("access-control-allow-headers", "*"),
        ("access-control-max-age", "1"),
        ("access-control-allow-private-network", "true"),
    ];
    let answer = applied(&Grant::To(HeaderValue::from_static(SHOP)), &foreign);
    assert_eq!(answer["access-control-allow-origin"], SHOP);
    assert_eq!(answer.get_all("access-control-allow-origin").iter().count(), 1);
    assert_eq!(answer["access-control-allow-credentials"], "true");
    assert!(
        answer["access-control-expose-headers"]
            .to_str()
            .unwrap()
            .contains("Retry-After")
    );
    assert_eq!(answer["vary"], "Origin");
    assert_eq!(answer.len(), 4, "{answer:?}");
    let nobody = applied(&Grant::Nobody, &foreign);
    assert_eq!(
        (nobody.len(), &nobody["vary"]),
        (1, &HeaderValue::from_static("Origin"))
    );
    assert!(applied(&Grant::Unknown, &foreign).is_empty());
}

#[test]
fn vary_is_added_to_and_never_replaced() {
    for (given, expected) in [
        (&["Accept-Encoding"][..], &["Accept-Encoding", "Origin"][..]),
        (&["Accept, origin"], &["Accept, origin"]),
        (&["*"], &["*"]),
        (&["Accept", "Cookie"], &["Accept", "Cookie", "Origin"]),
    ] {
        let lines: Vec<_> = given.iter().map(|value| ("vary", *value)).collect();
        let answer = applied(&Grant::Nobody, &lines);
        let vary: Vec<_> = answer
            .get_all("vary")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert_eq!(vary, expected);
    }
}

#[test]
fn a_preflight_is_told_what_it_may_send() {
    let asked = |names: &str| {
        let mut answer = HeaderMap::new();
        answer_preflight(&mut answer, &headers(&[("access-control-request-headers", names)]));
        answer
    };
    let answer = asked("content-type, x-publishable-key,authorization");
    assert_eq!(
        answer["access-control-allow-headers"],
        "content-type, x-publishable-key,authorization"
    );
    assert!(
        answer["access-control-allow-methods"]
            .to_str()
            .unwrap()
            .contains("PATCH")
    );
    assert_eq!(answer["access-control-max-age"], "7200");
    for bad in ["", "a b", "a,,b", "x:y", "a;b", &"a".repeat(REQUESTED_BYTES + 1)] {
        assert!(!asked(bad).contains_key("access-control-allow-headers"), "{bad}");
    }
}

#[test]
fn only_a_question_about_another_request_is_a_preflight() {
    let full = [("origin", SHOP), ("access-control-request-method", "POST")];
    assert!(is_preflight(&Method::OPTIONS, &headers(&full)));
    assert!(!is_preflight(&Method::POST, &headers(&full)));
    assert!(!is_preflight(&Method::OPTIONS, &headers(&full[..1])));
    assert!(!is_preflight(&Method::OPTIONS, &headers(&full[1..])));
}

proptest! {
    /// No answer names a page that the application has not listed, and none says `*`.
    #[test]
    fn nobody_is_granted_what_is_not_listed(
        origin in prop_oneof!["[ -~]{0,40}", Just(SHOP.to_owned()), Just("http://localhost:1".to_owned())],
        environment in prop::sample::select(&[Environment::Production, Environment::Staging][..]),
    ) {
        let app = app(environment, &[SHOP]);
        let headers = from(&origin);
        let browser = Browser::of(&headers, None);
        let grant = Grant::for_page(&browser, browser.may_call(&app));
        let is_local = environment == Environment::Staging && origin == "http://localhost:1";
        let expected = if origin == SHOP || is_local {
            Grant::To(HeaderValue::from_str(&origin).unwrap())
        } else {
            Grant::Nobody
        };
        prop_assert_eq!(grant, expected);
    }
}
