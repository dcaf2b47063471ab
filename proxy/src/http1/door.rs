//! Answers to heads that never become requests.
//!
//! Owns what a client reads whose head is refused before the forwarding library could see it, and sees that it is counted and
//! logged like any other. The connection is always closed after it, in a way that lets the client read the answer first.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::RequestId;
use bytes::BytesMut;
use http::{HeaderValue, StatusCode};
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::date;
use crate::access_log::{AccessLog, Line};
use crate::error::Refusal;
use crate::filter::normalise::BadHead;
use crate::metrics::{self, Metrics};

/// Unread bytes that are read before the connection is closed: a close with unread bytes resets the connection, and the reset
/// can overtake the answer.
const LINGERED: usize = 1024 * 1024;
/// How long writing the answer, and then lingering, may take.
const LINGER: Duration = Duration::from_secs(2);
/// What is shown of a method that is none.
const METHOD_SHOWN: usize = 16;

/// What the answers are made with.
#[derive(Debug)]
pub struct Door {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line for each request.
    pub access_log: AccessLog,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub entropy: Arc<dyn Entropy>,
    /// Where the edge runs.
    pub region: HeaderValue,
}

impl Door {
    /// Answers a head that is refused, and closes. `read`: what came of it.
    pub(super) async fn refuse(&self, mut stream: Stream, read: BytesMut, refusal: Refusal) {
        let began = Instant::now();
        let request_id = RequestId::generate(&*self.clock, &*self.entropy);
        let answer = self.answer(refusal, request_id);
        let peer = peer_of(&stream);
        let sent = tokio::time::timeout(LINGER, async {
            stream.write_all(&answer).await?;
            stream.flush().await
        });
        let sent = matches!(sent.await, Ok(Ok(())));
        self.count(&Refused {
            request_id,
            refusal,
            method: method(&read),
            bytes_in: read.len(),
            bytes_out: if sent { answer.len() } else { 0 },
            answered: sent,
            took: began.elapsed(),
            peer,
        });
        drop(read);
        if sent {
            // However it ends, the connection is closed now.
            let _ = tokio::time::timeout(LINGER, linger(&mut stream)).await;
        }
    }

    /// The whole answer.
    fn answer(&self, refusal: Refusal, request_id: RequestId) -> Vec<u8> {
        let id = request_id.text();
        let body = refusal.body(&id);
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = Vec::with_capacity(512);
        // Writing to a `Vec` cannot fail.
        let _ = write!(
            answer,
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
             Content-Length: {}\r\nConnection: close\r\nX-AuthSome-Request-ID: {id}\r\nX-AuthSome-Region: {}\r\nDate: ",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            body.len(),
            self.region.to_str().unwrap_or_default(),
        );
        date::append(self.clock.unix_millis(), &mut answer);
        answer.extend_from_slice(b"\r\n\r\n");
        answer.extend_from_slice(body.as_bytes());
        answer
    }

    /// What is sent in place of a refusal by the forwarding library. Counted by [`Self::count_last_resort`].
    pub(crate) fn last_resort(&self) -> Vec<u8> {
        let request_id = RequestId::generate(&*self.clock, &*self.entropy);
        self.answer(LAST_RESORT, request_id)
    }

    pub(super) fn count_last_resort(&self) {
        tracing::warn!("a head that the edge accepted was refused by the forwarding library");
        self.metrics.refused(LAST_RESORT);
        self.metrics.answered(Some(LAST_RESORT.status()), Duration::ZERO, 0, 0);
    }

    fn count(&self, refused: &Refused) {
        let status = refused.answered.then(|| refused.refusal.status());
        self.metrics.refused(refused.refusal);
        self.metrics
            .answered(status, refused.took, refused.bytes_in as u64, refused.bytes_out as u64);
        if self.access_log.is_enabled() {
            self.access_log.write(Line {
                request_id: refused.request_id,
                trace_id: None,
                app: None,
                key: None,
                method: refused.method.clone(),
                protocol: "1.1",
                path: String::new(),
                status,
                refusal: Some(metrics::label(refused.refusal)),
                took: refused.took,
                own: refused.took,
                upstream: None,
                bytes_in: refused.bytes_in as u64,
                bytes_out: refused.bytes_out as u64,
                peer: refused.peer,
                tries: 0,
                failure: None,
            });
        }
    }
}

const LAST_RESORT: Refusal = Refusal::Head(BadHead::Syntax);

struct Refused {
    request_id: RequestId,
    refusal: Refusal,
    method: String,
    bytes_in: usize,
    bytes_out: usize,
    answered: bool,
    took: Duration,
    peer: Option<IpAddr>,
}

/// The method for the log, if there is something like one. Nothing else of a head that is refused is shown: a key may stand
/// anywhere in it.
fn method(read: &[u8]) -> String {
    let word = read.split(|b| *b == b' ').next().unwrap_or_default();
    if word.len() <= METHOD_SHOWN && word.iter().all(u8::is_ascii_uppercase) {
        String::from_utf8_lossy(word).into_owned()
    } else {
        String::new()
    }
}

fn peer_of(stream: &Stream) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    Some(digest.peer_addr()?.as_inet()?.ip())
}

async fn linger(stream: &mut Stream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut space = vec![0; 16 * 1024];
    let mut bytes = 0;
    while let Ok(read @ 1..) = stream.read(&mut space).await {
        bytes += read;
        if bytes > LINGERED {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_method_is_shown_of_a_refused_head() {
        assert_eq!(method(b"GET /x HTTP/9"), "GET");
        assert_eq!(method(b"sk_live_abc"), "");
        assert_eq!(method(b"\x16\x03\x01"), "");
        assert_eq!(method(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ /"), "");
    }
}
