//! The fence between two writers that race: a fill, which brings what a source said a moment ago, and the feed, which
//! brings what is.
//!
//! The names of each kind share 65,536 stretches of the fence by bits of theirs that are uniform. A change raises a global
//! count and leaves it at its stretch; a fill notes the count before it reads. If the stretch moved after that, what was
//! read may be older than the change and is not kept. The fence is never evicted, so this holds whatever the caches around
//! it forget. Entries are written under the lock of their stretch only. About 5 MiB in all. Hosts are few and change seldom:
//! they share 4,096 stretches.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use super::entry::AppSlot;

const STRETCHES: usize = 1 << 16;
const HOST_STRETCHES: usize = 1 << 12;

/// What a fill notes before it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    moves: u64,
    /// Generation of the feed at that time.
    pub(super) generation: u32,
    /// Wall time, milliseconds since the Unix epoch.
    pub(super) at_ms: i64,
}

/// One stretch; `payload` is what the lock guards besides the count.
#[derive(Debug, Default)]
pub(super) struct Stretch<P> {
    moved: u64,
    changed_ms: i64,
    pub(super) payload: P,
}

impl<P> Stretch<P> {
    /// Did a change pass here after the ticket was drawn?
    pub(super) fn moved_since(&self, ticket: &Ticket) -> bool {
        self.moved > ticket.moves
    }

    /// Wall time of the last change that passed here.
    pub(super) fn changed_ms(&self) -> i64 {
        self.changed_ms
    }
}

/// Slots of the applications of one stretch, so that a change reaches the slot as long as anything holds it, whatever the
/// cache of applications has evicted.
///
/// The id stands beside each, so that only the slot that is meant is touched: loading a million keys goes through here a
/// million times, and spent a fifth of its time on neighbours.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<(ApplicationId, Weak<AppSlot>)>);

impl Slots {
    pub(super) fn find(&self, id: &ApplicationId) -> Option<Arc<AppSlot>> {
        // Of an application that went and came back, the slot that died may still stand here.
        let mut of_it = self.0.iter().filter(|(named, _)| named == id);
        of_it.find_map(|(_, slot)| slot.upgrade())
    }

    pub(super) fn add(&mut self, slot: &Arc<AppSlot>) {
        self.0.retain(|(_, held)| held.strong_count() > 0);
        self.0.push((slot.id(), Arc::downgrade(slot)));
    }
}

#[derive(Debug)]
pub(super) struct Fence {
    moves: AtomicU64,
    keys: Box<[Mutex<Stretch<()>>]>,
    apps: Box<[Mutex<Stretch<Slots>>]>,
    hosts: Box<[Mutex<Stretch<()>>]>,
}

impl Fence {
    pub(super) fn new() -> Self {
        Self {
            moves: AtomicU64::new(0),
            keys: (0..STRETCHES).map(|_| Mutex::default()).collect(),
            apps: (0..STRETCHES).map(|_| Mutex::default()).collect(),
            hosts: (0..HOST_STRETCHES).map(|_| Mutex::default()).collect(),
        }
    }

    /// To be drawn before the first byte is read from a source.
    pub(super) fn ticket(&self, generation: u32, at_ms: i64) -> Ticket {
        Ticket {
            moves: self.moves.load(Ordering::SeqCst),
            generation,
            at_ms,
        }
    }

    pub(super) fn key(&self, digest: &Digest) -> MutexGuard<'_, Stretch<()>> {
        lock(&self.keys, digest.leading_bits())
    }

    /// The last 16 bits of a UUIDv7 are random.
    pub(super) fn app(&self, id: &ApplicationId) -> MutexGuard<'_, Stretch<Slots>> {
        let [.., high, low] = *id.uuid().as_bytes();
        lock(&self.apps, u64::from(u16::from_be_bytes([high, low])))
    }

    /// Names that a stranger aims at one stretch only make each other wait; what is held does not depend on it.
    pub(super) fn host(&self, host: &str) -> MutexGuard<'_, Stretch<()>> {
        let mut hasher = DefaultHasher::new();
        hasher.write(host.as_bytes());
        lock(&self.hosts, hasher.finish())
    }

    /// A change passes. The count is raised under the lock of the stretch: a ticket that shows it was drawn after the lock
    /// was taken, so its reading began after the change was known here.
    pub(super) fn change<P>(&self, stretch: &mut Stretch<P>, now_ms: i64) {
        stretch.moved = self.moves.fetch_add(1, Ordering::SeqCst) + 1;
        stretch.changed_ms = now_ms;
    }
}

fn lock<P>(stretches: &[Mutex<Stretch<P>>], bits: u64) -> MutexGuard<'_, Stretch<P>> {
    let index = usize::try_from(bits % stretches.len() as u64).unwrap_or(0);
    // Nothing that is done under this lock leaves the stretch half written, so a panic elsewhere does not spoil it.
    stretches[index].lock().unwrap_or_else(PoisonError::into_inner)
}
