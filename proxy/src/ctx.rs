//! What is known of one request on its way through the edge.

use std::sync::Arc;
use std::time::Instant;

use authsome_core::id::{ApplicationId, IdText, RequestId};
use authsome_core::key::KeyType;
use http::HeaderValue;
use pingora::Error;
use pingora::upstreams::peer::HttpPeer;

use crate::abandoned::Unsettled;
use crate::admission::Admission;
use crate::cache::Part;
use crate::drain::Entered;
use crate::error::Refusal;
use crate::filter::client_address::Client;
use crate::filter::cors::Grant;
use crate::filter::credential::Places;
use crate::limit::{Occupied, Standing};
use crate::listener::Accepted;
use crate::live::Listing;
use crate::routing::AppEntry;
use crate::trace::Timeline;
use crate::trailers::Trailers;
use crate::upstream::{Call, Prepared, Replay, Upstreams, Way};

/// Grows as the request passes the phases.
#[derive(Debug)]
pub struct Ctx {
    /// Made here, for every request.
    pub request_id: RequestId,
    /// The same as text: it is said to the instance and to the client.
    pub request_id_text: IdText,
    /// When the head was complete.
    pub began: Instant,
    /// The same in milliseconds since the Unix epoch.
    pub began_ms: i64,
    /// The connection.
    pub accepted: Option<Arc<Accepted>>,
    /// Keeps the connection on the list of those that are closed with their key.
    pub listing: Option<Listing>,
    /// Counts the request until it is over.
    pub entered: Entered,
    /// A question to the edge itself (`/health`), which is not a request of anybody's application.
    pub is_probe: bool,
    /// Where it comes from.
    pub client: Client,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: &'static str,
    /// The application that the path names.
    pub app_id: Option<ApplicationId>,
    /// The application, once an answer may show that it is known.
    pub app: Option<Arc<AppEntry>>,
    /// Is the host the application's own, so that nothing of an answer is rewritten?
    pub own_host: bool,
    /// What browsers are told.
    pub cors: Grant,
    /// For the access log.
    pub path: String,
    /// Bytes of the head as received.
    pub head_bytes: usize,
    /// Why the edge answered by itself.
    pub refusal: Option<Refusal>,
    /// What failed, as the forwarding library names it.
    pub failure: Option<&'static str>,
    /// Keeps the request in the count of those under way, unless it became a stream.
    pub occupied: Option<Occupied>,
    /// Where its caller stands with its limit.
    pub standing: Option<Standing>,
    /// Where its time goes.
    pub timeline: Timeline,
    /// Counts and logs the request should its stream be taken away before its last phase.
    pub(crate) unsettled: Option<Box<Unsettled>>,
    /// Set once the request is to be forwarded.
    pub forward: Option<Forwarding>,
    /// What the cache may do with it.
    pub part: Option<Part>,
    /// The edge itself asks again for what it serves from the cache meanwhile; nobody's request.
    pub in_background: bool,
}

impl Ctx {
    /// That moment, not before the request began, in milliseconds since the Unix epoch: without asking the clock again.
    pub(crate) fn unix_ms_at(&self, moment: Instant) -> i64 {
        let after = moment.saturating_duration_since(self.began).as_millis();
        // 292 million years.
        self.began_ms.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
    }

    /// The request was counted and logged. Before the connection can carry the next one, of another key perhaps.
    pub(crate) fn is_over(&mut self) {
        self.unsettled = None;
        self.listing = None;
    }
}

/// A request that was let through.
#[derive(Debug)]
pub struct Forwarding {
    /// As whom.
    pub admission: Admission,
    /// The request target for the instance.
    pub target: String,
    /// Where the keys stood, which are not for the instance.
    pub keys_in: Places,
    /// The key among the offered subprotocols, to be chosen if the instance chooses none of the others.
    pub subprotocol: Option<HeaderValue>,
    /// Its way to an instance.
    pub way: Way,
    /// Why the instance was not asked.
    pub refusal: Option<Refusal>,
    /// The most that its body may have.
    pub most_body_bytes: u64,
    /// Bytes of the body so far.
    pub body_bytes: u64,
}

impl Forwarding {
    /// What was prepared for the application. It always was: nothing is forwarded before.
    pub fn prepared(&self) -> Option<&Prepared> {
        self.admission.app.prepared.get()
    }

    /// The path relative to the application.
    pub fn tail(&self) -> &str {
        let end = memchr::memchr(b'?', self.target.as_bytes()).unwrap_or(self.target.len());
        let path = self.target.get(..end).unwrap_or_default();
        path.strip_prefix(&*self.admission.app.record.base_path).unwrap_or(path)
    }

    /// Counts the request in, if that was not done before.
    pub async fn open_way(&mut self, upstreams: &Upstreams) -> Result<(), Refusal> {
        let prepared = self.admission.app.prepared.get().ok_or(Refusal::Internal)?;
        self.way.open(upstreams, prepared).await
    }

    /// Trailers are passed on, where that can be.
    pub fn carry(&mut self, trailers: Arc<Trailers>) {
        self.way.carry(trailers);
    }

    /// Where the next attempt goes, if at this moment there is an endpoint and time.
    pub fn next_call(&mut self, upstreams: &Upstreams, now: Instant) -> Option<Call> {
        self.way.call(upstreams, self.admission.app.prepared.get()?, now)
    }

    /// The connection for the next attempt, if there is an endpoint and time.
    pub fn next_peer(&mut self, upstreams: &Upstreams) -> Option<HttpPeer> {
        self.way.next(upstreams, self.admission.app.prepared.get()?)
    }

    /// The answer may go on for hours. False if the application has as many of those as it may.
    pub fn becomes_stream(&mut self, upstreams: &Upstreams) -> bool {
        let prepared = self.admission.app.prepared.get();
        prepared.is_some_and(|prepared| self.way.becomes_stream(upstreams, prepared))
    }

    /// The instance answers with this status.
    pub fn answered(&mut self, upstreams: &Upstreams, status: u16) {
        if let Some(prepared) = self.admission.app.prepared.get() {
            self.way.answered(upstreams, prepared, status);
        }
    }

    /// No connection was made. Is there to be another attempt?
    pub fn not_connected(&mut self, upstreams: &Upstreams, error: &Error, replay: Replay) -> bool {
        let prepared = self.admission.app.prepared.get();
        prepared.is_some_and(|prepared| self.way.not_connected(upstreams, prepared, error, replay))
    }

    /// The attempt failed after a connection was made. Is there to be another?
    pub fn broken(&mut self, upstreams: &Upstreams, error: &Error, reused: bool, replay: Replay) -> bool {
        let prepared = self.admission.app.prepared.get();
        prepared.is_some_and(|prepared| self.way.broken(upstreams, prepared, error, reused, replay))
    }

    /// The type of the key that counts.
    pub fn key_type(&self) -> Option<KeyType> {
        self.admission.key.as_ref().map(|key| key.record.key_type)
    }
}
