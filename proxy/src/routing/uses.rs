//! Which keys were used, to the minute, on their way to Postgres.
//!
//! A key that was noted in this minute costs one load in memory. The first use in a minute takes a lock for a push into
//! space that was allocated before; nobody waits for the lock, since the next use notes it as well. Control away: what is
//! noted is kept, the latest minute of each key, and what exceeds the bound is lost until the key's next use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use authsome_contract::wire::{KeyUse, KeyUses, names};
use authsome_core::id::KeyId;
use tokio::sync::watch;

use super::Routing;

/// Keys noted between two batches: 1.5 MB.
const NOTED: usize = 65_536;
/// Keys that wait for control: about 10 MB.
const WAITING: usize = 4 * NOTED;
/// Between two batches.
const PACE: Duration = Duration::from_secs(20);
/// For control's answer that one message is in Postgres.
const ANSWER: Duration = Duration::from_secs(3);
/// For the last batch, when the process stops.
const FAREWELL: Duration = Duration::from_secs(2);
const MINUTE_MS: i64 = 60_000;

/// The minute in which a key was last noted.
#[derive(Debug, Default)]
pub(super) struct Stamp(AtomicU32);

/// What was noted since the last batch.
#[derive(Debug)]
pub(super) struct Noted(Mutex<Vec<KeyUse>>);

impl Noted {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::with_capacity(NOTED)))
    }

    /// The key was admitted at `now_ms`.
    pub(super) fn note(&self, id: KeyId, stamp: &Stamp, now_ms: i64) {
        let minute = u32::try_from(now_ms / MINUTE_MS).unwrap_or(0);
        if stamp.0.load(Ordering::Relaxed) == minute {
            return;
        }
        let Ok(mut noted) = self.0.try_lock() else { return };
        if noted.len() < NOTED && stamp.0.swap(minute, Ordering::Relaxed) != minute {
            noted.push(KeyUse { id, minute });
        }
    }

    fn take(&self) -> Vec<KeyUse> {
        let empty = Vec::with_capacity(NOTED);
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), empty)
    }
}

/// Sends what was noted, until `shutdown` holds true; then once more.
pub(super) async fn publish(routing: Routing, nats: async_nats::Client, mut shutdown: watch::Receiver<bool>) {
    let mut waiting = Waiting::default();
    loop {
        let stopping = tokio::time::timeout(PACE, shutdown.wait_for(|stop| *stop))
            .await
            .is_ok();
        waiting.add(routing.shared.uses.take());
        if stopping {
            // In vain or not: it costs accuracy only.
            let _ = tokio::time::timeout(FAREWELL, waiting.send(&nats)).await;
            return;
        }
        waiting.send(&nats).await;
    }
}

/// What control has not confirmed.
#[derive(Debug, Default)]
struct Waiting(HashMap<KeyId, u32>);

impl Waiting {
    fn add(&mut self, uses: Vec<KeyUse>) {
        for KeyUse { id, minute } in uses {
            if let Some(held) = self.0.get_mut(&id) {
                *held = minute.max(*held);
            } else if self.0.len() < WAITING {
                self.0.insert(id, minute);
            }
        }
    }

    /// Message after message, until one is not confirmed.
    async fn send(&mut self, nats: &async_nats::Client) {
        while !self.0.is_empty() && nats.connection_state() == State::Connected {
            let uses: Vec<KeyUse> = self
                .0
                .iter()
                .take(KeyUses::MAX)
                .map(|(&id, &minute)| KeyUse { id, minute })
                .collect();
            let message = KeyUses { uses };
            let confirmed = match serde_json::to_vec(&message) {
                Ok(payload) => confirm(nats, payload).await,
                Err(error) => {
                    tracing::error!(%error, "key uses cannot be written as JSON");
                    true
                }
            };
            if !confirmed {
                return;
            }
            for KeyUse { id, .. } in message.uses {
                self.0.remove(&id);
            }
        }
    }
}

async fn confirm(nats: &async_nats::Client, payload: Vec<u8>) -> bool {
    let answer = tokio::time::timeout(ANSWER, nats.request(names::KEY_USES, payload.into())).await;
    let confirmed = matches!(answer, Ok(Ok(_)));
    if !confirmed {
        tracing::debug!("the uses of keys were not taken; they are sent again");
    }
    confirmed
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    fn id(seed: u64) -> KeyId {
        KeyId::generate(&ManualClock::default(), &SeededEntropy::new(seed))
    }

    #[test]
    fn a_key_is_noted_once_a_minute() {
        let (noted, stamp) = (Noted::new(), Stamp::default());
        for now_ms in [600_000, 600_001, 659_999, 660_000, 661_000] {
            noted.note(id(1), &stamp, now_ms);
        }
        let minutes: Vec<u32> = noted.take().iter().map(|used| used.minute).collect();
        assert_eq!(minutes, [10, 11]);
        noted.note(id(1), &stamp, 662_000);
        assert!(noted.take().is_empty(), "the batch does not forget what was noted");
    }

    #[test]
    fn what_does_not_fit_is_noted_by_the_next_use() {
        let noted = Noted::new();
        let stamps: Vec<Stamp> = (0..=NOTED).map(|_| Stamp::default()).collect();
        for stamp in &stamps {
            noted.note(id(1), stamp, 600_000);
        }
        assert_eq!(noted.take().len(), NOTED);
        noted.note(id(1), &stamps[NOTED], 600_000);
        assert_eq!(noted.take().len(), 1);
    }

    #[test]
    fn of_several_uses_of_a_key_the_latest_waits() {
        let mut waiting = Waiting::default();
        let of = |minute| vec![KeyUse { id: id(1), minute }];
        for minute in [3, 5, 4] {
            waiting.add(of(minute));
        }
        assert_eq!(waiting.0, HashMap::from([(id(1), 5)]));
    }
}
