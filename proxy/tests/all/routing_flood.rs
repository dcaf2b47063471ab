//! A million keys that nobody made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use authsome_core::clock::{Clock, SystemClock};
use authsome_core::key::{Digest, KeyType};
use authsome_proxy::routing::{Lookup, Routing, RoutingSettings, Unavailable};
use authsome_testkit::wait_for;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::routing_fixture::{Platform, SOON};

const STRANGERS: u32 = 1_000_000;
/// One in so many waits for its answer; the others ask and are gone, which is the cheaper flood for whoever makes it.
const PATIENT: u32 = 20;
/// After so many the flood takes breath, so that a machine with two cores does something else as well.
const BREATH: u32 = 1_000;
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
                let now_ms = SystemClock.unix_millis();
                // A look is a hit, or (once nobody confirmed it for ten seconds) reads again and goes on with what is known.
                if !matches!(routing.key(&known, now_ms), Lookup::Hit(_)) {
                    missed += u64::from(!matches!(routing.resolve_key(known).await, Ok(Some(_))));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (looks, missed)
        }
    });

    let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let began = Instant::now();
    // On a thread of their own, as requests are in the edge.
    let mut strangers = tokio::task::spawn_blocking({
        let (routing, counts) = (edge.routing.clone(), Arc::clone(&counts));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(flood(&routing, &counts));
        }
    });
    let made = platform.tenants.key(platform.app.id, KeyType::Secret, &["*"]).await;
    let tenants = platform.tenants.clone();
    let most_at_once = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move { tenants.most_at_once(&stop).await }
    });
    // Whoever asks for a key that exists may be told to come back, and never that it does not exist.
    let mut asked_for_made = 0_u64;
    loop {
        tokio::select! {
            ended = &mut strangers => break ended.unwrap(),
            found = edge.routing.resolve_key(made.digest()) => {
                asked_for_made += 1;
                assert!(!matches!(found, Ok(None)), "it exists");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (looks, missed) = good.await.unwrap();
    let (absent, refused) = (counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed));
    println!("{STRANGERS} asked, {absent} heard 401, {refused} 503 in {took:?}; {looks} looks at a known key");
    assert!(absent > 0, "Postgres was asked");
    assert_eq!(missed, 0, "of {looks} looks at a key that is known");
    assert!(looks > 0 && asked_for_made > 0);
    let (most, opened) = (most_at_once.await.unwrap(), platform.postgres.accepted() - before);
    println!("{most} statements at once, {opened} connections opened");
    // And those two by which the table as a whole is read.
    assert!(most <= i64::from(PERMITS) + 2, "{most} statements at once");
    wait_for("the key that was made in the flood", SOON, async || {
        edge.routing.resolve_key(made.digest()).await.ok().flatten()
    })
    .await
    .unwrap();
    edge.stop().await;
}

/// Asks for all of them. Counts who was told that the key does not exist, and who to come back.
async fn flood(routing: &Routing, counts: &(AtomicU64, AtomicU64)) {
    let mut waiting = FuturesUnordered::new();
    let count = |answer| match answer {
        Ok(None) => counts.0.fetch_add(1, Ordering::Relaxed),
        Err(Unavailable) => counts.1.fetch_add(1, Ordering::Relaxed),
        Ok(Some(_)) => panic!("nobody made it"),
    };
    for number in 0..STRANGERS {
        let mut asked = Box::pin(routing.resolve_key(Digest::of(&number.to_le_bytes())));
        if let Some(answer) = asked.as_mut().now_or_never() {
            count(answer);
        } else if number % PATIENT == 0 {
            waiting.push(asked);
        }
        if number % BREATH == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            while let Some(Some(answer)) = waiting.next().now_or_never() {
                count(answer);
            }
        }
    }
    while let Some(answer) = waiting.next().await {
        count(answer);
    }
}
