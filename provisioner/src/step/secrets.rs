//! Secrets: the addresses of the application's database and Redis, with their passwords, where its instance is started
//! from: sealed in the application's row. What its team gave to the application is sealed there by control already.

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_core::seal::{Aad, PlatformRing};
use authsome_core::secret::SecretUrl;
use secrecy::ExposeSecret;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::application_secrets;
use crate::credentials::{self, Credentials, Kind};
use crate::db;
use crate::plan::{Intent, Sealed};

pub(super) struct Secrets;

const DATABASE_URL: &str = "applications.database_url";
const REDIS_URL: &str = "applications.redis_url";

/// The addresses of an application's own database and Redis user.
pub(super) struct Addresses {
    pub(super) database: SecretUrl,
    pub(super) redis: SecretUrl,
}

/// The addresses as they should be.
fn wanted(cx: &StepContext<'_>, credentials: &Credentials) -> Result<Addresses, StepError> {
    let id = cx.intent.application_id;
    let (database, redis) = (credentials.active_database(), credentials.active_redis());
    Ok(Addresses {
        database: cx
            .database()?
            .url(id, database, credentials.password(Kind::Database(database))),
        redis: cx.cache()?.url(id, credentials.password(Kind::Redis(redis))),
    })
}

/// The addresses as they are recorded; `None` while one is missing or does not open.
pub(super) fn recorded(intent: &Intent, ring: &PlatformRing) -> Option<Addresses> {
    let row = intent.application_id.text();
    let open = |table_column, sealed: &Option<Sealed>| {
        let text = ring
            .open_text(
                Aad {
                    table_column,
                    row: &row,
                },
                &sealed.as_ref()?.0,
            )
            .ok()?;
        SecretUrl::parse(text.expose_secret()).ok()
    };
    Some(Addresses {
        database: open(DATABASE_URL, &intent.database_url)?,
        redis: open(REDIS_URL, &intent.redis_url)?,
    })
}

#[async_trait]
impl StepAction for Secrets {
    fn step(&self) -> Step {
        Step::Secrets
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let ring = &cx.facilities.ring;
        let Some(credentials) = credentials::recorded(cx.pool, ring, cx.intent.application_id).await? else {
            return Ok(Observed::Needed("no credentials are recorded".to_owned()));
        };
        if credentials.has_next(cx.intent.generation) {
            return Ok(Observed::Needed("the new passwords are not in use".to_owned()));
        }
        let wanted = wanted(cx, &credentials)?;
        let current = recorded(cx.intent, ring).is_some_and(|seen| {
            seen.database.expose() == wanted.database.expose() && seen.redis.expose() == wanted.redis.expose()
        });
        let stale = [&cx.intent.database_url, &cx.intent.redis_url]
            .into_iter()
            .flatten()
            .any(|sealed| ring.needs_reseal(&sealed.0))
            || application_secrets::are_stale(cx.pool, ring, cx.intent.application_id).await?;
        Ok(match (current, stale) {
            (true, false) => Observed::Done,
            (true, true) => Observed::Needed("something is sealed under an older key".to_owned()),
            (false, _) => Observed::Needed("addresses are not recorded as they are".to_owned()),
        })
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        let mut credentials = credentials::ensure(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        if credentials.has_next(cx.intent.generation) {
            // The servers know them since the steps before this one.
            credentials::switch(cx.pool, cx.fence, &credentials, cx.intent.generation).await?;
            credentials = credentials::ensure(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        }
        let wanted = wanted(cx, &credentials)?;
        let row = cx.intent.application_id.text();
        let seal = |table_column, url: &SecretUrl| {
            facilities.ring.seal(
                Aad {
                    table_column,
                    row: &row,
                },
                url.expose().as_bytes(),
                &*facilities.entropy,
            )
        };
        let (database, redis) = (seal(DATABASE_URL, &wanted.database), seal(REDIS_URL, &wanted.redis));
        db::placement::record_urls(cx.pool, cx.fence, &database, &redis).await?;
        application_secrets::reseal(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        Ok(Outcome::done("The credentials are stored, sealed."))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // In reverse order this comes before the database and the user are gone. An interrupted purge needs no password to go
        // on: they are removed by name.
        db::placement::forget_credentials(cx.pool, cx.fence).await?;
        Ok(())
    }
}

/// The recorded addresses, or why an instance cannot be started without them.
pub(super) fn needed(cx: &StepContext<'_>) -> Result<Addresses, StepError> {
    recorded(cx.intent, &cx.facilities.ring).ok_or_else(|| {
        failure::retry(
            "The application's credentials are not stored yet.",
            "database_url or redis_url is missing or does not open",
        )
    })
}
