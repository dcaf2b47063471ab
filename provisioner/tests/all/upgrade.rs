//! A new image for all applications, in waves: over a real control database, tenants' Postgres and Redis, and the API double.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::AppStatus;
use authsome_core::clock::SystemClock;
use authsome_core::id::ApplicationId;
use authsome_core::retry::Backoff;
use authsome_db::operation::OperationStatus;
use authsome_provisioner::db;
use authsome_provisioner::execution::{BuiltIn, Engine};
use authsome_provisioner::metrics::Metrics;
use authsome_provisioner::reconcile::Reconciler;
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_provisioner::upgrade::command::{self, CommandError, Plan, Report, Verb};
use authsome_provisioner::upgrade::pin::{self, PinError, Pinned};
use authsome_provisioner::upgrade::{Driver, Status, wave};
use authsome_testkit::{RedisOptions, RedisServer, wait_for};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_double::ApiDouble;
use crate::engine::{Control, REGION, Wanted, entropy};
use crate::kubernetes::{life, samples};
use crate::lease::run_out;
use crate::steps;

const NEW: &str = "ghcr.io/example/authsome:1.7.0";
const LONG: Duration = Duration::from_mins(2);

fn old() -> String {
    samples::settings().image.reference
}

/// What carries out operations: real steps, a cluster that is the double, and no wait between attempts.
pub async fn engine(control: &Control, api: &ApiDouble, redis: &RedisServer, directory: &Path) -> Arc<Engine> {
    let mut facilities = steps::facilities(redis, directory, "/nowhere".into()).await;
    facilities.runtime = Arc::new(life::runtime(api, samples::settings()));
    let no_wait = Backoff {
        base: Duration::ZERO,
        factor: 1.0,
        max: Duration::ZERO,
    };
    let number = authsome_core::entropy::Entropy::next_u64(&entropy());
    Arc::new(Engine {
        pool: control.pool.clone(),
        holder: format!("worker-{number}").into(),
        actions: Arc::new(BuiltIn),
        facilities: Arc::new(facilities),
        lease_lifetime: Duration::from_secs(30),
        retry: no_wait,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(entropy()),
        metrics: Arc::new(Metrics::new().unwrap()),
        stop: CancellationToken::new(),
    })
}

/// A region with applications in it, and no provisioner yet.
struct Fleet {
    control: Control,
    api: ApiDouble,
    redis: RedisServer,
    directory: tempfile::TempDir,
    applications: Vec<ApplicationId>,
}

