use std::path::Path;

use authsome_contract::wire::{UsageConfirmation, UsageReport};
use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use prometheus::Registry;
use proptest::prelude::*;
use uuid::Uuid;

use super::file::{self, CounterFile};
use super::outstanding::Outstanding;
use super::*;

const HOUR_MS: i64 = 3_600_000;
const ONE: Tally = Tally {
    requests: 1,
    errors: 0,
    bytes_in: 100,
    bytes_out: 200,
};

fn app(n: u128) -> ApplicationId {
    ApplicationId::from_uuid(Uuid::from_u128(n))
}

fn metrics() -> MeterMetrics {
    MeterMetrics::register(&Registry::new()).unwrap()
}

fn open(directory: &Path, capacity: u32, seed: u64) -> Meter {
    let settings = MeterSettings {
        directory: directory.to_owned(),
        capacity,
    };
    Meter::open(
        settings,
        Arc::new(ManualClock::default()),
        Arc::new(SeededEntropy::new(seed)),
        metrics(),
    )
    .0
}

fn outstanding(meter: &Meter) -> Outstanding {
    Outstanding::new(Arc::clone(&meter.0.ledger))
}

fn requests(reports: &[UsageReport]) -> u64 {
    reports
        .iter()
        .flat_map(|report| &report.counters)
        .map(|counter| counter.requests)
        .sum()
}

fn acknowledge(outstanding: &mut Outstanding) -> Vec<UsageReport> {
    let due = outstanding.due();
    for report in &due {
        outstanding.acknowledged(report);
    }
    due
}

fn confirm(outstanding: &mut Outstanding, reports: &[UsageReport]) -> usize {
    let confirmations = reports.iter().map(|report| {
        let confirmation = UsageConfirmation {
            counters: report.counters.clone(),
        };
        (report.writer, confirmation)
    });
    confirmations
        .map(|(writer, confirmation)| outstanding.confirmed(writer, &confirmation))
        .sum()
}

#[test]
fn what_threads_count_adds_up() {
    let directory = tempfile::tempdir().unwrap();
    let meter = open(directory.path(), 64, 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let slot = meter.slot(app(1));
            scope.spawn(move || (0..10_000).for_each(|n| slot.count(HOUR_MS * (10 + n / 5_000), ONE)));
        }
    });
    let due = outstanding(&meter).due();
    assert_eq!(requests(&due), 40_000);
    assert_eq!(due[0].counters.len(), 2, "an hour each");
    assert_eq!(
        due[0].counters.iter().map(|counter| counter.bytes_out).sum::<u64>(),
        8_000_000
    );
}

#[test]
fn a_killed_writers_counts_are_told_as_final_and_its_file_goes_when_they_are_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let killed = open(directory.path(), 64, 1);
    killed.slot(app(1)).count(HOUR_MS * 10, ONE);
    killed.slot(app(2)).count(HOUR_MS * 11, Tally { errors: 1, ..ONE });
    assert_eq!(
        file::take_over(directory.path()).predecessors.len(),
        0,
        "its writer lives"
    );
    drop(killed);

    let successor = open(directory.path(), 64, 2);
    let mut outstanding = outstanding(&successor);
    for predecessor in file::take_over(directory.path()).predecessors {
        assert!(outstanding.inherit(predecessor));
    }
    let due = acknowledge(&mut outstanding);
    assert_eq!(requests(&due), 2);
    assert!(due[0].counters.iter().all(|counter| counter.is_final));
    assert_eq!(file::take_over(directory.path()).predecessors.len(), 0, "it is taken");
    assert!(outstanding.due().is_empty());
    assert_eq!(confirm(&mut outstanding, &due), 2);
    assert_eq!(outstanding.inherited(), 0);
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "only the living writer's file is left"
    );
}

#[test]
fn a_counter_is_freed_only_when_its_hour_is_over_settled_and_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let meter = open(directory.path(), 64, 1);
    let slot = meter.slot(app(1));
    slot.count(HOUR_MS * 10, ONE);
    let mut outstanding = outstanding(&meter);
    outstanding.next_round(0);
    let due = acknowledge(&mut outstanding);
    assert!(!due[0].counters[0].is_final);
    assert_eq!(confirm(&mut outstanding, &due), 0, "the hour is not over");
    outstanding.next_round(10);
    for _ in 0..10 {
        assert!(outstanding.due().is_empty(), "not settled");
        outstanding.next_round(10);
    }
    let due = acknowledge(&mut outstanding);
    assert!(due[0].counters[0].is_final);
    assert_eq!(
        confirm(&mut outstanding, &due),
        0,
        "a stopped thread may still be about to count"
    );
    for _ in 0..10 {
        outstanding.next_round(10);
    }
    assert_eq!(
        requests(&acknowledge(&mut outstanding)),
        1,
        "told again until it is confirmed"
    );
    let mut less = due.clone();
    less[0].counters[0].bytes_out -= 1;
    assert_eq!(confirm(&mut outstanding, &less), 0, "not all of it");
    assert_eq!(confirm(&mut outstanding, &due), 1);
    assert_eq!(meter.0.ledger.used(), 0);
}

#[test]
fn a_clock_that_goes_back_counts_in_no_hour_that_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let meter = open(directory.path(), 64, 1);
    let slot = meter.slot(app(1));
    slot.count(HOUR_MS * 10, ONE);
    meter.0.ledger.close(10);
    slot.count(HOUR_MS * 10, ONE);
    slot.count(HOUR_MS * 3, ONE);
    let due = outstanding(&meter).due();
    let hours: Vec<_> = due[0]
        .counters
        .iter()
        .map(|counter| (counter.hour, counter.requests))
        .collect();
    assert_eq!(hours, [(10, 1), (11, 2)]);
}

