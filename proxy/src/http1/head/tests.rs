use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 1024, lines: 20 };

fn scan(bytes: impl AsRef<[u8]>) -> Result<Option<Head>, BadHead> {
    HeadScanner::default().scan(bytes.as_ref(), &LIMITS)
}

fn refused(bytes: impl AsRef<[u8]>) -> Option<BadHead> {
    scan(bytes).err()
}

#[test]
fn a_head_ends_with_its_empty_line() {
    let head = "GET /v1/x?y HTTP/1.1\r\nHost: api.authsome.cloud\r\nX-Empty:\r\nX: a\tb \u{e9}\r\n\r\n";
    let whole = Head {
        length: head.len(),
        body: Length::Bytes(0),
    };
    assert_eq!(scan(head), Ok(Some(whole)));
    assert_eq!(scan(format!("{head}GET / HTTP/1.1\nbad")), Ok(Some(whole)));
    for length in 0..head.len() {
        assert_eq!(scan(&head.as_bytes()[..length]), Ok(None), "{length}");
    }
}

#[test]
fn the_body_is_stated_once() {
    let with =
        |lines: &str| scan(format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n")).map(|head| head.map(|head| head.body));
    assert_eq!(with("content-length: 7\r\n"), Ok(Some(Length::Bytes(7))));
    assert_eq!(with("Content-Length:\t 0 \r\n"), Ok(Some(Length::Bytes(0))));
    assert_eq!(with("TRANSFER-encoding: Chunked\r\n"), Ok(Some(Length::Chunked)));
    for bad in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: +5\r\n",
        "content-length: 0x5\r\n",
        "content-length:\r\n",
        "content-length: 1000000000000000000\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ] {
        assert_eq!(with(bad), Err(BadHead::Framing), "{bad:?}");
    }
    let old = "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), Some(BadHead::Framing));
}

#[test]
fn what_servers_read_differently_is_no_http() {
    for bad in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\rhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx(y): x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\x7fb\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\r\n",
        "GET\r\n",
        "GET / http/1.1\r\n",
        "G@T / HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}",
        " GET / HTTP/1.1\r\n",
        "GET /\ta HTTP/1.1\r\n",
        "GET /\0 HTTP/1.1\r\n",
    ] {
        assert_eq!(refused(bad), Some(BadHead::Syntax), "{bad:?}");
    }
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(BadHead::Version));
    assert_eq!(refused("GET / HTTP/1.2\r\n"), Some(BadHead::Version));
    assert_eq!(refused("GET /\u{e9} HTTP/1.1\r\n"), Some(BadHead::Path));
    assert_eq!(
        refused("GET /a#b HTTP/1.1\r\n"),
        Some(BadHead::Path),
        "a fragment is nobody's path"
    );
    assert_eq!(refused("GET http://a\\b/ HTTP/1.1\r\n"), Some(BadHead::Path));
    assert_eq!(refused("CONNECT a:1 HTTP/1.1\r\n"), Some(BadHead::Method));
    assert_eq!(refused("TRACE / HTTP/1.1\r\n"), Some(BadHead::Method));
    assert_eq!(refused("OPTIONS * HTTP/1.1\r\n"), Some(BadHead::Path));
    assert_eq!(refused("GET a:80 HTTP/1.1\r\n"), Some(BadHead::Path));
    assert_eq!(refused("GET ftp://a/ HTTP/1.1\r\n"), Some(BadHead::Path));
}

#[test]
fn there_is_one_host_and_the_target_names_no_other() {
    let get = |target: &str, lines: &str| refused(format!("GET {target} HTTP/1.1\r\n{lines}\r\n"));
    assert_eq!(get("/", ""), Some(BadHead::Host));
    assert_eq!(get("/", "host:\r\n"), Some(BadHead::Host));
    assert_eq!(get("/", "host: a\r\nHOST: a\r\n"), Some(BadHead::Host));
    assert_eq!(get("/", "host: user@a\r\n"), Some(BadHead::Host));
    assert_eq!(get("http://a/x", "host: a\r\n"), None);
    assert_eq!(get("HTTPS://a:1?x", "host:  a:1 \r\n"), None);
    for target in ["http://b/", "http://a:80/", "http://a@b/", "http:///", "http://A/"] {
        assert_eq!(get(target, "host: a\r\n"), Some(BadHead::Host), "{target}");
    }
}

#[test]
fn connection_names_nothing_that_must_reach_the_instance() {
    let with = |value: &str| refused(format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {value}\r\n\r\n"));
    for fine in [
        "close",
        "keep-alive, Upgrade",
        "TE, x-mine, X-AuthSome-App-ID",
        "Upgrade, HTTP2-Settings",
        "",
    ] {
        assert_eq!(with(fine), None, "{fine}");
    }
    for bad in [
        "authorization",
        "close,Content-Length",
        "host",
        "x-forwarded-for",
        "\"x-forwarded-for\"",
        "(x)",
        "X-API-Key",
        "x-publishable-key",
        "Cookie",
    ] {
        assert_eq!(with(bad), Some(BadHead::Connection), "{bad}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_in_lines() {
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(2000));
    assert_eq!(refused(&long), Some(BadHead::TooLarge));
    assert_eq!(refused(&long[..1500]), Some(BadHead::TooLarge), "before its end came");
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(20));
    assert_eq!(refused(many), Some(BadHead::TooMany));
    assert_eq!(
        refused("GET / HTTP/1.1\r\nhost: a\r\nauthorization: a\r\nAuthorization: b\r\n\r\n"),
        Some(BadHead::Authorization)
    );
}

/// Pieces that heads are made of, good and bad.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"POST http://a/v1 HTTP/1.0\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"X: y".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_head_is_judged_alike_however_it_arrives(bytes in pieces(), cuts in proptest::collection::vec(1_usize..30, 1..30)) {
        let at_once = scan(&bytes);
        let (mut scanner, mut end, mut cuts) = (HeadScanner::default(), 0, cuts.into_iter().cycle());
        let in_pieces = loop {
            end = bytes.len().min(end + cuts.next().unwrap());
            match scanner.scan(&bytes[..end], &LIMITS) {
                Ok(None) if end < bytes.len() => {}
                verdict => break verdict,
            }
        };
        prop_assert_eq!(at_once, in_pieces);
    }

    #[test]
    fn what_is_accepted_has_one_host_one_length_and_no_bare_line_end(bytes in pieces()) {
        if let Ok(Some(head)) = scan(&bytes) {
            let text = &bytes[..head.length];
            prop_assert!(text.ends_with(b"\r\n\r\n"));
            prop_assert_eq!(text.split(|b| *b == b'\n').count() - 1, text.windows(2).filter(|w| w == b"\r\n").count());
            let lower = text.to_ascii_lowercase();
            let count = |name: &[u8]| lower.windows(name.len()).filter(|w| *w == name).count();
            prop_assert_eq!(count(b"\r\nhost:"), 1);
            prop_assert!(count(b"\r\ncontent-length:") + count(b"\r\ntransfer-encoding:") <= 1);
        }
    }
}
