//! Takes the upgrade of a region one step further, every few seconds.
//!
//! One look is one transaction that holds the upgrade's row, so that of several provisioners one acts at a time and none
//! repeats what another did. Without Postgres nothing is done, and it is tried again at the next look.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::AppStatus;
use authsome_core::error::Chain;
use authsome_core::id::{ApplicationId, EventId, OperationId};
use authsome_db::DbError;
use authsome_db::application::TransitionError;
use authsome_db::audit::{self, ActorType, Event};
use serde_json::json;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::decision::{self, Next, Outcome};
use super::update::{self, UpdateError};
use super::{Member, State, Status, Upgrade};
use crate::db::fleet_image::{self, Image};
use crate::db::upgrade::{self as rows, Change};
use crate::execution::Engine;
use crate::runtime::RuntimeError;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(30);
/// Changes in one transaction at most.
const AT_ONCE: u32 = 64;

/// Why a look came to nothing. It is looked again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error("the instances of a wave cannot be looked at: {0}")]
    Runtime(#[from] RuntimeError),
    #[error("no answer within {LOOK:?}")]
    Silent,
}

impl From<sqlx::Error> for LookError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Takes upgrades forward.
pub struct Driver {
    /// Postgres, the runtime, clock and entropy.
    pub engine: Arc<Engine>,
    /// The region whose applications are this provisioner's.
    pub region: String,
    /// Time between two looks.
    pub tick: Duration,
}

