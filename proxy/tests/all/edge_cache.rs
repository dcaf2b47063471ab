//! What the edge keeps of instances' responses, and when it asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use tokio::sync::Notify;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::http2::{self, Client};
use crate::instance::{Instance, Reply};
use crate::meter_usage::Aggregator;
use crate::wire::{Message, PATIENCE, Wire, exchange};

const OPEN: &str = r#"[{"pattern":"/open/**","class":"open"},{"pattern":"/keyed/**","class":"publishable"}]"#;

async fn app_at(tenants: &Tenants, instance: &Instance) -> App {
    tenants
        .app(NewApp {
            path_policy: OPEN,
            ..NewApp::at(&[instance.endpoint()])
        })
        .await
}

/// Answers with these header lines and the number of the answer.
async fn counting(headers: &'static str) -> Instance {
    let count = AtomicUsize::new(0);
    Instance::start(move |_| {
        let n = count.fetch_add(1, Ordering::Relaxed) + 1;
        Reply::ok(headers, &format!("answer {n}"))
    })
    .await
}

fn hit(message: &Message) -> bool {
    message
        .header("cache-status")
        .is_some_and(|status| status.starts_with("authsome-edge; hit"))
}

/// Asks until the answer is what is waited for; not so often that the application's limit would be what is met.
async fn until(edge: &Edge, app: &App, tail: &str, wanted: impl Fn(&Message) -> bool) -> Message {
    let found = wait_for(tail, PATIENCE, async || {
        let message = edge.get(app.id, tail, "").await;
        if message.status() == 200 && wanted(&message) {
            Ok(message)
        } else {
            Err(format!("{message:?}"))
        }
    });
    found.await.unwrap()
}

#[tokio::test]
async fn what_shared_caches_may_keep_is_answered_without_the_instance() {
    let (tenants, instance) = (Tenants::new().await, counting("cache-control: max-age=600\r\n").await);
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;

    let first = edge.get(app.id, "/open/a", "").await;
    assert_eq!((first.status(), &*first.text()), (200, "answer 1"));
    assert!(first.header("cache-status").unwrap().contains("fwd=miss"), "{first:?}");
    assert_eq!(first.header("age"), None);

    let second = edge.get(app.id, "/open/a", "").await;
    assert_eq!((second.status(), &*second.text()), (200, "answer 1"));
    assert!(hit(&second), "{second:?}");
    assert!(second.header("age").unwrap().parse::<u64>().unwrap() < 600);
    assert_eq!(second.header("content-length"), Some("8"));
    assert_eq!(second.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    assert_ne!(
        first.header("x-authsome-request-id"),
        second.header("x-authsome-request-id"),
        "each request has an id of its own"
    );

    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("HEAD", &format!("/v1/{}/open/a", app.id), "", ""))
        .await;
    let head = wire.receive_head().await.unwrap();
    assert!(hit(&head), "{head:?}");

    let part = edge.get(app.id, "/open/a", "range: bytes=0-2\r\n").await;
    assert_eq!((part.status(), &*part.text()), (206, "ans"));

    assert_eq!(
        edge.get(app.id, "/open/a?x", "").await.text(),
        "answer 2",
        "the query counts"
    );
    assert_eq!(instance.seen().len(), 2);
    edge.settled("authsome_edge_cache_objects", 2).await;
}

