//! What is wanted of an application, and what has to be done for an operation: decided, not done.
//!
//! [`Intent`] is what the rows of the control database say; [`decide`] is a pure function of it, the operation, its ledger
//! and the time, so its tests can exhaust it. Nothing here does I/O.

use std::fmt;
use std::time::Duration;

use authsome_contract::model::{
    AppStatus, DatabaseChoice, Environment, Plan, RedisChoice, Serve, Step, WorkspaceStatus, status::Event,
};
use authsome_contract::wire::job::JobKind;
use authsome_core::id::{ApplicationId, WorkspaceId};
use time::OffsetDateTime;

use crate::ledger::ATTEMPTS;

/// How long a step may take of an operation that its deadline does not end. Then it is begun anew: what is gone stays gone.
const LONGEST_STEP: Duration = Duration::from_mins(10);

/// What should be there of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// Everything, with its instance running.
    Running,
    /// Its data, without a running instance.
    Stopped,
    /// Nothing.
    Absent,
}

/// A sealed column. Opened only by a ring, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// An application as it is wanted, and what has been written back of it.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Its id; every name outside derives from it.
    pub application_id: ApplicationId,
    /// The workspace that owns it.
    pub workspace_id: WorkspaceId,
    /// Its display name, as a person typed it.
    pub name: String,
    /// What it is for.
    pub environment: Environment,
    /// What its workspace pays for; bounds its resources.
    pub plan: Plan,
    /// Where it lives.
    pub region: String,
    /// Raised by every change of intent.
    pub generation: i64,
    /// The generation that was last made real.
    pub observed_generation: i64,
    /// Where it is in its life.
    pub status: AppStatus,
    /// Has it served before?
    pub activated: bool,
    /// Whether its workspace may use it.
    pub workspace_status: WorkspaceStatus,
    /// What should be there.
    pub desired: Desired,
    /// The customer's configuration of the instance, a JSON object.
    pub config: serde_json::Value,
    /// Browser origins that may call it.
    pub origins: Vec<String>,
    /// Path under which the instance serves; empty, or `/` and segments.
    pub base_path: String,
    /// Its namespace.
    pub namespace: String,
    /// CPU of one instance, as a Kubernetes quantity.
    pub cpu_limit: String,
    /// Memory of one instance, as a Kubernetes quantity.
    pub memory_limit: String,
    /// Storage of its database, as a Kubernetes quantity.
    pub storage_limit: String,
    /// The image that it is pinned to, or that the last upgrade brought, if there is one.
    pub image: Option<String>,
    /// Written back: how its database is kept apart, once that is decided.
    pub database: Option<DatabaseChoice>,
    /// Written back: how its Redis is kept apart, once that is decided.
    pub redis: Option<RedisChoice>,
    /// Written back: URL of its own database, sealed by the platform's ring.
    pub database_url: Option<Sealed>,
    /// Written back: URL of its own Redis user, sealed by the platform's ring.
    pub redis_url: Option<Sealed>,
    /// Written back: credentials that the edge injects, sealed by the edge's ring.
    pub edge_credentials: Option<Sealed>,
    /// Written back: the instance as the platform itself reaches it.
    pub internal_url: Option<String>,
    /// Written back: `name:port` of the headless service of its instances, where the runtime has one.
    pub instance_service: Option<String>,
    /// Written back: `host:port` of each instance.
    pub endpoints: Vec<String>,
}

impl Intent {
    /// What a status asks for. A first build that failed has nothing that should run; whatever it left is taken up again by a
    /// retry or removed by a purge.
    pub const fn desired(status: AppStatus, activated: bool) -> Desired {
        match status {
            AppStatus::Provisioning | AppStatus::Active | AppStatus::Updating | AppStatus::Restarting => {
                Desired::Running
            }
            AppStatus::Failed if activated => Desired::Running,
            AppStatus::Failed | AppStatus::Suspended | AppStatus::Deleting => Desired::Stopped,
            AppStatus::Purging | AppStatus::Deleted => Desired::Absent,
        }
    }

    /// Is it stopped, with its data kept, and was its stop carried out? What never served has nothing that must be kept.
    pub fn rests(&self) -> bool {
        matches!(self.status, AppStatus::Suspended | AppStatus::Deleting)
            && self.activated
            && self.observed_generation == self.generation
    }

    /// Is what there is of it to be kept as it should be, outside any operation?
    pub fn is_kept(&self) -> bool {
        self.serves() || self.rests()
    }

    /// Should its instance be up right now, outside any operation?
    pub fn serves(&self) -> bool {
        self.desired == Desired::Running && self.status.serve(self.activated, self.workspace_status) == Serve::Yes
    }
}

/// What the ledger says of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Begun; under nobody's lease that means interrupted.
    Running,
    /// Applied, or found as it should be.
    Done,
    /// Not needed here; the detail says why.
    Skipped,
    /// Tried without success.
    Failed,
    /// Taken back.
    Undone,
}

