//! One limit at several edges: shares follow the demand, and the sum is what it may be, with Redis and without.

use std::time::{Duration, Instant};

use authsome_testkit::{RedisOptions, RedisServer, wait_for};
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand};

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::Wire;

const RATE: f64 = 40.0;
const BURST: f64 = 40.0;
const CONTRACT: Option<&str> = Some(r#"{"requestsPerSecond":40,"burst":40}"#);
const SOON: Duration = Duration::from_secs(30);

/// What an edge needs of the platform's Redis, as docs/configuration.md says it, and nothing else.
const EDGE_RULES: &str = "%R~edge:* ~limit:* +@read +@write +@scripting +@connection +time +info +cluster";

/// The address for a user with just these rights, which survives a restart.
async fn edge_user(redis: &RedisServer) -> String {
    let config = fred::types::config::Config::from_url(&redis.url()).unwrap();
    let client = fred::types::Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    let command = |name| CustomCommand::new_static(name, ClusterHash::FirstKey, false);
    let rules = ["SETUSER", "edge", "on", ">only-for-tests"]
        .into_iter()
        .chain(EDGE_RULES.split(' '));
    let _: () = client.custom(command("ACL"), rules.collect::<Vec<_>>()).await.unwrap();
    let _: () = client.custom(command("ACL"), vec!["SAVE"]).await.unwrap();
    client.quit().await.unwrap();
    redis.url_as("edge", "only-for-tests")
}

struct World {
    _tenants: Tenants,
    _instance: Instance,
    redis: RedisServer,
    app: App,
    edges: Vec<Edge>,
}

impl World {
    async fn start(edges: usize) -> Self {
        let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
        let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
        let app = tenants
            .app(NewApp {
                limits: CONTRACT,
                ..NewApp::at(&[instance.endpoint()])
            })
            .await;
        let url = edge_user(&redis).await;
        let settings = [("REDIS_URL", url.as_str()), ("AUTHSOME_LOG_ACCESS", "false")];
        let starting = (0..edges).map(|_| Edge::start(&tenants, &settings));
        let world = Self {
            edges: futures::future::join_all(starting).await,
            _tenants: tenants,
            _instance: instance,
            redis,
            app,
        };
        world.until_edges_know(edges as u64, 1).await;
        world
    }

    async fn until_edges_know(&self, count: u64, leasing: u64) {
        for edge in &self.edges {
            wait_for("the edges to know of each other", SOON, async || {
                let known = edge.metric("authsome_edge_limit_edges").await;
                let leases = edge.metric("authsome_edge_limit_leasing").await;
                ((known, leases) == (count, leasing)).then_some(())
            })
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", edge.program.log()));
        }
    }

    /// Asks these edges as fast as they answer, or at most once in `pause`; when each request was admitted.
    async fn flood(&self, edges: &[usize], time: Duration, pause: Duration) -> Admitted {
        let line = request("GET", &format!("/v1/{}/users", self.app.id), &key(&self.app.secret), "");
        let until = Instant::now() + time;
        let floods = edges.iter().map(async |&edge| {
            let mut wire = Wire::connect(&self.edges[edge].address).await;
            let mut admitted = Vec::new();
            while Instant::now() < until {
                wire.send(&line).await;
                match wire.receive().await.expect("the connection is kept").status() {
                    200 => admitted.push(Instant::now()),
                    429 => {}
                    other => panic!("{other}"),
                }
                // A flood is faster than its limit by far; more would only slow down the machine.
                tokio::time::sleep(pause).await;
            }
            admitted
        });
        Admitted(futures::future::join_all(floods).await.concat())
    }

    /// Floods these edges until they admit so many a second for three seconds. A machine that is busy with other things
    /// may take a few tries; what was admitted in all of them is given back.
    async fn flood_until(&self, edges: &[usize], pause: Duration, per_second: f64) -> Admitted {
        let mut all = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let admitted = self.flood(edges, Duration::from_secs(6), pause).await;
            let best = admitted.best_of_later_seconds(3);
            all.extend(admitted.0);
            if best >= per_second {
                return Admitted(all);
            }
            seen.push(best);
        }
        panic!("{seen:?} a second, and {per_second} were expected");
    }
}

struct Admitted(Vec<Instant>);

impl Admitted {
    fn sorted(&self) -> Vec<Instant> {
        let mut all = self.0.clone();
        all.sort();
        all
    }

