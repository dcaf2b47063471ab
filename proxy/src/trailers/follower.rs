//! Finds the trailers of one message in the bytes of a connection of HTTP/1.1.
//!
//! What is malformed ends the search and is left to whoever parses the message: nothing is taken from it.

use super::Trailers;
use crate::http1::body::{Body, Length};

/// Of one head on the wire; where it is longer, nothing is done about the trailers behind it.
const HEAD: usize = 64 * 1024;
/// Header lines of one head.
const LINES: usize = 256;

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
    pub(super) fn reach(&self, bytes: &[u8]) -> usize {
        match self.at {
            At::Head(seen) => end_of_head(seen, bytes).unwrap_or(bytes.len()),
            At::Body(mut body) => body.take_until_trailers(bytes).unwrap_or(bytes.len()),
            At::Past => bytes.len(),
        }
    }

    pub(super) fn is_at_trailers(&self) -> bool {
        matches!(self.at, At::Body(body) if body.is_at_trailers())
    }

    /// Nothing more is looked for.
    pub(super) fn is_over(&mut self) {
        self.at = At::Past;
    }

    /// These passed, none of them beyond [`Self::reach`].
    pub(super) fn went(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trailers_are_read_however_they_arrive() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nContent-Length: 5\r\nX-B:\r\n\r\n";
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
