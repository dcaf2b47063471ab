use http::HeaderValue;

use super::*;

/// Of a path that has no rule of its own.
fn usage<H: Fields>(policy: &CachePolicy, asked: &Asked<'_, H>) -> Option<Usage> {
    super::usage(kind(policy, asked)?, asked)
}

const ORDINARY: Usage = Usage {
    kind: Kind::Ordinary,
    credentialed: false,
    partial: false,
    validate: false,
};
const WITH_KEY: Usage = Usage {
    credentialed: true,
    ..ORDINARY
};
const DOCUMENT_USE: Usage = Usage {
    kind: Kind::Document,
    ..WITH_KEY
};
const RULED: Usage = Usage {
    kind: Kind::Ruled(30),
    ..WITH_KEY
};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn asked<'a>(method: &'a Method, tail: &'a str, headers: &'a HeaderMap) -> Asked<'a, HeaderMap> {
    Asked {
        method,
        tail,
        headers,
        has_key: false,
        now_ms: 0,
    }
}

fn response(status: u16, lines: &[(&'static str, &'static str)]) -> ResponseHeader {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in lines {
        response.append_header(*name, *value).unwrap();
    }
    response
}

/// Seconds of freshness, of staleness while asking, of staleness on error; `None` is not kept.
fn times(usage: &Usage, status: u16, lines: &[(&'static str, &'static str)]) -> Option<(u64, u32, u32)> {
    match keep(usage, &response(status, lines)) {
        RespCacheable::Cacheable(meta) => Some((
            meta.fresh_sec(),
            meta.stale_while_revalidate_sec(),
            meta.stale_if_error_sec(),
        )),
        RespCacheable::Uncacheable(_) => None,
    }
}

#[test]
fn only_safe_requests_without_a_body_use_the_cache() {
    let policy = CachePolicy::default();
    let none = HeaderMap::new();
    for (method, uses) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::POST, false),
        (Method::PUT, false),
        (Method::DELETE, false),
        (Method::OPTIONS, false),
    ] {
        assert_eq!(usage(&policy, &asked(&method, "/a", &none)).is_some(), uses, "{method}");
    }
    for line in [
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("accept", "text/html, TEXT/event-stream"),
        ("cache-control", "no-store"),
    ] {
        let map = headers(&[line]);
        assert_eq!(usage(&policy, &asked(&Method::GET, "/a", &map)), None, "{line:?}");
    }
    let empty = headers(&[("content-length", "0")]);
    assert!(usage(&policy, &asked(&Method::GET, "/a", &empty)).is_some());
}

#[test]
fn every_credential_counts_as_one() {
    let policy = CachePolicy::default();
    for (line, credentialed) in [
        (("authorization", "Bearer session"), true),
        (("cookie", "session=1"), true),
        (("accept", "*/*"), false),
    ] {
        let map = headers(&[line]);
        let found = usage(&policy, &asked(&Method::GET, "/a", &map)).unwrap();
        assert_eq!(found.credentialed, credentialed, "{line:?}");
    }
    let none = HeaderMap::new();
    let with_key = Asked {
        has_key: true,
        ..asked(&Method::GET, "/a", &none)
    };
    assert!(usage(&policy, &with_key).unwrap().credentialed);
}

#[test]
fn a_client_can_ask_for_validation_but_not_for_nothing_at_all() {
    let policy = CachePolicy::default();
    for (value, validate) in [
        ("no-cache", true),
        ("max-age=0", true),
        ("max-age=60", false),
        ("no-transform", false),
    ] {
        let map = headers(&[("cache-control", value)]);
        let found = usage(&policy, &asked(&Method::GET, "/a", &map)).unwrap();
        assert_eq!(found.validate, validate, "{value}");
    }
}

#[test]
fn a_request_for_less_than_the_whole_is_known_as_such() {
    let policy = CachePolicy::default();
    for (name, partial) in [
        ("range", true),
        ("if-none-match", true),
        ("if-match", true),
        ("accept", false),
    ] {
        let mut map = HeaderMap::new();
        map.insert(name, HeaderValue::from_static("x"));
        let found = usage(&policy, &asked(&Method::GET, "/a", &map)).unwrap();
        assert_eq!(found.partial, partial, "{name}");
    }
    let none = HeaderMap::new();
    assert!(usage(&policy, &asked(&Method::HEAD, "/a", &none)).unwrap().partial);
}

#[test]
fn an_applications_rules_come_before_the_defaults() {
    let policy: CachePolicy = serde_json::from_str(
        r#"{"rules":[{"pattern":"/v1/client-config","bypass":true},{"pattern":"/v1/terms","ttlSeconds":9}]}"#,
    )
    .unwrap();
    let none = HeaderMap::new();
    let kind =
        |policy: &CachePolicy, tail: &str| usage(policy, &asked(&Method::GET, tail, &none)).map(|usage| usage.kind);
    assert_eq!(kind(&policy, "/v1/client-config"), None);
    assert_eq!(kind(&policy, "/v1/terms"), Some(Kind::Ruled(9)));
    assert_eq!(kind(&policy, "/.well-known/jwks.json"), Some(Kind::Document));
    assert_eq!(kind(&policy, "/other"), Some(Kind::Ordinary));
    let off = CachePolicy {
        enabled: false,
        ..CachePolicy::default()
    };
    assert_eq!(kind(&off, "/.well-known/jwks.json"), None);
}

