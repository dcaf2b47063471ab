//! How far the edge says that it is: the outbox position up to which every change is in the table. A revocation that waits
//! for edges counts on it, so what the feed announced in a form that is not understood is held against it until it was read
//! elsewhere (`mend`). Bounded: beyond a thousand names nothing less than the whole table is asked for. No I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use tokio::sync::Notify;

/// More names than this are read as a whole table.
const NAMES: usize = 1_000;

/// A position of an epoch up to which every change is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) epoch: u64,
    pub(super) position: u64,
}

/// What was announced and could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Unread {
    Key(Digest),
    App(ApplicationId),
    Host(Arc<str>),
    /// So many that they are not told apart.
    Everything,
}

/// Something unread, as it was when it was asked for: it may be announced again while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) what: Unread,
    announced: u64,
}

#[derive(Debug, Default)]
pub(super) struct Claim {
    state: Mutex<State>,
    unread: Notify,
}

#[derive(Debug, Default)]
struct State {
    applied: Applied,
    /// What would be applied if nothing were unread.
    withheld: Option<Applied>,
    unread: HashMap<Unread, u64>,
    announced: u64,
}

impl State {
    fn reach(&mut self, reached: Applied) {
        if self.applied.epoch != reached.epoch || self.applied.position < reached.position {
            self.applied = reached;
        }
    }
}

impl Claim {
    /// Every change up to `position` of `epoch` is applied or was announced as unread. Goes back only with another epoch.
    pub(super) fn reach(&self, epoch: u64, position: u64) {
        let mut state = self.state();
        let reached = Applied { epoch, position };
        if state.unread.is_empty() {
            state.reach(reached);
        } else if state
            .withheld
            .is_none_or(|withheld| withheld.epoch != epoch || withheld.position < position)
        {
            state.withheld = Some(reached);
        }
    }

    /// How far the edge may say that it is.
    pub(super) fn reached(&self) -> Applied {
        self.state().applied
    }

    /// Something was announced that is not understood.
    pub(super) fn announce(&self, what: Unread) {
        let mut state = self.state();
        state.announced += 1;
        let (announced, mut what) = (state.announced, what);
        if state.unread.len() >= NAMES || state.unread.contains_key(&Unread::Everything) {
            state.unread.clear();
            what = Unread::Everything;
        }
        state.unread.insert(what, announced);
        drop(state);
        self.unread.notify_one();
    }

    /// Waits until something is unread, and returns all of it.
    pub(super) async fn unread(&self) -> Vec<Pending> {
        loop {
            let pending = self.pending();
            if !pending.is_empty() {
                return pending;
            }
            self.unread.notified().await;
        }
    }

    fn pending(&self) -> Vec<Pending> {
        let state = self.state();
        let unread = state.unread.iter();
        unread
            .map(|(what, announced)| Pending {
                what: what.clone(),
                announced: *announced,
            })
            .collect()
    }

    /// This was read, as it is now, after it was asked for. Returns whether that lets the edge claim more.
    pub(super) fn read(&self, pending: &Pending) -> bool {
        let mut state = self.state();
        if state.unread.get(&pending.what) == Some(&pending.announced) {
            state.unread.remove(&pending.what);
        }
        if !state.unread.is_empty() {
            return false;
        }
        let Some(withheld) = state.withheld.take() else {
            return false;
        };
        state.reach(withheld);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &[u8]) -> Unread {
        Unread::Key(Digest::of(name))
    }

    fn at(epoch: u64, position: u64) -> Applied {
        Applied { epoch, position }
    }

    #[test]
    fn a_claim_goes_back_only_with_another_epoch() {
        let claim = Claim::default();
        claim.reach(1, 7);
        claim.reach(1, 6);
        assert_eq!(claim.reached(), at(1, 7));
        claim.reach(2, 3);
        assert_eq!(claim.reached(), at(2, 3));
    }

    #[test]
    fn nothing_is_claimed_past_what_is_unread_until_it_was_read() {
        let claim = Claim::default();
        claim.reach(1, 7);
        claim.announce(key(b"a"));
        claim.announce(key(b"b"));
        claim.reach(1, 9);
        claim.reach(1, 8);
        assert_eq!(claim.reached(), at(1, 7));
        let pending = claim.pending();
        assert_eq!(pending.len(), 2);
        assert!(!claim.read(&pending[0]));
        assert_eq!(claim.reached(), at(1, 7));
        assert!(claim.read(&pending[1]));
        assert_eq!(claim.reached(), at(1, 9));
        claim.reach(1, 10);
        assert_eq!(claim.reached(), at(1, 10));
    }

    #[test]
    fn what_is_announced_again_while_it_is_read_stays_unread() {
        let claim = Claim::default();
        claim.announce(key(b"a"));
        let before = claim.pending();
        claim.announce(key(b"a"));
        claim.reach(1, 9);
        assert!(!claim.read(&before[0]));
        assert_eq!(claim.reached(), at(0, 0));
        assert!(claim.read(&claim.pending()[0]));
        assert_eq!(claim.reached(), at(1, 9));
    }

    #[test]
    fn more_names_than_are_kept_become_everything() {
        let claim = Claim::default();
        for n in 0..=NAMES {
            claim.announce(key(&n.to_le_bytes()));
        }
        claim.announce(key(b"one more"));
        claim.reach(1, 9);
        let pending = claim.pending();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].what, Unread::Everything);
        assert!(claim.read(&pending[0]));
        assert_eq!(claim.reached(), at(1, 9));
    }
}
