//! Where the body of a request ends.
//!
//! Owns the framing of bodies, byte by byte: a length, or chunks whose lines are written the one way that every server reads
//! alike (CR LF, a size without signs or blanks, short extensions, bounded trailers). What does not belong to the body
//! belongs to the next request, and whoever forwards the body never sees it. Pure.

use super::head::{is_token_byte, is_value_byte};

/// How the length of a body is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// In bytes; 0 where nothing is said (RFC 9112 section 6.3).
    Bytes(u64),
    /// By its chunks.
    Chunked,
}

/// The chunks are not well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunks of the request body are malformed")]
pub struct BadChunks;

/// Of a line with a chunk's size and extensions.
const SIZE_LINE: u16 = 256;
/// Of all trailers.
const TRAILERS: u16 = 8 * 1024;
/// 60 bits: no chunk is that long, and no integer overflows.
const SIZE_DIGITS: u16 = 15;

/// A body that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    /// So many bytes are to come.
    Bytes(u64),
    /// The digits of a chunk's size so far, and their value.
    Size(u16, u64),
    /// Behind the `;` of an extension: the value of the size, the length of the line so far.
    Extension(u64, u16),
    /// The LF of a size line.
    SizeEnd(u64),
    /// So many bytes of the chunk are to come.
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty line: the length of all trailers so far.
    Trailer(u16),
    TrailerName(u16),
    TrailerValue(u16),
    TrailerLf(u16),
    LastLf,
}

impl Body {
    /// None of it read yet.
    pub const fn new(length: Length) -> Self {
        Self(match length {
            Length::Bytes(0) => State::Done,
            Length::Bytes(bytes) => State::Bytes(bytes),
            Length::Chunked => State::Size(0, 0),
        })
    }

    /// Was all of it read?
    pub const fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// How many of the next bytes belong to it: all of them, unless it ends before.
    ///
    /// # Errors
    /// Chunks that servers could read differently.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunks> {
        self.run(bytes, false, |_| {})
    }

    /// As [`Self::take`], and keeps the lines of its trailers, each with its line end.
    ///
    /// # Errors
    /// As there.
    pub fn take_with_trailers(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) -> Result<usize, BadChunks> {
        let taken = self.run(bytes, false, |byte| trailers.push(byte))?;
        if taken > 0 && self.is_done() && trailers.ends_with(b"\r\n") {
            // The empty line behind them.
            trailers.truncate(trailers.len() - 2);
        }
        Ok(taken)
    }

    /// As [`Self::take`], but stops where trailers would begin.
    ///
    /// # Errors
    /// As there.
    pub fn take_until_trailers(&mut self, bytes: &[u8]) -> Result<usize, BadChunks> {
        self.run(bytes, true, |_| {})
    }

    /// Are its chunks over, and nothing behind them was read?
    pub const fn is_at_trailers(&self) -> bool {
        matches!(self.0, State::Trailer(0))
    }

    fn run(&mut self, bytes: &[u8], to_trailers: bool, mut trailing: impl FnMut(u8)) -> Result<usize, BadChunks> {
        let mut at = 0;
        while at < bytes.len() && !(to_trailers && self.is_at_trailers()) && !self.is_done() {
            let data = self.data(bytes.len() - at);
            if data > 0 {
                at += data;
                continue;
            }
            let is_trailing = self.0.is_trailing();
            self.0 = self.0.after(bytes[at])?;
            if is_trailing {
                trailing(bytes[at]);
            }
            at += 1;
        }
        Ok(at)
    }

    /// The next part of its data: how many of the next bytes belong to it without being data, and how many are data behind
    /// them. No data: all bytes were looked at, or the body has ended.
    ///
    /// # Errors
    /// Chunks that servers could read differently.
    pub fn part(&mut self, bytes: &[u8]) -> Result<(usize, usize), BadChunks> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            let data = self.data(bytes.len() - at);
            if data > 0 {
                return Ok((at, data));
            }
            self.0 = self.0.after(bytes[at])?;
            at += 1;
        }
        Ok((at, 0))
    }

    /// Takes the data that comes next, of at most so many bytes; 0 if none does.
    fn data(&mut self, most: usize) -> usize {
        let (State::Bytes(left) | State::Data(left)) = &mut self.0 else {
            return 0;
        };
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(most);
        *left -= here as u64;
        if *left == 0 {
            self.0 = match self.0 {
                State::Data(_) => State::DataCr,
                _ => State::Done,
            };
        }
        here
    }
}

impl State {
    /// Behind the last chunk.
    const fn is_trailing(self) -> bool {
        matches!(
            self,
            Self::Trailer(_) | Self::TrailerName(_) | Self::TrailerValue(_) | Self::TrailerLf(_) | Self::LastLf
        )
    }