type Case = (
    &'static Usage,
    u16,
    &'static [(&'static str, &'static str)],
    Option<(u64, u32, u32)>,
);

#[test]
fn a_response_is_kept_as_its_head_says() {
    let cases: &[Case] = &[
        (&ORDINARY, 200, &[], None),
        (&ORDINARY, 200, &[("cache-control", "max-age=60")], Some((60, 0, 0))),
        (
            &ORDINARY,
            200,
            &[("cache-control", "max-age=60, s-maxage=5")],
            Some((5, 0, 0)),
        ),
        (
            &ORDINARY,
            200,
            &[(
                "cache-control",
                "max-age=60, stale-while-revalidate=7, stale-if-error=9",
            )],
            Some((60, 7, 9)),
        ),
        (&ORDINARY, 200, &[("cache-control", "no-store, max-age=60")], None),
        (&ORDINARY, 200, &[("cache-control", "private, max-age=60")], None),
        (&ORDINARY, 404, &[("cache-control", "max-age=60")], Some((60, 0, 0))),
        (&ORDINARY, 302, &[("cache-control", "max-age=60")], Some((60, 0, 0))),
        (&ORDINARY, 206, &[("cache-control", "max-age=60")], None),
        (&ORDINARY, 401, &[("cache-control", "max-age=60")], None),
        (&ORDINARY, 500, &[("cache-control", "max-age=60")], None),
        (&ORDINARY, 503, &[("cache-control", "max-age=60")], None),
        (
            &ORDINARY,
            200,
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            None,
        ),
        (
            &ORDINARY,
            200,
            &[("cache-control", "max-age=60"), ("vary", "accept, *")],
            None,
        ),
        (
            &ORDINARY,
            200,
            &[("cache-control", "max-age=60"), ("content-type", "text/event-stream")],
            None,
        ),
        (
            &ORDINARY,
            200,
            &[("cache-control", "max-age=60"), ("x-authsome-user-id", "u")],
            None,
        ),
        // RFC 9111 section 3.5.
        (&WITH_KEY, 200, &[("cache-control", "max-age=60")], None),
        (
            &WITH_KEY,
            200,
            &[("cache-control", "public, max-age=60")],
            Some((60, 0, 0)),
        ),
        (&WITH_KEY, 200, &[("cache-control", "s-maxage=60")], Some((60, 0, 0))),
        (
            &WITH_KEY,
            200,
            &[("cache-control", "must-revalidate, max-age=60")],
            Some((60, 0, 0)),
        ),
        (&DOCUMENT_USE, 200, &[], Some((60, 60, 86_400))),
        (
            &DOCUMENT_USE,
            200,
            &[("cache-control", "max-age=300")],
            Some((300, 60, 86_400)),
        ),
        (
            &DOCUMENT_USE,
            200,
            &[("cache-control", "max-age=300, stale-if-error=5")],
            Some((300, 60, 86_400)),
        ),
        (
            &DOCUMENT_USE,
            200,
            &[("cache-control", "max-age=300, must-revalidate")],
            Some((300, 0, 0)),
        ),
        (&DOCUMENT_USE, 200, &[("cache-control", "no-store")], None),
        (&DOCUMENT_USE, 200, &[("cache-control", "private")], None),
        (&DOCUMENT_USE, 404, &[], None),
        (&RULED, 200, &[], Some((30, 0, 0))),
        (&RULED, 200, &[("cache-control", "max-age=7")], Some((7, 0, 0))),
        (&RULED, 200, &[("cache-control", "private")], None),
        (&RULED, 200, &[("cache-control", "no-store")], None),
        (&RULED, 404, &[], None),
    ];
    for (usage, status, lines, expected) in cases {
        assert_eq!(times(usage, *status, lines), *expected, "{usage:?} {status} {lines:?}");
    }
}

#[test]
fn what_another_cache_used_up_is_taken_off() {
    let lines = [("cache-control", "max-age=60"), ("age", "50")];
    let RespCacheable::Cacheable(meta) = keep(&ORDINARY, &response(200, &lines)) else {
        panic!("kept");
    };
    assert!(meta.fresh_sec() <= 60 && meta.age().as_secs() >= 50);
    let left = meta.fresh_until().duration_since(SystemTime::now()).unwrap();
    assert!(left.as_secs() <= 10, "{left:?}");
}

#[test]
fn what_belongs_to_the_connection_is_not_kept() {
    let lines = [
        ("cache-control", "max-age=60"),
        ("connection", "keep-alive, X-Hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("x-kept", "1"),
        ("transfer-encoding", "chunked"),
    ];
    let RespCacheable::Cacheable(meta) = keep(&ORDINARY, &response(200, &lines)) else {
        panic!("kept");
    };
    let names: Vec<&str> = meta.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["cache-control", "x-kept"]);
}

#[test]
fn tags_are_read_from_any_number_of_headers_and_bounded() {
    let map = headers(&[("cache-tag", "a, b"), ("cache-tag", "c d,,")]);
    let found: Vec<Box<str>> = tags(&map);
    assert_eq!(found, ["a", "b", "c", "d"].map(Box::<str>::from));
    let mut many = HeaderMap::new();
    for n in 0..100 {
        many.append(CACHE_TAG.header(), HeaderValue::from(n));
    }
    assert_eq!(tags(&many).len(), MOST_TAGS);
}
