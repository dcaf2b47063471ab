//! Idle connections to instances, by application, endpoint and TLS identity.
//!
//! Each thread has a shelf of its own, so that its lock is hardly ever waited for; a thread whose shelf has nothing looks at
//! the others' before it connects. A shelf is bounded: what was idle for the longest makes room. Connections that were idle
//! for too long, that the instance has closed, or over which it said something that nobody asked for are never handed out, and
//! a sweep every second closes them. Nothing here waits.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::desk::Desk;
use crate::upstream::TlsIdentity;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// Desks that a thread keeps for the next requests.
const DESKS: usize = 64;

/// Whose connection it is.
#[derive(Clone)]
pub(super) struct Owner {
    /// The application.
    pub(super) group_key: u64,
    /// The endpoint.
    pub(super) address: SocketAddr,
    /// The name of the instance's certificate, and whom the edge trusts and appears as; `None` is plain TCP.
    pub(super) tls: Option<(Arc<str>, Arc<TlsIdentity>)>,
}

impl Owner {
    fn is(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some((name, identity)), Some((other, others))) => name == other && Arc::ptr_eq(identity, others),
            _ => false,
        };
        self.group_key == other.group_key && self.address == other.address && same_tls
    }

    /// The application's part is random already.
    fn hash(&self) -> u64 {
        let address = match self.address {
            SocketAddr::V4(four) => u64::from(four.ip().to_bits()),
            SocketAddr::V6(six) => {
                let bits = six.ip().to_bits();
                // Both halves count; losing what is above 64 bits is the purpose.
                #[expect(clippy::cast_possible_truncation, reason = "a hash")]
                let folded = (bits >> 64) as u64 ^ bits as u64;
                folded
            }
        };
        let port = u64::from(self.address.port()) << 48;
        self.group_key ^ (address ^ port).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// All shelves.
pub(super) struct Pool {
    shelves: Box<[Mutex<Shelf>]>,
    /// Of one shelf.
    bound: usize,
    idle: Duration,
    sweeps: AtomicBool,
}

impl Pool {
    /// One shelf for each of `threads`, each for at most `bound` connections that are idle for at most `idle`.
    pub(super) fn new(threads: usize, bound: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            shelves: (0..threads.max(1)).map(|_| Mutex::default()).collect(),
            bound: bound.max(1),
            idle,
            sweeps: AtomicBool::new(false),
        })
    }

    /// A connection that can be used now.
    pub(super) fn take(&self, owner: &Owner, now: Instant) -> Option<Connection> {
        let own = self.own_shelf();
        let others = (1..self.shelves.len()).map(|step| (own + step) % self.shelves.len());
        for place in std::iter::once(own).chain(others) {
            // Somebody else's shelf that is in use is not waited for.
            let mut shelf = if place == own {
                lock(&self.shelves[place])
            } else {
                match self.shelves[place].try_lock() {
                    Ok(shelf) => shelf,
                    Err(_) => continue,
                }
            };
            while let Some(mut idle) = shelf.take(owner) {
                if now.duration_since(idle.since) < self.idle && idle.connection.is_quiet() {
                    return Some(idle.connection);
                }
            }
        }
        None
    }

    /// Keeps a connection, which is idle from then on, for the next request.
    pub(super) fn put(self: &Arc<Self>, owner: Owner, connection: Connection, since: Instant) {
        if !self.sweeps.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        let idle = Idle {
            owner,
            connection,
            since,
        };
        // Dropped behind the lock: closing takes a system call.
        let _surplus = lock(&self.shelves[self.own_shelf()]).put(idle, self.bound);
    }

    /// Space to work with.
    pub(super) fn desk(&self) -> Box<Desk> {
        lock(&self.shelves[self.own_shelf()]).desks.pop().unwrap_or_default()
    }

    /// Keeps the space for the next request.
    pub(super) fn give_back(&self, mut desk: Box<Desk>) {
        if !desk.tidy() {
            return;
        }
        let mut shelf = lock(&self.shelves[self.own_shelf()]);
        if shelf.desks.len() < DESKS {
            shelf.desks.push(desk);
        }
    }

    /// How many connections are idle.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.shelves.iter().map(|shelf| lock(shelf).count).sum()
    }

    fn own_shelf(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|number| number % self.shelves.len())
    }

    fn sweep(&self) {
        let now = Instant::now();
        for shelf in &self.shelves {
            let gone = lock(shelf).sweep(|idle| now.duration_since(idle.since) >= self.idle);
            drop(gone);
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep();
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    // Every change is whole before anything can panic.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Idle {
    owner: Owner,
    connection: Connection,
    since: Instant,
}

/// The connections of one thread: those of one owner in a row, the last one used at its end, and all of them in the order in
/// which they became idle.
#[derive(Default)]
struct Shelf {
    by_owner: HashMap<u64, Vec<usize>, BuildHasherDefault<Already>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Ends of the list: idle for the longest, and for the shortest.
    oldest: Option<usize>,
    newest: Option<usize>,
    count: usize,
    #[expect(clippy::vec_box, reason = "a desk changes hands four times a request")]
    desks: Vec<Box<Desk>>,
}

#[derive(Default)]
struct Slot {
    idle: Option<Idle>,
    older: Option<usize>,
    newer: Option<usize>,
}

impl Shelf {
    fn put(&mut self, idle: Idle, bound: usize) -> Option<Idle> {
        let surplus = if self.count >= bound { self.oldest } else { None };
        let surplus = surplus.and_then(|oldest| self.remove(oldest));
        let hash = idle.owner.hash();
        let slot = Slot {
            idle: Some(idle),
            older: self.newest,
            newer: None,
        };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at] = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        match self.newest.replace(at) {
            Some(before) => self.slots[before].newer = Some(at),
            None => self.oldest = Some(at),
        }
        self.by_owner.entry(hash).or_default().push(at);
        self.count += 1;
        surplus
    }

    /// The one that was used last.
    fn take(&mut self, owner: &Owner) -> Option<Idle> {
        let row = self.by_owner.get(&owner.hash())?;
        let at = row.iter().rev().copied().find(|at| {
            let idle = self.slots[*at].idle.as_ref();
            idle.is_some_and(|idle| idle.owner.is(owner))
        })?;
        self.remove(at)
    }

    fn remove(&mut self, at: usize) -> Option<Idle> {
        let slot = std::mem::take(&mut self.slots[at]);
        let idle = slot.idle?;
        match slot.older {
            Some(older) => self.slots[older].newer = slot.newer,
            None => self.oldest = slot.newer,
        }
        match slot.newer {
            Some(newer) => self.slots[newer].older = slot.older,
            None => self.newest = slot.older,
        }
        self.free.push(at);
        self.count -= 1;
        let hash = idle.owner.hash();
        if let Some(row) = self.by_owner.get_mut(&hash)
            && let Some(place) = row.iter().rposition(|other| *other == at)
        {
            row.remove(place);
        }
        Some(idle)
    }

    /// Takes out those that are too old or no longer quiet, and forgets owners that have none.
    fn sweep(&mut self, is_old: impl Fn(&Idle) -> bool) -> Vec<Idle> {
        let mut gone = Vec::new();
        for at in 0..self.slots.len() {
            let stays = match &mut self.slots[at].idle {
                Some(idle) => !is_old(idle) && idle.connection.is_quiet(),
                None => true,
            };
            if !stays {
                gone.extend(self.remove(at));
            }
        }
        self.by_owner.retain(|_, row| !row.is_empty());
        gone
    }
}

