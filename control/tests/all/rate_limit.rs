//! How many requests a caller may send: by plan, together over all replicas, and without Redis by each replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Plan;
use authsome_control::server::limiter::{Limiter, LimiterMetrics, Rates, Sender};
use authsome_control::tasks::connect;
use authsome_core::clock::{ManualClock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::UserId;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{ChaosProxy, RedisOptions, RedisServer};
use axum::body::Body;
use axum::extract::ConnectInfo;
use fred::interfaces::ClientLike;
use http::{Request, StatusCode};
use prometheus::Registry;

use crate::service::Service;

fn user() -> Sender {
    Sender::User(UserId::generate(&SystemClock, &SystemEntropy::new()))
}

async fn on(url: &str, registry: &Registry) -> Limiter {
    let redis = connect::redis(&SecretUrl::parse(url).unwrap()).unwrap();
    redis.wait_for_connect().await.unwrap();
    Limiter::new(
        Some(redis),
        Arc::new(SystemClock),
        LimiterMetrics::register(registry).unwrap(),
    )
}

/// How many of `count` requests pass.
async fn passed(limiter: &Limiter, sender: Sender, rates: &Rates, count: usize) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        passed += usize::from(limiter.decide(sender, rates).await.allowed);
    }
    passed
}

#[tokio::test]
async fn replicas_count_together_in_redis_and_each_alone_without_it() {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let proxy = ChaosProxy::start(server.address()).await.unwrap();
    let url = proxy.in_place_of(&server.url());
    let (first_registry, second_registry) = (Registry::new(), Registry::new());
    let (first, second) = (on(&url, &first_registry).await, on(&url, &second_registry).await);
    let rates = Rates::of(Plan::Free);
    let sender = user();
    let together = passed(&first, sender, &rates, 60).await + passed(&second, sender, &rates, 60).await;
    // One more flows in each 600 ms.
    assert!((100..=110).contains(&together), "{together}");
    let refused = second.decide(sender, &rates).await;
    assert!(
        !refused.allowed && refused.retry >= 1 && refused.limit == 100,
        "{refused:?}"
    );
    assert!(
        first.decide(user(), &rates).await.allowed,
        "another caller is not concerned"
    );

    proxy.cut();
    drop((proxy, server));
    let sender = user();
    let alone = [
        passed(&first, sender, &rates, 105).await,
        passed(&second, sender, &rates, 105).await,
    ];
    assert!(alone.iter().all(|passed| (100..=105).contains(passed)), "{alone:?}");
    let fallen_back = |registry: &Registry| {
        let families = registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "authsome_control_rate_limit_without_redis_total");
        family.unwrap().get_metric()[0].get_counter().get_value()
    };
    assert!(fallen_back(&first_registry) >= 105.0 && fallen_back(&second_registry) >= 105.0);
}

#[tokio::test]
async fn the_day_counts_beside_the_minute() {
    let clock = ManualClock::default();
    let limiter = Limiter::new(
        None,
        Arc::new(clock.clone()),
        LimiterMetrics::register(&Registry::new()).unwrap(),
    );
    let rates = Rates::of(Plan::Free);
    let sender = user();
    let mut sent = 0;
    // As many as a minute allows, minute after minute.
    for _ in 0..120 {
        sent += passed(&limiter, sender, &rates, 101).await;
        clock.advance(Duration::from_mins(1));
    }
    let in_two_hours = 10_000 + 10_000 / 12;
    assert!((10_000..=in_two_hours + 20).contains(&sent), "{sent}");
    let refused = limiter.decide(sender, &rates).await;
    assert_eq!(refused.limit, 10_000, "{refused:?}");
}

#[tokio::test]
async fn the_api_tells_the_rate_of_the_plan_and_refuses_beyond_it() {
    let service = Service::limited().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let mut last = service.get("/api/v1/auth/me", &ada).await;
    assert_eq!(last.headers["x-ratelimit-limit"], "100");
    for _ in 0..110 {
        last = service.get("/api/v1/auth/me", &ada).await;
        if last.status != StatusCode::OK {
            break;
        }
    }
    last.assert_error(429, "rate_limit_exceeded");
    assert_eq!(last.headers["x-ratelimit-remaining"], "0");
    let wait: u64 = last.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(last.json["error"]["retryAfter"], wait);
    service.clock.advance(Duration::from_secs(wait));
    assert_eq!(service.get("/api/v1/auth/me", &ada).await.status, StatusCode::OK);

    // A program of hers is counted apart from her, by the plan of its workspace.
    service.clock.advance(Duration::from_secs(2));
    let body = serde_json::json!({ "name": "CI", "scopes": ["workspace:read"] });
    let made = service
        .post(&format!("/api/v1/workspaces/{workspace}/tokens"), &ada, body)
        .await;
    let program = crate::service::Person {
        id: String::new(),
        token: made.string("secret"),
    };
    let path = format!("/api/v1/workspaces/{workspace}");
    let mut seen = 0;
    while service.get(&path, &program).await.status == StatusCode::OK {
        seen += 1;
    }
    assert!((99..=102).contains(&seen), "{seen}");
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(service.get("/api/v1/auth/me", &ada).await.status, StatusCode::OK);

    let bob = service.person("bob@example.com").await;
    service.workspace(&bob, "pro").await;
    service.clock.advance(Duration::from_secs(61));
    assert_eq!(
        service.get("/api/v1/auth/me", &bob).await.headers["x-ratelimit-limit"],
        "1000"
    );
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_told_the_rate_of_their_address_and_refused_beyond_it() {
    let service = Service::limited().await;
    let ask = async |path: &str, from: &str| {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        let from: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(from));
        service.send(request).await
    };
    let paths = [
        ("/api/v1/plans", StatusCode::OK),
        ("/control/v1/regions", StatusCode::OK),
        ("/api/v1/auth/me", StatusCode::UNAUTHORIZED),
        ("/api/v1/openapi.json", StatusCode::OK),
    ];
    for (number, (path, status)) in paths.into_iter().enumerate() {
        let answer = ask(path, "203.0.113.5:4000").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["x-ratelimit-limit"], "60", "{path}");
        let remaining: usize = answer.headers["x-ratelimit-remaining"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(remaining, 59 - number, "{path}: all count together");
        assert!(answer.headers.contains_key("x-ratelimit-reset"), "{path}");
    }
    let mut seen = 0;
    let refused = loop {
        let answer = ask("/api/v1/plans", "203.0.113.5:4001").await;
        if answer.status != StatusCode::OK {
            break answer;
        }
        seen += 1;
        assert!(seen < 100, "never refused");
    };
    assert!((56..=60).contains(&seen), "{seen}");
    refused.assert_error(429, "rate_limit_exceeded");
    assert!(refused.headers.contains_key("retry-after"));
    let other = ask("/api/v1/plans", "203.0.113.6:4000").await;
    assert_eq!(other.status, StatusCode::OK, "another address is not concerned");
    let page = ask("/api/v1/docs", "203.0.113.5:4000").await;
    assert_eq!(page.status, StatusCode::OK, "the reference is never refused");
}
