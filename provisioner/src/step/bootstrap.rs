//! Bootstrap: the instance's own application id and credentials, read from it, sealed, and published to the edge.
//!
//! A healthy instance is asked where the runtime reaches it, once for each operation: another image may offer others. What it
//! says is recorded only where it differs, so that the edge hears of changes only. An instance that offers none has none: what
//! was recorded before is taken away. One that does not answer, or not with an offer, leaves what is recorded and is asked
//! again with the operation's next attempt.

use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{LONGEST_CALL, Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::db;
use crate::instance_credentials::{InstanceCredentials, LARGEST, OfferError};
use crate::lease::CallError;
use crate::plan::Desired;

pub(super) struct Bootstrap;

/// How long one question may take, its answer included.
const PATIENCE: Duration = Duration::from_secs(5);
const _: () = assert!(PATIENCE.as_secs() < LONGEST_CALL.as_secs());

const NONE_OFFERED: &str = "The instance offers no credentials of its own.";

/// Why it is not known what an instance offers. Holds nothing of its answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no instance of the generation is healthy")]
    Nobody,
    #[error("the instance cannot be asked")]
    Http(#[source] reqwest::Error),
    #[error("the instance answers {0}")]
    Status(u16),
    #[error("the answer does not end within {PATIENCE:?}")]
    Slow,
    #[error(transparent)]
    Offer(#[from] OfferError),
}

/// Asks one instance. No redirect is followed: it would lead to where nobody decided to ask.
async fn ask(address: &str, base_path: &str, path: &str) -> Result<Option<InstanceCredentials>, AskError> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .pool_max_idle_per_host(0)
        .build()
        .map_err(AskError::Http)?;
    let url = format!("http://{address}{base_path}{path}");
    let told = |error: reqwest::Error| {
        if error.is_timeout() {
            AskError::Slow
        } else {
            AskError::Http(error.without_url())
        }
    };
    let mut response = client.get(url).send().await.map_err(told)?;
    match response.status().as_u16() {
        200 => {}
        404 | 405 | 410 => return Ok(None),
        other => return Err(AskError::Status(other)),
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(OfferError::TooLarge.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(InstanceCredentials::offered(path, &body)?)
}

fn unread(error: AskError) -> StepError {
    failure::retry("The instance's own credentials cannot be read from it.", error)
}

#[async_trait]
impl StepAction for Bootstrap {
    fn step(&self) -> Step {
        Step::Bootstrap
    }

    /// Always needed: only the instance knows what it offers now.
    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Observed, StepError> {
        Ok(Observed::Needed("the instance may offer other credentials".to_owned()))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        let (runtime, ring, id) = (&facilities.runtime, &facilities.edge_ring, cx.intent.application_id);
        if let Some(why) = runtime.skips(Step::Bootstrap) {
            return Ok(Outcome::skipped(why));
        }
        if cx.intent.desired != Desired::Running {
            return Ok(Outcome::skipped("No instance is to run."));
        }
        let Some(path) = runtime.bootstrap_path() else {
            return Ok(Outcome::skipped(NONE_OFFERED));
        };
        let placement = runtime.observe(id).await?;
        let endpoints = placement.endpoints(cx.intent.generation);
        let address = endpoints.first().ok_or_else(|| unread(AskError::Nobody))?.to_string();
        let offered = match cx
            .fence
            .call(LONGEST_CALL, ask(&address, &cx.intent.base_path, path))
            .await
        {
            Ok(offered) => offered.map_err(unread)?,
            Err(CallError::Fenced(_)) => return Err(StepError::Fenced),
            Err(CallError::TimedOut(_)) => return Err(unread(AskError::Slow)),
        };
        let recorded = cx.intent.edge_credentials.as_ref();
        let Some(offered) = offered else {
            if recorded.is_some() {
                db::placement::record_edge_credentials(cx.pool, cx.fence, None).await?;
            }
            return Ok(Outcome::skipped(NONE_OFFERED));
        };
        if recorded.is_some_and(|sealed| offered.is_sealed_as(ring, id, &sealed.0)) {
            return Ok(Outcome::done("The instance's own credentials are known."));
        }
        let sealed = offered.seal(ring, id, &*facilities.entropy);
        db::placement::record_edge_credentials(cx.pool, cx.fence, Some(&sealed)).await?;
        Ok(Outcome::done("The instance's own credentials are stored, sealed."))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(db::placement::record_edge_credentials(cx.pool, cx.fence, None).await?)
    }
}
