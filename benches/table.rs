//! The routing table as a whole: what a key, an application and a host cost in memory, and how long a million keys take to come from
//! a snapshot and from a stream on a real NATS server.
//!
//! Everything is measured once and printed; there is nothing to repeat a thousand times. `--test` makes it small.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

use std::time::Duration;

use authsome_benches::edge::{Edge, roomy};
use authsome_benches::measure::{Stopwatch, is_rehearsal, machine, resident};
use authsome_benches::records::{APPS, KEYS, app, host, key};
use authsome_benches::stream;
use authsome_core::secret::SecretUrl;
use authsome_proxy::routing::{LoadedFrom, SnapshotSettings, Sources};
use authsome_testkit::{NatsOptions, NatsServer, nats};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let (keys, apps) = if is_rehearsal() { (2_000, 200) } else { (KEYS, APPS) };
    memory(keys, apps);
    snapshot(keys, apps);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(from_stream(keys, apps));
}

/// In a fresh process, so that nothing that was freed before is taken for free.
fn memory(keys: u64, apps: u64) {
    let edge = Edge::roomy();
    let empty = resident();
    for n in 0..apps {
        edge.routing.install(app(n));
    }
    let with_apps = resident();
    let watch = Stopwatch::start();
    for n in 0..keys {
        edge.routing.install(key(n, apps));
    }
    println!(
        "table: {keys} keys installed one by one in {} ({})",
        watch.read(),
        machine()
    );
    let with_keys = resident();
    for n in 0..apps {
        edge.routing.install(host(n));
    }
    let with_hosts = resident();
    println!(
        "table: {} resident bytes an application, {} a key, {} a host",
        with_apps.saturating_sub(empty) / apps,
        with_keys.saturating_sub(with_apps) / keys,
        with_hosts.saturating_sub(with_keys) / apps
    );
}

fn snapshot(keys: u64, apps: u64) {
    let directory = tempfile::tempdir().unwrap();
    let settings = SnapshotSettings::in_directory(directory.path().to_owned());
    let edge = Edge::filled(keys, apps);
    let watch = Stopwatch::start();
    edge.routing.write_snapshot(&settings).unwrap();
    let bytes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "table: snapshot of {keys} keys and {apps} applications, {bytes} bytes, written in {} ({})",
        watch.read(),
        machine()
    );
    drop(edge);
    for _ in 0..5 {
        let edge = Edge::roomy();
        let watch = Stopwatch::start();
        let counts = edge.routing.load_snapshot(&settings).unwrap();
        let cost = watch.read();
        assert_eq!(counts, (apps, keys));
        println!("table: the same snapshot loaded in {cost} ({})", machine());
    }
}

async fn from_stream(keys: u64, apps: u64) {
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let client = connect(&server).await;
    let changes = (0..apps).map(app).chain((0..keys).map(|n| key(n, apps)));
    let watch = Stopwatch::start();
    let heartbeat = stream::fill(&client, changes).await;
    println!(
        "table: the stream filled with {} messages in {} ({})",
        heartbeat.sequence,
        watch.read(),
        machine()
    );
    let beating = tokio::spawn(stream::beat(client, heartbeat));
    for _ in 0..2 {
        let mut edge = Edge::new(roomy());
        let (stop, stopped) = watch::channel(false);
        let sources = Sources {
            postgres: SecretUrl::parse("postgres://nobody@127.0.0.1:1/control").unwrap(),
            redis: SecretUrl::parse("redis://127.0.0.1:1").unwrap(),
        };
        let (backend, client) = (edge.backend.take().unwrap(), connect(&server).await);
        let watch = Stopwatch::start();
        let running = tokio::spawn(async move { backend.run(sources, client, stopped).await });
        while edge.routing.loaded_from() != Some(LoadedFrom::Stream) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!(
            "table: {keys} keys and {apps} applications came from the stream in {} ({})",
            watch.read(),
            machine()
        );
        stop.send_replace(true);
        running.await.unwrap().unwrap();
    }
    beating.abort();
}

async fn connect(server: &NatsServer) -> async_nats::Client {
    async_nats::ConnectOptions::with_user_and_password(nats::USER.to_owned(), server.password().to_owned())
        .connect(server.address())
        .await
        .unwrap()
}
