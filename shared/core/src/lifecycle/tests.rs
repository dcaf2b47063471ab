use std::convert::Infallible;
use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;

const PATIENT: Timing = Timing {
    linger: Duration::ZERO,
    deadline: Duration::from_mins(1),
};
const HASTY: Timing = Timing {
    linger: Duration::ZERO,
    deadline: Duration::from_millis(50),
};
/// Far above what any of these tests takes, far below the patient deadline.
const SOON: Duration = Duration::from_secs(20);

fn silent() -> mpsc::Receiver<&'static str> {
    mpsc::channel(1).1
}

/// A critical task that does as it is told.
fn obedient(lifecycle: &Lifecycle) {
    let soft = lifecycle.soft();
    lifecycle.spawn_critical("obedient", async move {
        soft.cancelled().await;
        Ok::<_, Infallible>(())
    });
}

async fn ends(lifecycle: Lifecycle, signals: mpsc::Receiver<&'static str>) -> Outcome {
    tokio::time::timeout(SOON, lifecycle.run_until(signals))
        .await
        .expect("the process did not end")
}

#[tokio::test]
async fn a_signal_stops_softly_and_with_success() {
    let lifecycle = Lifecycle::new(PATIENT);
    obedient(&lifecycle);
    let hard = lifecycle.hard();
    let flushed = Arc::new(AtomicBool::new(false));
    let (soft, done) = (lifecycle.soft(), Arc::clone(&flushed));
    lifecycle.spawn("flush", async move {
        soft.cancelled().await;
        assert!(!hard.is_cancelled());
        done.store(true, Ordering::SeqCst);
    });
    let (sender, signals) = mpsc::channel(1);
    sender.send("SIGTERM").await.unwrap();
    assert_eq!(ends(lifecycle, signals).await, Outcome::Success);
    assert!(flushed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_critical_task_that_fails_stops_the_others_softly_and_the_process_with_failure() {
    let lifecycle = Lifecycle::new(PATIENT);
    obedient(&lifecycle);
    lifecycle.spawn_critical("relay", async { Err(io::Error::other("connection lost")) });
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Failure);
}

#[tokio::test]
async fn a_critical_task_that_panics_ends_the_process_with_failure() {
    let lifecycle = Lifecycle::new(PATIENT);
    obedient(&lifecycle);
    lifecycle.spawn_critical("relay", async {
        assert!(Instant::now().elapsed() > SOON, "on purpose");
        Ok::<_, Infallible>(())
    });
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Failure);
}

#[tokio::test]
async fn a_critical_task_that_returns_early_ends_the_process_with_failure() {
    let lifecycle = Lifecycle::new(PATIENT);
    obedient(&lifecycle);
    lifecycle.spawn_critical("relay", async { Ok::<_, Infallible>(()) });
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Failure);
}

#[tokio::test]
async fn a_critical_task_that_fails_while_stopping_still_means_failure() {
    let lifecycle = Lifecycle::new(PATIENT);
    let soft = lifecycle.soft();
    lifecycle.spawn_critical("flush", async move {
        soft.cancelled().await;
        Err("the last values were not stored")
    });
    lifecycle.shutdown().begin();
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Failure);
}

#[tokio::test]
async fn a_plain_task_may_end_or_panic_without_ending_the_process() {
    let lifecycle = Lifecycle::new(PATIENT);
    obedient(&lifecycle);
    let (ended, wait) = tokio::sync::oneshot::channel();
    lifecycle.spawn("connection", async move {
        let _ = ended.send(());
    });
    lifecycle.spawn("connection", async {
        assert!(Instant::now().elapsed() > SOON, "on purpose");
    });
    wait.await.unwrap();
    assert!(!lifecycle.shutdown().is_draining());
    lifecycle.shutdown().begin();
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Success);
}

#[tokio::test]
async fn what_does_not_finish_by_the_deadline_is_dropped() {
    let lifecycle = Lifecycle::new(HASTY);
    let dropped = lifecycle.tasks.clone();
    lifecycle.spawn("deaf", std::future::pending());
    lifecycle.spawn_critical("deaf too", std::future::pending::<Result<(), Infallible>>());
    lifecycle.shutdown().begin();
    assert_eq!(dropped.names(), ["deaf", "deaf too"]);
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Failure);
    assert!(dropped.names().is_empty());
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_deadline() {
    let lifecycle = Lifecycle::new(PATIENT);
    lifecycle.spawn("deaf", std::future::pending());
    let (sender, signals) = mpsc::channel(2);
    sender.send("SIGINT").await.unwrap();
    sender.send("SIGINT").await.unwrap();
    assert_eq!(ends(lifecycle, signals).await, Outcome::Failure);
}

#[tokio::test]
async fn readiness_goes_off_before_anything_stops() {
    let lifecycle = Lifecycle::new(Timing {
        linger: Duration::from_millis(80),
        ..PATIENT
    });
    obedient(&lifecycle);
    let shutdown = lifecycle.shutdown().clone();
    let running = tokio::spawn(lifecycle.run_until(silent()));
    let start = Instant::now();
    shutdown.begin();
    assert!(shutdown.is_draining() && !shutdown.soft().is_cancelled());
    shutdown.soft().cancelled().await;
    assert!(start.elapsed() >= Duration::from_millis(80));
    assert_eq!(running.await.unwrap(), Outcome::Success);
}

#[tokio::test]
async fn the_tokens_alone_can_drive_a_stop() {
    let lifecycle = Lifecycle::new(PATIENT);
    lifecycle.spawn("deaf", std::future::pending());
    lifecycle.shutdown().stop_hard();
    assert_eq!(ends(lifecycle, silent()).await, Outcome::Failure);
}

#[tokio::test]
async fn a_real_signal_is_heard() {
    let mut signals = signal::listen().unwrap();
    let me = std::process::id().to_string();
    let sent = tokio::process::Command::new("kill")
        .args(["-TERM", &me])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    assert_eq!(
        tokio::time::timeout(SOON, signals.recv()).await.unwrap(),
        Some("SIGTERM")
    );
}
