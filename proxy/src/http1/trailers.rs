//! Trailers: header lines behind a chunked body (RFC 9110, section 6.5).
//!
//! The forwarding library reads over them in both directions and writes none. Where a request asks for them (`TE: trailers`) or
//! announces its own (`Trailer`), they are taken from the wire on one side and put into it on the other, behind the last chunk
//! that the library writes. What a recipient could take for something that is decided by the head is left out: framing,
//! routing, credentials, conditions, and every name that the platform sets itself.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Version, header, request};
use tokio::io::AsyncWrite;

use super::body::{Body, Length};
use crate::filter::lines::Lines;

/// Of one head on the wire; where it is longer, nothing is done about the trailers behind it.
const HEAD: usize = 64 * 1024;
/// Header lines of one head.
const LINES: usize = 256;

/// The trailers of a request and of its answer, each as lines with their ends.
#[derive(Debug, Default)]
pub struct Trailers {
    /// The client reads them.
    wanted: bool,
    /// Names that the client announced for its own.
    announced: String,
    request: Mutex<Vec<u8>>,
    answer: Mutex<Vec<u8>>,
}

impl Trailers {
    /// Of a request with this head of HTTP/1.1; `None` if it is not about trailers.
    pub fn of(request: &request::Parts) -> Option<Arc<Self>> {
        if request.version != Version::HTTP_11 || request.method == Method::HEAD {
            return None;
        }
        let headers = &request.headers;
        let wanted = tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        let announced = if headers.contains_key(header::TRANSFER_ENCODING) {
            let names = tokens(headers, &header::TRAILER).filter(|name| may_trail(name.as_bytes()));
            names.collect::<Vec<_>>().join(", ")
        } else {
            String::new()
        };
        (wanted || !announced.is_empty()).then(|| {
            Arc::new(Self {
                wanted,
                announced,
                ..Self::default()
            })
        })
    }

    /// Says in the head for the instance what it has to expect, and may send. These lines are for one connection only, so the
    /// client's own were removed.
    pub fn announce(&self, request: &mut impl Lines) {
        let announced = HeaderValue::from_str(&self.announced).ok();
        if let Some(announced) = announced.filter(|names| !names.is_empty()) {
            request.put(header::TRAILER, announced);
        }
        if self.wanted {
            request.put(header::TE, HeaderValue::from_static("trailers"));
            request.put(header::CONNECTION, HeaderValue::from_static("TE"));
        }
    }

