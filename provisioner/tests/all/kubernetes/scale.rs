//! Many applications, two workers, one API server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use authsome_contract::model::Step;
use authsome_provisioner::runtime::{Runtime, Workload};

use super::life::{build, runtime};
use super::samples::{new_id, settings, workload};
use crate::api_double::ApiDouble;

/// Resident memory of a process, in KiB; 0 where there is no /proc.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

async fn fleet(count: usize) {
    let api = ApiDouble::start().await;
    let mut fleet: Vec<Workload> = (0..count).map(|_| workload(new_id(), 1)).collect();
    // Both workers see everything; each takes what the other has not.
    let workers = [runtime(&api, settings()), runtime(&api, settings())];
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let work = |worker| {
        let (next, fleet) = (&next, &fleet);
        async move {
            let lanes = (0..4).map(|_| async {
                while let Some(workload) = fleet.get(next.fetch_add(1, Ordering::Relaxed)) {
                    build(worker, workload).await;
                }
            });
            futures::future::join_all(lanes).await;
        }
    };
    futures::future::join_all(workers.iter().map(work)).await;
    let built = begun.elapsed();
    let calls = api.count();

    let third = runtime(&api, settings());
    let before_memory = resident(std::process::id());
    let (calls_before, begun) = (api.count(), Instant::now());
    for workload in &fleet {
        assert!(third.observe(workload.application).await.unwrap().is_healthy(1));
        assert!(third.differences(workload).await.unwrap().is_empty());
        assert!(third.lacks(Step::Namespace, &workload.site).await.unwrap().is_empty());
    }
    let looked = begun.elapsed();
    let listed = api.count() - calls_before;
    let memory = resident(std::process::id()).saturating_sub(before_memory);

    let (calls_before, begun) = (api.count(), Instant::now());
    for _ in 0..10 {
        for workload in &fleet {
            assert!(
                third.is_verified(Step::Instance, &workload.site) && third.is_verified(Step::Namespace, &workload.site)
            );
        }
    }
    let steady = begun.elapsed() / 10;
    assert_eq!(api.count(), calls_before, "a steady state costs no call");
    let objects = third.cluster().store.len();
    tell(&format!(
        "{count} applications, two workers with four operations each: built in {built:?}, {:.1} calls each; a new worker \
         listed {objects} objects in {listed} calls and compared them in {looked:?} with {} MiB; a steady look at all takes \
         {steady:?} and no call",
        f64::from(u32::try_from(calls).unwrap()) / f64::from(u32::try_from(count).unwrap()),
        memory / 1024,
    ));
    for (call, times) in api.calls() {
        if call.verb == "list" || call.verb == "watch" {
            // Before an application is made it is looked whether its namespace is somebody else's.
            let once = if call.resource == "namespaces" { count as u64 } else { 0 };
            assert!(
                times <= 3 + once,
                "{call:?}, {times} times by three workers: more than one for each kind"
            );
        }
    }
    assert!(listed <= 20, "a list for each kind, and what preflight asks: {listed}");
    assert!(calls < 25 * count as u64 + 200, "{calls}");
    // One change costs what it changes.
    let calls_before = api.count();
    let one = fleet.first_mut().unwrap();
    one.config["session"]["token_ttl"] = "3h".into();
    (one.generation, one.site.generation) = (2, 2);
    third.ensure(one).await.unwrap();
    assert_eq!(api.count() - calls_before, 2, "its ConfigMap and its Deployment");
}

pub fn tell(line: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Fifty, or as many as `AUTHSOME_FLEET` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_fleet_costs_one_watch_for_each_kind_and_no_call_for_each_application() {
    let wanted = std::env::var("AUTHSOME_FLEET").ok();
    fleet(wanted.and_then(|text| text.parse().ok()).unwrap_or(50)).await;
}
