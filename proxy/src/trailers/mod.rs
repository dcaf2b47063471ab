//! Trailers: fields behind a body (RFC 9110, section 6.5), of a request and of its answer.
//!
//! The forwarding library reads over them in both directions and writes none. Where a request asks for them (`TE: trailers`) or
//! announces its own (`Trailer`), they are taken from the one side and given to the other: with instances, and with clients of
//! HTTP/1.1, from the bytes of the connection and into them, behind the last chunk that the library writes; with clients of
//! HTTP/2 from the stream and to it. What a recipient could take for something that is decided by the head is left out:
//! framing, routing, credentials, conditions, and every name that the platform sets itself. Answers that are kept in the cache
//! are kept without theirs, as RFC 9110 allows.

mod follower;
mod inserter;
mod names;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Version, header, request};

pub use follower::Follower;
pub use inserter::Inserter;
pub use names::may_trail;

use crate::filter::lines::Lines;
use crate::filter::name;

/// Bytes of all trailers of one body, as lines.
pub const MOST: usize = 8 * 1024;
/// Trailers of one answer that clients of HTTP/2 are given; the bound of lines in a head.
const FIELDS: usize = 256;

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

/// More than [`MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trailers are too long")]
pub struct TooLong;

impl Trailers {
    /// Of a request with this head; `None` if it is not about trailers.
    pub fn of(request: &request::Parts) -> Option<Arc<Self>> {
        let headers = &request.headers;
        let may_follow = match request.version {
            Version::HTTP_2 => true,
            Version::HTTP_11 => headers.contains_key(header::TRANSFER_ENCODING),
            _ => return None,
        };
        if request.method == Method::HEAD {
            return None;
        }
        let wanted = tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        let announced = if may_follow {
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
            request.put(&name::TRAILER, announced);
            // With a length, which clients of HTTP/2 may state beside trailers, HTTP/1.1 has no place for them.
            request.strike(&name::CONTENT_LENGTH);
        }
        if self.wanted {
            request.put(&name::TE, HeaderValue::from_static("trailers"));
            request.put(&name::CONNECTION, HeaderValue::from_static("TE"));
        }
    }

    /// Of the request; whoever reads its body adds to them.
    pub(crate) fn of_request(&self) -> MutexGuard<'_, Vec<u8>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of its answer.
    fn of_answer(&self) -> MutexGuard<'_, Vec<u8>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request's came as fields.
    pub fn came(&self, fields: &HeaderMap) -> Result<(), TooLong> {
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
        if fields.iter().map(length).sum::<usize>() > MOST {
            return Err(TooLong);
        }
        let mut lines = self.of_request();
        for (name, value) in fields {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        Ok(())
    }

    /// What the instance is sent of the request's.
    pub fn for_instance(&self) -> Vec<u8> {
        if self.announced.is_empty() {
            return Vec::new();
        }
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

    /// The same as fields; `None` if there are none.
    pub fn fields_for_client(&self) -> Option<HeaderMap> {
        let mut lines = self.for_client();
        lines.extend_from_slice(b"\r\n");
        let mut parsed = [httparse::EMPTY_HEADER; FIELDS];
        // Where one line cannot be a field, none is passed on.
        let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&lines, &mut parsed) else {
            return None;
        };
        let mut fields = HeaderMap::new();
        for line in parsed {
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(line.name.as_bytes()),
                HeaderValue::from_bytes(line.value),
            ) {
                fields.append(name, value);
            }
        }
        (!fields.is_empty()).then_some(fields)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, lines: &[(&'static str, &'static str)]) -> Option<Arc<Trailers>> {
        let mut request = http::Request::builder().version(version).method("POST");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        Trailers::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_request_is_about_trailers_where_it_asks_for_them_or_announces_some_that_can_follow() {
        let (te, trailer) = (("te", "gzip, Trailers"), ("trailer", "x-a, host, x-b"));
        let chunked = ("transfer-encoding", "chunked");
        for (version, lines, wanted, announced) in [
            (Version::HTTP_11, &[te][..], true, ""),
            (Version::HTTP_11, &[trailer], false, ""),
            (Version::HTTP_11, &[trailer, chunked], false, "x-a, x-b"),
            (Version::HTTP_2, &[trailer], false, "x-a, x-b"),
            (Version::HTTP_2, &[te, trailer], true, "x-a, x-b"),
            (Version::HTTP_2, &[("trailer", "host, content-length")], false, ""),
            (Version::HTTP_10, &[te, trailer, chunked], false, ""),
            (Version::HTTP_2, &[], false, ""),
        ] {
            let got = of(version, lines);
            let expected = (wanted || !announced.is_empty()).then(|| (wanted, announced.to_owned()));
            let got = got.map(|trailers| (trailers.wanted, trailers.announced.clone()));
            assert_eq!(got, expected, "{version:?} {lines:?}");
        }
    }

    #[test]
    fn fields_become_lines_and_lines_fields() {
        let trailers = of(Version::HTTP_2, &[("te", "trailers"), ("trailer", "x-a")]).unwrap();
        let mut fields = HeaderMap::new();
        fields.append("x-a", HeaderValue::from_static("1"));
        fields.append("x-a", HeaderValue::from_bytes(b"\xff").unwrap());
        fields.append("host", HeaderValue::from_static("evil"));
        trailers.came(&fields).unwrap();
        assert_eq!(trailers.for_instance(), b"x-a: 1\r\nx-a: \xff\r\n");

        assert_eq!(trailers.fields_for_client(), None);
        trailers
            .of_answer()
            .extend_from_slice(b"Grpc-Status: 0\r\nSet-Cookie: a=b\r\nX-A:\r\nX-A: \xff\r\n");
        let fields = trailers.fields_for_client().unwrap();
        let names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["grpc-status", "x-a"]);
        let values: Vec<_> = fields.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b""[..], b"\xff"]);
    }

    #[test]
    fn more_than_a_recipient_reads_is_refused() {
        let trailers = of(Version::HTTP_2, &[("trailer", "x-a")]).unwrap();
        let mut fields = HeaderMap::new();
        fields.append("x-a", HeaderValue::from_str(&"x".repeat(MOST)).unwrap());
        assert_eq!(trailers.came(&fields), Err(TooLong));
        assert!(trailers.for_instance().is_empty());
    }
}
