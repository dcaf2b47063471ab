//! A million keys that nobody made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use authsome_core::key::{Digest, KeyType};
use authsome_proxy::routing::{Lookup, RoutingSettings, Unavailable};
use authsome_testkit::wait_for;

use crate::routing_fixture::{Platform, SOON};

const STRANGERS: u64 = 1_000_000;
/// More than the edge fills at once, so that both its bounds are met.
const AT_ONCE: usize = 6_000;
const PERMITS: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_unknown_keys_use_no_more_of_postgres_than_the_permits_and_disturb_no_key_that_is_known() {
    let platform = Platform::start().await;
    let edge = platform
        .whole_edge(RoutingSettings {
            postgres_permits: PERMITS,
            ..RoutingSettings::default()
        })
        .await;
    wait_for("the whole table", SOON, async || edge.routing.loaded_from())
        .await
        .unwrap();
    let before = platform.postgres.accepted();

    let stop = Arc::new(AtomicBool::new(false));
    let good = tokio::spawn({
        let (routing, stop, known) = (edge.routing.clone(), Arc::clone(&stop), platform.secret());
        async move {
            let (mut looks, mut missed) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                looks += 1;
                let now_ms = authsome_core::clock::Clock::unix_millis(&authsome_core::clock::SystemClock);
                // A look is a hit, or (once nobody confirmed it for ten seconds) reads again and goes on with what is known.
                if !matches!(routing.key(&known, now_ms), Lookup::Hit(_)) {
                    missed += u64::from(!matches!(routing.resolve_key(known).await, Ok(Some(_))));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (looks, missed)
        }
    });

    let (next, absent, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let counts = Arc::new((next, absent, refused));
    let began = Instant::now();
    let strangers = (0..AT_ONCE).map(|_| {
        let (routing, counts) = (edge.routing.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            loop {
                let number = counts.0.fetch_add(1, Ordering::Relaxed);
                if number >= STRANGERS {
                    return;
                }
                match routing.resolve_key(Digest::of(&number.to_le_bytes())).await {
                    Ok(None) => counts.1.fetch_add(1, Ordering::Relaxed),
                    Err(Unavailable) => counts.2.fetch_add(1, Ordering::Relaxed),
                    Ok(Some(entry)) => panic!("{:?} exists", entry.record.id),
                };
                // The refused are refused at once; without this one of them would use up the million.
                tokio::task::yield_now().await;
            }
        })
    });
    let strangers: Vec<_> = strangers.collect();
    let made = platform.tenants.key(platform.app.id, KeyType::Secret, &["*"]).await;
    let found = wait_for("a key that was made in the flood", SOON, async || {
        match edge.routing.resolve_key(made.digest()).await {
            Ok(None) => panic!("it exists"),
            Ok(found) => found,
            Err(Unavailable) => None,
        }
    });
    found.await.unwrap();
    for stranger in strangers {
        stranger.await.unwrap();
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (looks, missed) = good.await.unwrap();
    let (absent, refused) = (counts.1.load(Ordering::Relaxed), counts.2.load(Ordering::Relaxed));
    println!("{absent} absent, {refused} refused in {took:?}; {looks} looks at a known key");
    assert_eq!(absent + refused, STRANGERS);
    assert!(absent > 0, "Postgres was asked");
    assert_eq!(missed, 0, "of {looks} looks at a key that is known");
    assert!(looks > 0);
    let connections = platform.postgres.accepted() - before;
    assert!(connections <= u64::from(PERMITS) + 2, "{connections} connections");
    edge.stop().await;
}
