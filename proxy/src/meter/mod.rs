//! Metering: what each application used in each hour, exact, and never in the way of a request.
//!
//! Counters are absolute and only grow, one per (writer, application, hour), in a locked and mapped file whose header names
//! the writer. Counting is a few atomic additions. The [`Publisher`] tells the present values to JetStream every second and
//! frees a counter once its final value is confirmed. With NATS away counting goes on and is told later; with the process
//! killed its successor takes the file over; with the disk full or not writable counting goes on in memory, and says so.

mod cell;
mod file;
mod ledger;
mod metrics;
mod outstanding;
mod publish;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;

use ledger::{Ledger, Place};

pub use cell::Tally;
pub use metrics::MeterMetrics;
pub use publish::Publisher;

/// Where and how much.
#[derive(Debug, Clone)]
pub struct MeterSettings {
    /// Where the counter files are; created if absent. One directory a machine or pod; several processes may share it.
    pub directory: PathBuf,
    /// Applications' hours in one file, 64 bytes each. More files are added as needed.
    pub capacity: u32,
}

impl MeterSettings {
    /// The usual size: 65,536 applications' hours, 4 MiB.
    pub fn in_directory(directory: PathBuf) -> Self {
        Self {
            directory,
            capacity: 65_536,
        }
    }
}

struct Inner {
    ledger: Arc<Ledger>,
    entropy: Arc<dyn Entropy>,
    metrics: MeterMetrics,
}

/// Gives out counters. Clones share them.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("counters", &self.0.ledger.used())
            .finish()
    }
}

impl Meter {
    /// A meter with its counter file, and the publisher that tells what it counts. Never fails: without a usable directory
    /// it counts in memory and logs that.
    pub fn open(
        settings: MeterSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: MeterMetrics,
    ) -> (Self, Publisher) {
        let directory = settings.directory.clone();
        let ledger = Arc::new(Ledger::new(settings.directory, settings.capacity, metrics.clone()));
        if let Err(error) = ledger.extend(&*entropy) {
            tracing::error!(%error, "no counter file can be made; usage is counted in memory until one can");
        }
        let publisher = Publisher::new(
            Arc::clone(&ledger),
            directory,
            clock,
            Arc::clone(&entropy),
            metrics.clone(),
        );
        (
            Self(Arc::new(Inner {
                ledger,
                entropy,
                metrics,
            })),
            publisher,
        )
    }

    /// The counters of an application. Any number of slots of one application count into the same.
    pub fn slot(&self, app: ApplicationId) -> Slot {
        Slot {
            meter: self.clone(),
            app,
            place: AtomicU64::new(0),
        }
    }
}

/// The counters of one application, with the present hour's at hand.
#[derive(Debug)]
pub struct Slot {
    meter: Meter,
    app: ApplicationId,
    /// Hour, segment (8 bits), cell (24 bits); 0 at first.
    place: AtomicU64,
}

impl Slot {
    /// Adds to the hour of `now_ms` (milliseconds since the Unix epoch). Lock-free but for the first time in an hour.
    pub fn count(&self, now_ms: i64, tally: Tally) {
        let hour = hour_of(now_ms);
        let ledger = &self.meter.0.ledger;
        let remembered = unpack(self.place.load(Ordering::Relaxed));
        // A clock that was set back counts in the hour that it had reached, as long as that is open.
        let cell = match remembered {
            Some((place, known)) if known >= hour && ledger.is_open(known) => ledger.cell(place),
            _ => ledger
                .place(self.app, hour, &*self.meter.0.entropy)
                .and_then(|(place, hour)| {
                    self.place.store(pack(place, hour), Ordering::Relaxed);
                    ledger.cell(place)
                }),
        };
        match cell {
            Some(cell) => cell.add(tally),
            None => self.meter.0.metrics.lost(tally.requests),
        }
    }
}

fn pack(place: Place, hour: u32) -> u64 {
    u64::from(hour) << 32 | u64::from(place.segment) << 24 | u64::from(place.cell)
}

fn unpack(packed: u64) -> Option<(Place, u32)> {
    let hour = u32::try_from(packed >> 32).ok()?;
    let segment = u32::try_from(packed >> 24 & 0xFF).ok()?;
    let cell = u32::try_from(packed & 0xFF_FFFF).ok()?;
    (hour > 0).then_some((Place { segment, cell }, hour))
}

/// Hours since the Unix epoch. A clock before 1970 counts as its first hour.
fn hour_of(now_ms: i64) -> u32 {
    u32::try_from(now_ms / 3_600_000).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests;