/// What is hashed is a hash.
#[derive(Debug, Default, Clone, Copy)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    struct Instance {
        listener: TcpListener,
        address: SocketAddr,
    }

    impl Instance {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            Self { listener, address }
        }

        fn owner(&self, group_key: u64) -> Owner {
            Owner {
                group_key,
                address: self.address,
                tls: None,
            }
        }

        /// Both ends.
        async fn connect(&self) -> (TcpStream, Connection, u16) {
            let (ours, theirs) = tokio::join!(TcpStream::connect(self.address), self.listener.accept());
            let ours = ours.unwrap();
            let port = ours.local_addr().unwrap().port();
            (theirs.unwrap().0, Connection::Plain(ours), port)
        }
    }

    fn port(connection: &Connection) -> u16 {
        match connection {
            Connection::Plain(stream) => stream.local_addr().unwrap().port(),
            Connection::Tls(_) => 0,
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_by_its_owner_only_and_the_latest_first() {
        let instance = Instance::start().await;
        let pool = Pool::new(2, 8, Duration::from_mins(1));
        let (_first, one, _) = instance.connect().await;
        let (_second, other, latest) = instance.connect().await;
        pool.put(instance.owner(1), one, Instant::now());
        pool.put(instance.owner(1), other, Instant::now());
        assert!(pool.take(&instance.owner(2), Instant::now()).is_none());
        let identity = Arc::new(TlsIdentity::default());
        let secure = Owner {
            tls: Some(("instance.test".into(), identity)),
            ..instance.owner(1)
        };
        assert!(pool.take(&secure, Instant::now()).is_none());
        assert_eq!(port(&pool.take(&instance.owner(1), Instant::now()).unwrap()), latest);
        assert!(pool.take(&instance.owner(1), Instant::now()).is_some());
        assert!(pool.take(&instance.owner(1), Instant::now()).is_none());
    }

    #[tokio::test]
    async fn a_thread_without_connections_uses_those_of_the_others() {
        let instance = Instance::start().await;
        let pool = Pool::new(3, 8, Duration::from_mins(1));
        let (_theirs, ours, _) = instance.connect().await;
        pool.put(instance.owner(1), ours, Instant::now());
        let taken = std::thread::scope(|scope| {
            let taken = scope.spawn(|| pool.take(&instance.owner(1), Instant::now()).is_some());
            taken.join().unwrap()
        });
        assert!(taken);
    }

    #[tokio::test]
    async fn what_was_closed_or_spoke_unasked_is_not_handed_out() {
        let instance = Instance::start().await;
        let pool = Pool::new(1, 8, Duration::from_mins(1));
        let (theirs, closed, _) = instance.connect().await;
        drop(theirs);
        let (mut theirs, spoke, _) = instance.connect().await;
        theirs.write_all(b"HTTP/1.1 408").await.unwrap();
        for connection in [&closed, &spoke] {
            let Connection::Plain(stream) = connection else {
                panic!()
            };
            stream.readable().await.unwrap();
        }
        pool.put(instance.owner(1), closed, Instant::now());
        pool.put(instance.owner(1), spoke, Instant::now());
        assert!(pool.take(&instance.owner(1), Instant::now()).is_none());
        assert_eq!(pool.count(), 0);
    }

    #[tokio::test]
    async fn a_sweep_closes_what_is_old_or_dead_and_keeps_the_rest() {
        let instance = Instance::start().await;
        let pool = Pool::new(1, 8, Duration::from_mins(1));
        let (theirs, closed, _) = instance.connect().await;
        let (_open, open, _) = instance.connect().await;
        let Connection::Plain(stream) = &closed else { panic!() };
        drop(theirs);
        stream.readable().await.unwrap();
        pool.put(instance.owner(1), closed, Instant::now());
        pool.put(instance.owner(2), open, Instant::now());
        pool.sweep();
        assert_eq!(pool.count(), 1);
        let hasty = Pool::new(1, 8, Duration::ZERO);
        let (_theirs, ours, _) = instance.connect().await;
        hasty.put(instance.owner(1), ours, Instant::now());
        assert!(hasty.take(&instance.owner(1), Instant::now()).is_none());
        let (_theirs, ours, _) = instance.connect().await;
        hasty.put(instance.owner(1), ours, Instant::now());
        hasty.sweep();
        assert_eq!((hasty.count(), lock(&hasty.shelves[0]).by_owner.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_full_shelf_gives_up_what_was_idle_for_the_longest() {
        let instance = Instance::start().await;
        let pool = Pool::new(1, 3, Duration::from_mins(1));
        let mut theirs = Vec::new();
        for owner in 0..6 {
            let (their, ours, _) = instance.connect().await;
            theirs.push(their);
            pool.put(instance.owner(owner), ours, Instant::now());
        }
        assert_eq!(pool.count(), 3);
        let kept: Vec<u64> = (0..6)
            .filter(|owner| pool.take(&instance.owner(*owner), Instant::now()).is_some())
            .collect();
        assert_eq!(kept, [3, 4, 5]);
        assert!(lock(&pool.shelves[0]).slots.len() <= 4, "slots are used again");
    }
}