/// One provisioner of the region. Killed when dropped: nothing is finished and nothing is said.
struct Worker {
    tasks: Vec<JoinHandle<()>>,
    engine: Arc<Engine>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Fleet {
    async fn start(count: usize) -> (Self, Worker) {
        let (control, api) = tokio::join!(Control::start(), ApiDouble::start());
        let mut fleet = Self {
            control,
            api,
            redis: RedisServer::start(RedisOptions::default()).await.unwrap(),
            directory: tempfile::tempdir().unwrap(),
            applications: Vec::new(),
        };
        let worker = fleet.worker().await;
        let mut wanted: Vec<Wanted> = Vec::new();
        for _ in 0..count {
            wanted.push(fleet.control.wanted().await);
        }
        for one in wanted {
            fleet.until_status(one.application, "active").await;
            fleet.applications.push(one.application);
        }
        (fleet, worker)
    }

    async fn worker(&self) -> Worker {
        let engine = engine(&self.control, &self.api, &self.redis, self.directory.path()).await;
        let reconciler = Reconciler {
            engine: Arc::clone(&engine),
            region: REGION.to_owned(),
            permits: Arc::new(Semaphore::new(3)),
            tick: Duration::from_millis(100),
        };
        let driver = Driver {
            engine: Arc::clone(&engine),
            region: REGION.to_owned(),
            tick: Duration::from_millis(50),
        };
        let tasks = vec![
            tokio::spawn(reconciler.run(CancellationToken::new())),
            tokio::spawn(driver.run(CancellationToken::new())),
        ];
        Worker { tasks, engine }
    }

    async fn begin(&self, waves: &str, max_failures: u32) -> Result<Report, CommandError> {
        let waves = wave::parse(waves).unwrap();
        let own = old();
        let plan = Plan {
            region: REGION,
            image: NEW,
            own: Some(&own),
            waves: &waves,
            soak: Duration::ZERO,
            parallel: 2,
            max_failures,
        };
        command::begin(&self.control.pool, &SystemClock, &entropy(), &plan).await
    }

    async fn act(&self, verb: Verb) -> Result<Report, CommandError> {
        command::act(&self.control.pool, &SystemClock, &entropy(), REGION, verb).await
    }

    async fn report(&self) -> Report {
        command::report(&self.control.pool, REGION).await.unwrap()
    }

    async fn until(&self, status: Status) -> Report {
        wait_for(format!("the upgrade to be {}", status.as_str()), LONG, async || {
            let report = self.report().await;
            if report.status == status {
                Ok(report)
            } else {
                Err(format!("{report:?}"))
            }
        })
        .await
        .unwrap()
    }

    async fn until_status(&self, id: ApplicationId, status: &str) {
        wait_for(format!("an application to be {status}"), LONG, async || {
            let now = self.control.column(id, "status").await.unwrap();
            if now == status { Ok(()) } else { Err(now) }
        })
        .await
        .unwrap();
    }

    /// What the application's Deployment runs.
    fn image(&self, id: ApplicationId) -> String {
        let deployment = self.api.get(Kind::Deployment, &namespace_of(id), "authsome").unwrap();
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        image.as_str().unwrap().to_owned()
    }

    fn images(&self) -> (usize, usize) {
        let new = self.applications.iter().filter(|id| self.image(**id) == NEW).count();
        (new, self.applications.len() - new)
    }

    /// Update operations of an application, by how they ended.
    async fn updates(&self, id: ApplicationId) -> Vec<String> {
        sqlx::query_scalar("SELECT status FROM operations WHERE application_id = $1 AND kind = 'update' ORDER BY id")
            .bind(id)
            .fetch_all(&self.control.pool)
            .await
            .unwrap()
    }

    async fn pin(&self, id: ApplicationId, image: Option<&str>) -> Result<Pinned, PinError> {
        pin::pin(&self.control.pool, (&SystemClock, &entropy()), id, image).await
    }

    /// Waits until an operation has succeeded.
    async fn done(&self, pinned: Result<Pinned, PinError>) {
        let operation = pinned.unwrap().operation.unwrap();
        self.control.until(operation, OperationStatus::Succeeded).await;
    }

    fn breaks(&self, id: ApplicationId) {
        self.api
            .trouble(|trouble| _ = trouble.crashing_in.insert((namespace_of(id), NEW.to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_image_goes_through_the_fleet_wave_by_wave_and_is_what_new_applications_get() {
    let (mut fleet, worker) = Fleet::start(6).await;
    let [pinned, stopped, ..] = fleet.applications[..] else {
        panic!()
    };
    fleet.done(fleet.pin(pinned, Some(&old())).await).await;
    sqlx::query("UPDATE applications SET status = 'suspended' WHERE id = $1")
        .bind(stopped)
        .execute(&fleet.control.pool)
        .await
        .unwrap();
    let begun = fleet.begin("1,50%,100%", 0).await.unwrap();
    assert_eq!((begun.total, begun.status), (4, Status::Running));
    assert!(
        matches!(fleet.begin("100%", 0).await, Err(CommandError::Open(_))),
        "one at a time"
    );
    let done = fleet.until(Status::Succeeded).await;
    assert_eq!(done.applications["updated"], 4, "{done:?}");
    assert_eq!((done.applications["set"], done.applications["left"]), (1, 1));
    for id in &fleet.applications[2..] {
        assert_eq!(fleet.image(*id), NEW);
        assert_eq!(fleet.updates(*id).await, ["succeeded"], "each was updated once");
    }
    let updates = fleet.updates(pinned).await;
    assert_eq!(
        (fleet.image(pinned), updates.len()),
        (old(), 1),
        "its pinning, and nothing else"
    );
    // No wave began before everything of the former one had ended.
    let overlaps: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM image_upgrade_members a JOIN operations oa ON oa.id = a.operation_id
         JOIN image_upgrade_members b ON b.wave > a.wave JOIN operations ob ON ob.id = b.operation_id
         WHERE ob.created_at < oa.finished_at",
    )
    .fetch_one(&fleet.control.pool)
    .await
    .unwrap();
    assert_eq!(overlaps, 0);
    let waves: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM image_upgrade_members WHERE state = 'updated' GROUP BY wave ORDER BY wave",
    )
    .fetch_all(&fleet.control.pool)
    .await
    .unwrap();
    assert_eq!(waves, [1, 1, 2], "the first, half of four, the rest");
    // The one that was stopped and a new one have it; the pinned one keeps its own.
    let intents = async |id| {
        db::intent::load(&mut fleet.control.pool.acquire().await.unwrap(), id)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(intents(stopped).await.image.as_deref(), Some(NEW));
    assert_eq!(intents(pinned).await.image.as_deref(), Some(old().as_str()));
    let new = fleet.control.wanted().await.application;
    fleet.until_status(new, "active").await;
    assert_eq!(fleet.image(new), NEW);
    let actions: Vec<String> = fleet
        .control
        .audit(fleet.applications[3])
        .await
        .into_iter()
        .map(|(action, _)| action)
        .collect();
    assert!(actions.contains(&"application.image_upgrade".to_owned()), "{actions:?}");
    // What all of them have is nobody's to begin again.
    fleet.applications.push(new);
    let again = fleet.begin("100%", 0).await.unwrap();
    assert_eq!(again.total, 0);
    fleet.until(Status::Succeeded).await;
    assert_eq!(worker.engine.metrics.errors("upgrade"), 0);
    assert_eq!(fleet.api.unknown(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_come_up_halts_in_the_first_wave_and_everything_runs_on() {
    let (fleet, worker) = Fleet::start(3).await;
    fleet.api.trouble(|trouble| _ = trouble.crashing.insert(NEW.to_owned()));
    fleet.begin("1,100%", 5).await.unwrap();
    let halted = fleet.until(Status::Halted).await;
    assert!(halted.reason.unwrap().contains("in the first wave"));
    let gauge = |value: u8| format!("authsome_provisioner_image_upgrade_halted{{region=\"{REGION}\"}} {value}");
    wait_for("the halt to be told", LONG, async || {
        worker.engine.metrics.encode().contains(&gauge(1)).then_some(())
    })
    .await
    .unwrap();
    let back = wait_for("its former image", LONG, async || {
        let report = fleet.report().await;
        (report.applications.get("taken_back") == Some(&1)).then_some(report)
    })
    .await
    .unwrap();
    let failure = &back.failures[0];
    let said = failure.reason.as_deref().unwrap();
    assert!(
        said.contains(&format!("given its former image {}", old())) && said.contains("exit code 101"),
        "{said}"
    );
    assert_eq!(fleet.images(), (0, 3));
    let id: ApplicationId = failure.application.parse().unwrap();
    fleet.until_status(id, "active").await;
    assert_eq!(fleet.updates(id).await, ["failed", "succeeded"]);
    // Going on after all ends in the same way with the next one; then it is taken back.
    fleet.act(Verb::Resume).await.unwrap();
    wait_for("the next halt", LONG, async || {
        let report = fleet.report().await;
        let back = report.applications.get("taken_back") == Some(&2);
        (report.status == Status::Halted && report.wave == 1 && back).then_some(())
    })
    .await
    .unwrap();
    fleet.act(Verb::TakeBack).await.unwrap();
    let over = fleet.until(Status::TakenBack).await;
    assert!(over.finished_at.is_some());
    wait_for("the end to be told", LONG, async || {
        worker.engine.metrics.encode().contains(&gauge(0)).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(fleet.images(), (0, 3));
    assert!(matches!(fleet.act(Verb::Resume).await, Err(CommandError::Past { .. })));
    let image: Option<String> = sqlx::query_scalar("SELECT image FROM fleet_images WHERE region = $1")
        .bind(REGION)
        .fetch_optional(&fleet.control.pool)
        .await
        .unwrap();
    assert_eq!(image, None, "new applications get what they got before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_application_that_fails_gets_its_former_image_back_and_the_others_go_on() {
    let (fleet, _worker) = Fleet::start(4).await;
    let broken = fleet.applications[2];
    fleet.breaks(broken);
    fleet.begin("1,100%", 1).await.unwrap();
    let done = fleet.until(Status::Succeeded).await;
    assert_eq!(
        (done.applications["updated"], done.applications["taken_back"]),
        (3, 1),
        "{done:?}"
    );
    assert_eq!(done.failures[0].application, broken.to_string());
    assert_eq!((fleet.images(), fleet.image(broken)), ((3, 1), old()));
    assert_eq!(fleet.control.column(broken, "status").await.unwrap(), "active");
    // The region's image is the new one, and this application still is not moved by it.
    let mut connection = fleet.control.pool.acquire().await.unwrap();
    let intent = db::intent::load(&mut connection, broken).await.unwrap().unwrap();
    assert_eq!(intent.image, Some(old()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioners_killed_in_the_middle_are_followed_by_one_that_goes_on_and_repeats_nothing() {
    let (fleet, worker) = Fleet::start(5).await;
    drop(worker);
    let mut workers = vec![fleet.worker().await, fleet.worker().await];
    fleet.begin("1,40%,100%", 0).await.unwrap();
    for wave in 1..=2 {
        wait_for("the next wave", LONG, async || {
            let report = fleet.report().await;
            (report.wave > wave || report.status == Status::Succeeded).then_some(())
        })
        .await
        .unwrap();
        workers.clear();
        // The time until the leases of the dead have run out passes.
        for id in &fleet.applications {
            run_out(&fleet.control.pool, *id).await;
        }
        workers.push(fleet.worker().await);
    }
    let done = fleet.until(Status::Succeeded).await;
    assert_eq!(done.applications["updated"], 5, "{done:?}");
    assert_eq!(fleet.images(), (5, 0));
    for id in &fleet.applications {
        assert_eq!(fleet.updates(*id).await, ["succeeded"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_pauses_resumes_takes_back_and_aborts() {
    let (fleet, _worker) = Fleet::start(3).await;
    assert!(matches!(fleet.act(Verb::Pause).await, Err(CommandError::None(_))));
    fleet.begin("1,100%", 0).await.unwrap();
    fleet.act(Verb::Pause).await.unwrap();
    let paused = fleet.report().await;
    let begun: u32 = paused.applications.values().sum();
    assert!(begun <= 1);
    wait_for("what is under way to end", LONG, async || {
        let report = fleet.report().await;
        (!report.applications.contains_key("updating")).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(
        fleet.report().await.applications.values().sum::<u32>(),
        begun,
        "nothing more began"
    );
    fleet.act(Verb::Resume).await.unwrap();
    wait_for("the second wave", LONG, async || {
        (fleet.report().await.wave == 2).then_some(())
    })
    .await
    .unwrap();
    fleet.act(Verb::TakeBack).await.unwrap();
    let back = fleet.until(Status::TakenBack).await;
    assert!(
        back.applications["taken_back"] >= 1 && back.failures.is_empty(),
        "{back:?}"
    );
    assert_eq!(fleet.images(), (0, 3));

    fleet.begin("1,100%", 0).await.unwrap();
    wait_for("the first one", LONG, async || {
        (fleet.report().await.applications.get("updated") >= Some(&1)).then_some(())
    })
    .await
    .unwrap();
    let aborted = fleet.act(Verb::Abort).await.unwrap();
    assert!(aborted.status == Status::Aborted && aborted.finished_at.is_some());
    assert!(fleet.images().0 >= 1, "what is done stays");
    fleet.control.until_settled(&fleet.applications).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_falls_while_its_wave_is_watched_counts_as_failed() {
    let (fleet, _worker) = Fleet::start(2).await;
    let waves = wave::parse("1,100%").unwrap();
    let own = old();
    let plan = Plan {
        region: REGION,
        image: NEW,
        own: Some(&own),
        waves: &waves,
        soak: Duration::from_secs(4),
        parallel: 1,
        max_failures: 0,
    };
    command::begin(&fleet.control.pool, &SystemClock, &entropy(), &plan)
        .await
        .unwrap();
    wait_for("the first one", LONG, async || {
        (fleet.report().await.applications.get("updated") == Some(&1)).then_some(())
    })
    .await
    .unwrap();
    fleet.api.trouble(|trouble| _ = trouble.crashing.insert(NEW.to_owned()));
    let first = *fleet.applications.iter().find(|id| fleet.image(**id) == NEW).unwrap();
    // Its pods are looked at again.
    fleet.api.edit(Kind::Namespace, "", &namespace_of(first), |object| {
        object["metadata"]["annotations"]["x"] = "y".into();
    });
    let halted = fleet.until(Status::Halted).await;
    assert_eq!(halted.wave, 1);
    assert!(
        halted.failures[0].reason.as_deref().unwrap().contains("former image"),
        "{halted:?}"
    );
    fleet.control.until_settled(&fleet.applications).await;
    assert_eq!(
        fleet.control.column(first, "status").await.unwrap(),
        AppStatus::Active.as_str()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_is_pinned_to_an_image_and_follows_the_fleet_again_when_it_is_let_go() {
    let (fleet, _worker) = Fleet::start(3).await;
    let [one, stopped, gone] = fleet.applications[..] else {
        panic!()
    };
    let own = "ghcr.io/example/authsome:1.6.9-hotfix";
    fleet.done(fleet.pin(one, Some(own)).await).await;
    assert_eq!(fleet.image(one), own);
    // Once more changes nothing.
    assert!(fleet.pin(one, Some(own)).await.unwrap().operation.is_none());
    assert_eq!(fleet.updates(one).await, ["succeeded"]);
    fleet.begin("100%", 0).await.unwrap();
    fleet.until(Status::Succeeded).await;
    assert_eq!(fleet.image(one), own, "an upgrade leaves it alone");
    fleet.done(fleet.pin(one, None).await).await;
    assert_eq!(fleet.image(one), NEW, "what the region has by now");
    let again = fleet.begin("100%", 0).await.unwrap();
    assert_eq!(again.total, 0);
    fleet.until(Status::Succeeded).await;

    // One that is stopped starts with it.
    let status = async |id, status: &str| {
        let change = sqlx::query("UPDATE applications SET status = $2 WHERE id = $1")
            .bind(id)
            .bind(status.to_owned());
        change.execute(&fleet.control.pool).await.unwrap();
    };
    status(stopped, "suspended").await;
    assert!(fleet.pin(stopped, Some(own)).await.unwrap().operation.is_none());
    let intent = db::intent::load(&mut fleet.control.pool.acquire().await.unwrap(), stopped).await;
    assert_eq!(intent.unwrap().unwrap().image.as_deref(), Some(own));
    // One that is going gets nothing, and what is no image is nobody's.
    sqlx::query("UPDATE applications SET status = 'purging', deleted_at = now() WHERE id = $1")
        .bind(gone)
        .execute(&fleet.control.pool)
        .await
        .unwrap();
    let refused = fleet.pin(gone, Some(own)).await;
    assert!(matches!(refused, Err(PinError::Refused(_))), "{refused:?}");
    let unknown = fleet.pin(samples::new_id(), Some(own)).await;
    assert!(matches!(unknown, Err(PinError::Refused(_))), "{unknown:?}");
    assert!(matches!(
        fleet.pin(one, Some("Not An Image")).await,
        Err(PinError::Image(_))
    ));

    let actions: Vec<String> = fleet
        .control
        .audit(one)
        .await
        .into_iter()
        .map(|(action, _)| action)
        .collect();
    for action in ["application.image_pin", "application.image_unpin"] {
        let times = actions.iter().filter(|one| *one == action).count();
        assert_eq!(times, 1, "{action} in {actions:?}");
    }
}