impl Driver {
    /// Looks until `soft`.
    pub async fn run(self, soft: CancellationToken) {
        loop {
            let looked = soft.run_until_cancelled(tokio::time::timeout(LOOK, self.look())).await;
            let acted = match looked {
                None => return,
                Some(Ok(Ok(acted))) => acted,
                Some(failed) => {
                    let error = match failed {
                        Ok(Err(error)) => error,
                        _ => LookError::Silent,
                    };
                    self.engine.metrics.error("upgrade");
                    tracing::warn!(error = %Chain(&error), region = self.region, "cannot take an upgrade forward; looking again");
                    false
                }
            };
            // What was done may have made room for more.
            let pause = if acted { self.tick / 10 } else { self.tick };
            if soft.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One look. Returns whether anything was done.
    async fn look(&self) -> Result<bool, LookError> {
        let mut transaction = self.engine.pool.begin().await?;
        let status = rows::open_status(&mut transaction, &self.region).await?;
        self.engine
            .metrics
            .upgrade_halted(&self.region, status == Some(Status::Halted));
        if status.is_none() {
            return Ok(false);
        }
        let Some(upgrade) = rows::open_unless_held(&mut transaction, &self.region).await? else {
            return Ok(false);
        };
        let took_in = self.take_in(&mut transaction, &upgrade).await?;
        let counts = rows::counts(&mut transaction, upgrade.id).await?;
        let runtime = &self.engine.facilities.runtime;
        let own = runtime.image();
        let (candidates, coming) = if upgrade.status == Status::Running {
            fleet_image::waiting(&mut transaction, &upgrade.region, &upgrade.image, own, Some(upgrade.id)).await?
        } else {
            (0, 0)
        };
        let now = self.engine.clock.now();
        let next = decision::next(&upgrade, counts, candidates, coming, now);
        let acted = next != Next::Wait;
        match next {
            Next::Wait => {}
            Next::Halt(reason) => {
                tracing::error!(
                    upgrade = upgrade.id,
                    image = upgrade.image,
                    region = upgrade.region,
                    reason,
                    "upgrade halted"
                );
                rows::set_status(&mut transaction, upgrade.id, Status::Halted, Some(&reason)).await?;
            }
            Next::Begin(count) => {
                for (id, previous) in
                    fleet_image::candidates(&mut transaction, &upgrade, own, count.min(AT_ONCE)).await?
                {
                    if let Some(begun) = self
                        .give(&mut transaction, &upgrade, id, Some(&upgrade.image), None)
                        .await?
                    {
                        rows::add_member(&mut transaction, &upgrade, id, previous.as_deref(), begun).await?;
                    }
                }
                rows::set_wave(&mut transaction, upgrade.id, upgrade.wave, None).await?;
            }
            Next::Settle => rows::set_wave(&mut transaction, upgrade.id, upgrade.wave, Some(now)).await?,
            Next::Advance => self.advance(&mut transaction, &upgrade, own).await?,
            Next::TakeBack(count) => {
                let states = [State::Updated, State::Set];
                let members = rows::members(&mut transaction, upgrade.id, &states, None, count.min(AT_ONCE)).await?;
                for member in members {
                    self.take_back(&mut transaction, &upgrade, &member, None).await?;
                }
            }
            Next::TakenBack => {
                tracing::info!(upgrade = upgrade.id, region = upgrade.region, "upgrade taken back");
                rows::set_status(
                    &mut transaction,
                    upgrade.id,
                    Status::TakenBack,
                    upgrade.reason.as_deref(),
                )
                .await?;
            }
        }
        transaction.commit().await?;
        Ok(acted || took_in)
    }

    /// What became of what was under way.
    async fn take_in(&self, connection: &mut PgConnection, upgrade: &Upgrade) -> Result<bool, LookError> {
        let states = [State::Updating, State::TakingBack];
        let mut moved = false;
        for member in rows::members(connection, upgrade.id, &states, None, AT_ONCE).await? {
            let updating = member.state == State::Updating;
            let to = |state, reason| Change {
                state,
                failed: false,
                reason,
                begun: None,
            };
            let outcome = decision::outcome(&member);
            let change = match &outcome {
                Outcome::UnderWay => continue,
                Outcome::Failed(reason) if updating => {
                    self.take_back(connection, upgrade, &member, Some(reason)).await?;
                    moved = true;
                    continue;
                }
                Outcome::Failed(reason) => {
                    tracing::error!(application = %member.application, upgrade = upgrade.id, reason, "neither image runs");
                    to(State::Stuck, None)
                }
                Outcome::Healthy if updating => to(State::Updated, None),
                Outcome::Gone if updating => to(
                    State::Set,
                    Some("It was stopped meanwhile, and starts with the new image."),
                ),
                Outcome::Healthy | Outcome::Gone => to(State::TakenBack, None),
            };
            rows::change_member(connection, upgrade.id, member.application, change).await?;
            moved = true;
        }
        Ok(moved)
    }

    /// Gives an application its former image back; `failure` is why, unless an operator wants it.
    async fn take_back(
        &self,
        connection: &mut PgConnection,
        upgrade: &Upgrade,
        member: &Member,
        failure: Option<&str>,
    ) -> Result<(), LookError> {
        let previous = member.previous.as_deref();
        let begun = self
            .give(connection, upgrade, member.application, previous, failure)
            .await?;
        if begun.is_none() {
            // It is stopped, or being deleted: it starts with the former image, if ever.
            fleet_image::set_image(connection, member.application, Image::Fleet(previous)).await?;
        }
        let reason = failure.map(|failure| {
            tracing::warn!(application = %member.application, upgrade = upgrade.id, failure, "the former image comes back");
            format!("It was given its former image {}: {failure}", previous.unwrap_or("back"))
        });
        let change = Change {
            state: if begun.is_some() {
                State::TakingBack
            } else {
                State::TakenBack
            },
            failed: failure.is_some(),
            reason: reason.as_deref(),
            begun,
        };
        rows::change_member(connection, upgrade.id, member.application, change).await?;
        Ok(())
    }

    /// The wave was watched. If its instances still are healthy the next one may begin, or the upgrade is over.
    async fn advance(
        &self,
        connection: &mut PgConnection,
        upgrade: &Upgrade,
        own: Option<&str>,
    ) -> Result<(), LookError> {
        let mut fell = false;
        let members = rows::members(connection, upgrade.id, &[State::Updated], Some(upgrade.wave), u32::MAX).await?;
        for member in members.iter().filter(|member| member.status == AppStatus::Active) {
            let placement = self.engine.facilities.runtime.observe(member.application).await?;
            if !placement.is_healthy(member.observed_generation) {
                let why = placement.trouble.map(|trouble| trouble.public);
                let why = why.unwrap_or_else(|| "Its instances did not stay healthy.".to_owned());
                self.take_back(connection, upgrade, member, Some(&why)).await?;
                fell = true;
            }
        }
        if fell {
            rows::set_wave(connection, upgrade.id, upgrade.wave, None).await?;
        } else if upgrade.wave + 1 < upgrade.waves.len() {
            tracing::info!(upgrade = upgrade.id, wave = upgrade.wave, "wave is healthy");
            rows::set_wave(connection, upgrade.id, upgrade.wave + 1, None).await?;
        } else {
            tracing::info!(
                upgrade = upgrade.id,
                image = upgrade.image,
                region = upgrade.region,
                "upgrade succeeded"
            );
            fleet_image::finish(connection, upgrade, own).await?;
        }
        Ok(())
    }

    /// A new intent with this image, and the operation for it; `None` where the application cannot be updated now.
    async fn give(
        &self,
        connection: &mut PgConnection,
        upgrade: &Upgrade,
        id: ApplicationId,
        image: Option<&str>,
        failure: Option<&str>,
    ) -> Result<Option<(i64, OperationId)>, LookError> {
        let engine = &self.engine;
        let begun = update::begin(connection, (&*engine.clock, &*engine.entropy), id, Image::Fleet(image)).await;
        let begun = match begun {
            Ok(Some(begun)) => begun,
            // One that is stopped stays so, and one that is going needs nothing.
            Ok(None) | Err(UpdateError::Transition(TransitionError::Illegal(_) | TransitionError::Missing(_))) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let (text, back) = (id.to_string(), image != Some(upgrade.image.as_str()));
        let event = Event {
            id: EventId::generate(&*engine.clock, &*engine.entropy),
            workspace_id: Some(begun.workspace),
            application_id: Some(id),
            actor_id: Some("provisioner"),
            actor_type: ActorType::Service,
            action: if back {
                "application.image_take_back"
            } else {
                "application.image_upgrade"
            },
            resource: "application",
            resource_id: Some(&text),
            changes: json!({ "image": image, "upgrade": upgrade.id, "operationId": begun.operation, "failure": failure }),
            ip_address: None,
            user_agent: None,
            succeeded: true,
            request_id: None,
        };
        audit::record(connection, &event).await?;
        Ok(Some((begun.generation, begun.operation)))
    }
}
