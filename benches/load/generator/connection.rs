//! One connection of HTTP/1.1: a request that is ready to be sent, and the answer read to its end.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUFFER: usize = 64 * 1024;
/// Header lines of an answer.
const LINES: usize = 64;

/// What was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Of the body.
    pub(super) bytes: u64,
}

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where what was read ends.
    filled: usize,
}

enum Body {
    Length(u64),
    Chunked,
}

impl Connection {
    /// A listener with a full queue of connections is asked again for a while.
    pub(super) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let mut tries = 0;
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) if tries == 50 => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            filled: 0,
        })
    }

    /// Sends a request and reads its answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        // Not before: ten thousand idle connections should not cost the generator their buffers.
        if self.buffer.is_empty() {
            self.buffer = vec![0; 4096];
        }
        self.filled = 0;
        self.stream.write_all(request).await?;
        let (status, head, body) = loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(BUFFER, 0);
            }
            self.read_more().await?;
            if let Some(found) = head(&self.buffer[..self.filled])? {
                break found;
            }
        };
        let bytes = match body {
            Body::Length(length) => {
                self.skip(head, length).await?;
                length
            }
            Body::Chunked => self.chunks(head).await?,
        };
        Ok(Answer { status, bytes })
    }

    async fn read_more(&mut self) -> std::io::Result<()> {
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => Err(Error::new(
                ErrorKind::UnexpectedEof,
                "the connection was closed in an answer",
            )),
            n => {
                self.filled += n;
                Ok(())
            }
        }
    }

    async fn skip(&mut self, head: usize, length: u64) -> std::io::Result<()> {
        let mut left = length.saturating_sub((self.filled - head) as u64);
        if left > 4096 && self.buffer.len() < BUFFER {
            self.buffer.resize(BUFFER, 0);
        }
        while left > 0 {
            self.filled = 0;
            self.read_more().await?;
            left = left.saturating_sub(self.filled as u64);
        }
        Ok(())
    }

    /// Until the chunk of nothing. Trailers are not read: nobody here sends any.
    async fn chunks(&mut self, head: usize) -> std::io::Result<u64> {
        let mut at = head;
        let mut bytes = 0;
        loop {
            match parse_chunk_size(&self.buffer[at..self.filled]) {
                Ok(Status::Complete((line, 0))) => {
                    while self.filled < at + line + 2 {
                        self.room();
                        self.read_more().await?;
                    }
                    return Ok(bytes);
                }
                Ok(Status::Complete((line, length))) => {
                    bytes += length;
                    let mut end = at + line + usize::try_from(length).unwrap_or(usize::MAX) + 2;
                    while self.filled < end {
                        if self.filled == self.buffer.len() {
                            end -= self.filled;
                            self.filled = 0;
                        }
                        self.room();
                        self.read_more().await?;
                    }
                    self.buffer.copy_within(end..self.filled, 0);
                    self.filled -= end;
                    at = 0;
                }
                Ok(Status::Partial) => {
                    self.room();
                    self.read_more().await?;
                }
                Err(_) => return Err(Error::new(ErrorKind::InvalidData, "not a chunk")),
            }
        }
    }

    fn room(&mut self) {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() + BUFFER, 0);
        }
    }
}

/// Status, length of the head, and how long the body is; nothing when the head is not complete.
fn head(buffer: &[u8]) -> std::io::Result<Option<(u16, usize, Body)>> {
    let invalid = || Error::new(ErrorKind::InvalidData, "not an answer");
    let mut headers = [EMPTY_HEADER; LINES];
    let mut response = Response::new(&mut headers);
    let Status::Complete(length) = response.parse(buffer).map_err(|_| invalid())? else {
        return Ok(None);
    };
    let status = response.code.ok_or_else(invalid)?;
    let mut body = Body::Length(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| invalid())?;
            body = Body::Length(text.parse().map_err(|_| invalid())?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked;
        }
    }
    Ok(Some((status, length, body)))
}
