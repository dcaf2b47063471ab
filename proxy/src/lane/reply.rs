//! The head of an instance's answer, and where its body ends.
//!
//! Owns the refusal of answers that two readers could take differently: a length beside chunks, several lengths, codings other
//! than chunks, folded lines. They are answered with 502, since what follows such a head belongs to nobody for certain. Pure.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};

use super::lines::{HeadLines, Span};
use crate::filter::lines::Lines;
use crate::filter::name;
use crate::filter::sets::Sets;

/// Lines of a head.
const MOST_LINES: usize = 256;
/// Bytes of a head: as many as the forwarding library reads.
pub(super) const MOST_BYTES: usize = 1024 * 1024 - 1;

/// The head of an answer, besides its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// Bytes of the head.
    pub(super) length: usize,
    /// The status.
    pub(super) status: u16,
    /// What the instance calls it.
    pub(super) reason: Span,
    /// Where the body ends.
    pub(super) body: Ending,
    /// Does the head speak of chunks? There may be none: an answer to HEAD says what one to GET would say.
    pub(super) is_chunked: bool,
    /// Does it say anything of a body?
    pub(super) says_body: bool,
    /// Does the instance close the connection after it?
    pub(super) is_last: bool,
}

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Not an answer that everybody reads alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer of the instance is malformed")]
pub(super) struct BadReply;

/// Reads a head into `lines`. `None`: it is not complete. `is_head`: the answer is to a HEAD.
pub(super) fn read(bytes: &[u8], is_head: bool, lines: &mut HeadLines) -> Result<Option<Reply>, BadReply> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut parsed = Response::new(&mut []);
    let parser = ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() < MOST_BYTES => return Ok(None),
        Ok(Status::Partial) | Err(_) => return Err(BadReply),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(BadReply);
    };
    if !(100..=999).contains(&status) {
        return Err(BadReply);
    }
    lines.begin(&bytes[..length]);
    // The edge says its own date.
    let not_passed_on = Sets::HOP_BY_HOP.and_if(status >= 200, Sets::DATE);
    let mut framing = Framing::default();
    for line in parsed.headers.iter() {
        let (name, value) = (line.name.as_bytes(), line.value.trim_ascii());
        framing.note(name, value)?;
        lines.receive_answer(not_passed_on, Span::of(name, bytes), Span::of(value, bytes));
    }
    if version == 0 && framing.is_chunked {
        return Err(BadReply);
    }
    if framing.names_more {
        strike_named(lines, parsed.headers);
    }
    let has_none = is_head || matches!(status, 100..=199 | 204 | 304);
    if status == 204 || status < 200 {
        // RFC 9110, section 8.6: there is none.
        lines.strike(&name::CONTENT_LENGTH);
    }
    let body = match (has_none, framing.is_chunked, framing.length) {
        (true, _, _) => Ending::Length(0),
        (false, true, _) => Ending::Chunked,
        (false, false, Some(length)) => Ending::Length(length),
        (false, false, None) => Ending::Close,
    };
    Ok(Some(Reply {
        length,
        status,
        reason: parsed
            .reason
            .map_or_else(Span::default, |reason| Span::of(reason.as_bytes(), bytes)),
        body,
        is_chunked: framing.is_chunked && status != 204,
        says_body: framing.is_chunked || framing.length.is_some(),
        is_last: framing.closes || version == 0 || body == Ending::Close,
    }))
}

#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    /// `Connection` names other lines.
    names_more: bool,
}

impl Framing {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadReply> {
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.closes |= option.eq_ignore_ascii_case(b"close");
                    self.names_more |=
                        !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
                let length = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                if !digits || self.is_chunked || self.length.is_some() || length.is_none() {
                    return Err(BadReply);
                }
                self.length = length;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let again = std::mem::replace(&mut self.is_chunked, true);
                if again || self.length.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadReply);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What `Connection` names is the connection's own, too, but for what says what the body is.
fn strike_named(lines: &mut HeadLines, received: &[Header<'_>]) {
    let options = received
        .iter()
        .filter(|line| name::CONNECTION.is(line.name.as_bytes()))
        .flat_map(|line| line.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    for option in options {
        if !name::CONTENT_LENGTH.is(option) && !name::CONTENT_TYPE.is(option) {
            lines.strike_named(option);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str, is_head: bool) -> Result<Option<(Reply, Vec<String>)>, BadReply> {
        let mut lines = HeadLines::default();
        let reply = read(head.as_bytes(), is_head, &mut lines)?;
        Ok(reply.map(|reply| {
            let lines = lines
                .iter()
                .map(|(name, value)| format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
            (reply, lines.collect())
        }))
    }

    #[test]
    fn the_body_ends_where_everybody_reads_its_end() {
        for (head, is_head, body, is_last) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                false,
                Ending::Length(5),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                true,
                Ending::Length(0),
                false,
            ),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n",
                false,
                Ending::Chunked,
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", false, Ending::Close, true),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                false,
                Ending::Length(5),
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, Ending::Length(0), false),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                false,
                Ending::Length(0),
                false,
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                false,
                Ending::Length(0),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
                false,
                Ending::Length(0),
                true,
            ),
        ] {
            let (reply, _) = of(head, is_head).unwrap().unwrap();
            assert_eq!((reply.body, reply.is_last), (body, is_last), "{head:?}");
            assert_eq!(reply.length, head.len());
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        ] {
            assert_eq!(of(head, false), Err(BadReply), "{head:?}");
        }
        assert_eq!(of("HTTP/1.1 200 OK\r\nX: a\r\n", false), Ok(None));
        assert_eq!(
            of(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MOST_BYTES)), false),
            Err(BadReply)
        );
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_passed_on() {
        let (_, lines) = of(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Own, content-length\r\nX-Own: 1\r\nTE: x\r\nTrailer: y\r\nUpgrade: z\r\nContent-Length: 3\r\nDate: then\r\nX-Other: 2\r\n\r\n",
            false,
        )
        .unwrap()
        .unwrap();
        assert_eq!(lines, ["Content-Length: 3", "X-Other: 2"]);
    }
}
