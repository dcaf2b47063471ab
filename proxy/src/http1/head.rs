//! The head of an HTTP/1.1 request as bytes: where it ends, and whether two servers could read it differently.
//!
//! Owns the only reading of a head that decides anything about framing. What passes here is written the one way that every
//! server reads alike: lines end with CR LF, a name is followed by its colon, nothing is folded, there is one `Host` and at
//! most one statement of the body's length. Stricter than RFC 9112 section 2.2 demands of a recipient, on purpose: what is
//! refused here is what servers disagree about. Pure; knows nothing of sockets or of the forwarding library, so that every
//! forwarding path shares it. Allocates nothing but the places of the lines, once for a connection.

use super::body::Length;
use crate::filter::normalise::{BadHead, is_host};

/// The answers to a question about a byte, for all of them.
macro_rules! table_of {
    ($is_such:path) => {{
        let mut answers = [false; 256];
        let mut byte = 0_u8;
        loop {
            answers[byte as usize] = $is_such(byte);
            if byte == u8::MAX {
                break answers;
            }
            byte += 1;
        }
    }};
}
pub(crate) use table_of;

/// How much of a head is accepted.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes, from the first of the request line to the empty line.
    pub bytes: usize,
    /// Header lines.
    pub lines: usize,
}

/// A whole head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, the empty line included.
    pub length: usize,
    /// What follows it.
    pub body: Length,
}

/// Where a header line is among the bytes of its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineAt {
    /// Where its name begins and ends.
    pub name: (usize, usize),
    /// Where its value begins and ends, without the blanks around it.
    pub value: (usize, usize),
}

/// Reads a head that arrives in pieces; every byte is looked at once.
#[derive(Debug, Default)]
pub struct HeadScanner {
    /// Where the first line begins that was not checked yet.
    line: usize,
    /// Up to where its end was looked for.
    searched: usize,
    is_http_11: bool,
    /// Of an absolute-form target: where its authority is.
    authority: Option<(usize, usize)>,
    host: Option<(usize, usize)>,
    length: Option<u64>,
    is_chunked: bool,
    has_authorization: bool,
    found: Vec<LineAt>,
}

impl HeadScanner {
    /// Begins with another head, in the space of the last one.
    pub fn begin(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        *self = Self {
            found,
            ..Self::default()
        };
    }

    /// The header lines of what was read so far.
    pub fn lines(&self) -> &[LineAt] {
        &self.found
    }

