//! What operators do with upgrades: begin one, look at it, pause, resume, end it where it stands, take it back.
//!
//! Each is one transaction on the control database that takes effect at the next look of a provisioner; nothing here talks to a
//! cluster. Without the database nothing happens and the command says so.

use std::collections::BTreeMap;
use std::time::Duration;

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::EventId;
use authsome_db::DbError;
use authsome_db::audit::{self, ActorType, Event};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::wave::Wave;
use super::{Member, State, Status, Upgrade};
use crate::db::{fleet_image, upgrade as rows};

/// Why a command changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// One at a time.
    #[error("region {0} has an upgrade that is not over: see `status`, then `resume`, `take-back` or `abort` it")]
    Open(String),
    /// There is none.
    #[error("region {0} has had no upgrade")]
    None(String),
    /// It is past that.
    #[error("the upgrade of region {region} is {}, and cannot be {wanted}", status.as_str())]
    Past {
        /// The region.
        region: String,
        /// Where it is.
        status: Status,
        /// What was wanted.
        wanted: &'static str,
    },
    /// It is not this configuration's.
    #[error("region {named:?} is none of the configuration's: name one of {known}")]
    Region {
        /// What was named; empty if nothing was.
        named: String,
        /// What there is.
        known: String,
    },
    /// No registry has that.
    #[error("{0:?} is no image reference such as registry.example/authsome:1.6.2")]
    Image(String),
    /// The control database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for CommandError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// An upgrade to begin.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The region.
    pub region: &'a str,
    /// The new image.
    pub image: &'a str,
    /// The image of applications that no upgrade has given one, if the installation has one.
    pub own: Option<&'a str>,
    /// How large the waves are.
    pub waves: &'a [Wave],
    /// How long each wave is watched when it is over.
    pub soak: Duration,
    /// Applications at a time.
    pub parallel: u32,
    /// More failures than these halt it.
    pub max_failures: u32,
}

/// What is done with an upgrade that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Begin no further application.
    Pause,
    /// Go on; failures so far are accepted.
    Resume,
    /// End it where it stands.
    Abort,
    /// Give every application its former image back.
    TakeBack,
}

impl Verb {
    const fn to(self) -> Status {
        match self {
            Self::Pause => Status::Paused,
            Self::Resume => Status::Running,
            Self::Abort => Status::Aborted,
            Self::TakeBack => Status::TakingBack,
        }
    }

    /// From where it is possible; where it is so already nothing changes.
    const fn applies(self, status: Status) -> bool {
        match self {
            Self::Pause => matches!(status, Status::Running),
            Self::Resume => matches!(status, Status::Paused | Status::Halted),
            Self::Abort => matches!(
                status,
                Status::Running | Status::Paused | Status::Halted | Status::TakingBack
            ),
            Self::TakeBack => matches!(status, Status::Running | Status::Paused | Status::Halted),
        }
    }

    const fn participle(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Abort => "aborted",
            Self::TakeBack => "taken back",
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Pause => "image_upgrade.pause",
            Self::Resume => "image_upgrade.resume",
            Self::Abort => "image_upgrade.abort",
            Self::TakeBack => "image_upgrade.take_back",
        }
    }
}

/// What an upgrade has come to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Report {
    pub id: i64,
    pub region: String,
    pub image: String,
    pub status: Status,
    /// The present one, from 1.
    pub wave: usize,
    pub waves: Vec<String>,
    pub total: u32,
    /// How many applications are in which state.
    pub applications: BTreeMap<&'static str, u32>,
    pub failures: Vec<Failure>,
    pub reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// An application that did not come up with the new image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its id.
    pub application: String,
    /// Where it is now.
    pub state: State,
    /// Why it failed, and what was done about it.
    pub reason: Option<String>,
}

impl From<Member> for Failure {
    fn from(member: Member) -> Self {
        Self {
            application: member.application.to_string(),
            state: member.state,
            reason: member.reason,
        }
    }
}

