//! Instances as child processes of this machine.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::{SecretString, SecretUrl};
use authsome_provisioner::runtime::local::{LocalConfig, LocalRuntime};
use authsome_provisioner::runtime::{Phase, Placement, Runtime, RuntimeError, Workload};
use authsome_testkit::databases::empty_database;
use authsome_testkit::{ChaosProxy, Mode, http_probe, programs, shared_postgres, wait_for};

use crate::kubernetes::samples::site;

const SOON: Duration = Duration::from_secs(30);

struct Machine {
    directory: tempfile::TempDir,
    runtime: LocalRuntime,
}

impl Machine {
    fn new(replicas: usize) -> Self {
        Self::with_program(replicas, &programs::binary("authsome-sample").unwrap())
    }

    fn with_program(replicas: usize, program: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = runtime(directory.path(), replicas, program);
        Self { directory, runtime }
    }

    async fn placement(&self, id: ApplicationId) -> Placement {
        self.runtime.observe(id).await.unwrap()
    }

    async fn until_healthy(&self, id: ApplicationId, generation: i64) -> Vec<SocketAddr> {
        wait_for("healthy instances", SOON, async || {
            let placement = self.placement(id).await;
            if placement.is_healthy(generation) {
                Ok(placement.endpoints(generation))
            } else {
                Err(format!("{placement:?}"))
            }
        })
        .await
        .unwrap()
    }

    /// Waits until another process than these serves the application, and it is well.
    async fn until_another(&self, id: ApplicationId, before: &[u32]) -> Vec<SocketAddr> {
        wait_for("another process", SOON, async || {
            let now = pids(id);
            if now.len() == 1 && now != before {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        })
        .await
        .unwrap();
        self.until_healthy(id, 1).await
    }
}

fn runtime(directory: &Path, replicas: usize, program: &Path) -> LocalRuntime {
    let config = LocalConfig {
        program: program.to_owned(),
        directory: directory.join("instances"),
        replicas,
        log_level: "info".to_owned(),
    };
    LocalRuntime::new(config, Arc::new(SystemEntropy::new())).unwrap()
}

fn new_id() -> ApplicationId {
    ApplicationId::generate(&SystemClock, &SystemEntropy::new())
}

fn workload_at(id: ApplicationId, database: &str) -> Workload {
    Workload {
        site: site(id, 1),
        application: id,
        generation: 1,
        base_path: "/base".to_owned(),
        database_url: SecretUrl::parse(database).unwrap(),
        // Nothing listens there: an instance goes on without.
        redis_url: SecretUrl::parse("redis://app:redis-hunter2@127.0.0.1:1").unwrap(),
        redis_prefix: "app:x:".to_owned(),
        public_base_url: format!("http://edge.example/v1/{id}"),
        config: serde_json::json!({ "password": { "min_length": 13 } }),
        secrets: [(
            "MAILER_SMTP_PASSWORD".parse().unwrap(),
            SecretString::from("mail-hunter2"),
        )]
        .into_iter()
        .collect(),
        previous: Vec::new(),
    }
}

async fn workload() -> Workload {
    workload_at(new_id(), &empty_database().await.unwrap().url)
}

/// The processes that were started for an application, found by their environment.
fn pids(id: ApplicationId) -> Vec<u32> {
    let wanted = format!("APP_ID={id}");
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        })
        .collect();
    pids.sort_unstable();
    pids
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn until_gone(id: ApplicationId) {
    wait_for("no process", SOON, async || {
        if pids(id).is_empty() {
            Ok(())
        } else {
            Err(format!("{:?}", pids(id)))
        }
    })
    .await
    .unwrap();
}

async fn answers(endpoint: SocketAddr) -> bool {
    http_probe::ok(&endpoint.to_string(), "/base/v1/health").await.is_ok()
}

#[tokio::test]
async fn as_many_instances_as_wanted_come_up_and_ensuring_twice_starts_no_more() {
    let (machine, workload) = (Machine::new(2), workload().await);
    let id = workload.application;
    machine.runtime.ensure(&workload).await.unwrap();
    machine.runtime.ensure(&workload).await.unwrap();
    let endpoints = machine.until_healthy(id, 1).await;
    assert_eq!(endpoints.len(), 2);
    for endpoint in endpoints {
        assert!(endpoint.ip().is_loopback() && answers(endpoint).await);
    }
    let before = pids(id);
    machine.runtime.ensure(&workload).await.unwrap();
    assert_eq!((before.len(), pids(id)), (2, before));

    machine.runtime.stop(&site(id, 1)).await.unwrap();
    assert_eq!((pids(id), machine.placement(id).await.instances.len()), (Vec::new(), 0));
    machine.runtime.stop(&site(id, 1)).await.unwrap();
    machine.runtime.remove(&site(id, 1)).await.unwrap();
    assert_eq!(
        std::fs::read_dir(machine.directory.path().join("instances"))
            .unwrap()
            .count(),
        0
    );
    machine.runtime.remove(&site(id, 1)).await.unwrap();
}

