//! What a connection and the request on it tell each other.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::trailers::Trailers;

const FORWARDING: u8 = 1;
const TUNNEL: u8 = 2;
const SLOW: u8 = 4;
const MALFORMED: u8 = 8;
const SUBSTITUTED: u8 = 16;
const TRAILERS: u8 = 32;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It came too slowly.
    Slow,
    /// Its chunks are malformed.
    Malformed,
}

/// The state of the request that is on a connection. All on one task, so no order between threads matters.
#[derive(Debug, Default)]
pub struct Exchange {
    flags: AtomicU8,
    trailers: Mutex<Option<Arc<Trailers>>>,
}

impl Exchange {
    /// The next request.
    pub(super) fn begin(&self) {
        self.flags.store(0, Ordering::Relaxed);
    }

    fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::Relaxed);
    }

    fn is(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// The forwarding path has the request: what is written from now on is ours.
    pub fn head_accepted(&self) {
        self.set(FORWARDING);
    }

    pub(super) fn is_forwarding(&self) -> bool {
        self.is(FORWARDING)
    }

    /// The trailers of the request and of its answer are passed on.
    pub fn carry(&self, trailers: Arc<Trailers>) {
        *self.trailers.lock().unwrap_or_else(PoisonError::into_inner) = Some(trailers);
        self.set(TRAILERS);
    }

    /// Those that are passed on.
    pub(crate) fn trailers(&self) -> Option<Arc<Trailers>> {
        if !self.is(TRAILERS) {
            return None;
        }
        self.trailers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection becomes a tunnel: there are no requests on it any more.
    pub fn becomes_tunnel(&self) {
        self.set(TUNNEL);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is(TUNNEL)
    }

    /// The forwarding library answered by itself, and our answer was sent in its place.
    pub(super) fn substituted(&self) {
        self.set(SUBSTITUTED);
    }

    pub(super) fn was_substituted(&self) -> bool {
        self.is(SUBSTITUTED)
    }

    pub(crate) fn body_failed(&self, fault: BodyFault) {
        self.set(match fault {
            BodyFault::Slow => SLOW,
            BodyFault::Malformed => MALFORMED,
        });
    }

    /// Why the body could not be read, if that was so.
    pub fn body_fault(&self) -> Option<BodyFault> {
        if self.is(SLOW) {
            return Some(BodyFault::Slow);
        }
        self.is(MALFORMED).then_some(BodyFault::Malformed)
    }
}
