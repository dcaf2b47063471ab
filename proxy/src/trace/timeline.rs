//! Where the time of one request went.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Trace, Upstream};

/// Of one request; filled in as it passes the phases.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
    connecting: Option<Instant>,
    address: Option<SocketAddr>,
    answered: Option<(Instant, u16)>,
}

impl Timeline {
    /// A connection to an instance is asked for now. The first one counts; the last address is kept.
    pub fn connecting(&mut self, address: SocketAddr, now: Instant) {
        self.connecting.get_or_insert(now);
        self.address = Some(address);
    }

    /// The head of the instance's answer is there now.
    pub fn answered(&mut self, status: u16, now: Instant) {
        self.answered = Some((now, status));
    }

    /// The edge's own part of a request that began then and took so long: all of it, or all before the first connection was
    /// asked for.
    pub fn own(&self, began: Instant, took: Duration) -> Duration {
        self.connecting
            .map_or(took, |connecting| connecting.duration_since(began).min(took))
    }

    /// The instance's part of a request that began then and took so long: until the head of its answer, or until it was given
    /// up. `None`: no connection was asked for.
    pub fn upstream(&self, began: Instant, took: Duration, tries: usize) -> Option<Upstream> {
        let connecting = self.connecting?;
        let after = connecting.duration_since(began).min(took);
        Some(Upstream {
            after,
            took: self.answered.map(|(answered, _)| answered.duration_since(connecting)),
            waited: self.answered.map_or(took.saturating_sub(after), |(answered, _)| {
                answered.duration_since(connecting)
            }),
            status: self.answered.map(|(_, status)| status),
            address: self.address,
            tries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_edge_and_of_the_instance_are_apart() {
        let began = Instant::now();
        let took = Duration::from_secs(5);
        let mut timeline = Timeline::default();
        assert_eq!(timeline.own(began, took), took);
        assert!(timeline.upstream(began, took, 0).is_none());
        timeline.connecting(([127, 0, 0, 1], 80).into(), Instant::now());
        let pending = timeline.upstream(began, took, 1).unwrap();
        assert_eq!((pending.took, pending.status), (None, None));
        assert_eq!(timeline.own(began, took) + pending.waited, took);
        timeline.connecting(([127, 0, 0, 2], 80).into(), Instant::now());
        timeline.answered(503, Instant::now());
        let answered = timeline.upstream(began, took, 2).unwrap();
        assert_eq!(
            (answered.status, answered.tries, answered.after),
            (Some(503), 2, pending.after)
        );
        assert_eq!(answered.took, Some(answered.waited));
        assert_eq!(answered.address, Some(([127, 0, 0, 2], 80).into()));
    }
}
