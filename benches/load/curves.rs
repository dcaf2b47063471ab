//! What a request costs as keys, tenants, connections, bodies and threads grow.
//!
//! Edges with many keys or tenants take their table from a stream of a real NATS server that is filled here, as the relay
//! would fill it; Postgres and Redis are away for them, which a warm request does not notice.

use std::path::Path;

use authsome_benches::stream;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{NatsOptions, NatsServer};

use crate::contenders::{self, Contender, Running};
use crate::cores::{self, Cores};
use crate::fleet::Fleet;
use crate::generator::{self, Traffic};
use crate::measure;
use crate::plan::Plan;
use crate::report::{Curve, Point};
use crate::scenario::{self, Work};
use crate::suite::busy;

/// Requests that are made in advance; keys beyond that are left out evenly.
const REQUESTS: usize = 100_000;
/// Keys of the curves that are not about keys.
const KEYS: usize = 10_000;
/// Applications of the curves that are not about applications.
const APPS: usize = 100;
/// Idle connections to instances that a thread keeps, where each of many tenants is to find its own again.
const WIDE_POOL: usize = 32_768;

/// Over the contenders that run already.
pub(crate) fn of_running(running: &[&Running], fleet: &Fleet, plan: &Plan, cores: &Cores) -> Vec<Curve> {
    vec![
        connections(running, fleet, plan, cores),
        bodies(running, fleet, plan, cores),
    ]
}

fn connections(running: &[&Running], fleet: &Fleet, plan: &Plan, of: &Cores) -> Curve {
    println!("load: cost over connections (load {})", busy());
    let traffic = Work::Get.traffic(fleet, plan);
    let point = |running: &Running, at| {
        let at = cores::connections(at);
        Point {
            contender: running.contender.name(),
            at,
            sample: measure::flat_out(of, running, &traffic, at, plan),
        }
    };
    Curve {
        name: "Cost over connections",
        axis: "connections",
        points: each(&plan.curves.connections, running, point),
    }
}

fn bodies(running: &[&Running], fleet: &Fleet, plan: &Plan, cores: &Cores) -> Curve {
    println!("load: cost over the size of the answer (load {})", busy());
    let point = |running: &Running, at: usize| {
        let tail = format!("bytes-{at}");
        let requests = fleet.keys.iter().map(|key| scenario::get(key, &tail, key.key.expose()));
        let traffic = Traffic::Http {
            requests: std::sync::Arc::new(requests.collect()),
            expected: &[200],
        };
        let connections = if at < 1 << 20 {
            plan.connections
        } else {
            plan.connections.min(8)
        };
        Point {
            contender: running.contender.name(),
            at,
            sample: measure::flat_out(cores, running, &traffic, connections, plan),
        }
    };
    Curve {
        name: "Cost over the size of the answer",
        axis: "bytes",
        points: each(&plan.curves.body, running, point),
    }
}

fn each<'r>(sizes: &[usize], running: &[&'r Running], point: impl Fn(&'r Running, usize) -> Point) -> Vec<Point> {
    let pairs = sizes
        .iter()
        .flat_map(|at| running.iter().map(|running| (*running, *at)));
    pairs.map(|(running, at)| point(running, at)).collect()
}

/// Over edges that are started for it.
pub(crate) async fn of_tables(plan: &Plan, cores: &Cores, upstream: u16, directory: &Path) -> Vec<Curve> {
    let mut keys = Vec::new();
    for count in &plan.curves.keys {
        println!("load: cost over keys, {count} (load {})", busy());
        let fleet = Fleet::new(*count, APPS.min(*count), upstream);
        let edge = Fed::start(&fleet, cores, directory, &format!("keys-{count}"), None).await;
        keys.push(edge.point(&fleet, plan, cores, *count, Contender::Edge.name()));
        edge.end().await;
    }
    let mut tenants = Vec::new();
    for count in &plan.curves.tenants {
        for (pool, name) in [(None, Contender::Edge.name()), (Some(WIDE_POOL), "edge-wide-pool")] {
            // Both forwarding paths keep a connection to each tenant: as many files as for so many clients.
            if pool.is_some() && cores::connections(*count) < *count {
                println!("load: cost over tenants, {count}, {name}: this system lets a process open too few files");
                continue;
            }
            println!("load: cost over tenants, {count}, {name} (load {})", busy());
            let fleet = Fleet::new(KEYS.min(plan.keys).max(*count), *count, upstream);
            let edge = Fed::start(&fleet, cores, directory, &format!("tenants-{count}-{name}"), pool).await;
            tenants.push(edge.point(&fleet, plan, cores, *count, name));
            edge.end().await;
        }
    }
    let mut curves = vec![
        Curve {
            name: "Cost over keys",
            axis: "keys",
            points: keys,
        },
        Curve {
            name: "Cost over tenants, each with an instance of its own",
            axis: "tenants",
            points: tenants,
        },
    ];
    curves.extend(threads(plan, upstream, directory).await);
    curves
}