#[tokio::test]
async fn an_answer_to_somebody_with_a_credential_is_kept_only_if_it_says_so() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| {
        let control = match request.target() {
            "/keyed/public" => "public, max-age=600",
            _ => "max-age=600",
        };
        Reply::ok(&format!("cache-control: {control}\r\n"), "x")
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mine = key(&app.public);
    for tail in ["/keyed/private", "/keyed/private", "/keyed/public", "/keyed/public"] {
        assert_eq!(edge.get(app.id, tail, &mine).await.status(), 200);
    }
    let session = "authorization: Bearer session\r\n";
    let cookie = "cookie: session=1\r\n";
    for headers in [session, session, cookie, cookie] {
        assert_eq!(edge.get(app.id, "/open/a", headers).await.status(), 200);
    }
    let seen = |target: &str| {
        instance
            .seen()
            .iter()
            .filter(|message| message.target() == target)
            .count()
    };
    assert_eq!(
        (seen("/keyed/private"), seen("/keyed/public"), seen("/open/a")),
        (2, 1, 4)
    );

    // What is kept opens nothing.
    assert_eq!(edge.get(app.id, "/keyed/public", "").await.status(), 401);
    tenants.revoke(&app.public).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while edge.get(app.id, "/keyed/public", &mine).await.status() != 401 {
        assert!(tokio::time::Instant::now() < deadline, "still served");
    }
}

#[tokio::test]
async fn no_application_is_answered_with_what_is_anothers() {
    let (tenants, instance) = (Tenants::new().await, counting("cache-control: max-age=600\r\n").await);
    let (one, other) = (app_at(&tenants, &instance).await, app_at(&tenants, &instance).await);
    let edge = Edge::start(&tenants, &[]).await;
    for (app, body) in [
        (&one, "answer 1"),
        (&other, "answer 2"),
        (&one, "answer 1"),
        (&other, "answer 2"),
    ] {
        assert_eq!(edge.get(app.id, "/open/a", "").await.text(), body);
    }
    // Nor one host with what was made for another.
    let with_host = |host: &str| {
        let request = format!("GET /v1/{}/open/a HTTP/1.1\r\nhost: {host}\r\n\r\n", one.id);
        let address = edge.address.clone();
        async move { exchange(&address, request).await.text() }
    };
    assert_eq!(with_host("other.example.com").await, "answer 3");
    assert_eq!(with_host("api.authsome.test").await, "answer 1");
}

#[tokio::test]
async fn each_variant_is_kept_by_itself() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| {
        let language = request.header("accept-language").unwrap_or("none").to_owned();
        Reply::ok("cache-control: max-age=600\r\nvary: Accept-Language\r\n", &language)
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    for _ in 0..2 {
        for language in ["de", "fr", "none"] {
            let header = match language {
                "none" => String::new(),
                language => format!("accept-language: {language}\r\n"),
            };
            assert_eq!(edge.get(app.id, "/open/a", &header).await.text(), language);
        }
    }
    assert_eq!(instance.seen().len(), 3);
}

#[tokio::test]
async fn requests_for_the_same_reach_the_instance_once() {
    let tenants = Tenants::new().await;
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&answer));
    let instance = Instance::connected(move |_, mut wire| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            wire.send("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 4\r\n\r\nonce")
                .await;
            Some(wire)
        }
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_CACHE_WAIT", "20s")]).await;
    let mut wires = Vec::new();
    for _ in 0..20 {
        let mut wire = Wire::connect(&edge.address).await;
        wire.send(request("GET", &format!("/v1/{}/open/a", app.id), "", ""))
            .await;
        wires.push(wire);
    }
    asked.notified().await;
    // All of them have arrived once the edge counts them.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while edge.metric("authsome_edge_in_flight_requests").await < 20 {
        assert!(tokio::time::Instant::now() < deadline, "not all arrived");
    }
    answer.notify_one();
    for wire in &mut wires {
        assert_eq!(wire.receive().await.unwrap().text(), "once");
    }
    assert_eq!(instance.seen().len(), 1);
}

#[tokio::test]
async fn what_is_past_its_time_is_served_while_the_instance_is_asked_and_nobody_pays_for_the_asking() {
    let tenants = Tenants::new().await;
    let instance = counting("cache-control: max-age=0, stale-while-revalidate=600\r\n").await;
    let app = app_at(&tenants, &instance).await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    let mut edge = Edge::start(&tenants, &[("NATS_URL", &server.url())]).await;
    assert_eq!(edge.get(app.id, "/open/a", "").await.text(), "answer 1");
    let stale = edge.get(app.id, "/open/a", "").await;
    assert_eq!(stale.text(), "answer 1");
    assert!(hit(&stale), "{stale:?}");
    let mut sent = 2;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        sent += 1;
        if edge.get(app.id, "/open/a", "").await.text() != "answer 1" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never renewed");
    }
    edge.program.stop().await.unwrap();
    aggregator.until(sent).await;
}

