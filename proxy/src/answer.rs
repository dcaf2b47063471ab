//! Answers that the edge gives by itself.
//!
//! Owns how they are written and what happens to the connection: it is kept where the next request on it can be found for
//! certain, and otherwise closed in a way that lets the client read the answer first.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::error::Refusal;
use crate::filter::cors;
use crate::filter::headers::{Identity, identify};

/// A refused body up to this length is read to its end, and the connection kept.
const DRAINED: u64 = 64 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Of a longer body so much is read before the connection is closed: a close with unread bytes resets the connection, and
/// the reset can overtake the answer.
const LINGERED: usize = 1024 * 1024;

const RETRY_AFTER: HeaderName = header::RETRY_AFTER;

/// Whether the connection can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// If its next request can be found for certain.
    Keep,
    /// Not in any case: the head was such that nobody knows where its body ends.
    Close,
}

/// Writes a refusal as the platform's error envelope.
pub async fn refuse(
    session: &mut Session,
    refusal: Refusal,
    identity: &Identity<'_>,
    connection: Connection,
) -> Result<()> {
    let body = refusal.body(&identity.request_id.text());
    let mut head = ResponseHeader::build_no_case(refusal.status(), Some(10))?;
    if let Some(seconds) = refusal.retry_after() {
        head.insert_header(RETRY_AFTER, seconds)?;
    }
    if refusal.asks_for_credential() {
        head.insert_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))?;
    }
    identify(&mut head, identity);
    write(session, head, Bytes::from(body), connection).await
}

/// Tells a browser what it may send.
pub async fn preflight(session: &mut Session, identity: &Identity<'_>) -> Result<()> {
    let mut head = ResponseHeader::build_no_case(StatusCode::NO_CONTENT, Some(12))?;
    cors::answer_preflight(&mut head, &session.req_header().headers);
    identify(&mut head, identity);
    end(session, head, None, Connection::Keep).await
}

/// Writes a JSON answer.
pub async fn write(session: &mut Session, mut head: ResponseHeader, body: Bytes, connection: Connection) -> Result<()> {
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    end(session, head, Some(body), connection).await
}

async fn end(session: &mut Session, head: ResponseHeader, body: Option<Bytes>, connection: Connection) -> Result<()> {
    let unread = !session.as_downstream_mut().is_body_done();
    let close = connection == Connection::Close || (unread && !is_drainable(session));
    if close {
        session.set_keepalive(None);
    } else if unread {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(DRAIN_TIME));
    }
    let body = body.filter(|_| session.req_header().method != Method::HEAD);
    session.write_response_header(Box::new(head), body.is_none()).await?;
    if body.is_some() {
        session.write_response_body(body, true).await?;
    }
    if close && unread && !expects_continue(session) {
        linger(session).await;
    }
    Ok(())
}

/// Is the rest of the body known to be short, and on its way?
fn is_drainable(session: &Session) -> bool {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length <= DRAINED) && !expects_continue(session)
}

/// A client that waits for `100 Continue` sends no body after another answer.
fn expects_continue(session: &Session) -> bool {
    session.req_header().headers.contains_key(header::EXPECT)
}

async fn linger(session: &mut Session) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(part)) = session.as_downstream_mut().read_request_body().await {
            bytes += part.len();
            if bytes > LINGERED {
                break;
            }
        }
    };
    // However it ends, the connection is closed now.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}
