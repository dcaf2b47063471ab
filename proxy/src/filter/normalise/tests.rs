use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const APP: &str = "app_01h455vb4pex5vsknk084sn02q";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn checked(pairs: &[(&str, &str)]) -> Result<(), BadHead> {
    checked_raw(pairs, b"")
}

fn checked_raw(pairs: &[(&str, &str)], raw: &[u8]) -> Result<(), BadHead> {
    check(
        &Head {
            method: &Method::POST,
            version: Version::HTTP_11,
            target: b"/",
            headers: &headers(pairs),
            raw,
        },
        1024,
    )
}

#[test]
fn exactly_one_wellformed_host_is_required() {
    assert_eq!(checked(&[("host", "api.authsome.cloud:443")]), Ok(()));
    assert_eq!(checked(&[("host", "[::1]:8081")]), Ok(()));
    assert_eq!(checked(&[]), Err(BadHead::Host));
    assert_eq!(checked(&[("host", "")]), Err(BadHead::Host));
    assert_eq!(checked(&[("host", "a"), ("host", "a")]), Err(BadHead::Host));
    for host in ["a b", "a/b", "user@a", "a,b", "a\\b", "a?x"] {
        assert_eq!(checked(&[("host", host)]), Err(BadHead::Host), "{host}");
    }
}

#[test]
fn a_body_has_one_length_or_is_chunked() {
    let with = |pairs: &[(&str, &str)]| checked(&[&[("host", "a")], pairs].concat());
    assert_eq!(with(&[("content-length", "5")]), Ok(()));
    assert_eq!(with(&[("transfer-encoding", "Chunked")]), Ok(()));
    for bad in [
        &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
        &[("content-length", "5, 5")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "+5")],
        &[("content-length", "-1")],
        &[("content-length", "")],
        &[("content-length", "0x5")],
        &[("content-length", "99999999999999999999")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "chunked, chunked")],
    ] {
        assert_eq!(with(bad), Err(BadHead::Framing), "{bad:?}");
    }
}

#[test]
fn a_content_length_that_the_parser_dropped_is_still_seen() {
    let pairs = [("host", "a"), ("transfer-encoding", "chunked")];
    for raw in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\ncOnTeNt-lEnGtH : 5\r\n\r\n",
        "POST / HTTP/1.1\nHost: a\ncontent-length:5\nTransfer-Encoding: chunked\n\n",
    ] {
        assert_eq!(checked_raw(&pairs, raw.as_bytes()), Err(BadHead::Framing), "{raw:?}");
    }
    let fine = "POST / HTTP/1.1\r\nHost: a\r\nX: content-length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(checked_raw(&pairs, fine.as_bytes()), Ok(()));
}

#[test]
fn transfer_encoding_is_refused_below_http_1_1() {
    let headers = headers(&[("host", "a"), ("transfer-encoding", "chunked")]);
    let head = Head {
        method: &Method::POST,
        version: Version::HTTP_10,
        target: b"/",
        headers: &headers,
        raw: b"",
    };
    assert_eq!(check(&head, 1024), Err(BadHead::Framing));
}

#[test]
fn a_head_over_the_limit_is_refused() {
    assert_eq!(checked_raw(&[("host", "a")], &[b'a'; 1024]), Ok(()));
    assert_eq!(checked_raw(&[("host", "a")], &[b'a'; 1025]), Err(BadHead::TooLarge));
}

#[test]
fn trace_and_connect_are_refused() {
    let headers = headers(&[("host", "a")]);
    for (method, accepted) in [
        (Method::TRACE, false),
        (Method::CONNECT, false),
        (Method::OPTIONS, true),
    ] {
        let head = Head {
            method: &method,
            version: Version::HTTP_11,
            target: b"/",
            headers: &headers,
            raw: b"",
        };
        assert_eq!(check(&head, 1024).is_ok(), accepted, "{method}");
    }
}

#[test]
fn a_second_authorization_header_is_refused() {
    let pairs = [
        ("host", "a"),
        ("authorization", "Bearer x"),
        ("authorization", "Bearer y"),
    ];
    assert_eq!(checked(&pairs), Err(BadHead::Authorization));
}

