//! Memory over many requests and many connections, bounded in time.

use std::time::{Duration, Instant};

use crate::accounting;
use crate::contenders::Running;
use crate::cores::{Cores, connections};
use crate::fleet::Fleet;
use crate::generator::{Closed, Idle, Traffic};
use crate::plan::Plan;
use crate::report::SoakPoint;
use crate::scenario::Work;

/// Looks at the memory on the way.
const LOOKS: u64 = 10;

/// A contender: first requests, then connections that are open beside them, then neither.
pub(crate) fn soak(running: &Running, fleet: &Fleet, plan: &Plan, cores: &Cores) -> Vec<SoakPoint> {
    let traffic = Work::Get.traffic(fleet, plan);
    let open = connections(plan.soak.connections);
    let mut points = Vec::new();
    let mut look = |phase: &str, requests: u64, connections: usize| {
        points.push(SoakPoint {
            contender: running.contender.name(),
            phase: phase.to_owned(),
            requests,
            connections,
            resident: accounting::resident(running.pid),
        });
    };
    look("before", 0, 0);
    let began = Instant::now();
    let load = Closed::start(cores, running.address, &traffic, plan.connections);
    let mut done = 0;
    for n in 1..=LOOKS {
        let wanted = plan.soak.requests * n / LOOKS;
        while done < wanted && began.elapsed() < plan.soak.at_most {
            std::thread::sleep(Duration::from_millis(20));
            done = load.progress().done;
        }
        look("requests", done, plan.connections);
    }
    load.stop();
    let Traffic::Http { requests, .. } = &traffic else {
        unreachable!("a GET is a request");
    };
    let idle = Idle::open(running.address, requests, open);
    look("connections open", done, open);
    let load = Closed::start(cores, running.address, &traffic, plan.connections);
    std::thread::sleep(plan.window);
    let more = load.progress().done;
    look("requests beside them", done + more, open + plan.connections);
    load.stop();
    drop(idle);
    // Until the contender has noticed: what it still holds then it keeps.
    std::thread::sleep(plan.window);
    look("connections closed", done + more, 0);
    points
}