    /// Goes on with all bytes of the head that arrived so far. `None`: it is not complete.
    ///
    /// # Errors
    /// As soon as it is known that the head will be refused.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Head>, BadHead> {
        if self.line == 0 && bytes.first().is_some_and(|first| !is_token_byte(*first)) {
            // TLS, or noise: there may never be a line end to wait for.
            return Err(BadHead::Syntax);
        }
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.searched..).unwrap_or_default()) {
            let (start, end) = (self.line, self.searched + found);
            if end >= limits.bytes {
                return Err(BadHead::TooLarge);
            }
            self.line = end + 1;
            self.searched = self.line;
            let Some(content) = bytes[start..end].strip_suffix(b"\r") else {
                return Err(BadHead::Syntax);
            };
            if start == 0 {
                self.request_line(content)?;
            } else if content.is_empty() {
                return self.end(bytes).map(Some);
            } else {
                if self.found.len() >= limits.lines {
                    return Err(BadHead::TooMany);
                }
                self.header(content, start)?;
            }
        }
        self.searched = bytes.len();
        if bytes.len() >= limits.bytes {
            return Err(BadHead::TooLarge);
        }
        Ok(None)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), BadHead> {
        let (method, rest) = at_blank(line).ok_or(BadHead::Syntax)?;
        let (target, version) = at_blank(rest).ok_or(BadHead::Syntax)?;
        if method.is_empty() || !is_token(method) || version.contains(&b' ') {
            return Err(BadHead::Syntax);
        }
        match version {
            b"HTTP/1.1" => self.is_http_11 = true,
            b"HTTP/1.0" => {}
            other if other.starts_with(b"HTTP/") => return Err(BadHead::Version),
            _ => return Err(BadHead::Syntax),
        }
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(BadHead::Method);
        }
        if target.is_empty() || has_any(target, |b| matches!(b, 0..=0x20 | 0x7f)) {
            return Err(BadHead::Syntax);
        }
        // What a client means by such a byte it can encode; parsers rewrite it, each in its own way.
        if has_any(target, |b| matches!(b, 0x80..|b'#'| b'\\')) {
            return Err(BadHead::Path);
        }
        if target.starts_with(b"/") {
            return Ok(());
        }
        // Absolute-form; what is neither (`*`, an authority) is no path of anybody.
        let scheme = target
            .windows(3)
            .position(|window| window == b"://")
            .filter(|end| {
                let scheme = &target[..*end];
                scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
            })
            .ok_or(BadHead::Path)?;
        let from = scheme + 3;
        let until = target[from..]
            .iter()
            .position(|b| matches!(b, b'/' | b'?' | b'#'))
            .map_or(target.len(), |at| from + at);
        let begins = method.len() + 1;
        self.authority = Some((begins + from, begins + until));
        Ok(())
    }

    fn header(&mut self, line: &[u8], start: usize) -> Result<(), BadHead> {
        // A folded line begins with white space, which is no byte of a name.
        let colon = memchr::memchr(b':', line).ok_or(BadHead::Syntax)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !is_token(name) || has_any(value, |b| !is_value_byte(b)) {
            return Err(BadHead::Syntax);
        }
        let begun = value.trim_ascii_start();
        let trimmed = begun.trim_ascii_end();
        let from = start + line.len() - begun.len();
        let at = (from, from + trimmed.len());
        self.found.push(LineAt {
            name: (start, start + colon),
            value: at,
        });
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") && (!is_host(trimmed) || self.host.replace(at).is_some()) => {
                return Err(BadHead::Host);
            }
            10 if name.eq_ignore_ascii_case(b"connection") && nominates_end_to_end(trimmed) => {
                return Err(BadHead::Connection);
            }
            13 if name.eq_ignore_ascii_case(b"authorization")
                && std::mem::replace(&mut self.has_authorization, true) =>
            {
                return Err(BadHead::Authorization);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(trimmed).ok_or(BadHead::Framing)?;
                if self.length.replace(length).is_some() {
                    return Err(BadHead::Framing);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let again = std::mem::replace(&mut self.is_chunked, true);
                if again || !trimmed.eq_ignore_ascii_case(b"chunked") || !self.is_http_11 {
                    return Err(BadHead::Framing);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&self, bytes: &[u8]) -> Result<Head, BadHead> {
        let (from, until) = self.host.ok_or(BadHead::Host)?;
        if let Some((begins, ends)) = self.authority
            && bytes[begins..ends] != bytes[from..until]
        {
            // Which of the two counts is what servers disagree about.
            return Err(BadHead::Host);
        }
        let body = match (self.is_chunked, self.length) {
            (true, Some(_)) => return Err(BadHead::Framing),
            (true, None) => Length::Chunked,
            (false, length) => Length::Bytes(length.unwrap_or(0)),
        };
        Ok(Head {
            length: self.line,
            body,
        })
    }
}

/// Does a `Connection` header name what is not the connection's own? Proxies remove what it names, so a client could take
/// framing, credentials or its own address out of what the instance reads. (What the edge adds for the instance it adds
/// behind that removal, so naming it takes nothing away.)
fn nominates_end_to_end(value: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [
        b"host",
        b"content-length",
        b"content-type",
        b"authorization",
        b"cookie",
        b"x-real-ip",
        b"forwarded",
    ];
    const PREFIXES: [&[u8]; 3] = [b"x-forwarded", b"x-api-key", b"x-publishable"];
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).any(|option| {
        // In quotes or in a comment some would find a name, and others not.
        !is_token(option)
            || NAMES.iter().any(|name| option.eq_ignore_ascii_case(name))
            || PREFIXES.iter().any(|prefix| {
                option
                    .get(..prefix.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            })
    })
}

/// At most 18 digits, so that nobody's integer overflows.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0'))
    })
}

/// What stands before and behind the first blank.
fn at_blank(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = memchr::memchr(b' ', line)?;
    Some((&line[..blank], &line[blank + 1..]))
}

/// Is any byte such? Without a way out of the loop many bytes are looked at at once.
#[inline]
fn has_any(bytes: &[u8], is_such: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |so_far, byte| so_far | is_such(*byte))
}

fn is_token(bytes: &[u8]) -> bool {
    static TOKEN: [bool; 256] = table_of!(is_token_byte);
    bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// RFC 9110 section 5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// RFC 9110 section 5.5: visible characters, blanks, and bytes above ASCII.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests;
