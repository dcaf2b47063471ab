//! How many requests the edge works on at once, and who waits first when they are too many.
//!
//! Owns the count of requests that are neither upgraded connections nor event streams (those have a bound of their own,
//! `limits.live_connections`). Free plans are turned away first, then pro, then everybody, so that an edge that is too slow
//! for its load goes on answering those that it can. A request leaves the count when it is dropped, however it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use authsome_contract::model::Plan;

/// The requests under way. Clones count the same ones.
#[derive(Debug, Clone)]
pub(super) struct Load {
    count: Arc<AtomicUsize>,
    bound: usize,
}

/// One of them, for as long as it lives.
#[derive(Debug)]
pub struct Occupied(Arc<AtomicUsize>);

impl Load {
    /// At most `bound` at once.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            count: Arc::default(),
            bound,
        }
    }

    /// Counts a request, whoever sent it. `Err`: not even one of the highest plan may come now.
    pub(super) fn enter(&self) -> Result<Occupied, Full> {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        // Made first, so that a refused one leaves as well.
        let occupied = Occupied(Arc::clone(&self.count));
        if before < self.bound { Ok(occupied) } else { Err(Full) }
    }

    /// May a request of this plan go on that is counted already?
    pub(super) fn has_room_for(&self, plan: Plan) -> bool {
        self.count() <= most(self.bound, plan)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// No room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Of `bound` requests at once, those up to which a plan is served; never less than one.
const fn most(bound: usize, plan: Plan) -> usize {
    let percent = match plan {
        Plan::Free => 80,
        Plan::Pro => 90,
        Plan::Enterprise => 100,
    };
    let most = bound / 100 * percent + bound % 100 * percent / 100;
    if most == 0 { 1 } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_plans_are_turned_away_first_and_enterprise_last() {
        let load = Load::new(10);
        let mut under_way = Vec::new();
        let mut served = Vec::new();
        while let Ok(occupied) = load.enter() {
            under_way.push(occupied);
            let plans = [Plan::Free, Plan::Pro, Plan::Enterprise];
            served.push(plans.map(|plan| load.has_room_for(plan)));
        }
        assert_eq!(served.len(), 10);
        assert!(served[..8].iter().all(|plans| *plans == [true; 3]), "{served:?}");
        assert_eq!(served[8], [false, true, true]);
        assert_eq!(served[9], [false, false, true]);
        assert_eq!(load.count(), 10, "the refused one has left");
        under_way.truncate(7);
        assert!(load.enter().is_ok());
        assert!(load.has_room_for(Plan::Free));
    }

    #[test]
    fn the_smallest_bound_serves_every_plan() {
        for plan in [Plan::Free, Plan::Pro, Plan::Enterprise] {
            assert_eq!(most(1, plan), 1);
            assert!(most(usize::MAX, plan) > usize::MAX / 2, "no overflow");
        }
    }
}
