//! What keeps something from coming up that a step waits for: told while it lasts, and the reason of a failure when it lasts
//! too long.
//!
//! It has to be seen without a break for [`Patience::failing`](crate::runtime::Patience::failing): pods are started again by
//! themselves, and what is said of them may be old. What passes by itself is tried again with the operation; what does not fails
//! it at once, with what somebody has to do.

use std::time::Duration;

use authsome_contract::model::Step;
use authsome_core::error::Chain;
use tokio::time::Instant;

use super::{StepContext, StepError, failure};
use crate::redaction::excerpt;
use crate::runtime::{Site, Trouble};
use crate::{db, instance_logs};

/// Between two looks at what hinders a server: nothing is as fast as a pod.
const LOOK: Duration = Duration::from_secs(1);

/// What was seen while a step waited.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    trouble: Option<(Instant, Trouble)>,
    told: String,
}

impl Waiting {
    /// Takes in what is seen now. The trouble that has lasted for `patience`, if one has.
    pub(super) fn see(&mut self, seen: Option<Trouble>, patience: Duration) -> Option<Trouble> {
        let Some(seen) = seen else {
            self.trouble = None;
            return None;
        };
        self.trouble = Some(match self.trouble.take() {
            None => (Instant::now(), seen),
            Some((since, before)) if says_less(&seen, &before) => (since, before),
            Some((since, _)) => (since, seen),
        });
        let (since, trouble) = self.trouble.as_ref()?;
        (since.elapsed() >= patience).then(|| trouble.clone())
    }

    /// What is told of it.
    pub(super) fn public(&self) -> Option<&str> {
        Some(&self.trouble.as_ref()?.1.public)
    }

    /// Records what people who watch read beside the step, where it is not what they read already.
    pub(super) async fn tell(&mut self, cx: &StepContext<'_>, step: Step, text: String) -> Result<(), StepError> {
        if text != self.told {
            db::ledger::tell(cx.pool, cx.fence, step, &text).await?;
            self.told = text;
        }
        Ok(())
    }
}

/// Is it the beginning of what was said before? A back-off does not repeat why the pull before it failed.
fn says_less(now: &Trouble, before: &Trouble) -> bool {
    before.public.starts_with(now.public.trim_end_matches('.'))
}

/// Does what a step does, which ends early if what it waits for stays in trouble: what the step `of` makes, whichever step
/// waits for it. What is done may be left at any moment.
pub(super) async fn unless_hindered<T>(
    cx: &StepContext<'_>,
    step: Step,
    of: Step,
    doing: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    let runtime = &cx.facilities.runtime;
    let (site, patience) = (Site::of(cx.intent, cx.fence), runtime.patience().failing);
    let hindered = async {
        let mut waiting = Waiting::default();
        loop {
            tokio::time::sleep(LOOK).await;
            cx.fence.check(Duration::ZERO)?;
            if let Some(trouble) = waiting.see(runtime.hindrance(of, &site).await, patience) {
                return Err(given_up(cx, trouble).await);
            }
            if let Some(public) = waiting.public() {
                let text = public.to_owned();
                waiting.tell(cx, step, text).await?;
            }
        }
    };
    tokio::select! {
        done = doing => done,
        error = hindered => error,
    }
}

/// Told with the last lines of what is in trouble, where it wrote any. Lines that cannot be cleaned of secrets are not told.
pub(super) async fn given_up(cx: &StepContext<'_>, trouble: Trouble) -> StepError {
    let id = cx.intent.application_id;
    let mut lines = cx.facilities.runtime.last_lines(id, &trouble).await.unwrap_or_default();
    if !lines.is_empty() {
        lines = match instance_logs::known_secrets(cx.facilities, cx.pool, id).await {
            Ok(redaction) => excerpt(&lines, &redaction),
            Err(error) => {
                tracing::warn!(application = %id, error = %Chain(&error), "cannot tell the last lines of an instance");
                String::new()
            }
        };
    }
    let public = if lines.is_empty() {
        trouble.public
    } else {
        format!("{} Its log ends with:\n{lines}", trouble.public)
    };
    match trouble.remedy {
        None => failure::retry(&public, trouble.detail),
        Some(remedy) => StepError::Fatal {
            reason: public,
            remediation: remedy.to_owned(),
            source: trouble.detail.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn trouble(public: &str) -> Trouble {
        Trouble::new(public, "detail")
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_counts_once_it_was_seen_for_long_enough_without_a_break() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.see(Some(trouble("It crashes.")), PATIENCE), None);
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(waiting.see(None, PATIENCE), None, "it came up");
        assert_eq!(waiting.public(), None);
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(waiting.see(Some(trouble("It crashes.")), PATIENCE), None);
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(waiting.see(Some(trouble("There is no room.")), PATIENCE), None);
        assert_eq!(waiting.public(), Some("There is no room."));
        tokio::time::advance(PATIENCE / 2).await;
        let lasting = waiting.see(Some(trouble("It crashes.")), PATIENCE).unwrap();
        assert_eq!(lasting.public, "It crashes.");
    }

    #[tokio::test(start_paused = true)]
    async fn a_back_off_does_not_hide_why_the_pull_before_it_failed() {
        let mut waiting = Waiting::default();
        let telling = Trouble {
            remedy: Some("Choose another."),
            ..trouble("The image a cannot be pulled: the registry does not have it.")
        };
        waiting.see(Some(telling.clone()), PATIENCE);
        tokio::time::advance(PATIENCE).await;
        let lasting = waiting.see(Some(trouble("The image a cannot be pulled.")), PATIENCE);
        assert_eq!(lasting, Some(telling));
        let other = waiting
            .see(Some(trouble("The image b cannot be pulled.")), PATIENCE)
            .unwrap();
        assert_eq!(other.public, "The image b cannot be pulled.");
    }
}
