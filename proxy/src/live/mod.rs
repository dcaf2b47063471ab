//! Connections that go on after their request was let through: upgraded ones and event streams.
//!
//! Owns the list of them, by the key and application that let them in, and closes them both ways once these no longer would:
//! the key revoked, disabled, expired or gone, the application not serving, or strict about an edge that hears nothing.
//! Each group is judged again every fifth of a second by what the routing table then says, so it does not matter how a
//! change arrived, nor whether it came as a message at all (expiry does not). What the table does not hold is asked of its
//! sources; while nobody answers, connections stay, like the requests of keys that are known. Only upgrades and event
//! streams are listed, so no ordinary request takes the lock.

mod metrics;
mod switch;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;

use crate::admission::Admission;
use crate::listener::Accepted;

pub use metrics::{Ended, LiveMetrics};
pub use switch::KillSwitch;

/// By whose leave a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The application.
    pub app: ApplicationId,
    /// The key; `None` on an open path.
    pub key: Option<Digest>,
}

impl From<&Admission> for Subject {
    fn from(admission: &Admission) -> Self {
        Self {
            app: admission.app.record.id,
            key: admission.key.as_ref().map(|key| key.record.digest),
        }
    }
}

/// There are as many as the edge may hold. One more could not be closed in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the edge holds as many live connections as it may")]
pub struct Full;

/// The list. Clones share it.
#[derive(Debug, Clone)]
pub struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    listed: Mutex<Listed>,
    next: AtomicU64,
    limit: usize,
    metrics: LiveMetrics,
}

#[derive(Debug, Default)]
struct Listed {
    groups: HashMap<Subject, HashMap<u64, Arc<Accepted>>>,
    count: usize,
}

/// A connection on the list, for as long as it lives.
#[derive(Debug)]
pub struct Listing {
    live: Live,
    subject: Subject,
    id: u64,
}

impl Live {
    /// An empty list for at most `limit` connections.
    pub fn new(limit: usize, metrics: LiveMetrics) -> Self {
        Self(Arc::new(Shared {
            listed: Mutex::default(),
            next: AtomicU64::new(0),
            limit,
            metrics,
        }))
    }

    /// Puts a connection on the list until the listing is dropped.
    ///
    /// # Errors
    /// [`Full`].
    pub fn list(&self, subject: Subject, connection: Arc<Accepted>) -> Result<Listing, Full> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut listed = self.listed();
        if listed.count >= self.0.limit {
            self.0.metrics.refused();
            return Err(Full);
        }
        connection.switch.arm();
        listed.count += 1;
        listed.groups.entry(subject).or_default().insert(id, connection);
        self.0.metrics.count(listed.count);
        Ok(Listing {
            live: self.clone(),
            subject,
            id,
        })
    }

    /// Ends every connection: the process stops.
    pub fn end_all(&self) {
        for subject in self.subjects() {
            self.end(&subject, Ended::Stopping);
        }
    }

    /// Everybody by whose leave a connection lives now.
    fn subjects(&self) -> Vec<Subject> {
        self.listed().groups.keys().copied().collect()
    }

    /// Ends every connection of `subject`. Under the lock, so that a connection whose stream is over, and which may carry
    /// the next request already, is not hit.
    fn end(&self, subject: &Subject, why: Ended) {
        let mut listed = self.listed();
        let Some(group) = listed.groups.remove(subject) else {
            return;
        };
        listed.count -= group.len();
        self.0.metrics.count(listed.count);
        self.0.metrics.ended(why, group.len());
        for connection in group.values() {
            connection.switch.throw();
        }
        tracing::info!(application = %subject.app, connections = group.len(), why = why.as_str(), "live connections are closed");
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut listed = self.live.listed();
        let Some(group) = listed.groups.get_mut(&self.subject) else {
            return;
        };
        // Not there: it was ended, and the group is one of later connections.
        if group.remove(&self.id).is_some() {
            if group.is_empty() {
                listed.groups.remove(&self.subject);
            }
            listed.count -= 1;
            self.live.0.metrics.count(listed.count);
        }
    }
}

#[cfg(test)]
mod tests;
