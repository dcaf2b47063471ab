//! HTTP as bytes on a socket, so that tests send what no client library would, and see exactly what comes back.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything that a test waits for on purpose, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A head and a body as they were received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// Status line or request line.
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Names in lower case.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The second word of a request line.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The only value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given == name);
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "several {name} in {self:?}");
        first
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `error.code` of the platform's envelope, whose request id must be that of the header.
    pub(crate) fn error_code(&self) -> String {
        let json = self.json();
        assert_eq!(
            json["error"]["requestId"].as_str(),
            self.header("x-authsome-request-id"),
            "{self:?}"
        );
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A byte stream: plain or TLS.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// One connection.
pub(crate) struct Wire {
    stream: Box<dyn Bytes>,
    buffer: Vec<u8>,
    /// Of the body that was read last.
    trailers: Vec<(String, String)>,
}

impl Wire {
    pub(crate) fn new(stream: impl Bytes + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            trailers: Vec::new(),
        }
    }

    pub(crate) async fn connect(address: &str) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// As [`Self::send`]; false once the peer has closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next bytes, however long they take; `None` once the peer has closed.
    pub(crate) async fn heard(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            let mut part = vec![0; 16 * 1024];
            let read = self.stream.read(&mut part).await.unwrap_or(0);
            self.buffer.extend_from_slice(&part[..read]);
        }
        (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }

    /// Reads a head and, by its own framing, the body. `None` if the peer closed before a head.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        let message = self.receive_head().await?;
        Some(self.receive_body(message).await)
    }

    /// As [`Self::receive`], while these bytes are sent again and again at this pace.
    pub(crate) async fn receive_while_sending(&mut self, bytes: &str, pace: Duration) -> Option<Message> {
        loop {
            // The pace is the subject.
            let mut part = [0; 1024];
            match tokio::time::timeout(pace, self.stream.read(&mut part)).await {
                Ok(read) => {
                    let read = read.unwrap_or(0);
                    if read == 0 {
                        return None;
                    }
                    self.buffer.extend_from_slice(&part[..read]);
                    return self.receive().await;
                }
                Err(_) if self.try_send(bytes).await => {}
                Err(_) => return self.receive().await,
            }
        }
    }

    /// As [`Self::receive`] for the answer to a HEAD, or one whose body is not awaited.
    pub(crate) async fn receive_head(&mut self) -> Option<Message> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if self.read_more().await == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Message {
            start,
            headers,
            ..Message::default()
        })
    }

    async fn receive_body(&mut self, mut message: Message) -> Message {
        if let Some(length) = message.header("content-length") {
            let length = length.parse().unwrap();
            message.body = self.exactly(length).await;
        } else if message.header("transfer-encoding").is_some() {
            while let Some(part) = self.chunk().await {
                message.body.extend(part);
            }
            message.trailers = std::mem::take(&mut self.trailers);
        } else if message.start.starts_with("HTTP/") && !matches!(message.status(), 204 | 304 | 101) {
            while self.read_more().await > 0 {}
            message.body = std::mem::take(&mut self.buffer);
        }
        message
    }

    /// One chunk of a chunked body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await;
        let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("bad chunk length {line:?}"));
        let part = self.exactly(length).await;
        while let Some((name, value)) = self.line().await.split_once(':') {
            self.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        (length > 0).then_some(part)
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(self.read_more().await > 0, "the peer closed within a line");
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(
                self.read_more().await > 0,
                "the peer closed after {} of {length} bytes",
                self.buffer.len()
            );
        }
        self.buffer.drain(..length).collect()
    }

    /// Is the connection closed without another byte?
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.read_more().await == 0
    }

    /// 0 at the end, and when the peer has reset the connection.
    async fn read_more(&mut self) -> usize {
        let mut part = vec![0; 16 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut part))
            .await
            .expect("the peer is silent");
        let read = read.unwrap_or(0);
        self.buffer.extend_from_slice(&part[..read]);
        read
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn exchange(address: &str, request: impl AsRef<[u8]>) -> Message {
    let mut wire = Wire::connect(address).await;
    wire.send(request).await;
    wire.receive().await.expect("an answer")
}
