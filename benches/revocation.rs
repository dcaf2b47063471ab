//! How long after its commit a revocation is known to every edge: 20 routing tables with live feeds, on real servers, with
//! the control plane's own relay, while keys change and requests are decided.
//!
//! Two times are measured: from the moment at which COMMIT is sent, so with all that Postgres does for it, and from its
//! answer. A table has refused when its look-up says so; all are looked at every half millisecond.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use authsome_benches::db;
use authsome_benches::edge::Edge;
use authsome_benches::measure::{Stopwatch, is_rehearsal, machine};
use authsome_contract::model::KeyState;
use authsome_control::tasks::connect;
use authsome_control::tasks::relay::{Relay, RelayMetrics};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::{Entropy, SeededEntropy, SystemEntropy};
use authsome_core::key::Digest;
use authsome_core::secret::SecretUrl;
use authsome_proxy::routing::{Lookup, Routing, RoutingSettings, Sources};
use authsome_testkit::{NatsOptions, NatsServer, RedisOptions, RedisServer, fresh_database};
use prometheus::Registry;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EDGES: usize = 20;
/// Keys that change and are asked for all the while.
const OTHERS: usize = 2_000;
/// Changes a second of those.
const CHANGES: u64 = 50;
/// Decisions a second, over all tables.
const LOOKUPS: u64 = 20_000;
/// Between two looks at all tables.
const LOOK: Duration = Duration::from_micros(500);
/// An edge that has not heard by then is a failure, not an outlier.
const LOST: Duration = Duration::from_secs(30);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(if is_rehearsal() { 5 } else { 500 }));
}

async fn run(revocations: usize) {
    let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
    let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let url = |text: &str| SecretUrl::parse(text).unwrap();
    let pool = PgPoolOptions::new()
        .connect_with(database.options.clone())
        .await
        .unwrap();
    let mut connection = PgConnection::connect_with(&database.options).await.unwrap();
    let app = db::application(&mut connection).await;
    let others = db::keys(&mut connection, app, OTHERS).await;
    let victims = db::keys(&mut connection, app, revocations).await;

    let relay = Relay {
        pool: pool.clone(),
        redis: connect::redis(&url(&redis.url())).unwrap(),
        nats: connect::nats(&url(&nats.url()), "relay").await.unwrap(),
        entropy: Arc::new(SystemEntropy::new()),
        metrics: RelayMetrics::register(&Registry::new()).unwrap(),
    };
    let stop = CancellationToken::new();
    let relaying = tokio::spawn(relay.run(stop.clone()));

    let (stop_edges, stopped) = watch::channel(false);
    let mut edges = Vec::new();
    let mut running = Vec::new();
    for _ in 0..EDGES {
        let mut edge = Edge::new(RoutingSettings::default());
        let sources = Sources {
            postgres: url(&database.url),
            redis: url(&redis.url()),
        };
        let client = connect::nats(&url(&nats.url()), "edge").await.unwrap();
        let backend = edge.backend.take().unwrap();
        let stopped = stopped.clone();
        running.push(tokio::spawn(async move { backend.run(sources, client, stopped).await }));
        edges.push(edge);
    }
    let tables: Vec<Routing> = edges.iter().map(|edge| edge.routing.clone()).collect();
    let newest = victims[victims.len() - 1];
    while !tables
        .iter()
        .all(|table| table.stats().feed.live && opens(table, &newest))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let load = Load::start(&tables, &others, pool);
    let watch = Stopwatch::start();
    let mut times = Times::default();
    let entropy = SeededEntropy::new(5);
    for victim in &victims {
        let mut transaction = connection.begin().await.unwrap();
        db::revoke(&mut transaction, victim).await;
        let sent = Instant::now();
        transaction.commit().await.unwrap();
        let committed = Instant::now();
        let (tables, victim) = (tables.clone(), *victim);
        let refused = tokio::task::spawn_blocking(move || refusals(&tables, &victim))
            .await
            .unwrap();
        for at in refused {
            times.from_sending.push(at.duration_since(sent));
            times.from_answer.push(at.saturating_duration_since(committed));
        }
        // So that no rhythm of ours meets one of theirs.
        tokio::time::sleep(Duration::from_millis(entropy.next_u64() % 60)).await;
    }
    let cost = watch.read();
    let (changes, lookups) = load.stop().await;
    println!(
        "revocation: {revocations} revocations in {EDGES} tables, {changes} other changes, {lookups} look-ups; {cost} ({})",
        machine()
    );
    times.report();
    stop_edges.send_replace(true);
    for backend in running {
        backend.await.unwrap().unwrap();
    }
    stop.cancel();
    relaying.await.unwrap().unwrap();
}

