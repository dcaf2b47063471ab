//! What callers may ask for, by key, application, address and month; and what they are told of it.

use std::time::{Duration, Instant};

use authsome_core::key::ApiKey;
use authsome_testkit::wait_for;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::{Message, Wire, exchange};

/// Five at once and then one a second: slow enough for any machine to be faster.
const SLOW: Option<&str> = Some(r#"{"requestsPerSecond":1,"burst":5}"#);
const SOON: Duration = Duration::from_secs(20);
const TRUSTING: (&str, &str) = ("AUTHSOME_TRUSTED_PROXIES", "127.0.0.0/8");

fn number(answer: &Message, name: &str) -> u64 {
    let value = answer.header(name).unwrap_or_else(|| panic!("no {name} in {answer:?}"));
    value.parse().unwrap_or_else(|_| panic!("{name} in {answer:?}"))
}

/// Asks until it is told to wait; how many were answered before, and that answer.
async fn use_up(edge: &Edge, app: authsome_core::id::ApplicationId, tail: &str, headers: &str) -> (u64, Message) {
    let mut wire = Wire::connect(&edge.address).await;
    for admitted in 0..1_000 {
        wire.send(request("GET", &format!("/v1/{app}{tail}"), headers, ""))
            .await;
        let answer = wire.receive().await.expect("the connection is kept");
        if answer.status() == 429 {
            return (admitted, answer);
        }
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    panic!("no limit");
}

#[tokio::test]
async fn a_key_has_its_burst_and_then_its_rate_and_others_have_theirs() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants
        .app(NewApp {
            limits: SLOW,
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;

    let began = Instant::now();
    let first = edge.get(app.id, "/users", &key(&app.secret)).await;
    assert_eq!(first.status(), 200);
    for (name, value) in [
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "4"),
        ("x-ratelimit-reset", "1"),
        ("ratelimit-policy", "\"key\";q=5;w=5"),
        ("ratelimit", "\"key\";r=4;t=1"),
    ] {
        assert_eq!(first.header(name), Some(value), "{first:?}");
    }
    assert_eq!(first.header("retry-after"), None);

    let (more, refused) = use_up(&edge, app.id, "/users", &key(&app.secret)).await;
    let most = 5 + began.elapsed().as_secs();
    assert!((5..=most).contains(&(more + 1)), "{} of {most}", more + 1);
    assert_eq!(
        instance.seen().len() as u64,
        more + 1,
        "what is refused is not forwarded"
    );
    assert_eq!(refused.error_code(), "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["retryAfter"], 1);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
    assert_eq!(number(&refused, "x-ratelimit-reset"), 5);
    assert_eq!(refused.header("ratelimit"), Some("\"key\";r=0;t=5"));

    let public = format!("x-publishable-key: {}\r\n", app.public.expose());
    let other = edge.get(app.id, "/v1/me", &public).await;
    assert_eq!((other.status(), number(&other, "x-ratelimit-remaining")), (200, 4));

    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 200);
    assert!(edge.metric("authsome_edge_limited_total{by=\"key\"}").await >= 1);
    assert!(
        edge.metric("authsome_edge_refusals_total{reason=\"rate_limited\"}")
            .await
            >= 1
    );
}

#[tokio::test]
async fn every_plan_has_its_rate_and_a_contract_comes_before_it() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let edge_and_apps = async |plan, limits| {
        let new = NewApp {
            plan,
            limits,
            ..NewApp::at(&[instance.endpoint()])
        };
        tenants.app(new).await
    };
    let mut apps = Vec::new();
    for (plan, limits, policy) in [
        ("free", None, "\"key\";q=10;w=1"),
        ("pro", None, "\"key\";q=100;w=1"),
        ("enterprise", None, "\"key\";q=1000;w=1"),
        ("free", Some(r#"{"requestsPerSecond":3}"#), "\"key\";q=10;w=4"),
        (
            "pro",
            Some(r#"{"requestsPerSecond":250,"burst":500}"#),
            "\"key\";q=500;w=2",
        ),
        ("pro", Some(r#"{"burst":1}"#), "\"key\";q=1;w=1"),
    ] {
        apps.push((edge_and_apps(plan, limits).await, policy));
    }
    let edge = Edge::start(&tenants, &[]).await;
    for (app, policy) in apps {
        let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
        assert_eq!(
            (answer.status(), answer.header("ratelimit-policy")),
            (200, Some(policy))
        );
    }
}

#[tokio::test]
async fn a_changed_key_goes_on_with_what_it_has_used() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants
        .app(NewApp {
            limits: Some(r#"{"requestsPerSecond":1,"burst":120}"#),
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    let began = Instant::now();
    use_up(&edge, app.id, "/users", &key(&app.secret)).await;
    for (enabled, status) in [(false, 401), (true, 200)] {
        tenants.set_enabled(&app.secret, enabled).await;
        wait_for("the change to arrive", SOON, async || {
            let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
            (answer.status() == status).then_some(())
        })
        .await
        .unwrap();
    }
    let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
    let left = number(&answer, "x-ratelimit-remaining");
    assert!(left <= began.elapsed().as_secs(), "{left} after {:?}", began.elapsed());
}

#[tokio::test]
async fn requests_without_a_key_share_one_allowance_of_which_an_address_has_half() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants
        .app(NewApp {
            limits: Some(r#"{"requestsPerSecond":1,"burst":20}"#),
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[TRUSTING]).await;
    let from = |address: &str| format!("x-forwarded-for: {address}\r\n");
    let began = Instant::now();
    let (first, refused) = use_up(&edge, app.id, "/v1/health", &from("192.0.2.1")).await;
    assert_eq!(refused.header("ratelimit-policy"), Some("\"application\";q=20;w=20"));
    let slack = began.elapsed().as_secs();
    assert!((10..=10 + slack).contains(&first), "{first} in {slack} s");
    let (second, _) = use_up(&edge, app.id, "/v1/health", &from("192.0.2.2")).await;
    assert!(second >= 9, "an address of its own has its own half: {second}");
    // By now the application's allowance is used up, for addresses that were never seen before too.
    let mut third = 0;
    for n in 3..20 {
        third += use_up(&edge, app.id, "/v1/health", &from(&format!("192.0.2.{n}")))
            .await
            .0;
    }
    let all = first + second + third;
    assert!(
        all <= 20 + began.elapsed().as_secs() + 1,
        "{all} in {:?}",
        began.elapsed()
    );
    let keyed = edge.get(app.id, "/v1/health", &key(&app.secret)).await;
    assert_eq!(keyed.status(), 200, "a key has a limit of its own");
}

#[tokio::test]
async fn a_used_up_month_is_told_as_such_until_the_next() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let new = NewApp {
        plan: "free",
        ..NewApp::at(&[instance.endpoint()])
    };
    let app = tenants.app(new).await;
    tenants.use_up_the_month(app.id).await;
    let edge = Edge::start(&tenants, &[]).await;
    for headers in [key(&app.secret), String::new()] {
        let answer = edge.get(app.id, "/v1/health", &headers).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (429, "rate_limit_exceeded")
        );
        assert_eq!(answer.json()["error"]["reason"], "quota_exhausted");
        let seconds = number(&answer, "retry-after");
        assert!((1..=31 * 86_400).contains(&seconds), "{seconds}");
        assert_eq!(answer.json()["error"]["retryAfter"], seconds);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"month\";q=100000"));
        assert_eq!(number(&answer, "x-ratelimit-remaining"), 0);
    }
    assert!(instance.seen().is_empty());
}

#[tokio::test]
async fn an_address_that_sends_bad_credentials_is_slowed_down_and_its_good_ones_are_not() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let stranger = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let settings = [TRUSTING, ("AUTHSOME_LIMITS_REFUSALS_PER_ADDRESS", "1")];
    let edge = Edge::start(&tenants, &settings).await;
    let with = |key: &ApiKey, address: &str| format!("x-api-key: {}\r\nx-forwarded-for: {address}\r\n", key.expose());
    let statuses = async |address: &str| {
        let mut statuses = Vec::new();
        let bad = [
            with(&stranger.secret, address),
            format!("x-api-key: sk_live_nonsense\r\nx-forwarded-for: {address}\r\n"),
            format!("x-forwarded-for: {address}\r\n"),
        ];
        for headers in bad.iter().cycle().take(18) {
            statuses.push(edge.get(app.id, "/users", headers).await.status());
        }
        statuses
    };
    for (address, neighbour) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")] {
        let began = Instant::now();
        let before = statuses(address).await;
        let refused = before.iter().filter(|status| **status == 401).count() as u64;
        assert!(before.iter().all(|status| matches!(status, 401 | 429)), "{before:?}");
        assert!((10..=10 + began.elapsed().as_secs()).contains(&refused), "{before:?}");
        assert_eq!(before.last(), Some(&429), "{before:?}");
        let good = edge.get(app.id, "/users", &with(&app.secret, address)).await;
        assert_eq!(good.status(), 200, "a good key from there is not what is wrong");
        let other = edge.get(app.id, "/users", &with(&stranger.secret, neighbour)).await;
        assert_eq!(other.status(), 401);
    }
    let network = with(&stranger.secret, "2001:db8::ffff:2");
    let answer = edge.get(app.id, "/users", &network).await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (429, "rate_limit_exceeded")
    );
    assert!(number(&answer, "retry-after") >= 1);
    assert!(
        edge.metric("authsome_edge_limited_total{by=\"refusals_address\"}")
            .await
            > 0
    );
}

const MIB: usize = 1024 * 1024;

fn declared(target: &str, headers: &str, length: usize) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nhost: a.test\r\n{headers}content-length: {length}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

fn streamed(target: &str, headers: &str, length: usize) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nhost: a.test\r\n{headers}transfer-encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    let chunk = [b'x'; 16 * 1024];
    let mut left = length;
    while left > 0 {
        let part = &chunk[..left.min(chunk.len())];
        bytes.extend(format!("{:x}\r\n", part.len()).bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
        left -= part.len();
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_plan_or_the_contract_says_declared_or_streamed() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let edge = Edge::start(&tenants, &[]).await;
    for (plan, limits, most) in [
        ("free", None, MIB),
        ("pro", None, 10 * MIB),
        ("enterprise", None, 10 * MIB),
        ("pro", Some(r#"{"bodyBytes":65536}"#), 65_536),
        ("free", Some(r#"{"bodyBytes":1099511627776}"#), 10 * MIB),
    ] {
        let app = tenants
            .app(NewApp {
                plan,
                limits,
                ..NewApp::at(&[instance.endpoint()])
            })
            .await;
        let (target, headers) = (format!("/v1/{}/users", app.id), key(&app.secret));
        for form in [declared, streamed] {
            for (length, status) in [(most, 200), (most + 1, 413)] {
                let bytes = form(&target, &headers, length);
                let mut wire = Wire::connect(&edge.address).await;
                // The answer may come, and the connection close, before all is sent.
                wire.try_send(bytes).await;
                let answer = wire.receive().await.expect("an answer");
                assert_eq!(answer.status(), status, "{plan} {limits:?} {length}");
                if status == 413 {
                    assert_eq!(answer.error_code(), "payload_too_large");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_an_instance_says_of_limits_is_replaced() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| {
        crate::instance::Reply::ok(
            "x-ratelimit-limit: 7\r\nratelimit: \"i\";r=1;t=1\r\nratelimit-policy: \"i\";q=7\r\n",
            "ok",
        )
    })
    .await;
    let app = tenants
        .app(NewApp {
            limits: None,
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    let target = format!("/v1/{}/users", app.id);
    let answer = exchange(&edge.address, request("GET", &target, &key(&app.secret), "")).await;
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1000"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"key\";q=1000;w=1"));
    assert_eq!(answer.all("ratelimit").len(), 1);
}
