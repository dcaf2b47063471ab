//! Entry points for fuzzing: what must hold of the readers of hostile input, whatever the input.
//!
//! Owns the properties, so that the fuzzer (`proxy/fuzz`) and the bounded run among the tests check the same ones. Each
//! function panics where a property does not hold, and only then.

mod paths;

use authsome_contract::model::path_class::classify;
use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::RequestId;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;

use crate::filter::headers::{Forward, to_instance};
use crate::filter::{credential, normalise};
use crate::http1::body::{Body, Length};
use crate::http1::head::{HeadLimits, HeadScanner};
use crate::routing::AppHeaders;
use crate::trace::{is_state, parse};
use crate::trailers::{Follower, Trailers, may_trail};
use crate::upstream::{self, InstanceCredentials};

pub use paths::paths;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 * 1024,
    lines: 100,
};

/// The path normaliser: what it accepts is read alike when it is written again, and nothing but a path reaches the instance.
///
/// # Panics
/// If that does not hold.
pub fn path(input: &[u8]) {
    let Ok(target) = normalise::target(input) else { return };
    assert!(
        target.tail.starts_with('/') && !target.tail.starts_with("//"),
        "{target:?}"
    );
    let prefix = format!("/v1/{}", target.app_id);
    let again = upstream::target(&prefix, target.tail, target.query);
    assert_eq!(normalise::target(again.as_bytes()), Ok(target), "{again}");
    let sent = upstream::target("/base", target.tail, target.query);
    assert!(sent.bytes().all(|b| matches!(b, 0x21..=0x7e)), "{sent}");
    classify(&[], "GET", target.tail);
}

/// The head scanner: judges alike however the head arrives, and accepts nothing that a common parser reads otherwise.
///
/// # Panics
/// If that does not hold.
pub fn head(input: &[u8]) {
    let at_once = HeadScanner::default().scan(input, &LIMITS);
    let mut scanner = HeadScanner::default();
    let mut in_pieces = Ok(None);
    for end in 0..=input.len() {
        in_pieces = scanner.scan(&input[..end], &LIMITS);
        if !matches!(in_pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(at_once, in_pieces);
    let Ok(Some(head)) = at_once else { return };

    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut space);
    let status = parsed.parse(input);
    // A target may hold characters that the other parser refuses; what it accepts it must read alike.
    if let Ok(status) = status {
        assert_eq!(status, httparse::Status::Complete(head.length));
        let values = |name: &str| {
            let same = parsed
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case(name));
            same.map(|header| header.value.trim_ascii().to_ascii_lowercase())
                .collect::<Vec<_>>()
        };
        assert_eq!(values("host").len(), 1);
        let expected = match head.body {
            Length::Chunked => (vec![], vec![b"chunked".to_vec()]),
            Length::Bytes(_) => (values("content-length"), vec![]),
        };
        assert_eq!((values("content-length"), values("transfer-encoding")), expected);
        if let (Length::Bytes(length), [stated]) = (head.body, values("content-length").as_slice()) {
            assert_eq!(
                str::from_utf8(stated).ok().and_then(|text| text.parse().ok()),
                Some(length)
            );
        }
    }
}

/// The chunk reader: ends at the same byte however the body arrives.
///
/// # Panics
/// If that does not hold.
pub fn chunks(input: &[u8]) {
    let mut at_once = Body::new(Length::Chunked);
    let taken = at_once.take(input);
    let mut body = Body::new(Length::Chunked);
    let mut one_by_one = Ok(0);
    for byte in input {
        match (body.take(std::slice::from_ref(byte)), &mut one_by_one) {
            (Ok(taken), Ok(sum)) => *sum += taken,
            (Err(bad), _) => {
                one_by_one = Err(bad);
                break;
            }
            (Ok(_), Err(_)) => {}
        }
    }
    assert_eq!(taken, one_by_one);
    if taken.is_ok() {
        assert_eq!(at_once, body);
    }
    let (mut kept, mut lines) = (Body::new(Length::Chunked), Vec::new());
    assert_eq!(kept.take_with_trailers(input, &mut lines), taken);
    assert!(lines.is_empty() || !kept.is_done() || lines.ends_with(b"\r\n"));
    let mut halted = Body::new(Length::Chunked);
    let to_trailers = halted.take_until_trailers(input);
    let whole = to_trailers.and_then(|before| Ok(before + halted.take(&input[before..])?));
    assert_eq!(whole, taken);
}

