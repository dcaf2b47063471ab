//! One counter: an application's hour at one writer. 64 bytes of atomics, so that any bytes are a valid cell, two cells never
//! share a cache line, and a cell is the same in a mapped file and in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use authsome_contract::wire::UsageCounter;
use authsome_core::id::ApplicationId;
use uuid::Uuid;

/// Bytes of a cell, in memory and in the file.
pub(super) const CELL: usize = 64;

/// What is added for one or more requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were admitted.
    pub requests: u64,
    /// Of those, answered with 5xx.
    pub errors: u64,
    /// Bytes of request heads and bodies received.
    pub bytes_in: u64,
    /// Bytes of response heads and bodies sent.
    pub bytes_out: u64,
}

impl Tally {
    /// One admitted request, of which no more is known yet.
    pub const REQUEST: Self = Self {
        requests: 1,
        errors: 0,
        bytes_in: 0,
        bytes_out: 0,
    };

    /// Is every value at least as great?
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.requests >= other.requests
            && self.errors >= other.errors
            && self.bytes_in >= other.bytes_in
            && self.bytes_out >= other.bytes_out
    }

    pub(super) fn counter(&self, application_id: ApplicationId, hour: u32, is_final: bool) -> UsageCounter {
        let Self {
            requests,
            errors,
            bytes_in,
            bytes_out,
        } = *self;
        UsageCounter {
            application_id,
            hour,
            requests,
            errors,
            bytes_in,
            bytes_out,
            is_final,
        }
    }
}

impl From<&UsageCounter> for Tally {
    fn from(counter: &UsageCounter) -> Self {
        let UsageCounter {
            requests,
            errors,
            bytes_in,
            bytes_out,
            ..
        } = *counter;
        Self {
            requests,
            errors,
            bytes_in,
            bytes_out,
        }
    }
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Cell {
    app_high: AtomicU64,
    app_low: AtomicU64,
    /// 0: free. Otherwise the hour, shifted left by one, and a set bit. Written last when a cell is claimed.
    tag: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    reserved: AtomicU64,
}

const _: () = assert!(std::mem::size_of::<Cell>() == CELL);

impl Cell {
    /// Lock-free; four additions at most. The usual request needs one when it is admitted and two at its end.
    pub(super) fn add(&self, tally: Tally) {
        let pairs = [
            (&self.requests, tally.requests),
            (&self.errors, tally.errors),
            (&self.bytes_in, tally.bytes_in),
            (&self.bytes_out, tally.bytes_out),
        ];
        for (counter, more) in pairs {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// Each value is read on its own; each only grows, so the set may be taken at no single instant and is still right.
    pub(super) fn tally(&self) -> Tally {
        Tally {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// Whose it is and of which hour, unless it is free.
    pub(super) fn owner(&self) -> Option<(ApplicationId, u32)> {
        let tag = self.tag.load(Ordering::Acquire);
        if tag & 1 == 0 {
            return None;
        }
        let hour = u32::try_from(tag >> 1).ok()?;
        let uuid = Uuid::from_u64_pair(
            self.app_high.load(Ordering::Relaxed),
            self.app_low.load(Ordering::Relaxed),
        );
        Some((ApplicationId::from_uuid(uuid), hour))
    }

    /// A process killed between any two of these stores leaves a free cell or a claimed one.
    pub(super) fn claim(&self, app: ApplicationId, hour: u32) {
        for value in [&self.requests, &self.errors, &self.bytes_in, &self.bytes_out] {
            value.store(0, Ordering::Relaxed);
        }
        let (high, low) = app.uuid().as_u64_pair();
        self.app_high.store(high, Ordering::Relaxed);
        self.app_low.store(low, Ordering::Relaxed);
        self.tag.store(u64::from(hour) << 1 | 1, Ordering::Release);
    }

    pub(super) fn free(&self) {
        self.tag.store(0, Ordering::Release);
    }

    /// From the bytes of a predecessor's file.
    pub(super) fn read(bytes: &[u8; CELL]) -> Self {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
            AtomicU64::new(u64::from_ne_bytes(word))
        };
        Self {
            app_high: word(0),
            app_low: word(1),
            tag: word(2),
            requests: word(3),
            errors: word(4),
            bytes_in: word(5),
            bytes_out: word(6),
            reserved: word(7),
        }
    }
}
