//! What a request head must be like before anything is decided by it.
//!
//! Owns the refusal of heads that two servers could read differently (design: request smuggling, path confusion) and the
//! reading of `/v1/{appId}/{tail}`. Pure; depends on nothing. The tail is never decoded: its bytes reach the instance as they
//! came.

use authsome_contract::model::path_class::has_ambiguous_escape;
use authsome_core::id::ApplicationId;
use http::{HeaderMap, Method, Version, header};

/// A request head as it was parsed, and its bytes as they were received.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The protocol version.
    pub version: Version,
    /// The request target as it came.
    pub target: &'a [u8],
    /// The parsed headers.
    pub headers: &'a HeaderMap,
    /// The whole head as received. Parsers drop `Content-Length` beside `Transfer-Encoding`, so only these bytes show that
    /// both were there. Empty for protocols that have no such bytes.
    pub raw: &'a [u8],
}

/// Where a request goes: borrowed from its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The application that the path names.
    pub app_id: ApplicationId,
    /// The path relative to the application; begins with `/`.
    pub tail: &'a str,
    /// What follows the first `?`, if there is one.
    pub query: Option<&'a str>,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// The head has more bytes than are accepted.
    #[error("The request header is too large")]
    TooLarge,
    /// No `Host`, an empty one, several, or one with characters that no host has.
    #[error("The request needs exactly one valid Host header")]
    Host,
    /// `Content-Length` and `Transfer-Encoding`, lists of either, or anything but `chunked`.
    #[error("The length of the request body is ambiguous")]
    Framing,
    /// More than one `Authorization` header.
    #[error("The request has more than one Authorization header")]
    Authorization,
    /// The target has characters that no target has, or a path that two servers could read differently.
    #[error("The request path is not valid")]
    Path,
    /// `TRACE`, which would show the client what the edge adds for the instance, or `CONNECT`.
    #[error("The request method is not accepted")]
    Method,
    /// Not HTTP/1.1 as every server reads it: a bare line feed, a folded line, a blank before a colon, a control character.
    #[error("The request is not valid HTTP/1.1")]
    Syntax,
    /// Another version of HTTP than this connection speaks.
    #[error("The HTTP version is not supported on this connection")]
    Version,
    /// More header lines than are accepted.
    #[error("The request has too many headers")]
    TooMany,
    /// `Connection` names a header that is not the connection's own.
    #[error("The Connection header names a header that must reach the application")]
    Connection,
    /// 404: the path does not name an application.
    #[error("Application not found")]
    NoApplication,
}

/// Checks everything about a head that does not need its path. `max_bytes` bounds the whole head.
pub fn check(head: &Head<'_>, max_bytes: usize) -> Result<(), BadHead> {
    if head.raw.len() > max_bytes {
        return Err(BadHead::TooLarge);
    }
    if matches!(*head.method, Method::TRACE | Method::CONNECT) {
        return Err(BadHead::Method);
    }
    check_host(head.headers)?;
    check_framing(head)?;
    let mut authorizations = head.headers.get_all(header::AUTHORIZATION).iter();
    if authorizations.next().is_some() && authorizations.next().is_some() {
        return Err(BadHead::Authorization);
    }
    Ok(())
}

fn check_host(headers: &HeaderMap) -> Result<(), BadHead> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(BadHead::Host);
    };
    if is_host(host.as_bytes()) {
        Ok(())
    } else {
        Err(BadHead::Host)
    }
}

/// A host and perhaps a port, of characters that only mean themselves.
pub fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
}

fn check_framing(head: &Head<'_>) -> Result<(), BadHead> {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = !length.is_empty() && length.len() <= 19 && length.as_bytes().iter().all(u8::is_ascii_digit);
        if !digits || lengths.next().is_some() {
            return Err(BadHead::Framing);
        }
    }
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        let both = head.headers.contains_key(header::CONTENT_LENGTH) || names_header(head.raw, b"content-length");
        if !chunked || both || head.version < Version::HTTP_11 {
            return Err(BadHead::Framing);
        }
    }
    Ok(())
}

/// Does a line of the head begin with this header name?
fn names_header(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|b| *b == b'\n').skip(1).any(|line| {
        line.split(|b| *b == b':')
            .next()
            .is_some_and(|given| given.trim_ascii().eq_ignore_ascii_case(name))
    })
}

/// Reads `/v1/{appId}/{tail}` from a request target.
pub fn target(raw: &[u8]) -> Result<Target<'_>, BadHead> {
    let (path, query) = path_and_query(raw)?;
    let (version, rest) = match path.strip_prefix("/v1/") {
        // All but those that are refused.
        Some(rest) => ("v1", rest),
        None => path[1..].split_once('/').unwrap_or((&path[1..], "")),
    };
    let end = memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
    let (app_id, tail) = rest.split_at(end);
    if is_confusing(version) || is_confusing(app_id) {
        return Err(BadHead::Path);
    }
    if version != "v1" {
        return Err(BadHead::NoApplication);
    }
    let app_id: ApplicationId = app_id.parse().map_err(|_| BadHead::NoApplication)?;
    let tail = if tail.is_empty() { "/" } else { tail };
    // `//host` is an address of another host to whoever follows it.
    if tail.starts_with("//") {
        return Err(BadHead::Path);
    }
    Ok(Target { app_id, tail, query })
}

/// Reads a request target on the application's own host, where the whole path is the tail.
pub fn own_target(raw: &[u8], app_id: ApplicationId) -> Result<Target<'_>, BadHead> {
    let (tail, query) = path_and_query(raw)?;
    if tail.starts_with("//") || tail[1..].splitn(3, '/').take(2).any(is_confusing) {
        return Err(BadHead::Path);
    }
    Ok(Target { app_id, tail, query })
}

/// The path, which begins with `/`, and the query of an origin-form or absolute-form target.
pub fn path_and_query(raw: &[u8]) -> Result<(&str, Option<&str>), BadHead> {
    // Visible ASCII without what no server agrees about. What a client means by another character it can encode.
    let odd = |b: &u8| matches!(b, 0..=0x20 | 0x7f.. | b'\\' | b'#');
    if raw.iter().fold(false, |so_far, b| so_far | odd(b)) {
        return Err(BadHead::Path);
    }
    let text = str::from_utf8(raw).map_err(|_| BadHead::Path)?;
    let origin_form = if text.starts_with('/') {
        text
    } else {
        after_authority(text).ok_or(BadHead::Path)?
    };
    let (path, query) = match memchr::memchr(b'?', origin_form.as_bytes()) {
        Some(mark) => (&origin_form[..mark], Some(&origin_form[mark + 1..])),
        None => (origin_form, None),
    };
    match path {
        "" => Ok(("/", query)),
        path if path.starts_with('/') => Ok((path, query)),
        _ => Err(BadHead::Path),
    }
}

/// What follows scheme and authority of an absolute-form target.
fn after_authority(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    Some(&rest[rest.find(['/', '?']).unwrap_or(rest.len())..])
}

/// Could two servers read this segment differently? Dot segments, and any escape of a dot, a separator, a percent sign or a
/// control character, DEL included.
fn is_confusing(segment: &str) -> bool {
    has_ambiguous_escape(segment.as_bytes(), *b"7f") || matches!(segment, "." | "..")
}

#[cfg(test)]
mod tests;
