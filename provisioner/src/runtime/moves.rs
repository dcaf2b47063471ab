//! Applications whose instances came up elsewhere than before, each once, until somebody asks.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use authsome_core::id::ApplicationId;
use tokio::sync::Notify;

/// A set, so it is bounded by the number of applications that run here.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Moves {
    moved: Mutex<BTreeSet<ApplicationId>>,
    added: Notify,
}

impl Moves {
    pub(in crate::runtime) fn add(&self, application: ApplicationId) {
        self.moved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(application);
        self.added.notify_one();
    }

    /// Waits for the next. Nothing is lost when the wait is given up.
    pub(in crate::runtime) async fn next(&self) -> ApplicationId {
        loop {
            let added = self.added.notified();
            if let Some(application) = self.moved.lock().unwrap_or_else(PoisonError::into_inner).pop_first() {
                return application;
            }
            added.await;
        }
    }
}
