//! Usage: what counting one request costs, at one application and at many.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authsome_benches::records::{app_id, shuffled};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SeededEntropy;
use authsome_proxy::meter::{Meter, MeterMetrics, MeterSettings, Slot, Tally};
use criterion::{Criterion, criterion_group, criterion_main};
use prometheus::Registry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Applications of the wide case.
const APPS: u64 = 10_000;

const TALLY: Tally = Tally {
    requests: 1,
    errors: 0,
    bytes_in: 300,
    bytes_out: 500,
};

#[expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]
fn count(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let (meter, _publisher) = Meter::open(
        MeterSettings::in_directory(directory.path().to_owned()),
        Arc::new(SystemClock),
        Arc::new(SeededEntropy::new(1)),
        MeterMetrics::register(&Registry::new()).unwrap(),
    );
    let now_ms = SystemClock.unix_millis();
    let mut group = c.benchmark_group("usage");
    group.bench_function("count", |b| {
        let slot = meter.slot(app_id(0));
        b.iter(|| slot.count(black_box(now_ms), black_box(TALLY)));
    });
    group.bench_function("count, ten thousand applications in turn", |b| {
        let slots: Vec<Slot> = shuffled(APPS).into_iter().map(|n| meter.slot(app_id(n))).collect();
        for slot in &slots {
            slot.count(now_ms, TALLY);
        }
        let mut next = slots.iter().cycle();
        b.iter(|| {
            if let Some(slot) = next.next() {
                slot.count(black_box(now_ms), black_box(TALLY));
            }
        });
    });
    group.bench_function("count, another thread at the same application", |b| {
        let stop = Arc::new(AtomicBool::new(false));
        let other = std::thread::spawn({
            let (meter, stop) = (meter.clone(), Arc::clone(&stop));
            move || {
                let slot = meter.slot(app_id(0));
                while !stop.load(Ordering::Relaxed) {
                    slot.count(now_ms, TALLY);
                }
            }
        });
        let slot = meter.slot(app_id(0));
        b.iter(|| slot.count(black_box(now_ms), black_box(TALLY)));
        stop.store(true, Ordering::Relaxed);
        // It only counts; a panic of it would be one of the slot, which the next bench meets too.
        let _ = other.join();
    });
    group.finish();
}

criterion_group!(benches, count);
criterion_main!(benches);
