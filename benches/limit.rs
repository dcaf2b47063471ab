//! A limit: judging one request at a cell, alone and with others, and what leads to it.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::KeyId;
use authsome_proxy::limit::gcra::{Moment, fresh, step};
use authsome_proxy::limit::{Allowance, Cell, Seat, Share, Subject};
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Moment = Moment::after_nanos(1_000_000_000);

fn allowance(per_second: u32) -> Allowance {
    let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    Allowance::new(per_second, per_second)
}

fn subject() -> Subject {
    Subject::Key(KeyId::generate(&ManualClock::default(), &SeededEntropy::new(1)))
}

fn since(began: Instant) -> Moment {
    Moment::after_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(0))
}

fn arithmetic(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    let third = Share::of_parts(u64::from(Share::PARTS) / 3);
    group.bench_function("arithmetic", |b| {
        let word = fresh(NOW);
        b.iter(|| {
            step(
                black_box(word),
                black_box(allowance(100)),
                black_box(Share::WHOLE),
                black_box(NOW),
            )
        });
    });
    group.bench_function("arithmetic, another share", |b| {
        let word = fresh(NOW);
        b.iter(|| {
            step(
                black_box(word),
                black_box(allowance(100)),
                black_box(third),
                black_box(NOW),
            )
        });
    });
    group.finish();
}

fn cell(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit/cell");
    let began = Instant::now();
    let now = || since(began);
    group.bench_function("admitted", |b| {
        let cell = Cell::new(subject(), NOW);
        let many = allowance(1_000_000);
        let mut nanos = 0;
        b.iter(|| {
            nanos += 10_000;
            cell.take(black_box(many), Share::WHOLE, Moment::after_nanos(nanos))
        });
    });
    group.bench_function("refused", |b| {
        let cell = Cell::new(subject(), NOW);
        while cell.take(allowance(1), Share::WHOLE, NOW).admitted {}
        b.iter(|| cell.take(black_box(allowance(1)), Share::WHOLE, NOW));
    });
    group.bench_function("admitted, with the clock and its seat", |b| {
        let seat = Seat::default();
        b.iter(|| {
            let now = now();
            seat.cell(subject, now)
                .take(black_box(allowance(1_000_000)), Share::WHOLE, now)
        });
    });
    group.bench_function("admitted, another thread at the same cell", |b| {
        let cell = Arc::new(Cell::new(subject(), NOW));
        let stop = Arc::new(AtomicBool::new(false));
        let other = std::thread::spawn({
            let (cell, stop) = (Arc::clone(&cell), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    black_box(cell.take(allowance(1_000_000), Share::WHOLE, since(began)));
                }
            }
        });
        b.iter(|| cell.take(black_box(allowance(1_000_000)), Share::WHOLE, now()));
        stop.store(true, Ordering::Relaxed);
        // It only counts; a panic of it would be one of the cell, which the next bench meets too.
        let _ = other.join();
    });
    group.finish();
}

criterion_group!(benches, arithmetic, cell);
criterion_main!(benches);
