//! What is known of one request on its way through the edge.

use std::sync::Arc;
use std::time::Instant;

use authsome_core::id::{ApplicationId, RequestId};
use authsome_core::key::KeyType;

use crate::abandoned::Unsettled;
use crate::admission::Admission;
use crate::cache::Part;
use crate::drain::Entered;
use crate::error::Refusal;
use crate::filter::client_address::Client;
use crate::listener::Accepted;
use crate::live::Listing;
use crate::upstream::Prepared;

/// Grows as the request passes the phases.
#[derive(Debug)]
pub struct Ctx {
    /// Made here, for every request.
    pub request_id: RequestId,
    /// When the head was complete.
    pub began: Instant,
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
    /// For the access log.
    pub path: String,
    /// Bytes of the head as received.
    pub head_bytes: usize,
    /// Why the edge answered by itself.
    pub refusal: Option<Refusal>,
    /// What failed, as the forwarding library names it.
    pub failure: Option<&'static str>,
    /// Counts and logs the request should its stream be taken away before its last phase.
    pub(crate) unsettled: Option<Box<Unsettled>>,
    /// Set once the request is to be forwarded.
    pub forward: Option<Forwarding>,
    /// What the cache may do with it.
    pub part: Option<Part>,
    /// The edge itself asks again for what it serves from the cache meanwhile; nobody's request.
    pub in_background: bool,
}

/// A request that was let through.
#[derive(Debug)]
pub struct Forwarding {
    /// As whom.
    pub admission: Admission,
    /// The request target for the instance.
    pub target: String,
    /// Does `Authorization` hold a key of the platform?
    pub key_in_authorization: bool,
    /// May the answer be silent for long?
    pub streaming: bool,
    /// Where among the instances the tries begin.
    pub first: usize,
    /// Connections tried so far.
    pub tries: usize,
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
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_prefix(&*self.admission.app.record.base_path).unwrap_or(path)
    }

    /// The type of the key that counts.
    pub fn key_type(&self) -> Option<KeyType> {
        self.admission.key.as_ref().map(|key| key.record.key_type)
    }
}