#[tokio::test]
async fn a_killed_instance_is_started_again_where_it_was() {
    let (machine, workload) = (Machine::new(1), workload().await);
    let id = workload.application;
    machine.runtime.ensure(&workload).await.unwrap();
    let endpoints = machine.until_healthy(id, 1).await;
    let before = pids(id);
    signal(before[0], "KILL");
    assert_eq!(machine.until_another(id, &before).await, endpoints);
    assert!(answers(endpoints[0]).await);
}

#[tokio::test]
async fn an_instance_that_hangs_is_started_again() {
    let (machine, workload) = (Machine::new(1), workload().await);
    let id = workload.application;
    machine.runtime.ensure(&workload).await.unwrap();
    machine.until_healthy(id, 1).await;
    let before = pids(id);
    signal(before[0], "STOP");
    machine.until_another(id, &before).await;
}

#[tokio::test]
async fn an_instance_whose_port_was_taken_comes_up_elsewhere_and_says_so() {
    let (machine, workload) = (Machine::new(1), workload().await);
    let id = workload.application;
    machine.runtime.ensure(&workload).await.unwrap();
    // The instance may be quicker to come back than we are to take its port; then once more.
    let (endpoint, _taken) = loop {
        let endpoint = machine.until_healthy(id, 1).await[0];
        let before = pids(id);
        signal(before[0], "KILL");
        let taken = wait_for("the port", Duration::from_millis(60), async || {
            TcpListener::bind(endpoint)
        })
        .await;
        if let Ok(taken) = taken {
            break (endpoint, taken);
        }
        machine.until_another(id, &before).await;
    };
    let moved = tokio::time::timeout(SOON, machine.runtime.moved()).await.unwrap();
    assert_eq!(moved, id);
    let elsewhere = machine.until_healthy(id, 1).await;
    assert!(elsewhere[0] != endpoint && answers(elsewhere[0]).await);
}

#[tokio::test]
async fn instances_come_back_to_the_ports_they_had() {
    let workload = workload().await;
    let id = workload.application;
    let first = Machine::new(1);
    first.runtime.ensure(&workload).await.unwrap();
    let endpoints = first.until_healthy(id, 1).await;
    first.runtime.shutdown().await;
    assert_eq!(pids(id), Vec::<u32>::new());
    assert!(matches!(
        first.runtime.ensure(&workload).await,
        Err(RuntimeError::Stopping)
    ));

    let second = Machine::new(1);
    second
        .runtime
        .ensure(&Workload {
            previous: endpoints.clone(),
            ..workload
        })
        .await
        .unwrap();
    assert_eq!(second.until_healthy(id, 1).await, endpoints);
}

#[tokio::test]
async fn an_instance_of_another_application_is_never_taken_for_ones_own() {
    let (mine, theirs) = (workload().await, workload().await);
    let (machine, other) = (Machine::new(1), Machine::new(1));
    other.runtime.ensure(&theirs).await.unwrap();
    let taken = other.until_healthy(theirs.application, 1).await;
    let id = mine.application;
    machine
        .runtime
        .ensure(&Workload {
            previous: taken.clone(),
            ..mine
        })
        .await
        .unwrap();
    let endpoints = machine.until_healthy(id, 1).await;
    assert_ne!(endpoints, taken);
}

#[tokio::test]
async fn a_new_generation_serves_before_the_old_one_is_retired() {
    let (machine, first) = (Machine::new(1), workload().await);
    let id = first.application;
    machine.runtime.ensure(&first).await.unwrap();
    let old = machine.until_healthy(id, 1).await[0];
    machine
        .runtime
        .ensure(&Workload { generation: 2, ..first })
        .await
        .unwrap();
    let new = machine.until_healthy(id, 2).await[0];
    assert!(new != old && answers(old).await && answers(new).await);

    machine.runtime.retire(&site(id, 2)).await.unwrap();
    assert!(answers(old).await, "the edge may not know yet");
    wait_for("the old instance to end", SOON, async || {
        (!answers(old).await).then_some(())
    })
    .await
    .unwrap();
    assert!(answers(new).await);
    assert_eq!(machine.placement(id).await.instances.len(), 1);
}

#[tokio::test]
async fn instances_end_with_the_runtime() {
    let (machine, workload) = (Machine::new(2), workload().await);
    let id = workload.application;
    machine.runtime.ensure(&workload).await.unwrap();
    machine.until_healthy(id, 1).await;
    drop(machine);
    until_gone(id).await;
}

