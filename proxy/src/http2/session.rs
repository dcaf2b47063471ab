//! One stream of HTTP/2: a request and its answer.
//!
//! A body is waited for no longer than its pace allows; the reason why it could not be read is left in the stream's
//! [`Exchange`](crate::http1::Exchange), so that the client is told if it has no answer yet. Trailers that are passed on are put
//! behind the answer, and those of the request are taken when its body is over. Dropped before the answer is whole, it resets
//! its stream.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::body_buffer::FixedBuffer;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as Served;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use pingora::protocols::http::v2;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::{Instant, timeout, timeout_at};

use super::head::{self, Unfit};
use crate::http1::BodyFault;
use crate::http1::pace::{Pace, PaceRules};
use crate::listener::Accepted;

/// Of a body so much is kept for another attempt; as much as the library keeps of one of HTTP/1.1.
const KEPT: usize = 64 * 1024;
/// Lines that are about one connection of HTTP/1.1 only (RFC 9113, section 8.2.2).
const OF_HTTP1: [HeaderName; 5] = [
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request, and how it is answered.
pub(crate) struct Session {
    request: RequestHeader,
    body: RecvStream,
    received: usize,
    kept: Option<FixedBuffer>,
    rules: PaceRules,
    pace: Pace,
    /// Since when the client is waited for.
    waiting: Option<Instant>,
    read_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
    respond: SendResponse<Bytes>,
    answer: Option<SendStream<Bytes>>,
    head: Option<Box<ResponseHeader>>,
    sent: usize,
    write_timeout: Option<Duration>,
    /// The end of the answer was sent.
    ended: bool,
    accepted: Arc<Accepted>,
    digest: Arc<Digest>,
}

/// What comes next of a body.
enum Next {
    Data(Bytes),
    End(Option<HeaderMap>),
}

async fn next(body: &mut RecvStream) -> Result<Next, h2::Error> {
    match body.data().await.transpose()? {
        Some(data) => Ok(Next::Data(data)),
        None => Ok(Next::End(body.trailers().await?)),
    }
}

impl Session {
    /// Of a stream that the client opened. `None` if its head is no request; then that was said.
    pub(crate) fn begin(
        stream: (Request<RecvStream>, SendResponse<Bytes>),
        digest: Arc<Digest>,
        rules: PaceRules,
    ) -> Option<(Self, Arc<Accepted>)> {
        let (request, mut respond) = stream;
        let (request, body) = request.into_parts();
        let mut request = RequestHeader::from(request);
        match head::judge(&request).and_then(|()| head::unify(&mut request)) {
            Ok(()) => {}
            Err(Unfit::Malformed) => {
                respond.send_reset(Reason::PROTOCOL_ERROR);
                return None;
            }
            Err(Unfit::Ambiguous) => {
                let mut answer = Response::new(());
                *answer.status_mut() = StatusCode::BAD_REQUEST;
                // Fails only where the client has reset the stream.
                let _ = respond.send_response(answer, true);
                return None;
            }
        }
        let accepted = Arc::new(Accepted::default());
        // How the request finds what it shares with its stream.
        request.extensions_mut().insert(Arc::clone(&accepted));
        let session = Self {
            request,
            body,
            received: 0,
            kept: None,
            rules,
            pace: Pace::default(),
            waiting: None,
            read_timeout: None,
            drain_timeout: None,
            respond,
            answer: None,
            head: None,
            sent: 0,
            write_timeout: None,
            ended: false,
            accepted: Arc::clone(&accepted),
            digest,
        };
        Some((session, accepted))
    }

    fn states_no_body(&self) -> bool {
        let length = self.request.headers.get(header::CONTENT_LENGTH);
        self.received == 0 && (self.body.is_end_stream() || length.is_some_and(|length| length.as_bytes() == b"0"))
    }

    fn is_read(&self) -> bool {
        self.states_no_body() || self.body.is_end_stream()
    }

    fn failed<T>(&self, fault: BodyFault, kind: ErrorType, why: &'static str) -> Result<T> {
        self.accepted.exchange.body_failed(fault);
        Err(Error::explain(kind, why).into_down())
    }

    /// The next part of the body. May be dropped and asked again: the time goes on.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let allowed = self.pace.left(&self.rules);
        let until = since + self.read_timeout.map_or(allowed, |limit| limit.min(allowed));
        let Ok(read) = timeout_at(until, next(&mut self.body)).await else {
            return self.failed(
                BodyFault::Slow,
                ErrorType::ReadTimedout,
                "the request body comes too slowly",
            );
        };
        self.waiting = None;
        match read.or_err(ErrorType::ReadError, "while reading a request body")? {
            Next::Data(data) => {
                self.received += data.len();
                self.pace.received(data.len(), since.elapsed());
                if let Some(kept) = &mut self.kept {
                    kept.write_to_buffer(&data);
                }
                // Fails only where the stream is gone, which the next read says.
                let _ = self.body.flow_control().release_capacity(data.len());
                Ok(Some(data))
            }
            Next::End(fields) => {
                if let (Some(fields), Some(trailers)) = (fields, self.accepted.exchange.trailers())
                    && trailers.came(&fields).is_err()
                {
                    let why = "the trailers of the request are too long";
                    return self.failed(BodyFault::Malformed, ErrorType::ReadError, why);
                }
                Ok(None)
            }
        }
    }

    async fn drain(&mut self) -> Result<()> {
        while self.read().await?.is_some() {}
        Ok(())
    }

    fn begin_answer(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.ended || self.head.is_some() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        for name in &OF_HTTP1 {
            head.remove_header(name);
        }
        if head.status.is_informational() {
            let interim = Response::from_parts(head.as_owned_parts(), ());
            let sent = self.respond.send_informational(interim);
            return sent.or_err(ErrorType::WriteError, "while sending an interim answer");
        }
        head.insert_header(header::DATE, get_cached_date())?;
        let answer = Response::from_parts(head.as_owned_parts(), ());
        let sent = self.respond.send_response(answer, end);
        self.answer = Some(sent.or_err(ErrorType::WriteError, "while beginning an answer")?);
        self.head = Some(head);
        self.ended = end;
        Ok(())
    }

    async fn send(&mut self, data: Bytes, end: bool) -> Result<()> {
        if !data.is_empty() && !self.ended {
            let Some(answer) = &mut self.answer else {
                return Err(Error::explain(ErrorType::H2Error, "a body without a head"));
            };
            let length = data.len();
            // Without the end, which may be trailers.
            let sending = v2::write_body(answer, data, false, None);
            let sent = match self.write_timeout {
                Some(limit) => timeout(limit, sending)
                    .await
                    .or_err(ErrorType::WriteTimedout, "the client takes no more of the answer")?,
                None => sending.await,
            };
            sent?;
            self.sent += length;
        }
        if end { self.end() } else { Ok(()) }
    }

    /// The answer is whole. Nothing to do if that was said, or there is none.
    fn end(&mut self) -> Result<()> {
        let Some(answer) = self.answer.as_mut().filter(|_| !self.ended) else {
            return Ok(());
        };
        let trailers = self.accepted.exchange.trailers();
        let ended = match trailers.and_then(|trailers| trailers.fields_for_client()) {
            Some(fields) => answer.send_trailers(fields),
            None => answer.send_data(Bytes::new(), true),
        };
        ended.or_err(ErrorType::WriteError, "while ending an answer")?;
        self.ended = true;
        Ok(())
    }

    /// Returns once the client has reset the stream.
    async fn reset(&mut self) -> Result<Reason> {
        let reset = std::future::poll_fn(|cx| match &mut self.answer {
            Some(answer) => answer.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        reset.await.or_err(ErrorType::H2Error, "while the client is waited for")
    }
}

#[async_trait]
impl Served for Session {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.is_read() {
            return self.read().await;
        }
        let reason = self.reset().await?;
        Error::e_explain(ErrorType::H2Error, format!("the client reset the stream: {reason}"))
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_read() {
            return Ok(());
        }
        match self.drain_timeout {
            Some(limit) => timeout(limit, self.drain())
                .await
                .or_err(ErrorType::ReadTimedout, "while a body is drained")?,
            None => self.drain().await,
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.is_read()
    }

    fn is_body_empty(&mut self) -> bool {
        self.states_no_body()
    }

    fn enable_retry_buffering(&mut self) {
        self.kept.get_or_insert_with(|| FixedBuffer::new(KEPT));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.kept.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.kept.as_ref().filter(|kept| !kept.is_truncated())?.get_buffer()
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.begin_answer(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.begin_answer(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.send(data, end).await
    }

    /// Those that an instance sends are with what the request carries; the library knows of none.
    async fn write_trailers(&mut self, _fields: HeaderMap) -> Result<()> {
        self.end()
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended |= match task {
                HttpTask::Header(head, end) => {
                    self.begin_answer(head, end).map_err(Error::into_down)?;
                    end
                }
                HttpTask::Body(data, end) => {
                    let data = data.unwrap_or_default();
                    self.send(data, false).await.map_err(Error::into_down)?;
                    end
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "a tunnel on a stream of HTTP/2");
                }
                HttpTask::Trailer(_) | HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if ended {
            self.end().map_err(Error::into_down)?;
        }
        Ok(ended)
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        if !self.ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.head.as_deref()
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.received
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    /// Without the target, which may hold a key.
    fn request_summary(&self) -> String {
        self.request.method.to_string()
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    /// For what the edge asks again by itself while it answers from the cache; the library reads it as HTTP/1.1.
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        let mut request = self.request.clone();
        request.set_version(Version::HTTP_11);
        // Empty only for a target that was refused when the stream began.
        http_req_header_to_wire(&request).unwrap_or_default().freeze()
    }

    // There is nothing on a stream beside the request and the answer.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
