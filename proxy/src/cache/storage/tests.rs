use authsome_core::clock::SystemClock;
use authsome_core::entropy::SeededEntropy;
use pingora::cache::trace::Span;
use prometheus::Registry;

use super::*;

const BOUNDS: Bounds = Bounds {
    bytes: 400_000,
    object: 50_000,
};

fn memory() -> (&'static Memory, Registry) {
    let registry = Registry::new();
    let metrics = CacheMetrics::register(&registry).unwrap();
    (Box::leak(Box::new(Memory::new(BOUNDS, metrics))), registry)
}

fn app(seed: u64) -> ApplicationId {
    ApplicationId::generate(&SystemClock, &SeededEntropy::new(seed))
}

fn meta(app: ApplicationId) -> CacheMeta {
    let now = SystemTime::now();
    let mut meta = CacheMeta::new(now, now, 1, 2, ResponseHeader::build(200, None).unwrap());
    meta.extensions_mut().insert(Origin {
        app,
        tags: Arc::from(["t".into()]),
        purge_known: 7,
    });
    meta
}

async fn store(memory: &'static Memory, key: &CacheKey, app: ApplicationId, chunks: &[usize]) {
    let span = Span::inactive().handle();
    let mut fill = memory.get_miss_handler(key, &meta(app), &span).await.unwrap();
    for (n, length) in chunks.iter().enumerate() {
        let eof = n + 1 == chunks.len();
        fill.write_body(Bytes::from(vec![b'x'; *length]), eof).await.unwrap();
    }
    fill.finish().await.unwrap();
}

async fn read(memory: &'static Memory, key: &CacheKey) -> Option<usize> {
    let span = Span::inactive().handle();
    let (found, mut hit) = memory.lookup(key, &span).await.unwrap()?;
    assert_eq!(found.extensions().get::<Origin>().unwrap().purge_known, 7);
    assert_eq!((found.stale_while_revalidate_sec(), found.stale_if_error_sec()), (1, 2));
    let mut length = 0;
    while let Some(bytes) = hit.read_body().await.unwrap() {
        length += bytes.len();
    }
    Some(length)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the gauges count things"
)]
fn gauge(registry: &Registry, name: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name).unwrap();
    family.get_metric()[0].get_gauge().get_value() as u64
}

#[tokio::test]
async fn what_was_stored_is_found_by_the_whole_key_only() {
    let (memory, _) = memory();
    let key = CacheKey::new("one", "");
    store(memory, &key, app(1), &[100, 23]).await;
    assert_eq!(read(memory, &key).await, Some(123));

    let mut same_hash = CacheKey::new("another", "");
    same_hash.set_primary_bin_override(key.primary_bin());
    assert_eq!(read(memory, &same_hash).await, None, "equal hashes are not equal keys");

    let mut variant = CacheKey::new("one", "");
    variant.set_variance_key([1; 16]);
    assert_eq!(read(memory, &variant).await, None);

    memory.forget(&key);
    assert_eq!(read(memory, &key).await, None);
}

#[tokio::test]
async fn an_empty_body_is_an_answer_too() {
    let (memory, _) = memory();
    let key = CacheKey::new("empty", "");
    store(memory, &key, app(1), &[]).await;
    assert_eq!(read(memory, &key).await, Some(0));
}

#[tokio::test]
async fn a_response_above_the_bound_is_passed_on_and_not_kept() {
    let (memory, _) = memory();
    let key = CacheKey::new("large", "");
    store(memory, &key, app(1), &[BOUNDS.object, 1]).await;
    assert_eq!(read(memory, &key).await, None);
}

#[tokio::test]
async fn a_response_that_breaks_off_leaves_nothing() {
    let (memory, _) = memory();
    let key = CacheKey::new("broken", "");
    let span = Span::inactive().handle();
    let mut fill = memory.get_miss_handler(&key, &meta(app(1)), &span).await.unwrap();
    fill.write_body(Bytes::from_static(b"half"), false).await.unwrap();
    drop(fill);
    assert_eq!(read(memory, &key).await, None);
}

#[tokio::test]
async fn one_application_cannot_fill_the_cache() {
    let (memory, registry) = memory();
    let (greedy, modest) = (app(1), app(2));
    for n in 0..100 {
        store(memory, &CacheKey::new(format!("greedy {n}"), ""), greedy, &[10_000]).await;
    }
    memory.objects.run_pending_tasks();
    assert!(memory.held.of(&greedy) <= BOUNDS.bytes / SHARE);
    let key = CacheKey::new("modest", "");
    store(memory, &key, modest, &[10_000]).await;
    assert_eq!(read(memory, &key).await, Some(10_000));
    memory.objects.run_pending_tasks();
    assert_eq!(
        gauge(&registry, "authsome_edge_cache_objects"),
        memory.objects.entry_count()
    );
    assert_eq!(
        gauge(&registry, "authsome_edge_cache_bytes"),
        memory.objects.weighted_size()
    );

    memory.objects.invalidate_all();
    memory.objects.run_pending_tasks();
    assert_eq!(memory.held.of(&greedy), 0);
    store(memory, &CacheKey::new("greedy again", ""), greedy, &[10_000]).await;
    assert_eq!(read(memory, &CacheKey::new("greedy again", "")).await, Some(10_000));
}

#[tokio::test]
async fn all_applications_together_stay_within_the_bound() {
    let (memory, registry) = memory();
    for n in 0..200 {
        store(memory, &CacheKey::new(format!("{n}"), ""), app(n), &[10_000]).await;
        memory.objects.run_pending_tasks();
    }
    assert!(memory.objects.weighted_size() <= BOUNDS.bytes);
    assert!(gauge(&registry, "authsome_edge_cache_bytes") <= BOUNDS.bytes);
}

#[tokio::test]
async fn a_part_of_what_is_kept_can_be_read() {
    let (memory, _) = memory();
    let key = CacheKey::new("part", "");
    store(memory, &key, app(1), &[100]).await;
    let span = Span::inactive().handle();
    let (_, mut hit) = memory.lookup(&key, &span).await.unwrap().unwrap();
    assert!(hit.can_seek());
    hit.seek(90, Some(500)).unwrap();
    assert_eq!(hit.read_body().await.unwrap().unwrap().len(), 10);
    assert!(hit.read_body().await.unwrap().is_none());
}
