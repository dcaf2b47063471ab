//! A host name as the table holds it: the way to its application. Never changed, only replaced. Nothing here fails or waits.

use std::mem::size_of;
use std::sync::Arc;

use authsome_contract::model::HostRecord;

use super::entry::{AppSlot, BOOKKEEPING};
use super::freshness::Freshness;

/// A host name that leads to an application.
#[derive(Debug)]
pub struct HostEntry {
    /// The host.
    pub record: HostRecord,
    /// Its application; gone when [`AppSlot::load`] says so.
    pub app: Arc<AppSlot>,
    pub(super) freshness: Freshness,
}

impl HostEntry {
    pub(super) const fn new(record: HostRecord, app: Arc<AppSlot>, freshness: Freshness) -> Self {
        Self { record, app, freshness }
    }

    /// Bytes of memory, near enough for a bound: the entry, its name twice, and moka's bookkeeping.
    pub(super) fn weight(&self) -> u32 {
        let bytes = size_of::<Self>() + 2 * self.record.host.len() + BOOKKEEPING;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}
