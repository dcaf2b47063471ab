//! An application that is stopped stays closed, apart and without instances, whatever is done to it by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::retry::Backoff;
use authsome_provisioner::drift::Drift;
use authsome_provisioner::execution::{Actions, BuiltIn, Engine};
use authsome_provisioner::metrics::Metrics;
use authsome_provisioner::readiness::Readiness;
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_provisioner::step::StepAction;
use authsome_testkit::wait_for;
use tokio_util::sync::CancellationToken;

use super::dedicated::mixed;
use super::life::SOON;
use super::samples::patience;
use super::stepped::Stepped;
use crate::api_double::ApiDouble;
use crate::engine::REGION;
use crate::lease::run_out;

/// The real steps, and how often that of the instance was asked for: once for each look.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Actions for Counted {
    fn of(&self, step: Step) -> &dyn StepAction {
        if step == Step::Instance {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        BuiltIn.of(step)
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    wait_for(what, SOON, async || holds().then_some(())).await.unwrap();
}

async fn looked(counted: &Counted) {
    let before = counted.0.load(Ordering::SeqCst);
    until("more looks", || counted.0.load(Ordering::SeqCst) > before + 10).await;
}

fn policies(api: &ApiDouble, namespace: &str) -> Vec<String> {
    let mut names = api.names(namespace);
    names.retain(|name| name.starts_with("NetworkPolicy/"));
    names
}

#[tokio::test]
async fn what_is_stopped_stays_closed_apart_and_without_instances() {
    let stepped = Stepped::start(mixed(), patience()).await.with_own_servers();
    stepped.apply_all(Step::PROVISION).await;
    let Stepped {
        api,
        control,
        facilities,
        id,
        redis: _redis,
        ..
    } = stepped;
    let becomes = async |status: AppStatus| {
        let change = "UPDATE applications
                      SET status = $2, activated_at = now(), observed_generation = generation,
                          deleted_at = CASE WHEN $2 IN ('deleting', 'purging') THEN now() END
                      WHERE id = $1";
        let change = sqlx::query(change).bind(id).bind(status.as_str());
        change.execute(&control.pool).await.unwrap();
    };
    becomes(AppStatus::Active).await;
    run_out(&control.pool, id).await;
    let counted = Arc::new(Counted::default());
    let engine = Engine {
        pool: control.pool.clone(),
        holder: "drift".into(),
        actions: counted.clone(),
        facilities: Arc::new(facilities),
        lease_lifetime: Duration::from_secs(30),
        retry: Backoff::CONNECT,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::new()),
        metrics: Arc::new(Metrics::new().unwrap()),
        stop: CancellationToken::new(),
    };
    let engine = Arc::new(engine);
    let soft = CancellationToken::new();
    let drift = Drift {
        engine: Arc::clone(&engine),
        region: REGION.to_owned(),
        concurrency: 2,
        interval: Duration::from_millis(20),
    };
    let watching = tokio::spawn(drift.run(soft.clone()));
    let readiness = Readiness {
        engine: Arc::clone(&engine),
        region: REGION.to_owned(),
        interval: Duration::from_millis(20),
    };
    let telling = tokio::spawn(readiness.run(soft.clone()));

    let namespace = namespace_of(id);
    let replicas = || api.get(Kind::Deployment, &namespace, "authsome").unwrap()["spec"]["replicas"].clone();
    let instances = || {
        let pods = api.list(Kind::Pod, &namespace);
        let instance = "authsome.cloud/component";
        pods.iter()
            .filter(|pod| pod["metadata"]["labels"][instance] == "instance")
            .count()
    };
    assert_eq!(instances(), 2);
    // Of what ought to serve it is told how many do, none included; of what is stopped on purpose nothing is.
    let series = format!("authsome_application_ready_instances{{application=\"{id}\"}}");
    let told = |ready: u32| engine.metrics.encode().contains(&format!("\n{series} {ready}\n"));
    let evict = || {
        for pod in api.list(Kind::Pod, &namespace) {
            if pod["metadata"]["labels"]["authsome.cloud/component"] == "instance" {
                api.delete(Kind::Pod, &namespace, pod["metadata"]["name"].as_str().unwrap());
            }
        }
    };
    until("two ready", || told(2)).await;
    api.trouble(|trouble| trouble.full = true);
    evict();
    until("none ready", || told(0)).await;
    api.trouble(|trouble| trouble.full = false);
    evict();
    until("two ready again", || told(2)).await;

    let all = policies(&api, &namespace);
    assert!(!all.is_empty());
    for status in [AppStatus::Suspended, AppStatus::Deleting] {
        becomes(status).await;
        until("no instance", || replicas() == 0 && instances() == 0).await;
        until("silence", || !engine.metrics.encode().contains(&series)).await;
        for policy in &all {
            let name = policy.split_once('/').unwrap().1;
            api.delete(Kind::NetworkPolicy, &namespace, name);
            until(policy, || policies(&api, &namespace) == all).await;
        }
        for server in ["postgres", "redis"] {
            api.delete(Kind::StatefulSet, &namespace, server);
            until(server, || api.get(Kind::StatefulSet, &namespace, server).is_some()).await;
        }
        api.edit(Kind::Deployment, &namespace, "authsome", |deployment| {
            deployment["spec"]["replicas"] = 3.into();
        });
        until("no instance again", || replicas() == 0 && instances() == 0).await;

        // Looking at what is as it should be costs no call.
        looked(&counted).await;
        let before = api.count();
        looked(&counted).await;
        assert_eq!(api.count(), before, "{status}");
    }
    soft.cancel();
    tokio::time::timeout(SOON, watching).await.unwrap().unwrap();
    tokio::time::timeout(SOON, telling).await.unwrap().unwrap();
    assert_eq!(api.unknown(), Vec::<String>::new());
}
