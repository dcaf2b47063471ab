//! Steps that follow a script, so that the engine can be brought to every point of an operation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_provisioner::execution::Actions;
use authsome_provisioner::step::{Observed, Outcome, StepAction, StepContext, StepError};
use tokio::sync::Notify;

/// What goes wrong with one application of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Fails before anything was done.
    Retry,
    /// Does its work and then fails to say so.
    RetryAfterEffect,
    /// Fails for good.
    Fatal,
    /// Panics.
    Panic,
    /// Hangs before anything was done.
    Hang,
    /// Does its work and then hangs.
    HangAfterEffect,
}

/// The world that scripted steps act on, shared by all workers of a test.
#[derive(Default)]
pub struct World {
    /// What is there.
    effects: Mutex<HashSet<Step>>,
    faults: Mutex<HashMap<Step, VecDeque<Fault>>>,
    applied: Mutex<Vec<Step>>,
    observed: Mutex<Vec<Step>>,
    applying: AtomicUsize,
    overlapped: AtomicBool,
    /// Told whenever an application of a step begins to hang.
    pub hanging: Notify,
    /// Lets hanging steps go on.
    pub go_on: Notify,
}

impl World {
    /// A world with nothing in it, in which nothing goes wrong.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next applications of a step go wrong like this, one after the other.
    pub fn fault(&self, step: Step, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().entry(step).or_default().extend(faults);
    }

    /// Something outside takes away what a step made.
    pub fn lose(&self, step: Step) {
        assert!(self.effects.lock().unwrap().remove(&step));
    }

    /// How often each application of a step began.
    pub fn applications(&self, step: Step) -> usize {
        self.applied
            .lock()
            .unwrap()
            .iter()
            .filter(|applied| **applied == step)
            .count()
    }

    /// The steps whose application began, in order.
    pub fn applied(&self) -> Vec<Step> {
        self.applied.lock().unwrap().clone()
    }

    /// The steps that were looked at, in order.
    pub fn observed(&self) -> Vec<Step> {
        self.observed.lock().unwrap().clone()
    }

    /// Is what a step makes there?
    pub fn has(&self, step: Step) -> bool {
        self.effects.lock().unwrap().contains(&step)
    }

    /// Is everything there that the steps make?
    pub fn is_complete(&self) -> bool {
        let effects = self.effects.lock().unwrap();
        Step::PROVISION
            .iter()
            .all(|step| effects.contains(step) || skips(*step))
    }

    /// Were two steps ever applied at the same time?
    pub fn overlapped(&self) -> bool {
        self.overlapped.load(Ordering::SeqCst)
    }

    /// The steps of one worker.
    pub fn worker(self: &Arc<Self>) -> Arc<Script> {
        Arc::new(Script(
            Step::PROVISION
                .iter()
                .map(|&step| Scripted {
                    step,
                    world: Arc::clone(self),
                })
                .collect(),
        ))
    }
}

/// As with the local runtime, some steps are skipped.
pub fn skips(step: Step) -> bool {
    matches!(step, Step::Namespace | Step::Monitoring)
}

/// The steps of one worker.
pub struct Script(Vec<Scripted>);

impl Actions for Script {
    fn of(&self, step: Step) -> &dyn StepAction {
        self.0.iter().find(|scripted| scripted.step == step).unwrap()
    }
}

struct Scripted {
    step: Step,
    world: Arc<World>,
}

/// Counts an application for as long as it is under way, however it ends.
struct Applying<'a>(&'a World);

impl<'a> Applying<'a> {
    fn begin(world: &'a World) -> Self {
        if world.applying.fetch_add(1, Ordering::SeqCst) > 0 {
            world.overlapped.store(true, Ordering::SeqCst);
        }
        Self(world)
    }
}

impl Drop for Applying<'_> {
    fn drop(&mut self) {
        self.0.applying.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    fn next_fault(&self) -> Option<Fault> {
        let mut faults = self.world.faults.lock().unwrap();
        faults.get_mut(&self.step).and_then(VecDeque::pop_front)
    }

    /// As a dependency fails, if that is the fault.
    fn fail(&self, fault: Option<Fault>) -> Result<(), StepError> {
        match fault {
            Some(Fault::Retry) => Err(StepError::Retry {
                reason: format!("The {} was not available.", self.step),
                source: "connection refused by 10.0.0.7".into(),
            }),
            Some(Fault::Fatal) => Err(StepError::Fatal {
                reason: format!("The {} cannot be made.", self.step),
                remediation: "Choose another region.".to_owned(),
                source: "permission denied for role provisioner".into(),
            }),
            _ => Ok(()),
        }
    }

    fn take_effect(&self) {
        self.world.effects.lock().unwrap().insert(self.step);
    }

    async fn hang(&self) {
        self.world.hanging.notify_one();
        self.world.go_on.notified().await;
    }
}

#[async_trait]
impl StepAction for Scripted {
    fn step(&self) -> Step {
        self.step
    }

    async fn observe(&self, _: &StepContext<'_>) -> Result<Observed, StepError> {
        self.world.observed.lock().unwrap().push(self.step);
        if self.world.effects.lock().unwrap().contains(&self.step) {
            Ok(Observed::Done)
        } else {
            Ok(Observed::Needed("it is not there".to_owned()))
        }
    }

    async fn apply(&self, _: &StepContext<'_>) -> Result<Outcome, StepError> {
        let _applying = Applying::begin(&self.world);
        self.world.applied.lock().unwrap().push(self.step);
        let fault = self.next_fault();
        self.fail(fault)?;
        match fault {
            Some(Fault::Panic) => panic!("index out of bounds"),
            Some(Fault::Hang) => self.hang().await,
            _ => {}
        }
        if skips(self.step) {
            return Ok(Outcome::skipped("Not used here."));
        }
        self.take_effect();
        match fault {
            Some(Fault::RetryAfterEffect) => self.fail(Some(Fault::Retry))?,
            Some(Fault::HangAfterEffect) => self.hang().await,
            _ => {}
        }
        Ok(Outcome::done(format!("The {} is ready.", self.step)))
    }

    async fn undo(&self, _: &StepContext<'_>) -> Result<(), StepError> {
        self.fail(self.next_fault())?;
        self.world.effects.lock().unwrap().remove(&self.step);
        Ok(())
    }
}