impl StepStatus {
    /// Every status.
    pub const ALL: &'static [Self] = &[
        Self::Pending,
        Self::Running,
        Self::Done,
        Self::Skipped,
        Self::Failed,
        Self::Undone,
    ];

    /// Name in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }
}

/// How a step is gone about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Observe; apply what is missing; record.
    Settle,
    /// Recorded as done by an earlier execution of the same operation: observe, and touch nothing unless it is gone.
    Confirm,
    /// Take away what the step made, whatever is left of it.
    Undo,
}

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// How to go about it.
    pub mode: Mode,
}

/// What to do with an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Take these steps in this order.
    Run(Vec<Planned>),
    /// A newer intent took its place; nothing is to be done for this one.
    Superseded,
    /// Give up, for this public reason.
    Fail(Verdict),
}

/// Why an operation is given up, fit for the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What went wrong.
    pub reason: String,
    /// What can be done about it.
    pub remediation: String,
}

impl Verdict {
    /// The operation did not reach its end in the time it was given.
    pub fn too_late() -> Self {
        Self {
            reason: "The operation did not finish in the time it may take.".to_owned(),
            remediation: "Try the operation again. If it is late again, contact support with the operation's id."
                .to_owned(),
        }
    }

    /// Every attempt failed; the last one for this public reason.
    pub fn used_up(reason: String) -> Self {
        let remediation =
            "Try the operation again. If it keeps failing, contact support with the operation's id.".to_owned();
        Self { reason, remediation }
    }
}

/// What to do with an operation of `kind` and `generation`, whose ledger says `ledger` and which may take until `deadline`.
pub fn decide(
    intent: &Intent,
    kind: JobKind,
    generation: i64,
    ledger: &[(Step, StepStatus)],
    deadline: OffsetDateTime,
    now: OffsetDateTime,
) -> Decision {
    if generation < intent.generation {
        return Decision::Superseded;
    }
    let steps = Step::of(kind);
    if !is_current(intent, kind, generation) {
        return Decision::Superseded;
    }
    if now >= deadline && !is_tried_until_done(kind) {
        return Decision::Fail(Verdict::too_late());
    }
    Decision::Run(
        steps
            .iter()
            .map(|&step| Planned {
                step,
                mode: if kind == JobKind::Purge {
                    Mode::Undo
                } else {
                    mode_of(step, ledger)
                },
            })
            .collect(),
    )
}

/// Is an operation of this kind and generation still what is wanted? Not once there is a newer intent, nor once the
/// application has left the status in which its success could be recorded (deleted while it was to be restarted, say).
pub fn is_current(intent: &Intent, kind: JobKind, generation: i64) -> bool {
    let fits = match stops_as(kind) {
        Some(status) => intent.status == status,
        None if kind == JobKind::Purge => intent.status == AppStatus::Purging,
        None => intent.desired == Desired::Running && intent.status.after(Event::Succeeded).is_ok(),
    };
    generation >= intent.generation && fits
}

/// Is an operation of this kind never given up? What takes something away is wanted until it is gone: pods of a customer who was
/// refused must not run on, nor data stay that was promised to be destroyed, and nobody would ask for it again.
pub const fn is_tried_until_done(kind: JobKind) -> bool {
    match kind {
        JobKind::Suspend | JobKind::Delete | JobKind::Purge => true,
        JobKind::Provision
        | JobKind::Update
        | JobKind::Restart
        | JobKind::Resume
        | JobKind::Undelete
        | JobKind::Rotate => false,
    }
}

/// Is an operation tried again after its attempt `number` (from 1) failed? `may_pass`: the failure may pass by itself.
pub const fn is_tried_again(kind: JobKind, number: i32, may_pass: bool) -> bool {
    is_tried_until_done(kind) || (may_pass && number < ATTEMPTS)
}

/// How long a step of an operation may take from now on.
pub fn time_left(kind: JobKind, deadline: OffsetDateTime, now: OffsetDateTime) -> Duration {
    if is_tried_until_done(kind) {
        LONGEST_STEP
    } else {
        Duration::try_from(deadline - now).unwrap_or(Duration::ZERO)
    }
}

/// The status that an operation which stops the application leaves as it found it; `None` for one that leaves it running.
pub const fn stops_as(kind: JobKind) -> Option<AppStatus> {
    match kind {
        JobKind::Suspend => Some(AppStatus::Suspended),
        JobKind::Delete => Some(AppStatus::Deleting),
        JobKind::Provision
        | JobKind::Update
        | JobKind::Restart
        | JobKind::Resume
        | JobKind::Undelete
        | JobKind::Purge
        | JobKind::Rotate => None,
    }
}

fn mode_of(step: Step, ledger: &[(Step, StepStatus)]) -> Mode {
    match ledger.iter().find(|(recorded, _)| *recorded == step) {
        Some((_, StepStatus::Done)) => Mode::Confirm,
        // Whether a step is to be skipped is the runtime's to say every time.
        Some((
            _,
            StepStatus::Pending | StepStatus::Running | StepStatus::Skipped | StepStatus::Failed | StepStatus::Undone,
        ))
        | None => Mode::Settle,
    }
}

#[cfg(test)]
mod tests;