/// Not a test by itself: the process that [`instances_end_with_a_killed_provisioner`] kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn host() {
    let id = std::env::var("HOST_APPLICATION").unwrap().parse().unwrap();
    let database = std::env::var("HOST_DATABASE").unwrap();
    let machine = Machine::new(1);
    machine.runtime.ensure(&workload_at(id, &database)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn instances_end_with_a_killed_provisioner() {
    let (id, database) = (new_id(), empty_database().await.unwrap());
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "local_runtime::host", "--ignored"])
        .env("HOST_APPLICATION", id.to_string())
        .env("HOST_DATABASE", &database.url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let waited = wait_for("an instance", SOON, async || (!pids(id).is_empty()).then_some(())).await;
    host.kill().unwrap();
    host.wait().unwrap();
    waited.unwrap();
    until_gone(id).await;
}

#[tokio::test]
async fn secrets_reach_an_instance_through_its_own_environment_only() {
    let (machine, workload) = (Machine::new(1), workload().await);
    let id = workload.application;
    machine.runtime.ensure(&workload).await.unwrap();
    machine.until_healthy(id, 1).await;
    let pid = pids(id)[0];
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let environment = read("environ");
    let mut names: Vec<&str> = environment
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    let expected = [
        "APP_ID",
        "BASE_PATH",
        "CONFIG_JSON",
        "DATABASE_URL",
        "HOST",
        "LOG_LEVEL",
        "MAILER_SMTP_PASSWORD",
        "PORT",
        "PUBLIC_BASE_URL",
        "REDIS_KEY_PREFIX",
        "REDIS_URL",
    ];
    assert_eq!(names, expected, "nothing of ours is passed on");
    assert!(
        environment
            .split('\0')
            .any(|variable| variable == "MAILER_SMTP_PASSWORD=mail-hunter2")
    );
    assert!(!read("cmdline").contains("hunter2") && !read("cmdline").contains("postgres"));
    let directory = machine.directory.path().join("instances");
    let log = directory.join(format!("{id}-0.log"));
    assert_eq!(
        std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&log).unwrap().contains("hunter2"));
    let endpoint = machine.until_healthy(id, 1).await[0];
    let url = format!("http://{endpoint}/base/v1/client-config");
    let shown: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(shown["password"]["min_length"], 13);
    assert_eq!(shown["secrets"], serde_json::json!(["MAILER_SMTP_PASSWORD"]));
}

#[tokio::test]
async fn an_instance_that_does_not_come_up_says_why_without_secrets() {
    let scripts = tempfile::tempdir().unwrap();
    let program = scripts.path().join("broken");
    std::fs::write(
        &program,
        "#!/bin/sh\necho \"cannot use $DATABASE_URL or $REDIS_URL or $MAILER_SMTP_PASSWORD\"\nexit 3\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let machine = Machine::with_program(1, &program);
    let workload = workload_at(new_id(), "postgres://app:hunter2@db/x");
    machine.runtime.ensure(&workload).await.unwrap();
    let why = wait_for("the failure", SOON, async || {
        machine
            .placement(workload.application)
            .await
            .failure(1)
            .map(str::to_owned)
    })
    .await
    .unwrap();
    assert!(
        why.contains("exit status: 3") && why.contains("cannot use ***"),
        "{why}"
    );
    assert!(!why.contains("hunter2"), "{why}");
}

#[tokio::test]
async fn an_instance_whose_database_is_away_is_reported_left_running_and_recovers() {
    let proxy = ChaosProxy::start(shared_postgres().await.unwrap().address())
        .await
        .unwrap();
    let (machine, id) = (Machine::new(1), new_id());
    let workload = workload_at(id, &proxy.in_place_of(&empty_database().await.unwrap().url));
    machine.runtime.ensure(&workload).await.unwrap();
    let endpoints = machine.until_healthy(id, 1).await;
    let before = pids(id);
    proxy.set(Mode::Refuse).await;
    wait_for("an unwell instance", SOON, async || {
        match &machine.placement(id).await.instances[0].phase {
            Phase::Failing(why) if why.contains("health check") => Ok(()),
            phase => Err(format!("{phase:?}")),
        }
    })
    .await
    .unwrap();
    proxy.set(Mode::Pass).await;
    assert_eq!(machine.until_healthy(id, 1).await, endpoints);
    assert_eq!(pids(id), before);
}

#[tokio::test]
async fn a_program_that_is_missing_or_no_program_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    for program in [missing.as_path(), plain.as_path(), directory.path()] {
        let runtime = runtime(directory.path(), 1, program);
        let error = runtime.check().await.unwrap_err();
        assert!(
            error.to_string().contains(&program.display().to_string()) && !error.is_transient(),
            "{error}"
        );
    }
}
