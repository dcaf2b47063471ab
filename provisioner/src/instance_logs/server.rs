//! Answers control's questions for lines, over NATS.
//!
//! The provisioners of a region share the questions. Each is answered within [`ANSWER`] or not at all; more than [`AT_ONCE`] at
//! a time are refused at once. Without NATS nobody can ask; the subscription is made again with the connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use authsome_contract::wire::{LogPage, LogRefusal, LogReply, LogRequest, names};
use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_core::retry::{Backoff, Dependency, until_ready};
use authsome_core::secret::SecretUrl;
use authsome_db::DbError;
use futures::StreamExt;
use serde_json::Value;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{From, LogQuery};
use crate::credentials::{self, CredentialError};
use crate::execution::Engine;
use crate::redaction::Redaction;
use crate::runtime::RuntimeError;
use crate::step::Facilities;
use crate::{application_secrets, nats};

/// For one question. Control waits a second longer.
const ANSWER: Duration = Duration::from_secs(4);
/// Questions answered at a time.
const AT_ONCE: usize = 8;
/// Before subscribing again.
const RETRY: Duration = Duration::from_secs(1);

/// Why there are no lines.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// What keeps them.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What must be taken out of them is not known.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// There is no such application in the region.
    #[error("the application is not of this region")]
    Elsewhere,
    /// The application cannot be read.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Answers questions for lines.
pub struct LogServer {
    /// The runtime, the rings and the control database.
    pub engine: Arc<Engine>,
    /// The region whose applications are this provisioner's.
    pub region: String,
    /// Where NATS is; several addresses separated by commas.
    pub nats: SecretUrl,
}

impl LogServer {
    /// Answers until `soft`. What is being read then is left: who asked asks again.
    pub async fn run(self, soft: CancellationToken) {
        let server = Dependency::new("NATS", &self.nats);
        let connecting = || nats::connect(&self.nats, Arc::default());
        let Ok(client) = until_ready(&server, Backoff::CONNECT, &*self.engine.entropy, &soft, connecting).await else {
            return;
        };
        soft.run_until_cancelled(self.listen(&client)).await;
    }

    async fn listen(&self, client: &async_nats::Client) {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut answers = JoinSet::new();
        loop {
            let subject = names::instance_logs(&self.region);
            let group = names::INSTANCE_LOGS_GROUP.to_owned();
            match client.queue_subscribe(subject, group).await {
                Ok(mut questions) => {
                    while let Some(question) = questions.next().await {
                        while answers.try_join_next().is_some() {}
                        let permit = Arc::clone(&permits).try_acquire_owned().ok();
                        let (engine, region, client) = (Arc::clone(&self.engine), self.region.clone(), client.clone());
                        answers.spawn(async move {
                            answer(&engine, &region, &client, &question, permit.is_some()).await;
                            drop(permit);
                        });
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot listen for questions for logs; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn answer(engine: &Engine, region: &str, client: &async_nats::Client, question: &Message, free: bool) {
    let Some(to) = question.reply.clone() else { return };
    let reply = if free {
        let answering = reply_to(engine, region, &question.payload);
        let answered = tokio::time::timeout(ANSWER, answering).await;
        answered.unwrap_or_else(|_| {
            tracing::warn!(within = ?ANSWER, "a question for logs took too long");
            LogReply::Refused(LogRefusal::Unavailable)
        })
    } else {
        LogReply::Refused(LogRefusal::Unavailable)
    };
    if matches!(reply, LogReply::Refused(LogRefusal::Unavailable)) {
        engine.metrics.error("logs");
    }
    // It consists of text and JSON: it can be written.
    let payload = serde_json::to_vec(&reply).unwrap_or_default();
    if let Err(error) = client.publish(to, payload.into()).await {
        tracing::debug!(%error, "an answer about logs was not sent; whoever asked asks again");
    }
}

async fn reply_to(engine: &Engine, region: &str, payload: &[u8]) -> LogReply {
    let request: LogRequest = match serde_json::from_slice(payload) {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(%error, "a question for logs is not understood");
            return LogReply::Refused(LogRefusal::Unavailable);
        }
    };
    let id = request.application_id;
    match logs_of(&engine.facilities, &engine.pool, region, request).await {
        Ok(page) => LogReply::Page(page),
        Err(LogsError::Runtime(RuntimeError::Cursor)) => LogReply::Refused(LogRefusal::Cursor),
        Err(error) => {
            tracing::warn!(application = %id, error = %Chain(&error), "cannot read an application's logs");
            LogReply::Refused(LogRefusal::Unavailable)
        }
    }
}

/// The lines that are asked for, without secrets.
///
/// # Errors
/// `LogsError`
pub async fn logs_of(
    facilities: &Facilities,
    pool: &PgPool,
    region: &str,
    request: LogRequest,
) -> Result<LogPage, LogsError> {
    let id = request.application_id;
    // First: a page that cannot be cleaned is not read at all.
    let redaction = redaction(facilities, pool, region, id).await?;
    let limit = request.limit.min(LogRequest::LIMIT_MAX);
    let query = LogQuery {
        from: match request.cursor {
            None => From::End,
            Some(cursor) if cursor == LogRequest::START => From::Start,
            Some(cursor) if cursor.len() > LogRequest::CURSOR_MAX => return Err(RuntimeError::Cursor.into()),
            Some(cursor) => From::After(cursor),
        },
        since: request.since,
        level: request.level,
        limit: usize::try_from(limit).unwrap_or(usize::MAX).max(1),
    };
    let mut page = facilities.runtime.logs(id, &query).await?;
    for entry in &mut page.entries {
        entry.message = redaction.apply(&entry.message);
        let fields = std::mem::take(&mut entry.fields);
        entry.fields = fields
            .into_iter()
            .map(|(name, value)| (redaction.apply(&name), clean(value, &redaction)))
            .collect();
    }
    Ok(page)
}

fn clean(value: Value, redaction: &Redaction) -> Value {
    match value {
        Value::String(text) => redaction.apply(&text).into(),
        Value::Array(items) => items.into_iter().map(|item| clean(item, redaction)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (redaction.apply(&name), clean(value, redaction)))
            .collect(),
        other => other,
    }
}

/// Everything that the platform or its team gave to an application of the region and nobody may read.
async fn redaction(
    facilities: &Facilities,
    pool: &PgPool,
    region: &str,
    id: ApplicationId,
) -> Result<Redaction, LogsError> {
    let intent = crate::db::intent::load(&mut *pool.acquire().await.map_err(DbError::from)?, id).await?;
    if intent.is_none_or(|intent| intent.region != region) {
        return Err(LogsError::Elsewhere);
    }
    known_secrets(facilities, pool, id).await
}

/// Everything that the platform or its team gave to an application and nobody may read.
pub(crate) async fn known_secrets(
    facilities: &Facilities,
    pool: &PgPool,
    id: ApplicationId,
) -> Result<Redaction, LogsError> {
    let own = application_secrets::load(pool, &facilities.ring, id).await?;
    let redaction = Redaction::new().and_all(own.iter().map(|(_, value)| value));
    Ok(match credentials::recorded(pool, &facilities.ring, id).await? {
        Some(credentials) => redaction.and_all(credentials.all()),
        None => redaction,
    })
}
