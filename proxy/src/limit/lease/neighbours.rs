//! The other edges as NATS tells of them: each edge reports itself several times a second.
//!
//! Asked only while Redis is away. NATS away too: nothing is known, and the last known number stays.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use authsome_contract::wire::{EdgeReport, names};
use futures::StreamExt;
use tokio::time::Instant;
use uuid::Uuid;

/// An edge that was not heard for so long is not there.
const SILENCE: Duration = Duration::from_secs(3);
/// Between two tries to listen.
const PAUSE: Duration = Duration::from_secs(1);
/// More than any region has; what exceeds it is not counted.
const EDGES: usize = 4096;

/// When each edge was last heard.
#[derive(Debug, Default)]
pub(super) struct Neighbours(Mutex<HashMap<Uuid, Instant>>);

impl Neighbours {
    /// Listens without end.
    pub(super) async fn listen(&self, nats: &async_nats::Client) {
        loop {
            match nats.subscribe(names::EDGE_REPORTS).await {
                Ok(mut reports) => {
                    while let Some(message) = reports.next().await {
                        // What another release says differently is no edge to count.
                        if let Ok(report) = serde_json::from_slice::<EdgeReport>(&message.payload) {
                            self.heard(report.id, report.goodbye, Instant::now());
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "cannot listen to the other edges"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn heard(&self, id: Uuid, goodbye: bool, now: Instant) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if goodbye {
            heard.remove(&id);
        } else if heard.len() < EDGES || heard.contains_key(&id) {
            heard.insert(id, now);
        }
    }

    /// How many there are, this one included; `None` if nothing is heard at all, not even of this one.
    pub(super) fn count(&self, now: Instant) -> Option<u32> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, last| now.saturating_duration_since(*last) < SILENCE);
        u32::try_from(heard.len()).ok().filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_counts_until_it_is_silent_or_says_goodbye() {
        let neighbours = Neighbours::default();
        let begin = Instant::now();
        assert_eq!(neighbours.count(begin), None);
        for id in 1..=3 {
            neighbours.heard(Uuid::from_u128(id), false, begin);
        }
        neighbours.heard(Uuid::from_u128(3), true, begin);
        assert_eq!(neighbours.count(begin), Some(2));
        neighbours.heard(Uuid::from_u128(1), false, begin + Duration::from_secs(2));
        assert_eq!(neighbours.count(begin + Duration::from_secs(4)), Some(1));
        assert_eq!(neighbours.count(begin + Duration::from_secs(5)), None);
    }
}