#[test]
fn the_application_and_the_tail_are_read_from_the_path() {
    let read = |rest: &str| {
        let raw = format!("/v1/{APP}{rest}");
        target(raw.as_bytes()).map(|t| (t.tail.to_owned(), t.query.map(str::to_owned)))
    };
    assert_eq!(read(""), Ok(("/".into(), None)));
    assert_eq!(read("?a=b"), Ok(("/".into(), Some("a=b".into()))));
    assert_eq!(read("/"), Ok(("/".into(), None)));
    assert_eq!(read("/v1/me"), Ok(("/v1/me".into(), None)));
    assert_eq!(read("/v1/me?x=/../?y"), Ok(("/v1/me".into(), Some("x=/../?y".into()))));
    // The tail is the instance's business, byte for byte.
    for tail in ["/a/../b", "/%2e%2e/x", "/a//b", "/a%2fb", "/a;b", "/%00", "/~a/'b'/(c)"] {
        assert_eq!(read(tail), Ok((tail.into(), None)), "{tail}");
    }
    assert_eq!(read("//evil.example"), Err(BadHead::Path));
}

#[test]
fn an_absolute_target_is_read_like_its_path() {
    let raw = format!("http://api.authsome.cloud/v1/{APP}/v1/me?a");
    let read = target(raw.as_bytes()).unwrap();
    assert_eq!((read.tail, read.query), ("/v1/me", Some("a")));
    assert_eq!(target(b"http://api.authsome.cloud"), Err(BadHead::NoApplication));
    assert_eq!(target(b"http://api.authsome.cloud?x"), Err(BadHead::NoApplication));
    assert_eq!(target(b"ftp://api.authsome.cloud/v1"), Err(BadHead::Path));
}

#[test]
fn what_names_no_application_is_not_found() {
    let upper = APP.to_uppercase();
    for path in [
        "/".to_owned(),
        "/v1".to_owned(),
        "/v1/".to_owned(),
        "/v1/app_abc123/x".to_owned(),
        format!("/V1/{APP}/x"),
        format!("/v2/{APP}/x"),
        format!("/{APP}/x"),
        format!("/v1/{upper}/x"),
        format!("/v1/{APP}0/x"),
        format!("/v1/ws{}/x", &APP[3..]),
        format!("/v1//{APP}/x"),
        format!("/v1/{APP}%20/x"),
    ] {
        assert_eq!(target(path.as_bytes()), Err(BadHead::NoApplication), "{path}");
    }
}

#[test]
fn paths_that_servers_read_differently_are_refused() {
    for path in [
        format!("/./v1/{APP}/x"),
        format!("/../v1/{APP}/x"),
        format!("/v1/../{APP}/x"),
        format!("/v1/.%2E/{APP}/x"),
        format!("/%2e%2e/{APP}/x"),
        format!("/v1%2f{APP}/x"),
        format!("/v1%5C{APP}/x"),
        format!("/v1\\{APP}/x"),
        format!("/v1/{APP}%00/x"),
        format!("/v1/{APP}%2Fx"),
        format!("/v1/{APP}%252fx"),
        format!("/v1/{APP}/x y"),
        format!("/v1/{APP}/x\ty"),
        format!("/v1/{APP}/x\u{7f}"),
        format!("/v1/{APP}/ü"),
        format!("/v1/{APP}/x#y"),
        format!("v1/{APP}/x"),
        "*".to_owned(),
        String::new(),
    ] {
        assert_eq!(target(path.as_bytes()), Err(BadHead::Path), "{path:?}");
    }
}

proptest! {
    #[test]
    fn no_target_makes_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = target(&raw);
    }

    #[test]
    fn no_head_makes_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), host in "[ -~]{0,20}") {
        let _ = checked_raw(&[("host", &host), ("transfer-encoding", "chunked")], &raw);
    }

    #[test]
    fn the_tail_is_forwarded_byte_for_byte(tail in "(/[!-\"$-.0-\\[\\]-~]{1,9}){1,5}", query in "[!-\"$-\\[\\]-~]{0,20}") {
        prop_assume!(!tail.contains('?') && !tail.starts_with("//"));
        let raw = format!("/v1/{APP}{tail}?{query}");
        let read = target(raw.as_bytes()).unwrap();
        prop_assert_eq!(read.tail, tail.as_str());
        prop_assert_eq!(read.query, Some(query.as_str()));
    }

    #[test]
    fn an_accepted_target_names_its_application_literally(raw in "/[v1./%a-z_]{0,20}(app_01h455vb4pex5vsknk084sn02q)?[/%.a-z0-9]{0,10}") {
        if let Ok(read) = target(raw.as_bytes()) {
            let prefix = format!("/v1/{}", read.app_id);
            prop_assert!(raw.starts_with(&prefix), "{}", raw);
        }
    }
}
