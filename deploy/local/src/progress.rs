//! Shows an operation's steps as they are done.

use std::collections::BTreeMap;

use crate::console;
use crate::control_api::{Operation, Step};

/// What was shown of an operation so far.
#[derive(Default)]
pub(crate) struct Progress {
    shown: BTreeMap<String, String>,
}

impl Progress {
    /// Shows what has changed since the last look.
    pub(crate) fn show(&mut self, operation: &Operation) {
        for step in operation.steps.iter().filter(|step| worth_a_line(step)) {
            let before = self.shown.insert(step.name.clone(), step.status.clone());
            if before.as_ref() != Some(&step.status) {
                // Why something failed is news; that all is well is not.
                let detail = step.detail.as_deref().filter(|_| step.status == "failed");
                let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                console::say(&format!("  {:<8} {}{detail}", step.status, step.title));
            }
        }
    }
}

/// Most steps run for milliseconds: their end is news, their beginning is not.
fn worth_a_line(step: &Step) -> bool {
    matches!(step.status.as_str(), "done" | "skipped" | "failed" | "undone")
}
