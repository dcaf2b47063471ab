//! Lane or library: decided for each request by its head, before anything else is.
//!
//! The lane takes what it can forward without doubt: HTTP/1.1, a usual method, a path of its own, no body or a short one of
//! stated length, nothing about the connection but whether it stays. Everything else is the forwarding library's. Pure; the head
//! was accepted by the [scanner](crate::http1::head) before.

use http::Method;

use super::lines::{HeadLines, Span};
use crate::admin::is_probe;
use crate::filter::lines::Fields;
use crate::filter::sets::Sets;
use crate::http1::body::Length;
use crate::http1::head::{Head, LineAt, table_of};

/// The longest body that the lane takes, bytes: as much as the forwarding library keeps for another attempt. A longer one
/// could not be sent again, and what the lane saves is nothing beside it.
pub const LONGEST_BODY: u64 = 64 * 1024;

/// What the head says besides its lines.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// The method.
    pub(super) method: Method,
    /// The request target.
    pub(super) target: Span,
    /// The value of `Host`.
    pub(super) host: Span,
    /// `Connection: close`.
    pub(super) is_last: bool,
}

/// Reads the head, whose lines were `found` there, into `lines`, if the lane takes the request.
pub(super) fn choose(bytes: &[u8], head: &Head, found: &[LineAt], lines: &mut HeadLines) -> Option<Chosen> {
    let Length::Bytes(body) = head.body else { return None };
    if body > LONGEST_BODY {
        return None;
    }
    let bytes = bytes.get(..head.length)?;
    let end = memchr::memchr(b'\r', bytes)?;
    let words = bytes[..end].strip_suffix(b" HTTP/1.1")?;
    let blank = memchr::memchr(b' ', words)?;
    let method = method(&words[..blank])?;
    // What a body means with these methods, servers disagree about.
    if body > 0 && matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let target = Span::new(blank + 1, words.len());
    let path = words.get(blank + 1..)?;
    // Absolute form names a host of its own; of other characters than these every reader has an opinion.
    if path.first() != Some(&b'/') || is_probe(path) || !path.iter().all(|byte| TARGET[usize::from(*byte)]) {
        return None;
    }
    lines.begin(bytes);
    let (mut host, mut connection) = (None, None);
    for line in found {
        let name = bytes.get(line.name.0..line.name.1)?;
        let value = Span::new(line.value.0, line.value.1);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => host = Some(value),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let is_last = option(bytes.get(line.value.0..line.value.1)?)?;
                if connection.replace(is_last).is_some() {
                    return None;
                }
                // Not for the instance.
                continue;
            }
            _ => {}
        }
        lines.receive(Span::new(line.name.0, line.name.1), value);
    }
    if lines.has_any(Sets::NOT_FOR_THE_LANE) {
        return None;
    }
    Some(Chosen {
        method,
        target,
        host: host?,
        is_last: connection.unwrap_or(false),
    })
}

static TARGET: [bool; 256] = table_of!(is_target_byte);

/// RFC 3986, sections 3.3 and 3.4: what stands in paths and queries.
const fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
                | b'?'
                | b'%'
        )
}

/// `keep-alive` (false) or `close` (true), and nothing else.
fn option(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"close") {
        return Some(true);
    }
    value.eq_ignore_ascii_case(b"keep-alive").then_some(false)
}

fn method(word: &[u8]) -> Option<Method> {
    Some(match word {
        b"GET" => Method::GET,
        b"HEAD" => Method::HEAD,
        b"POST" => Method::POST,
        b"PUT" => Method::PUT,
        b"PATCH" => Method::PATCH,
        b"DELETE" => Method::DELETE,
        b"OPTIONS" => Method::OPTIONS,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filter::lines::Fields;
    use crate::http1::head::{HeadLimits, HeadScanner};

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 32 * 1024,
        lines: 100,
    };

    fn chosen(head: &str) -> Option<(Chosen, HeadLines)> {
        let mut scanner = HeadScanner::default();
        let scanned = scanner.scan(head.as_bytes(), &LIMITS).ok()??;
        let mut lines = HeadLines::default();
        choose(head.as_bytes(), &scanned, scanner.lines(), &mut lines).map(|chosen| (chosen, lines))
    }

    #[test]
    fn a_simple_request_is_taken_with_its_lines() {
        let (chosen, lines) = chosen(
            "POST /v1/app_x/me?a=b HTTP/1.1\r\nhost: api.test:8081\r\nContent-Length: 5\r\nCONNECTION: Close\r\nX-Y:\t z \t\r\n\r\nhello",
        )
        .unwrap();
        assert_eq!(chosen.method, Method::POST);
        assert_eq!(lines.text_at(chosen.target), "/v1/app_x/me?a=b");
        assert_eq!(lines.text_at(chosen.host), "api.test:8081");
        assert!(chosen.is_last);
        let got: Vec<(&[u8], &[u8])> = lines.iter().collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"host", b"api.test:8081"), (b"Content-Length", b"5"), (b"X-Y", b"z")];
        assert_eq!(got, expected);
    }

    #[test]
    fn what_is_not_simple_is_left_to_the_library() {
        for head in [
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /{a} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?a=`b` HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /[a] HTTP/1.1\r\nHost: a\r\n\r\n",
            "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD /ready HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nProxy-Authenticate: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: x\r\n\r\n",
        ] {
            assert!(chosen(head).is_none(), "{head:?}");
        }
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
            "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n",
        ] {
            assert!(chosen(head).is_some(), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn a_head_that_is_taken_has_the_lines_that_a_parser_reads(
            names in proptest::collection::vec("[a-zA-Z-]{1,12}", 0..8),
            values in proptest::collection::vec("[ -~]{0,12}", 8),
        ) {
            let mut head = "GET /x HTTP/1.1\r\nHost: a\r\n".to_owned();
            for (name, value) in names.iter().zip(&values) {
                head.extend([name, ":", value, "\r\n"]);
            }
            head.push_str("\r\n");
            let Some((_, lines)) = chosen(&head) else { return Ok(()) };
            let mut space = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Request::new(&mut space);
            prop_assert!(parsed.parse(head.as_bytes()).unwrap().is_complete());
            let theirs: Vec<(&[u8], &[u8])> = parsed
                .headers
                .iter()
                .filter(|header| !header.name.eq_ignore_ascii_case("connection"))
                .map(|header| (header.name.as_bytes(), header.value.trim_ascii()))
                .collect();
            let ours: Vec<(&[u8], &[u8])> = lines.iter().collect();
            prop_assert_eq!(ours, theirs);
            prop_assert!(lines.has(&crate::filter::name::HOST));
        }
    }
}
