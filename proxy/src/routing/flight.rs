//! One fill for all who wait for the same name.
//!
//! The fill runs as a task of its own and the waiting share its outcome, so the request that started it may vanish without
//! hanging the others. A fill that panics, is aborted or never starts drops its [`Landing`], and that tells the waiting at
//! once. The number of fills under way is bounded; beyond it a caller is refused.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What a fill came to; `None` of the inner option is "does not exist".
pub(super) type Outcome<T> = Result<Option<T>, super::Unavailable>;

type Waiting<T> = watch::Receiver<Option<Outcome<T>>>;

/// The fills under way, by name.
pub(super) struct Flights<K, T> {
    under_way: Arc<Mutex<HashMap<K, Waiting<T>>>>,
    limit: usize,
}

/// How a caller joined.
pub(super) enum Joined<K: Eq + Hash + Clone, T> {
    /// It is the first: it must see to it that the fill starts.
    First(Landing<K, T>, Wait<T>),
    /// A fill is under way.
    Later(Wait<T>),
    /// Too many fills are under way.
    Full,
}

impl<K: Eq + Hash + Clone, T: Clone> Flights<K, T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            under_way: Arc::new(Mutex::new(HashMap::new())),
            limit,
        }
    }

    pub(super) fn join(&self, name: K) -> Joined<K, T> {
        let mut under_way = lock(&self.under_way);
        if let Some(waiting) = under_way.get(&name) {
            return Joined::Later(Wait(waiting.clone()));
        }
        if under_way.len() >= self.limit {
            return Joined::Full;
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(name.clone(), receiver.clone());
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            name,
            sender,
        };
        Joined::First(landing, Wait(receiver))
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.under_way).len()
    }
}

/// The obligation to tell the waiting; dropping it tells them that there is no answer.
pub(super) struct Landing<K: Eq + Hash + Clone, T> {
    under_way: Arc<Mutex<HashMap<K, Waiting<T>>>>,
    name: K,
    sender: watch::Sender<Option<Outcome<T>>>,
}

impl<K: Eq + Hash + Clone, T> Landing<K, T> {
    /// What was asked for.
    pub(super) fn name(&self) -> K {
        self.name.clone()
    }

    /// Ends the flight. What is kept of the outcome must be in the table by now: whoever asks next finds it there or starts
    /// another fill.
    pub(super) fn land(self, outcome: Outcome<T>) {
        lock(&self.under_way).remove(&self.name);
        self.sender.send_replace(Some(outcome));
    }
}

impl<K: Eq + Hash + Clone, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        if self.sender.borrow().is_none() {
            lock(&self.under_way).remove(&self.name);
        }
    }
}

/// A caller's share in the outcome.
pub(super) struct Wait<T>(Waiting<T>);

impl<T: Clone> Wait<T> {
    /// The outcome. Has no deadline: put one around it.
    pub(super) async fn outcome(mut self) -> Outcome<T> {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(super::Unavailable)),
            Err(_) => Err(super::Unavailable),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Unavailable;

    #[tokio::test]
    async fn the_caller_who_started_it_may_vanish() {
        let flights = Flights::<u8, u32>::new(10);
        let Joined::First(landing, first) = flights.join(1) else {
            panic!("nobody was here before")
        };
        let Joined::Later(second) = flights.join(1) else {
            panic!("a fill is under way")
        };
        drop(first);
        landing.land(Ok(Some(7)));
        assert_eq!(second.outcome().await, Ok(Some(7)));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_fill_that_dies_tells_the_waiting_and_makes_room_for_another() {
        let flights = Flights::<u8, u32>::new(1);
        let Joined::First(landing, first) = flights.join(1) else {
            panic!("nobody was here before")
        };
        assert!(matches!(flights.join(2), Joined::Full));
        drop(landing);
        assert_eq!(first.outcome().await, Err(Unavailable));
        assert!(matches!(flights.join(2), Joined::First(..)));
    }

    #[tokio::test]
    async fn a_new_flight_of_the_same_name_survives_the_end_of_the_old() {
        let flights = Flights::<u8, u32>::new(2);
        let Joined::First(landing, _) = flights.join(1) else {
            panic!("nobody was here before")
        };
        landing.land(Ok(None));
        assert!(matches!(flights.join(1), Joined::First(..)));
    }
}
