//! Which heads of HTTP/2 are no requests: those that could be read in two ways once they are written as HTTP/1.1.
//!
//! Pure. What is well-formed is judged by the same rules as a head of HTTP/1.1, later and by others.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Malformed (RFC 9113, section 8.1.1): the stream is reset.
    Malformed,
    /// Well-formed, and for nobody or for two: answered with 400.
    Ambiguous,
}

/// Can it be forwarded?
pub(super) fn judge(request: &RequestHeader) -> Result<(), Unfit> {
    judge_target(&request.method, request.raw_path())?;
    if !has_one_length(&request.headers) {
        return Err(Unfit::Malformed);
    }
    if has_one_authority(request) {
        Ok(())
    } else {
        Err(Unfit::Ambiguous)
    }
}

/// `:path` is one, and would be one line in HTTP/1.1.
fn judge_target(method: &Method, target: &[u8]) -> Result<(), Unfit> {
    if target.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r' | b' ')) {
        return Err(Unfit::Malformed);
    }
    // CONNECT has no path; whoever decides about requests refuses it.
    if *method == Method::CONNECT || matches!(target, [b'/', ..] | b"*") {
        Ok(())
    } else {
        Err(Unfit::Ambiguous)
    }
}

/// No length, or one and the same however often.
fn has_one_length(headers: &HeaderMap) -> bool {
    let stated = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = stated
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|one| {
            let one = one.trim_ascii();
            let digits = !one.is_empty() && one.iter().all(u8::is_ascii_digit);
            digits.then(|| str::from_utf8(one).ok()?.parse::<u64>().ok()).flatten()
        });
    let Some(first) = lengths.next() else { return true };
    first.is_some() && lengths.all(|length| length == first)
}

/// `:authority` or `Host`, and no other than the same in both (RFC 9113, section 8.3.1).
fn has_one_authority(request: &RequestHeader) -> bool {
    let mut hosts = request.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let (host, second) = (hosts.next(), hosts.next());
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let one = match (host, authority) {
        (Some(host), Some(authority)) => (host == authority).then_some(host),
        (host, authority) => host.or(authority),
    };
    second.is_none() && one.is_some_and(|one| !one.contains(&b'@'))
}

/// Writes the head as one of HTTP/1.1 would be: its authority in `Host`, its cookies in one field (RFC 9113, section 8.2.3).
pub(super) fn unify(request: &mut RequestHeader) -> Result<(), Unfit> {
    if !request.headers.contains_key(header::HOST)
        && let Some(authority) = request.uri.authority()
    {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Unfit::Malformed)?;
        put(request, header::HOST, host)?;
    }
    let mut cookies = request.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else {
        return Ok(());
    };
    let parts: Vec<&[u8]> = [first, second]
        .into_iter()
        .chain(cookies)
        .map(HeaderValue::as_bytes)
        .collect();
    let joined = HeaderValue::from_bytes(&parts.join(&b"; "[..])).map_err(|_| Unfit::Malformed)?;
    put(request, header::COOKIE, joined)
}

fn put(request: &mut RequestHeader, name: HeaderName, value: HeaderValue) -> Result<(), Unfit> {
    request.insert_header(name, value).map_err(|_| Unfit::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str, lines: &[(&'static str, &'static str)]) -> Result<(), Unfit> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        judge(&request.body(()).unwrap().into_parts().0.into())
    }

    #[test]
    fn a_request_has_one_length_or_none() {
        for (lengths, expected) in [
            (&[][..], Ok(())),
            (&["0"], Ok(())),
            (&["5", "5"], Ok(())),
            (&["5, 5"], Ok(())),
            (&["5", "6"], Err(Unfit::Malformed)),
            (&["5, 6"], Err(Unfit::Malformed)),
            (&["+5"], Err(Unfit::Malformed)),
            (&[""], Err(Unfit::Malformed)),
            (&["5,"], Err(Unfit::Malformed)),
            (&["99999999999999999999999"], Err(Unfit::Malformed)),
        ] {
            let lines: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            assert_eq!(of("POST", "https://a.test/", &lines), expected, "{lengths:?}");
        }
    }

    #[test]
    fn a_request_is_for_one_authority() {
        for (uri, hosts, expected) in [
            ("https://a.test/x", &[][..], Ok(())),
            ("https://a.test/x", &["a.test"], Ok(())),
            ("/x", &["a.test"], Ok(())),
            ("/x", &[], Err(Unfit::Ambiguous)),
            ("https://a.test/x", &["b.test"], Err(Unfit::Ambiguous)),
            ("https://a.test/x", &["A.test"], Err(Unfit::Ambiguous)),
            ("https://a.test/x", &["a.test", "a.test"], Err(Unfit::Ambiguous)),
            ("https://u@a.test/x", &[], Err(Unfit::Ambiguous)),
            ("/x", &["u@a.test"], Err(Unfit::Ambiguous)),
        ] {
            let lines: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(of("GET", uri, &lines), expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn a_target_is_a_path() {
        for (target, expected) in [
            (&b"/a?b"[..], Ok(())),
            (b"*", Ok(())),
            (b"http://b.test/", Err(Unfit::Ambiguous)),
            (b"a", Err(Unfit::Ambiguous)),
            (b"/a b", Err(Unfit::Malformed)),
            (b"/a\r\nhost: b.test", Err(Unfit::Malformed)),
            (b"/\0", Err(Unfit::Malformed)),
        ] {
            assert_eq!(judge_target(&Method::GET, target), expected, "{target:?}");
        }
    }

    #[test]
    fn a_head_is_written_as_one_of_http_1_would_be() {
        let mut request = http::Request::builder().uri("https://a.test:8443/x");
        for cookie in ["a=1", "b=2", "c=\"3\""] {
            request = request.header("cookie", cookie);
        }
        let mut request = RequestHeader::from(request.body(()).unwrap().into_parts().0);
        unify(&mut request).unwrap();
        assert_eq!(request.headers["host"], "a.test:8443");
        let cookies: Vec<_> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=\"3\""]);
    }
}