    /// The most in any stretch of so many seconds, for each of them, after the two in which a burst is used up.
    fn best_of_later_seconds(&self, seconds: u32) -> f64 {
        let all = self.sorted();
        let Some(begin) = all.first() else { return 0.0 };
        let later: Vec<Instant> = all
            .iter()
            .filter(|at| at.duration_since(*begin) >= Duration::from_secs(2))
            .copied()
            .collect();
        let stretch = Duration::from_secs(seconds.into());
        let most = later.iter().enumerate().map(|(first, from)| {
            let within = later[first..]
                .iter()
                .take_while(|at| at.duration_since(*from) < stretch);
            within.count()
        });
        f64::from(u32::try_from(most.max().unwrap_or(0)).unwrap()) / f64::from(seconds)
    }

    /// No stretch of time has seen more than `most` says for its seconds.
    fn is_within(&self, most: impl Fn(f64) -> f64) {
        let all = self.sorted();
        for (first, from) in all.iter().enumerate() {
            for (count, to) in all[first..].iter().enumerate() {
                let seconds = to.duration_since(*from).as_secs_f64();
                let count = f64::from(u32::try_from(count + 1).unwrap());
                // The instants are those of the answers: the requests were judged within a wider stretch, by as much as an
                // answer takes.
                let most = most(seconds + 0.5);
                assert!(count <= most, "{count} in {seconds} s, and {most} are allowed");
            }
        }
    }
}

const FAST: Duration = Duration::from_millis(4);
/// Ten a second.
const GENTLE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn edges_that_are_all_flooded_admit_together_a_burst_each_and_the_rate() {
    let world = World::start(3).await;
    let admitted = world.flood_until(&[0, 1, 2], FAST, 0.8 * RATE).await;
    admitted.is_within(|seconds| 3.0 * BURST + RATE * seconds);
}

#[tokio::test]
async fn an_edge_that_has_all_the_demand_gets_nearly_all_the_rate_and_loses_it_to_another() {
    let world = World::start(3).await;
    let mut all = Vec::new();
    for edge in [0, 1] {
        all.extend(world.flood_until(&[edge], FAST, 0.85 * RATE).await.0);
    }
    Admitted(all).is_within(|seconds| 3.0 * BURST + RATE * seconds);
}

#[tokio::test]
async fn a_small_demand_is_met_beside_a_flood() {
    let world = World::start(2).await;
    // Ten a second beside thousands: a fair share of 40 is 20.
    let (flood, small) = futures::future::join(
        world.flood(&[0], Duration::from_secs(12), FAST),
        world.flood_until(&[1], GENTLE, 6.5),
    )
    .await;
    assert!(flood.best_of_later_seconds(3) >= 0.5 * RATE);
    Admitted([flood.0, small.0].concat()).is_within(|seconds| 2.0 * BURST + RATE * seconds);
}

#[tokio::test]
async fn without_redis_every_edge_has_an_equal_share_and_with_it_again_what_it_needs() {
    let mut world = World::start(3).await;
    let mut admitted = world.flood(&[0], Duration::from_secs(4), FAST).await;
    world.redis.kill().await.unwrap();
    world.until_edges_know(3, 0).await;
    let alone = world.flood_until(&[0], FAST, 0.8 * RATE / 3.0).await;
    let third = alone.best_of_later_seconds(3);
    assert!(third <= RATE / 3.0 + 2.0, "{third} a second of {RATE}");
    admitted.0.extend(alone.0);
    admitted
        .0
        .extend(world.flood(&[0, 1, 2], Duration::from_secs(4), FAST).await.0);

    world.redis.restart().await.unwrap();
    world.until_edges_know(3, 1).await;
    admitted.0.extend(world.flood_until(&[2], FAST, 0.85 * RATE).await.0);
    // Twice the rate for one second, when the shares in Redis were lost.
    admitted.is_within(|seconds| 3.0 * BURST + RATE * (seconds + 1.0));
}

#[tokio::test]
async fn an_edge_that_leaves_gives_its_share_to_the_others() {
    let mut world = World::start(2).await;
    world.edges[1].program.stop().await.unwrap();
    world.edges.truncate(1);
    world.until_edges_know(1, 1).await;
    let admitted = world.flood_until(&[0], FAST, 0.9 * RATE).await;
    admitted.is_within(|seconds| BURST + RATE * seconds);
}
