//! What instances wrote to their logs: asked of the provisioner of their region, the only part that can reach them.
//!
//! Nothing is kept here. NATS or the provisioner away: 503 at once; one that does not answer in time: 504. The rest of the API
//! goes on.

use std::time::Duration;

use async_nats::RequestErrorKind;
use async_nats::connection::State;
use authsome_contract::wire::{LogPage, LogRefusal, LogReply, LogRequest, names};
use authsome_core::error::Failure;

use crate::error::{Fields, Outcome, Problem};

/// For one question; the provisioner gives up a second earlier.
const ANSWER: Duration = Duration::from_secs(5);
/// Seconds after which a client may try again.
const RETRY_AFTER: u64 = 5;

/// The way to the provisioners.
#[derive(Debug, Clone)]
pub struct InstanceLogs(Option<async_nats::Client>);

impl InstanceLogs {
    /// By this connection; without one every question is a 503.
    pub fn new(nats: Option<async_nats::Client>) -> Self {
        Self(nats)
    }

    /// The lines that are asked for, of an application of this region.
    pub async fn fetch(&self, region: &str, request: &LogRequest) -> Outcome<LogPage> {
        let connected = |client: &&async_nats::Client| client.connection_state() == State::Connected;
        let client = self.0.as_ref().filter(connected).ok_or_else(unavailable)?;
        let payload = serde_json::to_vec(request).map_err(Failure::internal)?;
        let asking = client.request(names::instance_logs(region), payload.into());
        let answer = match tokio::time::timeout(ANSWER, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.kind() == RequestErrorKind::TimedOut => return Err(silent()),
            Ok(Err(error)) => return Err(unavailable().with_internal(error).into()),
            Err(_) => return Err(silent()),
        };
        match serde_json::from_slice(&answer.payload) {
            Ok(LogReply::Page(page)) => Ok(page),
            Ok(LogReply::Refused(LogRefusal::Cursor)) => {
                let mut fields = Fields::new();
                fields.refuse("cursor", "must be the nextCursor of an answer about this application");
                fields.finish()?;
                Err(unavailable().into())
            }
            Ok(LogReply::Refused(LogRefusal::Unavailable)) => Err(unavailable().into()),
            Err(error) => Err(unavailable().with_internal(error).into()),
        }
    }
}

fn unavailable() -> Failure {
    Failure::unavailable("The logs cannot be read right now; try again")
        .with_reason("logs_unavailable")
        .retry_after(RETRY_AFTER)
}

fn silent() -> Problem {
    Failure::gateway_timeout("The logs were not read in time; try again")
        .with_reason("logs_timeout")
        .retry_after(RETRY_AFTER)
        .into()
}
