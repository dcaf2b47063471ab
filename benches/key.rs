//! What an API key costs at the edge before any look-up: reading it, hashing it, refusing it, masking it.

use std::hint::black_box;

use authsome_core::entropy::SeededEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, Digest, KeyMode, KeyType, ParsedKey};
use criterion::{Criterion, criterion_group, criterion_main};

fn keys(c: &mut Criterion) {
    let application = ApplicationId::from_uuid(uuid::uuid!("0188bac7-4afa-78aa-bc3b-bd1eef28d881"));
    let entropy = SeededEntropy::new(1);
    let key = ApiKey::generate(KeyType::Secret, KeyMode::Live, &application, &entropy);
    let good = key.expose();
    let mistyped = good.replacen("sk_live", "sk_test", 1);
    let short = &good[..good.len() - 1];
    let parsed = key.parsed();

    let mut group = c.benchmark_group("key");
    group.bench_function("parse and digest", |b| {
        b.iter(|| ParsedKey::parse(black_box(good)).map(|key| key.digest()));
    });
    group.bench_function("parse", |b| b.iter(|| ParsedKey::parse(black_box(good)).is_ok()));
    group.bench_function("digest", |b| b.iter(|| Digest::of(black_box(good).as_bytes())));
    group.bench_function("refuse a malformed key", |b| {
        b.iter(|| ParsedKey::parse(black_box(short)).is_err());
    });
    group.bench_function("refuse a wrong checksum", |b| {
        b.iter(|| ParsedKey::parse(black_box(&mistyped)).is_err());
    });
    group.bench_function("mask", |b| b.iter(|| black_box(&parsed).masked()));
    group.bench_function("generate", |b| {
        b.iter(|| ApiKey::generate(KeyType::Secret, KeyMode::Live, black_box(&application), &entropy));
    });
    group.finish();
}

criterion_group!(benches, keys);
criterion_main!(benches);