    /// Of the request; whoever reads its body adds to them.
    pub(super) fn of_request(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of its answer.
    fn of_answer(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the instance is sent of the request's.
    pub fn for_instance(&self) -> Vec<u8> {
        passed(&self.of_request())
    }

    /// What the client is sent of the answer's.
    pub fn for_client(&self) -> Vec<u8> {
        if self.wanted {
            passed(&self.of_answer())
        } else {
            Vec::new()
        }
    }

    /// The answer is asked for again, of another instance perhaps.
    pub fn again(&self) {
        self.of_answer().clear();
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Those lines that may stand behind a body.
fn passed(lines: &[u8]) -> Vec<u8> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    let may_pass = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        line.ends_with(b"\r\n") && may_trail(name)
    };
    lines.filter(may_pass).collect::<Vec<_>>().concat()
}

/// May a field of this name be a trailer?
pub fn may_trail(name: &[u8]) -> bool {
    const PREFIXES: [&str; 10] = [
        "x-authsome-",
        "x-forwarded-",
        "access-control-",
        "content-",
        "if-",
        "proxy-",
        "sec-",
        "x-http-",
        "accept",
        "x-ratelimit-",
    ];
    const NAMES: [&str; 40] = [
        "age",
        "authorization",
        "cache-control",
        "cache-status",
        "cache-tag",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "ratelimit",
        "ratelimit-policy",
        "referer",
        "refresh",
        "retry-after",
        "set-cookie",
        "strict-transport-security",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "www-authenticate",
        "x-api-key",
        "x-app-id",
        "x-publishable-key",
        "x-real-ip",
        "x-request-id",
    ];
    const REWRITES: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-method-override"];
    let Ok(name) = HeaderName::from_bytes(name) else {
        return false;
    };
    let name = name.as_str();
    // An underscore is a hyphen to some servers.
    !name.contains('_')
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !NAMES.contains(&name)
        && !REWRITES.contains(&name)
}

/// Follows what passes on a connection, up to the trailers of one message.
#[derive(Debug)]
pub struct Follower {
    at: At,
    /// Of an answer's head: what came of it so far.
    head: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Its framing is known.
    Request(Length),
    /// Its head says it.
    Answer,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// In a head; so much of the empty line behind it was seen.
    Head(u8),
    Body(Body),
    /// Whatever comes now is nothing to this.
    Past,
}

impl Follower {
    /// Of a request with a body like this.
    pub fn request(length: Length) -> Self {
        Self::new(Kind::Request(length))
    }

    /// Of the answer to a request that is no `HEAD`.
    pub fn answer() -> Self {
        Self::new(Kind::Answer)
    }

    fn new(kind: Kind) -> Self {
        Self {
            at: At::Head(0),
            head: Vec::new(),
            kind,
        }
    }

    /// How many of the next bytes are on this side of the next thing to be looked at; 0 where trailers belong.
    fn reach(&self, bytes: &[u8]) -> usize {
        match self.at {
            At::Head(seen) => end_of_head(seen, bytes).unwrap_or(bytes.len()),
            At::Body(mut body) => body.take_until_trailers(bytes).unwrap_or(bytes.len()),
            At::Past => bytes.len(),
        }
    }

    fn is_at_trailers(&self) -> bool {
        matches!(self.at, At::Body(body) if body.is_at_trailers())
    }

    /// These passed, none of them beyond [`Self::reach`].
    fn went(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) {
        match &mut self.at {
            At::Head(seen) => {
                if matches!(self.kind, Kind::Answer) {
                    self.head.extend_from_slice(bytes);
                }
                match end_of_head(*seen, bytes) {
                    Some(_) => self.at = self.after_head(),
                    None if self.head.len() > HEAD => self.at = At::Past,
                    None => *seen = bytes.iter().fold(*seen, |seen, byte| next(seen, *byte)),
                }
            }
            At::Body(body) => {
                match body.take_with_trailers(bytes, trailers) {
                    Ok(_) if !body.is_done() => {}
                    Ok(_) => self.at = At::Past,
                    Err(_) => {
                        // Half a line may be another line.
                        trailers.clear();
                        self.at = At::Past;
                    }
                }
            }
            At::Past => {}
        }
    }

    fn after_head(&mut self) -> At {
        match self.kind {
            Kind::Request(length) => At::Body(Body::new(length)),
            Kind::Answer => {
                let head = std::mem::take(&mut self.head);
                after_answer(&head)
            }
        }
    }

    /// These were read. What of them are trailers goes to those of the answer.
    pub fn read(&mut self, mut bytes: &[u8], trailers: &Trailers) {
        while !bytes.is_empty() && !matches!(self.at, At::Past) {
            let here = match self.at {
                At::Head(seen) => end_of_head(seen, bytes).unwrap_or(bytes.len()),
                _ => bytes.len(),
            };
            self.went(&bytes[..here], &mut trailers.of_answer());
            bytes = &bytes[here..];
        }
    }
}

fn next(seen: u8, byte: u8) -> u8 {
    match (seen, byte) {
        (0 | 2, b'\r') | (1 | 3, b'\n') => seen + 1,
        (_, b'\r') => 1,
        _ => 0,
    }
}

/// Where the head is over, if it is.
fn end_of_head(mut seen: u8, bytes: &[u8]) -> Option<usize> {
    for (at, byte) in bytes.iter().enumerate() {
        seen = next(seen, *byte);
        if seen == 4 {
            return Some(at + 1);
        }
    }
    None
}

fn after_answer(head: &[u8]) -> At {
    let mut lines = [httparse::EMPTY_HEADER; LINES];
    let mut answer = httparse::Response::new(&mut lines);
    let (Ok(_), Some(status)) = (answer.parse(head), answer.code) else {
        return At::Past;
    };
    let is_chunked = answer.headers.iter().any(|line| {
        line.name.eq_ignore_ascii_case("transfer-encoding") && line.value.trim_ascii().eq_ignore_ascii_case(b"chunked")
    });
    match status {
        100 | 102..=199 => At::Head(0),
        101 | 204 | 304 => At::Past,
        _ if is_chunked => At::Body(Body::new(Length::Chunked)),
        _ => At::Past,
    }
}

/// Writes a message with trailers behind its last chunk.
#[derive(Debug)]
pub struct Inserter {
    follower: Follower,
    /// What is put in, and how much of it was written.
    inserting: Option<(Vec<u8>, usize)>,
}

impl Inserter {
    /// Into this message.
    pub fn new(follower: Follower) -> Self {
        Self {
            follower,
            inserting: None,
        }
    }

    /// As [`AsyncWrite::poll_write`].
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        mut inner: Pin<&mut W>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        trailers: impl Fn() -> Vec<u8>,
    ) -> Poll<std::io::Result<usize>> {
        loop {
            if let Some((lines, written)) = &mut self.inserting {
                while let Some(rest) = lines.get(*written..).filter(|rest| !rest.is_empty()) {
                    let here = ready!(inner.as_mut().poll_write(cx, rest))?;
                    if here == 0 {
                        return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                    }
                    *written += here;
                }
                self.inserting = None;
                self.follower.at = At::Past;
            }
            if self.follower.is_at_trailers() {
                self.inserting = Some((trailers(), 0));
                continue;
            }
            let here = self.follower.reach(bytes);
            let written = ready!(inner.poll_write(cx, &bytes[..here]))?;
            self.follower.went(&bytes[..written], &mut Vec::new());
            return Poll::Ready(Ok(written));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    struct Through {
        inner: DuplexStream,
        inserter: Inserter,
        lines: &'static str,
    }

    impl AsyncWrite for Through {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
            let Self { inner, inserter, lines } = &mut *self;
            inserter.poll_write(Pin::new(inner), cx, buf, || lines.as_bytes().to_vec())
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    /// What arrives when `text` is written in parts of these lengths.
    async fn written(follower: Follower, text: &str, parts: &[usize]) -> String {
        // Smaller than a line: partial writes everywhere.
        let (inner, mut other) = duplex(7);
        let mut through = Through {
            inner,
            inserter: Inserter::new(follower),
            lines: "X-A: 1\r\n",
        };
        let (mut rest, mut parts) = (text.as_bytes(), parts.iter().copied().cycle());
        let mut arrived = String::new();
        let writing = async {
            while !rest.is_empty() {
                let here = parts.next().unwrap_or(rest.len()).clamp(1, rest.len());
                through.write_all(&rest[..here]).await.unwrap();
                rest = &rest[here..];
            }
            drop(through);
        };
        let reading = other.read_to_string(&mut arrived);
        tokio::join!(writing, reading).1.unwrap();
        arrived
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn trailers_are_put_behind_the_last_chunk_and_nowhere_else() {
        let body = "5\r\n0\r\n\r\n\r\n0\r\n";
        for parts in [&[1][..], &[1000], &[3, 50], &[63, 1]] {
            let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{HEAD}{body}");
            for (follower, before) in [
                (Follower::answer(), format!("{HEAD}{body}")),
                (Follower::answer(), hints),
                (
                    Follower::request(Length::Chunked),
                    format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
                ),
            ] {
                let got = written(follower, &format!("{before}\r\n"), parts).await;
                assert_eq!(got, format!("{before}X-A: 1\r\n\r\n"));
            }
            for (follower, unchanged) in [
                (
                    Follower::answer(),
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
                ),
                (Follower::answer(), "HTTP/1.1 204 No Content\r\n\r\n"),
                (Follower::answer(), "HTTP/1.1 101 Switching Protocols\r\n\r\n0\r\n\r\n"),
                (Follower::answer(), "noise\r\n\r\n0\r\n\r\n"),
                (
                    Follower::request(Length::Bytes(5)),
                    "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
                ),
            ] {
                assert_eq!(written(follower, unchanged, parts).await, unchanged);
            }
        }
    }

    #[test]
    fn trailers_are_read_however_they_arrive() {
        let text =
            format!("HTTP/1.1 100 Continue\r\n\r\n{HEAD}3\r\nabc\r\n0\r\nX-A: 1\r\nContent-Length: 5\r\nX-B:\r\n\r\n");
        for step in [1, 7, 1000] {
            let wanted = Trailers {
                wanted: true,
                ..Trailers::default()
            };
            let (trailers, mut follower) = (wanted, Follower::answer());
            for part in text.as_bytes().chunks(step) {
                follower.read(part, &trailers);
            }
            assert_eq!(trailers.for_client(), b"X-A: 1\r\nX-B:\r\n");
        }
    }

    #[test]
    fn what_the_head_decides_is_no_trailer() {
        for name in ["X-Checksum", "Server-Timing", "Grpc-Status", "Digest", "ETag"] {
            assert!(may_trail(name.as_bytes()), "{name}");
        }
        for name in [
            "Content-Length",
            "Transfer-Encoding",
            "Host",
            "Authorization",
            "X-API-Key",
            "X-AuthSome-App-ID",
            "x_authsome_app_id",
            "Set-Cookie",
            "Trailer",
            "Connection",
            "X-Forwarded-For",
            "",
            "a b",
        ] {
            assert!(!may_trail(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_pass_whole(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut follower = Follower::answer();
            let mut at = 0;
            while at < bytes.len() && !follower.is_at_trailers() {
                let here = follower.reach(&bytes[at..]);
                prop_assert!(here > 0);
                follower.went(&bytes[at..at + here], &mut Vec::new());
                at += here;
            }
        }
    }
}
