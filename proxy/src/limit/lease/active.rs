//! From the requests to the negotiation: which subjects use more than a little of their limit.
//!
//! A subject is offered when a part of its burst is gone, once until it is taken off the list again. Nobody waits for the
//! lock, since the subject's next request offers it as well.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::cell::Cell;
use super::super::gcra::Allowance;

/// Subjects offered between two rounds: 400 KB.
const OFFERED: usize = 16_384;

/// A subject that is active, and its limit when it was offered.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) cell: Arc<Cell>,
    pub(crate) allowance: Allowance,
}

/// What was offered since the last round.
#[derive(Debug)]
pub(crate) struct Active(Mutex<Vec<Offered>>);

impl Active {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::with_capacity(OFFERED)))
    }

    /// Takes note of a subject, unless it is noted already or there is no room now.
    pub(crate) fn offer(&self, cell: &Arc<Cell>, allowance: Allowance) {
        if cell.is_listed() {
            return;
        }
        let Ok(mut offered) = self.0.try_lock() else { return };
        if offered.len() < OFFERED && cell.list() {
            offered.push(Offered {
                cell: Arc::clone(cell),
                allowance,
            });
        }
    }

    pub(crate) fn take(&self) -> Vec<Offered> {
        let mut offered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if offered.is_empty() {
            return Vec::new();
        }
        std::mem::replace(&mut *offered, Vec::with_capacity(OFFERED))
    }
}