#[test]
fn a_full_file_is_followed_by_memory_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let meter = open(directory.path(), 2, 1);
    for n in 0..5 {
        meter.slot(app(n)).count(HOUR_MS * 10, ONE);
    }
    let due = outstanding(&meter).due();
    assert_eq!(requests(&due), 5);
    assert_eq!(due.len(), 2, "two writers");
}

#[test]
fn a_file_is_added_before_the_first_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let meter = open(directory.path(), 8, 1);
    for n in 0..7 {
        assert!(!meter.0.ledger.is_short());
        meter.slot(app(n)).count(HOUR_MS * 10, ONE);
    }
    assert!(meter.0.ledger.is_short());
    meter.0.ledger.extend(&SeededEntropy::new(9)).unwrap();
    assert!(!meter.0.ledger.is_short());
    for n in 0..12 {
        meter.slot(app(n)).count(HOUR_MS * 10, ONE);
    }
    assert!(meter.0.ledger.segments().all(ledger::Segment::is_on_disk));
}

#[test]
fn a_directory_that_cannot_be_used_is_counted_around() {
    let directory = tempfile::tempdir().unwrap();
    let occupied = directory.path().join("occupied");
    std::fs::write(&occupied, "a file").unwrap();
    let meter = open(&occupied, 8, 1);
    meter.slot(app(1)).count(HOUR_MS * 10, ONE);
    assert_eq!(requests(&outstanding(&meter).due()), 1);
}

#[test]
fn a_corrupt_file_is_set_aside_and_never_believed() {
    let directory = tempfile::tempdir().unwrap();
    let dead = open(directory.path(), 4, 1);
    dead.slot(app(1)).count(HOUR_MS * 10, ONE);
    drop(dead);
    let path = std::fs::read_dir(directory.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = std::fs::read(&path).unwrap();
    let spoilt: [Vec<u8>; 6] = [
        Vec::new(),
        good[..40].to_vec(),
        good[..good.len() - 1].to_vec(),
        [good.as_slice(), &[0; 64]].concat(),
        {
            let mut bytes = good.clone();
            bytes[20] ^= 1;
            bytes
        },
        {
            let mut bytes = good.clone();
            bytes[0] = b'X';
            bytes
        },
    ];
    for bytes in spoilt {
        std::fs::write(&path, &bytes).unwrap();
        let found = file::take_over(directory.path());
        assert_eq!((found.predecessors.len(), found.corrupt), (0, 1));
        assert!(!path.exists());
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(file::take_over(directory.path()).predecessors.len(), 1);
}

#[test]
fn a_file_has_all_its_blocks_before_it_is_mapped() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let file = CounterFile::create(directory.path(), Uuid::from_u128(1), 1024).unwrap();
    let path = std::fs::read_dir(directory.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let metadata = std::fs::metadata(path).unwrap();
    assert!(metadata.blocks() * 512 >= metadata.len(), "{metadata:?}");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    drop(file);
}

/// What may happen to a writer and its successors.
#[derive(Debug, Clone)]
enum Event {
    Count {
        app: u128,
        hour: i64,
    },
    /// A round whose messages may be lost on the way, doubled, or not confirmed.
    Round {
        over: u32,
        delivered: bool,
        confirmed: bool,
    },
    Kill,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let count = (0..3_u128, 10..14_i64).prop_map(|(app, hour)| Event::Count { app, hour });
    let round = (8..14_u32, any::<bool>(), any::<bool>()).prop_map(|(over, delivered, confirmed)| Event::Round {
        over,
        delivered,
        confirmed,
    });
    prop::collection::vec(prop_oneof![6 => count, 6 => round, 1 => Just(Event::Kill)], 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_greatest_values_told_sum_to_what_was_counted(events in events()) {
        let directory = tempfile::tempdir().unwrap();
        let mut bill = std::collections::HashMap::new();
        let mut seed = 1;
        let mut meter = open(directory.path(), 4, seed);
        let mut outstanding = outstanding(&meter);
        let mut counted = 0;
        let mut tell = |outstanding: &mut Outstanding, delivered: bool, confirmed: bool| {
            let due = outstanding.due();
            for report in due.iter().filter(|_| delivered) {
                outstanding.acknowledged(report);
                for counter in &report.counters {
                    let name = (report.writer, counter.application_id, counter.hour);
                    let greatest: &mut u64 = bill.entry(name).or_default();
                    *greatest = counter.requests.max(*greatest);
                }
            }
            if delivered && confirmed {
                confirm(outstanding, &due);
            }
            bill.values().sum::<u64>()
        };
        for event in events {
            match event {
                Event::Count { app: n, hour } => {
                    // Without a disk that grows, a kill would lose what memory holds.
                    if meter.0.ledger.is_short() {
                        seed += 1;
                        meter.0.ledger.extend(&SeededEntropy::new(seed)).unwrap();
                    }
                    meter.slot(app(n)).count(hour * HOUR_MS, ONE);
                    counted += 1;
                }
                Event::Round { over, delivered, confirmed } => {
                    outstanding.next_round(over);
                    let billed = tell(&mut outstanding, delivered, confirmed);
                    prop_assert!(billed <= counted);
                }
                Event::Kill => {
                    drop(std::mem::replace(&mut outstanding, super::tests::outstanding(&meter)));
                    seed += 1;
                    let successor = open(directory.path(), 4, seed);
                    outstanding = super::tests::outstanding(&successor);
                    meter = successor;
                    for predecessor in file::take_over(directory.path()).predecessors {
                        outstanding.inherit(predecessor);
                    }
                }
            }
        }
        prop_assert_eq!(tell(&mut outstanding, true, false), counted);
    }
}
