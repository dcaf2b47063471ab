use std::io::ErrorKind;
use std::task::Poll;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use prometheus::Registry;

use super::*;

fn live(limit: usize) -> Live {
    Live::new(limit, LiveMetrics::register(&Registry::new()).unwrap())
}

fn subject() -> Subject {
    Subject {
        app: ApplicationId::generate(&SystemClock, &SystemEntropy::new()),
        key: None,
    }
}

#[test]
fn only_the_connections_of_the_subject_are_ended() {
    let live = live(10);
    let (first, second) = (subject(), subject());
    let [a, b, c] = [(); 3].map(|()| Arc::new(Accepted::default()));
    let listings = [
        live.list(first, Arc::clone(&a)).unwrap(),
        live.list(first, Arc::clone(&b)).unwrap(),
        live.list(second, Arc::clone(&c)).unwrap(),
    ];
    live.end(&first, Ended::Key);
    assert_eq!(
        [&a, &b, &c].map(|connection| connection.switch.is_thrown()),
        [true, true, false]
    );
    assert_eq!(live.0.metrics.connections(), 1);
    drop(listings);
    assert_eq!(live.0.metrics.connections(), 0);
    assert!(live.subjects().is_empty());
}

#[test]
fn a_connection_whose_stream_is_over_is_not_hit() {
    let live = live(10);
    let subject = subject();
    let connection = Arc::new(Accepted::default());
    drop(live.list(subject, Arc::clone(&connection)).unwrap());
    live.end(&subject, Ended::Key);
    assert!(!connection.switch.is_thrown());
}

#[test]
fn the_list_has_a_bound_and_room_again_when_one_leaves() {
    let live = live(1);
    let held = live.list(subject(), Arc::default()).unwrap();
    assert_eq!(live.list(subject(), Arc::default()).err(), Some(Full));
    drop(held);
    assert!(live.list(subject(), Arc::default()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_is_woken_and_fails_at_its_next_read() {
    let switch = Arc::new(KillSwitch::default());
    switch.arm();
    let waiting = tokio::spawn({
        let switch = Arc::clone(&switch);
        async move {
            let work = std::future::poll_fn(|_| match switch.check() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error.kind()),
            });
            switch.serve(work).await
        }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    switch.throw();
    assert_eq!(waiting.await.unwrap(), Some(ErrorKind::ConnectionAborted));
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_is_thrown_while_the_work_looks_is_seen() {
    let switch = KillSwitch::default();
    switch.arm();
    let mut looked = 0;
    let work = std::future::poll_fn(|_| {
        looked += 1;
        match switch.check() {
            Ok(()) => {
                switch.throw();
                Poll::Pending
            }
            Err(error) => Poll::Ready(error.kind()),
        }
    });
    assert_eq!(switch.serve(work).await, Some(ErrorKind::ConnectionAborted));
    assert_eq!(looked, 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_something_else_is_dropped() {
    let switch = Arc::new(KillSwitch::default());
    switch.arm();
    let began = tokio::time::Instant::now();
    switch.throw();
    assert_eq!(switch.serve(std::future::pending::<()>()).await, None);
    assert!(began.elapsed() < std::time::Duration::from_secs(1));
}
