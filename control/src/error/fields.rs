//! Gathers what is wrong with the fields of a request, so that the client learns all of it at once.

use std::collections::BTreeMap;

use authsome_core::error::Failure;
use serde_json::json;

use super::{Outcome, Problem};

/// The most refusals of one request: a body may have more wrong fields than anybody reads.
const MOST: usize = 100;

/// The fields that were refused, each with what is expected of it.
#[derive(Debug, Default)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// None refused yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses a field. The first reason for a field stays.
    pub fn refuse(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < MOST {
            self.0.entry(field.into()).or_insert_with(|| reason.into());
        }
    }

    /// How many were refused.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Refuses a field unless `holds`.
    pub fn require(&mut self, holds: bool, field: &str, reason: &str) {
        if !holds {
            self.refuse(field, reason);
        }
    }

    /// The value, or a refusal of its field.
    pub fn take<T>(&mut self, field: &str, value: Result<T, impl ToString>) -> Option<T> {
        value.map_err(|reason| self.refuse(field, reason.to_string())).ok()
    }

    /// 400 with every refused field under `details.fields`, or nothing.
    pub fn finish(self) -> Outcome<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(field, reason)| format!("{field} {reason}"))
            .collect();
        let failure = Failure::invalid_request(parts.join("; ")).with_details(json!({ "fields": self.0 }));
        Err(Problem::from(failure))
    }
}