/// As far as there are cores for the generator as well; nothing on a machine of two.
async fn threads(plan: &Plan, upstream: u16, directory: &Path) -> Option<Curve> {
    let all = Cores::divide(1);
    let most = usize::midpoint(all.generator.len(), all.upstream.len());
    if !all.pinned || most < 2 {
        println!("load: cost over threads: there are too few cores");
        return None;
    }
    let fleet = Fleet::new(plan.keys, plan.apps, upstream);
    let mut points = Vec::new();
    for count in (0..).map(|power| 1 << power).take_while(|count| *count <= most) {
        println!("load: cost over threads, {count} (load {})", busy());
        let cores = Cores::divide(count);
        let edge = Fed::start(&fleet, &cores, directory, &format!("threads-{count}"), None).await;
        points.push(edge.point(&fleet, plan, &cores, count, Contender::Edge.name()));
        edge.end().await;
    }
    Some(Curve {
        name: "Cost over threads, a core each",
        axis: "threads",
        points,
    })
}

/// An edge whose table comes from a stream of its own.
struct Fed {
    running: Running,
    beating: tokio::task::JoinHandle<()>,
    _nats: NatsServer,
    directory: std::path::PathBuf,
}

impl Fed {
    async fn start(fleet: &Fleet, cores: &Cores, directory: &Path, name: &str, pool: Option<usize>) -> Self {
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let url = nats.url();
        let client = authsome_control::tasks::connect::nats(&SecretUrl::parse(&url).unwrap(), "stream")
            .await
            .unwrap();
        let heartbeat = stream::fill(&client, fleet.changes()).await;
        let beating = tokio::spawn(stream::beat(client, heartbeat));
        let nobody = contenders::free();
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut variables = vec![
            ("DATABASE_URL", format!("postgres://nobody@{nobody}/control")),
            ("REDIS_URL", format!("redis://{nobody}")),
            ("NATS_URL", url),
        ];
        if let Some(pool) = pool {
            variables.push(("AUTHSOME_UPSTREAM_POOL_SIZE", pool.to_string()));
        }
        let running = contenders::start_edge(cores, &directory, &variables).await;
        Self {
            running,
            beating,
            _nats: nats,
            directory,
        }
    }

    /// Every request once, so that connections are there, and then the measurement.
    fn point(&self, fleet: &Fleet, plan: &Plan, cores: &Cores, at: usize, name: &'static str) -> Point {
        let step = fleet.keys.len().div_ceil(REQUESTS);
        let keys = fleet.keys.iter().step_by(step);
        let requests: Vec<Vec<u8>> = keys.map(|key| scenario::get(key, "users", key.key.expose())).collect();
        tokio::task::block_in_place(|| {
            // On a thread without a runtime.
            std::thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    generator::once(self.running.address, &requests, &[200]);
                    let traffic = Traffic::Http {
                        requests: std::sync::Arc::new(requests.clone()),
                        expected: &[200],
                    };
                    measure::flat_out(cores, &self.running, &traffic, plan.connections, plan)
                });
                Point {
                    contender: name,
                    at,
                    sample: worker.join().unwrap(),
                }
            })
        })
    }

    async fn end(self) {
        self.beating.abort();
        self.running.kill().await;
        std::fs::remove_dir_all(self.directory).unwrap_or_default();
    }
}