#[tokio::test]
async fn what_is_past_its_time_is_renewed_where_it_was_found_behind_a_trusted_proxy_and_over_http_2_too() {
    let tenants = Tenants::new().await;
    let instance = counting("cache-control: max-age=2, stale-while-revalidate=600\r\n").await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let said = [("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.7")];
    let lines: String = said.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let mut client = Client::plain(&edge.address).await;
    for tail in ["/open/a", "/open/b"] {
        let path = format!("/v1/{}{tail}", app.id);
        let mut ask = async |by_http2: bool| {
            if by_http2 {
                let answer = client
                    .ask(http2::request(http::Method::GET, &path, &said))
                    .await
                    .unwrap();
                assert_eq!(answer.status(), 200);
                return answer.text();
            }
            edge.get(app.id, tail, &lines).await.text()
        };
        let by_http2 = tail == "/open/b";
        let first = ask(by_http2).await;
        let before = instance.seen().len();
        // Answered as it was until one request finds it past its time; that one has it renewed for the others.
        let renewed = wait_for("the renewed answer", PATIENCE, async || {
            (ask(by_http2).await != first).then_some(())
        });
        if let Err(error) = renewed.await {
            panic!("{error}: {:#?}", instance.seen());
        }
        assert!(instance.seen().len() > before);
        let renewed = instance.seen().pop().unwrap();
        assert_eq!(renewed.header("x-forwarded-proto"), Some("https"), "{renewed:?}");
    }
}

