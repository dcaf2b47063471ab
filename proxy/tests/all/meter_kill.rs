//! SIGKILL while counting: what the dead process counted is billed by its successor, exactly.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use authsome_core::clock::{Clock, ManualClock};
use authsome_proxy::meter::Tally;
use authsome_testkit::{NatsOptions, NatsServer};
use tokio::sync::watch;

use crate::meter_usage::{Aggregator, open, some_app};
use crate::routing_fixture::connect;

const DIRECTORY: &str = "AUTHSOME_TEST_METER_DIRECTORY";

/// The child: counts until it is killed, and after each thousand says how many it has counted.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn counts_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let clock = ManualClock::default();
    let (meter, _publisher) = open(directory.as_ref(), &clock);
    let slots: Vec<_> = (0..10).map(|_| meter.slot(some_app())).collect();
    for thousands in 1_u64.. {
        for n in 0..1000 {
            slots[n % 10].count(
                clock.unix_millis(),
                Tally {
                    requests: 1,
                    ..Tally::default()
                },
            );
        }
        println!("counted {thousands}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "meter_kill::counts_until_it_is_killed",
        ])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let said = |line: String| {
        line.split_once("counted ")
            .and_then(|(_, count)| count.parse::<u64>().ok())
    };
    let mut thousands = lines
        .by_ref()
        .filter_map(said)
        .find(|thousands| *thousands >= 20)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    thousands = lines.filter_map(said).last().unwrap_or(thousands);

    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    let (_meter, publisher) = open(directory.path(), &ManualClock::default());
    let (_stop, stopped) = watch::channel(false);
    let _task = tokio::spawn(publisher.run(connect(&server).await, stopped));
    let report = aggregator.next().await;
    assert_eq!(report.counters.len(), 10);
    assert!(report.counters.iter().all(|counter| counter.is_final));
    // The dead process had said so many, and may have counted up to a thousand more before the signal.
    let billed = aggregator.requests();
    assert!(
        (thousands * 1000..=thousands * 1000 + 1000).contains(&billed),
        "{billed} after {thousands} thousand"
    );
}
