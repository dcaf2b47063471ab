//! One limited subject: the word that GCRA reckons with, and the share of the rate that this edge has of it.
//!
//! A cell is made by the first request that needs one and is kept beside the key or the application, through every change of
//! their records. A request costs one compare-and-swap. Nothing here fails or waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use authsome_core::id::{ApplicationId, KeyId};

use super::gcra::{self, Allowance, Moment, Share, Verdict};

/// Whose requests a cell counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Those with this key.
    Key(KeyId),
    /// Those to this application without a key.
    Application(ApplicationId),
}

/// What one subject has sent to this edge.
#[derive(Debug)]
pub struct Cell {
    subject: Subject,
    word: AtomicU64,
    /// A share and until when it is this edge's; [`NO_LEASE`] without one.
    lease: AtomicU64,
    /// Requests, the refused ones too, counted only while `listed`.
    asked: AtomicU64,
    /// Is it among those whose shares are negotiated?
    listed: AtomicBool,
}

/// Its share is reached by no lease: a lease of nothing that ended at the beginning.
const NO_LEASE: u64 = 0;

impl Cell {
    /// Of a subject that has sent nothing yet.
    pub fn new(subject: Subject, now: Moment) -> Self {
        Self {
            subject,
            word: AtomicU64::new(gcra::fresh(now)),
            lease: AtomicU64::new(NO_LEASE),
            asked: AtomicU64::new(0),
            listed: AtomicBool::new(false),
        }
    }

    /// Whose it is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Judges one request. `otherwise` is the edge's share without a lease.
    pub fn take(&self, allowance: Allowance, otherwise: Share, now: Moment) -> Verdict {
        if self.is_listed() {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        let share = self.share(otherwise, now);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let step = gcra::step(word, allowance, share, now);
            if !step.verdict.admitted {
                return step.verdict;
            }
            match self
                .word
                .compare_exchange_weak(word, step.word, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return step.verdict,
                Err(newer) => word = newer,
            }
        }
    }

    #[cfg(test)]
    fn left(&self, allowance: Allowance, otherwise: Share, now: Moment) -> u32 {
        let share = self.share(otherwise, now);
        gcra::left(self.word.load(Ordering::Relaxed), allowance, share, now)
    }

    fn share(&self, otherwise: Share, now: Moment) -> Share {
        match self.lease.load(Ordering::Relaxed) {
            NO_LEASE => otherwise,
            lease => {
                let (until, share) = gcra::unpack(lease);
                if until.is_after(now) { share } else { otherwise }
            }
        }
    }

    /// From now on, and until `until`, the edge has this share.
    pub(super) fn lease(&self, share: Share, until: Moment, allowance: Allowance, now: Moment) {
        self.lease.store(gcra::pack(until, share), Ordering::Relaxed);
        self.retune(allowance, share, now);
    }

    /// Takes a lease away that has ended, so that what was reckoned by it is reckoned by `otherwise` from now on and not
    /// from the next request on. True if there was one.
    pub(super) fn end_lease(&self, allowance: Allowance, otherwise: Share, now: Moment) -> bool {
        let lease = self.lease.load(Ordering::Relaxed);
        let over = lease != NO_LEASE && !gcra::unpack(lease).0.is_after(now);
        if over {
            self.lease.store(NO_LEASE, Ordering::Relaxed);
            self.retune(allowance, otherwise, now);
        }
        over
    }

    fn retune(&self, allowance: Allowance, share: Share, now: Moment) {
        let retuned = |word| Some(gcra::retune(word, allowance, share, now));
        // The function always gives a word, so the update always happens.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, retuned);
    }

    /// True for whoever lists it first.
    pub(super) fn list(&self) -> bool {
        !self.listed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn unlist(&self) {
        self.listed.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// Requests since it was made, while it was listed.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Where a cell is kept. Sixteen bytes, and nothing on the heap before the first request.
#[derive(Debug, Default)]
pub struct Seat(OnceLock<Arc<Cell>>);

impl Seat {
    /// The cell, made now if there was none.
    pub fn cell(&self, subject: impl FnOnce() -> Subject, now: Moment) -> &Arc<Cell> {
        self.0.get_or_init(|| Arc::new(Cell::new(subject(), now)))
    }

    /// A seat for the successor of a record, with the same cell. A first request that is judged by the old record at this
    /// very instant is not seen by the new one.
    #[must_use]
    pub fn handed_over(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    const NOW: Moment = Moment::after_nanos(0);

    fn cell() -> Cell {
        let id = KeyId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        Cell::new(Subject::Key(id), NOW)
    }

    fn hundred() -> Allowance {
        let hundred = NonZeroU32::new(100).unwrap();
        Allowance::new(hundred, hundred)
    }

    #[test]
    fn many_threads_together_are_admitted_no_more_than_the_burst() {
        let cell = cell();
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000)
                            .filter(|_| cell.take(hundred(), Share::WHOLE, NOW).admitted)
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }

    #[test]
    fn a_successor_goes_on_with_what_its_predecessor_counted() {
        let id = KeyId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        let seat = Seat::default();
        for _ in 0..60 {
            seat.cell(|| Subject::Key(id), NOW).take(hundred(), Share::WHOLE, NOW);
        }
        let successor = seat.handed_over();
        let cell = successor.cell(|| Subject::Key(id), NOW);
        assert_eq!(cell.take(hundred(), Share::WHOLE, NOW).remaining, 39);
    }

    #[test]
    fn a_lease_counts_until_its_end_and_what_is_left_stays() {
        let cell = cell();
        let tenth = Share::of_parts(u64::from(Share::PARTS / 10));
        let after = |ms| NOW.plus_millis(ms);
        for _ in 0..100 {
            assert!(cell.take(hundred(), tenth, NOW).admitted);
        }
        cell.lease(Share::WHOLE, after(1000), hundred(), NOW);
        assert_eq!(cell.left(hundred(), tenth, after(500)), 50);
        assert!(!cell.end_lease(hundred(), tenth, after(999)));
        assert!(cell.end_lease(hundred(), tenth, after(1000)));
        assert!(!cell.end_lease(hundred(), tenth, after(1000)));
        // The lease was over before anything was spent: whole again after one second, a tenth of that from then on.
        assert_eq!(cell.left(hundred(), tenth, after(1000)), 100);
        for _ in 0..100 {
            assert!(cell.take(hundred(), tenth, after(1000)).admitted);
        }
        assert_eq!(cell.left(hundred(), tenth, after(2001)), 9);
    }

    #[test]
    fn a_seat_without_a_cell_is_small() {
        assert!(size_of::<Seat>() <= 16);
    }
}
