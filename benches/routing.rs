//! The routing table: look-ups and whole warm decisions at three sizes, in random order.
//!
//! What each takes is printed first, as the best of a few rounds over every key once; the criterion groups follow.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]

use std::hint::black_box;

use authsome_benches::edge::Edge;
use authsome_benches::measure::{Stopwatch, is_rehearsal, machine};
use authsome_benches::records::{APPS, KEYS, TEXT, app_id, shuffled, text};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use authsome_proxy::admission::warm;
use authsome_proxy::filter::cors::Browser;
use authsome_proxy::gate::Request;
use authsome_proxy::routing::{Lookup, Routing};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many times every key.
const ROUNDS: usize = 5;

/// What comes with a request, worked out before the clock starts.
struct Call {
    text: [u8; TEXT],
    digest: Digest,
    app: ApplicationId,
}

fn decides(routing: &Routing, call: &Call, now_ms: i64) -> bool {
    let request = Request {
        method: "GET",
        app_id: call.app,
        tail: "/users",
        secret: Some(Digest::of(black_box(&call.text))),
        public: None,
        client: None,
        browser: Browser::default(),
        heartbeat_age_ms: routing.heartbeat_age_ms(now_ms),
        now_ms,
    };
    warm(routing, &request).is_ok_and(|admitted| admitted.is_ok())
}

fn finds(routing: &Routing, call: &Call, now_ms: i64) -> bool {
    matches!(routing.key(black_box(&call.digest), now_ms), Lookup::Hit(_))
}

#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
fn report(name: &str, calls: &[Call], work: impl Fn(&Call) -> bool) {
    // A small table is gone through often enough for the CPU time, which is known to 10 ms.
    let repeats = (1_000_000 / calls.len()).max(1);
    let repeats = if is_rehearsal() { 1 } else { repeats };
    let costs: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let watch = Stopwatch::start();
            for _ in 0..repeats {
                assert!(calls.iter().all(&work));
            }
            watch.read().each((repeats * calls.len()) as u64)
        })
        .collect();
    let wall = costs.iter().map(|cost| cost.wall).min().unwrap();
    let cpu = costs.iter().map(|cost| cost.cpu).min().unwrap();
    println!(
        "routing: {name} among {} keys: {wall:?}, CPU {cpu:?} ({})",
        calls.len(),
        machine()
    );
}

fn table(c: &mut Criterion) {
    let sizes = [(1_000, 100), (KEYS / 10, APPS / 10), (KEYS, APPS)];
    for &(keys, apps) in &sizes[..if is_rehearsal() { 1 } else { sizes.len() }] {
        let edge = Edge::filled(keys, apps);
        let routing = &edge.routing;
        let now_ms = SystemClock.unix_millis();
        let calls: Vec<Call> = shuffled(keys)
            .into_iter()
            .map(|n| Call {
                text: text(n),
                digest: Digest::of(&text(n)),
                app: app_id(n % apps),
            })
            .collect();
        report("look-up", &calls, |call| finds(routing, call, now_ms));
        report("warm decision", &calls, |call| decides(routing, call, now_ms));
        let mut next = calls.iter().cycle();
        let mut group = c.benchmark_group("routing");
        group.bench_function(BenchmarkId::new("look up a key", keys), |b| {
            b.iter(|| finds(routing, next.next().unwrap(), now_ms));
        });
        group.bench_function(BenchmarkId::new("warm decision", keys), |b| {
            b.iter(|| assert!(decides(routing, next.next().unwrap(), now_ms)));
        });
        group.finish();
    }
}

criterion_group!(benches, table);
criterion_main!(benches);
