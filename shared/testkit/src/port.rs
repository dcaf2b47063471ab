//! Free TCP ports on the loopback interface.
//!
//! A port that was free a moment ago can be taken before its server binds it, so whoever uses one retries with another. To
//! make that rare, ports come from below the range that the kernel gives to outgoing connections, and this process
//! never hands out the same one twice.

use std::collections::{BTreeSet, hash_map::RandomState};
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// Linux gives out 32768–60999 by itself and macOS 49152–65535; below 15000 well-known servers live.
const RANGE: std::ops::Range<u16> = 15_000..32_000;
const TRIES: u32 = 200;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that nothing listens on right now.
///
/// # Errors
/// [`Error::NoFreePort`] when 200 random ones are all taken.
pub fn free() -> Result<u16, Error> {
    for _ in 0..TRIES {
        // Every `RandomState` is keyed anew by the standard library: enough to keep parallel test processes apart.
        let random = RandomState::new().build_hasher().finish();
        let span = u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(random % span).unwrap_or(0);
        if is_free(port) && HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
    Err(Error::NoFreePort { tries: TRIES })
}

/// Whether nothing listens on this port of 127.0.0.1 right now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