/// Begins an upgrade.
pub async fn begin(
    pool: &PgPool,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    plan: &Plan<'_>,
) -> Result<Report, CommandError> {
    if !crate::runtime::kubernetes::manifest::is_image_reference(plan.image) {
        return Err(CommandError::Image(plan.image.to_owned()));
    }
    let mut transaction = pool.begin().await?;
    let (now, later) = fleet_image::waiting(&mut transaction, plan.region, plan.image, plan.own, None).await?;
    let new = rows::NewUpgrade {
        region: plan.region,
        image: plan.image,
        waves: plan.waves,
        soak: plan.soak,
        parallel: plan.parallel,
        max_failures: plan.max_failures,
        total: now.saturating_add(later),
    };
    let id = match rows::insert(&mut transaction, &new).await {
        Err(DbError::Duplicate { .. }) => return Err(CommandError::Open(plan.region.to_owned())),
        id => id?,
    };
    let changes = json!({ "region": plan.region, "image": plan.image, "total": new.total });
    record(&mut transaction, (clock, entropy), "image_upgrade.begin", id, changes).await?;
    let report = report_of(&mut transaction, plan.region).await?;
    transaction.commit().await?;
    Ok(report)
}

/// Changes the upgrade of a region. What it is already it stays.
pub async fn act(
    pool: &PgPool,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    region: &str,
    verb: Verb,
) -> Result<Report, CommandError> {
    let mut transaction = pool.begin().await?;
    let upgrade = found(&mut transaction, region).await?;
    if upgrade.status != verb.to() {
        if !verb.applies(upgrade.status) {
            return Err(CommandError::Past {
                region: region.to_owned(),
                status: upgrade.status,
                wanted: verb.participle(),
            });
        }
        if verb == Verb::Resume {
            let failures = rows::counts(&mut transaction, upgrade.id).await?.failures;
            rows::forgive(&mut transaction, upgrade.id, failures).await?;
        }
        let reason = upgrade.reason.as_deref().filter(|_| verb != Verb::Resume);
        rows::set_status(&mut transaction, upgrade.id, verb.to(), reason).await?;
        let changes = json!({ "region": region, "from": upgrade.status, "to": verb.to() });
        record(&mut transaction, (clock, entropy), verb.action(), upgrade.id, changes).await?;
    }
    let report = report_of(&mut transaction, region).await?;
    transaction.commit().await?;
    Ok(report)
}

/// What the last upgrade of a region has come to.
pub async fn report(pool: &PgPool, region: &str) -> Result<Report, CommandError> {
    let mut transaction = pool.begin().await?;
    report_of(&mut transaction, region).await
}

async fn found(connection: &mut PgConnection, region: &str) -> Result<Upgrade, CommandError> {
    let upgrade = rows::last(connection, region).await?;
    upgrade.ok_or_else(|| CommandError::None(region.to_owned()))
}

async fn report_of(connection: &mut PgConnection, region: &str) -> Result<Report, CommandError> {
    let upgrade = found(connection, region).await?;
    let mut applications = BTreeMap::new();
    for (state, _, count) in rows::states(connection, upgrade.id).await? {
        *applications.entry(state.as_str()).or_insert(0) += count;
    }
    let failures = rows::failures(connection, upgrade.id).await?;
    Ok(Report {
        id: upgrade.id,
        region: upgrade.region,
        image: upgrade.image,
        status: upgrade.status,
        wave: upgrade.wave + 1,
        waves: upgrade.waves.iter().map(ToString::to_string).collect(),
        total: upgrade.total,
        applications,
        failures: failures.into_iter().map(Failure::from).collect(),
        reason: upgrade.reason,
        created_at: upgrade.created_at,
        finished_at: upgrade.finished_at,
    })
}

async fn record(
    connection: &mut PgConnection,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    action: &'static str,
    upgrade: i64,
    changes: Value,
) -> Result<(), DbError> {
    let id = upgrade.to_string();
    let event = Event {
        id: EventId::generate(clock, entropy),
        workspace_id: None,
        application_id: None,
        actor_id: Some("staff"),
        actor_type: ActorType::Service,
        action,
        resource: "image_upgrade",
        resource_id: Some(&id),
        changes,
        ip_address: None,
        user_agent: None,
        succeeded: true,
        request_id: None,
    };
    audit::record(connection, &event).await
}