#[tokio::test]
async fn documents_are_served_while_the_instance_fails_and_while_it_is_away() {
    let tenants = Tenants::new().await;
    let fails = Arc::new(AtomicU64::new(0));
    let failing = Arc::clone(&fails);
    let instance = Instance::start(move |_| {
        if failing.load(Ordering::Relaxed) > 0 {
            // Closed after it, so that nothing answers any more once the instance is gone.
            return Reply::Last(b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec());
        }
        Reply::Last(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: max-age=0\r\ncontent-length: 4\r\n\r\nkeys"
                .to_vec(),
        )
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    let documents = [
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/v1/client-config",
    ];
    let mine = key(&app.public);
    for tail in documents {
        assert_eq!(edge.get(app.id, tail, &mine).await.text(), "keys");
    }
    fails.store(1, Ordering::Relaxed);
    for tail in documents {
        let served = edge.get(app.id, tail, &mine).await;
        assert_eq!((served.status(), &*served.text()), (200, "keys"), "{tail}");
        assert!(hit(&served), "{served:?}");
    }
    assert_eq!(
        edge.get(app.id, "/open/other", "").await.status(),
        500,
        "nothing else is made up"
    );
    drop(instance);
    for tail in documents {
        assert_eq!(edge.get(app.id, tail, &mine).await.text(), "keys", "{tail}");
    }
    assert_eq!(edge.get(app.id, "/open/other", "").await.status(), 502);
}

#[tokio::test]
async fn what_an_instance_allows_is_served_past_its_time_while_it_fails_and_what_it_does_not_is_not() {
    let (tenants, fails) = (Tenants::new().await, Arc::new(AtomicBool::new(false)));
    let failing = Arc::clone(&fails);
    let instance = Instance::start(move |request| {
        if failing.load(Ordering::Relaxed) {
            return Reply::Last(b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec());
        }
        let control = match request.target() {
            "/open/allowed" => "max-age=0, stale-if-error=600",
            "/open/strict" => "max-age=0, must-revalidate, stale-if-error=600",
            _ => "max-age=0",
        };
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\ncache-control: ";
        Reply::Last(format!("{head}{control}\r\n\r\nkept").into_bytes())
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    let paths = ["/open/allowed", "/open/strict", "/open/silent"];
    for tail in paths {
        assert_eq!(edge.get(app.id, tail, "").await.text(), "kept");
    }
    fails.store(true, Ordering::Relaxed);
    for (tail, status) in paths.into_iter().zip([200, 500, 500]) {
        let answer = edge.get(app.id, tail, "").await;
        assert_eq!(
            (answer.status(), hit(&answer)),
            (status, status == 200),
            "{tail}: {answer:?}"
        );
    }
    drop(instance);
    for (tail, status) in paths.into_iter().zip([200, 502, 502]) {
        assert_eq!(edge.get(app.id, tail, "").await.status(), status, "{tail}");
    }
}

#[tokio::test]
async fn an_answer_to_a_body_is_not_kept_for_those_who_send_none() {
    let tenants = Tenants::new().await;
    let instance =
        Instance::start(|request| Reply::ok("cache-control: max-age=600\r\n", &format!("for {}", request.text())))
            .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    // A length in the head, a coding in the head, and over HTTP/2 nothing in the head.
    let sized = edge.request("GET", app.id, "/open/a", "", "evil").await;
    assert_eq!(sized.text(), "for evil");
    let chunked = request(
        "GET",
        &format!("/v1/{}/open/a", app.id),
        "transfer-encoding: chunked\r\n",
        "",
    );
    let chunked = exchange(&edge.address, chunked + "4\r\nevil\r\n0\r\n\r\n").await;
    assert_eq!(chunked.text(), "for evil");
    let mut client = Client::plain(&edge.address).await;
    let asked = http2::request(http::Method::GET, &format!("/v1/{}/open/a", app.id), &[]);
    let (response, mut body) = client.send(asked.clone(), false).await.unwrap();
    body.send_data("evil".into(), true).unwrap();
    let hidden = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(http2::read(hidden).await.unwrap().text(), "for evil");
    assert_eq!(edge.get(app.id, "/open/a", "").await.text(), "for ");
    assert_eq!(client.ask(asked).await.unwrap().text(), "for ");
}

#[tokio::test]
async fn what_still_holds_is_asked_for_by_its_validator_and_clients_are_answered_by_theirs() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| match request.header("if-none-match") {
        Some("\"one\"") => {
            Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\netag: \"one\"\r\ncache-control: max-age=600\r\n\r\n".to_vec())
        }
        _ => Reply::ok("cache-control: max-age=0\r\netag: \"one\"\r\n", "body"),
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    assert_eq!(edge.get(app.id, "/open/a", "").await.text(), "body");
    let renewed = edge.get(app.id, "/open/a", "").await;
    assert_eq!((renewed.status(), &*renewed.text()), (200, "body"));
    assert!(
        renewed.header("cache-status").unwrap().contains("fwd-status=304"),
        "{renewed:?}"
    );
    let fresh = edge.get(app.id, "/open/a", "").await;
    assert!(hit(&fresh) && fresh.header("age").is_some(), "{fresh:?}");
    let unchanged = edge.get(app.id, "/open/a", "if-none-match: \"one\"\r\n").await;
    assert_eq!((unchanged.status(), unchanged.body.len()), (304, 0));
    assert_eq!(instance.seen().len(), 2);
    // The client may insist.
    assert_eq!(
        edge.get(app.id, "/open/a", "cache-control: no-cache\r\n")
            .await
            .status(),
        200
    );
    assert_eq!(instance.seen().len(), 3);
}

#[tokio::test]
async fn an_unsafe_request_that_succeeds_makes_the_edge_forget_its_target() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| match request.target() {
        "/open/b" if request.start.starts_with("POST") => {
            Reply::Bytes(b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n".to_vec())
        }
        "/open/c" if request.start.starts_with("POST") => {
            Reply::Bytes(b"HTTP/1.1 201 Created\r\nlocation: /open/a\r\ncontent-length: 0\r\n\r\n".to_vec())
        }
        _ => Reply::ok("cache-control: max-age=600\r\n", "x"),
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    for tail in ["/open/a", "/open/b"] {
        edge.get(app.id, tail, "").await;
        assert!(hit(&edge.get(app.id, tail, "").await));
    }
    edge.request("POST", app.id, "/open/b", "", "x").await;
    assert!(
        hit(&edge.get(app.id, "/open/b", "").await),
        "what failed changed nothing"
    );
    edge.request("POST", app.id, "/open/a", "", "x").await;
    assert!(!hit(&edge.get(app.id, "/open/a", "").await));
    assert!(hit(&edge.get(app.id, "/open/a", "").await));
    edge.request("POST", app.id, "/open/c", "", "x").await;
    assert!(!hit(&edge.get(app.id, "/open/a", "").await), "where the answer points");
}

#[tokio::test]
async fn a_purge_of_an_application_or_of_a_tag_reaches_the_edge() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| {
        let tag = if request.target().ends_with("tagged") {
            "news"
        } else {
            "other"
        };
        Reply::ok(&format!("cache-control: max-age=600\r\ncache-tag: all, {tag}\r\n"), "x")
    })
    .await;
    let (app, other) = (app_at(&tenants, &instance).await, app_at(&tenants, &instance).await);
    let edge = Edge::start(&tenants, &[]).await;
    for app in [&app, &other] {
        for tail in ["/open/tagged", "/open/plain"] {
            assert_eq!(
                edge.get(app.id, tail, "").await.header("cache-tag"),
                None,
                "not for clients"
            );
            assert!(hit(&edge.get(app.id, tail, "").await));
        }
    }
    tenants.purge(app.id, r#"{"tags":{"news":1000}}"#).await;
    until(&edge, &app, "/open/tagged", |message| !hit(message)).await;
    assert!(hit(&edge.get(app.id, "/open/plain", "").await));
    let anew = edge.get(app.id, "/open/tagged", "").await;
    assert!(hit(&anew), "not kept anew: {anew:?}");
    tenants.purge(app.id, r#"{"allMs":2000,"tags":{}}"#).await;
    until(&edge, &app, "/open/plain", |message| !hit(message)).await;
    assert!(!hit(&edge.get(app.id, "/open/tagged", "").await));
    assert!(
        hit(&edge.get(other.id, "/open/tagged", "").await),
        "another application's stays"
    );
}

#[tokio::test]
async fn what_is_for_one_user_is_never_kept() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| {
        let headers = match request.target() {
            "/open/cookie" => "cache-control: public, max-age=600\r\nset-cookie: a=b\r\n",
            "/open/user" => "cache-control: public, max-age=600\r\nx-authsome-user-id: u\r\n",
            "/open/private" => "cache-control: private, max-age=600\r\n",
            _ => "",
        };
        Reply::ok(headers, "x")
    })
    .await;
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    for tail in ["/open/cookie", "/open/user", "/open/private", "/open/silent"] {
        for _ in 0..3 {
            assert!(!hit(&edge.get(app.id, tail, "").await), "{tail}");
        }
    }
    assert_eq!(instance.seen().len(), 12);
}

#[tokio::test]
async fn where_nothing_is_kept_the_instance_is_asked_what_the_client_asked() {
    let (tenants, instance) = (Tenants::new().await, counting("").await);
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[]).await;
    let conditions = "range: bytes=0-2\r\nif-none-match: \"x\"\r\n";
    assert_eq!(edge.get(app.id, "/open/a", conditions).await.status(), 200);
    let seen = instance.only();
    assert_eq!(
        (seen.header("range"), seen.header("if-none-match")),
        (Some("bytes=0-2"), Some("\"x\""))
    );
}

#[tokio::test]
async fn a_cache_that_is_switched_off_keeps_nothing() {
    let (tenants, instance) = (Tenants::new().await, counting("cache-control: max-age=600\r\n").await);
    let app = app_at(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_CACHE_BYTES", "0B")]).await;
    for n in 1..=3 {
        assert_eq!(edge.get(app.id, "/open/a", "").await.text(), format!("answer {n}"));
    }
}