/// The reader of trailers: reads alike however an answer arrives, and what it passes on is lines of names that may stand behind a
/// body, and nothing that ends the body before its end.
///
/// # Panics
/// If that does not hold.
pub fn trailers(input: &[u8]) {
    let mut request = http::Request::new(()).into_parts().0;
    request.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let (Some(at_once), Some(one_by_one)) = (Trailers::of(&request), Trailers::of(&request)) else {
        panic!("trailers were asked for");
    };
    Follower::answer().read(input, &at_once);
    let mut follower = Follower::answer();
    for byte in input {
        follower.read(std::slice::from_ref(byte), &one_by_one);
    }
    let passed = at_once.for_client();
    assert_eq!(passed, one_by_one.for_client());
    for line in passed.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        assert!(line.ends_with(b"\r\n") && line.contains(&b':') && may_trail(name));
    }
}

/// The reader of keys and the maker of the instance's head. Input: a query, and lines of headers, each `name:value`.
///
/// # Panics
/// If that does not hold.
pub fn headers(input: &[u8]) {
    let mut lines = input.split(|b| *b == b'\n');
    let query = lines.next().and_then(|line| str::from_utf8(line).ok());
    let Ok(mut request) = RequestHeader::build(Method::GET, b"/", None) else {
        return;
    };
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        let (name, value) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(&line[colon + 1..]),
        );
        if let (Ok(name), Ok(value)) = (name, value) {
            // Fails only beyond 32,768 headers.
            let _ = request.append_header(name, value);
        }
    }
    let presented = credential::present(&request.method, &request.headers, query);
    if let Some(kept) = query.and_then(credential::query_without_keys) {
        let none = http::HeaderMap::new();
        let left = credential::present(&Method::GET, &none, Some(&kept));
        assert!(
            left.as_ref().map_or(true, |left| !left.places.query),
            "{kept}: {left:?}"
        );
    }
    for value in request.headers.get_all("traceparent") {
        parse(value.as_bytes());
    }
    is_state(request.headers.get_all("tracestate").iter().map(HeaderValue::as_bytes));

    let app = AppHeaders {
        app_id: HeaderValue::from_static("app_x"),
        environment: HeaderValue::from_static("production"),
        region: HeaderValue::from_static("local"),
    };
    let forward = Forward {
        app: &app,
        key: None,
        prefix: Some(&HeaderValue::from_static("/v1/app_x")),
        instance: &InstanceCredentials::default(),
        request_id: &RequestId::generate(&ManualClock::default(), &SeededEntropy::new(1)).text(),
        trace: None,
        client: None,
        scheme: "https",
        keys_in: presented.map(|presented| presented.places).unwrap_or_default(),
    };
    to_instance(&mut request, &forward);
    if presented.is_ok() {
        let left = credential::present(&Method::GET, &request.headers, None);
        assert_eq!(left, Ok(credential::Presented::default()), "a key reaches the instance");
    }
    assert_eq!(
        credential::referer_without_keys(&request.headers),
        None,
        "a key reaches the instance"
    );
    for name in request.headers.keys().map(HeaderName::as_str) {
        let name = name.replace('_', "-");
        let ours = matches!(&*name, "x-authsome-app-id" | "x-authsome-environment");
        assert!(ours || !name.starts_with("x-authsome-"), "{name} reaches the instance");
        assert!(
            !matches!(&*name, "x-api-key" | "x-publishable-key" | "x-app-id"),
            "{name} reaches the instance"
        );
    }
    assert_eq!(request.headers.get_all("x-authsome-app-id").iter().count(), 1);
    assert_eq!(request.headers.get_all("x-request-id").iter().count(), 1);
}