    /// The state behind a byte that is not data.
    fn after(self, byte: u8) -> Result<Self, BadChunks> {
        Ok(match (self, byte) {
            (Self::Size(digits, value), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(BadChunks)?;
                Self::Size(digits + 1, value * 16 + u64::from(digit))
            }
            (Self::Size(digits, value), b';') if digits > 0 => Self::Extension(value, digits),
            (Self::Size(digits, value), b'\r') if digits > 0 => Self::SizeEnd(value),
            (Self::Extension(value, _), b'\r') => Self::SizeEnd(value),
            (Self::Extension(value, length), byte) if is_value_byte(byte) && length < SIZE_LINE => {
                Self::Extension(value, length + 1)
            }
            (Self::SizeEnd(0), b'\n') => Self::Trailer(0),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::Trailer(_), b'\r') => Self::LastLf,
            (Self::Trailer(length) | Self::TrailerName(length), byte) if is_token_byte(byte) && length < TRAILERS => {
                Self::TrailerName(length + 1)
            }
            (Self::TrailerName(length), b':') => Self::TrailerValue(length),
            (Self::TrailerValue(length), b'\r') => Self::TrailerLf(length),
            (Self::TrailerValue(length), byte) if is_value_byte(byte) && length < TRAILERS => {
                Self::TrailerValue(length + 1)
            }
            (Self::TrailerLf(length), b'\n') => Self::Trailer(length),
            (Self::LastLf, b'\n') => Self::Done,
            _ => return Err(BadChunks),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How much of `text` is the body; `None` if it does not end.
    fn taken(text: &str) -> Result<Option<usize>, BadChunks> {
        let mut body = Body::new(Length::Chunked);
        let taken = body.take(text.as_bytes())?;
        Ok(body.is_done().then_some(taken))
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        let mut body = Body::new(Length::Bytes(5));
        assert_eq!(body.take(b"he"), Ok(2));
        assert!(!body.is_done());
        assert_eq!(body.take(b"lloGET /"), Ok(3));
        assert!(body.is_done());
        assert_eq!(body.take(b"GET /"), Ok(0));
        assert!(Body::new(Length::Bytes(0)).is_done());
    }

    #[test]
    fn chunks_end_with_the_empty_line_behind_the_last_one() {
        for (text, rest) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            ("a;x=y\r\n0123456789\r\n000\r\n\r\n", "x"),
            ("5\r\n\r\n\r\n\n\r\n0\r\nX: y\r\nZ:\r\n\r\n", "0\r\n\r\n"),
        ] {
            assert_eq!(taken(&format!("{text}{rest}")), Ok(Some(text.len())), "{text:?}");
        }
        assert_eq!(taken("5\r\nhello\r\n0\r\n"), Ok(None));
    }

    #[test]
    fn chunks_that_servers_read_differently_are_refused() {
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\n",
            "5\rx",
            "5;a\nhello",
            "5;a\0\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "1000000000000000\r\n",
            "0\r\n\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nname : x\r\n\r\n",
            "0\r\nnothing\r\n\r\n",
            "0\r\nx: a\nb\r\n\r\n",
        ] {
            assert_eq!(taken(bad), Err(BadChunks), "{bad:?}");
        }
        assert_eq!(taken(&format!("5;{}", "x".repeat(300))), Err(BadChunks));
        assert_eq!(taken(&format!("0\r\nx: {}", "x".repeat(9000))), Err(BadChunks));
        assert_eq!(taken(&format!("0\r\n{}", "x:\r\n".repeat(9000))), Err(BadChunks));
    }

    #[test]
    fn trailers_are_kept_as_they_are_and_their_place_is_found() {
        for (text, expected) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0;x\r\nA: b\r\nC:\r\n\r\n", "A: b\r\nC:\r\n"),
        ] {
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                let (mut body, mut trailers) = (Body::new(Length::Chunked), Vec::new());
                let taken = body.take_with_trailers(&bytes[..cut], &mut trailers).unwrap();
                assert_eq!(
                    body.take_with_trailers(&bytes[taken..], &mut trailers).unwrap(),
                    bytes.len() - taken
                );
                assert_eq!(String::from_utf8(trailers).unwrap(), expected, "{text:?}, {cut}");
                let mut body = Body::new(Length::Chunked);
                let first = body.take_until_trailers(&bytes[..cut]).unwrap();
                let place = first + body.take_until_trailers(&bytes[first..]).unwrap();
                assert!(
                    text[place..].starts_with(expected) && body.is_at_trailers(),
                    "{text:?}, {cut}"
                );
            }
        }
        let mut body = Body::new(Length::Bytes(5));
        assert_eq!(body.take_until_trailers(b"hello"), Ok(5));
        assert!(!body.is_at_trailers());
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_is_read_whole_however_it_arrives(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in proptest::collection::vec(1_usize..20, 0..40),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let length = wire.len();
            wire.extend(b"GET / HTTP/1.1\r\n\r\n");
            let mut body = Body::new(Length::Chunked);
            let (mut rest, mut taken, mut cuts) = (&wire[..], 0, cuts.into_iter());
            while !body.is_done() {
                let here = cuts.next().unwrap_or(7).min(rest.len());
                let now = body.take(&rest[..here]).unwrap();
                taken += now;
                rest = &rest[now..];
            }
            prop_assert_eq!(taken, length);
        }

        #[test]
        fn no_bytes_are_taken_behind_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut body = Body::new(Length::Chunked);
            if let Ok(taken) = body.take(&bytes) {
                prop_assert!(taken == bytes.len() || body.is_done());
            }
        }
    }
}