fn opens(table: &Routing, digest: &Digest) -> bool {
    matches!(table.peek_key(digest, SystemClock.unix_millis()), Lookup::Hit(entry) if entry.record.state == KeyState::Active)
}

/// When each table was first seen to refuse the key.
fn refusals(tables: &[Routing], victim: &Digest) -> Vec<Instant> {
    let began = Instant::now();
    let mut refused = vec![None; tables.len()];
    while refused.contains(&None) {
        assert!(began.elapsed() < LOST, "a table did not hear of a revocation");
        for (at, table) in refused.iter_mut().zip(tables).filter(|(at, _)| at.is_none()) {
            if !opens(table, victim) {
                *at = Some(Instant::now());
            }
        }
        std::thread::sleep(LOOK);
    }
    refused.into_iter().flatten().collect()
}

/// What the platform does besides.
struct Load {
    stop: Arc<AtomicBool>,
    lookups: Arc<AtomicU64>,
    looking: tokio::task::JoinHandle<()>,
    changing: tokio::task::JoinHandle<u64>,
}

impl Load {
    fn start(tables: &[Routing], others: &[Digest], pool: PgPool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let lookups = Arc::new(AtomicU64::new(0));
        let looking = {
            let (stop, lookups) = (Arc::clone(&stop), Arc::clone(&lookups));
            let (tables, others) = (tables.to_vec(), others.to_vec());
            tokio::task::spawn_blocking(move || look_up(&tables, &others, &stop, &lookups))
        };
        let changing = {
            let (stop, others) = (Arc::clone(&stop), others.to_vec());
            tokio::spawn(async move { change(&pool, &others, &stop).await })
        };
        Self {
            stop,
            lookups,
            looking,
            changing,
        }
    }

    /// Returns how much was changed and how much looked up.
    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await.unwrap();
        (self.changing.await.unwrap(), self.lookups.load(Ordering::Relaxed))
    }
}

fn look_up(tables: &[Routing], others: &[Digest], stop: &AtomicBool, lookups: &AtomicU64) {
    const BATCH: u64 = 100;
    let mut pairs = others.iter().cycle().zip(tables.iter().cycle());
    while !stop.load(Ordering::Relaxed) {
        for (digest, table) in pairs.by_ref().take(usize::try_from(BATCH).unwrap()) {
            assert!(matches!(table.key(digest, SystemClock.unix_millis()), Lookup::Hit(_)));
        }
        lookups.fetch_add(BATCH, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(BATCH * 1_000_000 / LOOKUPS));
    }
}

async fn change(pool: &PgPool, others: &[Digest], stop: &AtomicBool) -> u64 {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / CHANGES));
    let mut changes = 0;
    for digest in others.iter().cycle() {
        tick.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        db::touch(&mut pool.acquire().await.unwrap(), digest).await;
        changes += 1;
    }
    changes
}

#[derive(Default)]
struct Times {
    from_sending: Vec<Duration>,
    from_answer: Vec<Duration>,
}

impl Times {
    fn report(mut self) {
        self.from_sending.sort_unstable();
        self.from_answer.sort_unstable();
        for (since, times) in [
            ("COMMIT is sent", &self.from_sending),
            ("it is answered", &self.from_answer),
        ] {
            let at = |permille: usize| times[(times.len() * permille / 1000).min(times.len() - 1)];
            println!(
                "revocation: refused since {since}: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {:.1?}",
                at(500),
                at(900),
                at(990),
                at(999),
                at(1000)
            );
        }
        println!(
            "revocation: since COMMIT is sent, all {} refusals:",
            self.from_sending.len()
        );
        let mut from = Duration::ZERO;
        for upper in [2_u64, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 500, 30_000].map(Duration::from_millis) {
            let count = self
                .from_sending
                .iter()
                .filter(|&&time| from <= time && time < upper)
                .count();
            if count > 0 {
                let bar = "#".repeat((60 * count).div_ceil(self.from_sending.len()));
                println!(
                    "  {:>6} to {:>6} {count:>6} {bar}",
                    format!("{from:?}"),
                    format!("{upper:?}")
                );
            }
            from = upper;
        }
    }
}
