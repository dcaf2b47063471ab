//! Answers that the edge gives by itself.
//!
//! Owns how they are written and what happens to the connection: it is kept where the next request on it can be found for
//! certain, and otherwise closed in a way that lets the client read the answer first.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::error::Refusal;
use crate::filter::cors;
use crate::filter::headers::{Identity, identify};
use crate::filter::lines::{Fields, Lines};
use crate::filter::name;

/// A refused body up to this length is read to its end, and the connection kept.
const DRAINED: u64 = 64 * 1024;
/// How long that may take.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Of a longer body so much is read before the connection is closed: a close with unread bytes resets the connection, and
/// the reset can overtake the answer.
const LINGERED: usize = 1024 * 1024;

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
    let mut head = ResponseHeader::build_no_case(refusal.status(), Some(10))?;
    let body = of_refusal(&mut head, refusal, identity);
    write(session, head, Bytes::from(body), connection).await
}

/// The head of a refusal but for what [`of_json`] adds; its body.
pub(crate) fn of_refusal(head: &mut impl Lines, refusal: Refusal, identity: &Identity<'_>) -> String {
    if let Some(seconds) = refusal.retry_after() {
        head.say(&name::RETRY_AFTER, itoa::Buffer::new().format(seconds).as_bytes());
    }
    if refusal.asks_for_credential() {
        head.say(&name::WWW_AUTHENTICATE, b"Bearer");
    }
    identify(head, identity);
    refusal.body(identity.request_id)
}

/// The head of the answer to a preflight.
pub(crate) fn of_preflight(head: &mut impl Lines, asked: &impl Fields, identity: &Identity<'_>) {
    identify(head, identity);
    cors::answer_preflight(head, asked);
}

/// What the head of an answer in JSON says of its body.
pub(crate) fn of_json(head: &mut impl Lines, length: usize) {
    head.say(&name::CONTENT_TYPE, b"application/json");
    head.say(&name::CACHE_CONTROL, b"no-store");
    head.say(&name::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
}

/// Tells a browser what it may send.
pub async fn preflight(session: &mut Session, identity: &Identity<'_>) -> Result<()> {
    let mut head = ResponseHeader::build_no_case(StatusCode::NO_CONTENT, Some(12))?;
    of_preflight(&mut head, session.req_header(), identity);
    end(session, head, None, Connection::Keep).await
}

/// Writes a JSON answer.
pub async fn write(session: &mut Session, mut head: ResponseHeader, body: Bytes, connection: Connection) -> Result<()> {
    of_json(&mut head, body.len());
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
