use super::*;

fn beat(incarnation: i64, sequence: u64) -> Heartbeat {
    Heartbeat {
        epoch: 1,
        incarnation,
        position: sequence * 2,
        sequence,
        database_time_ms: 0,
    }
}

fn attached(now: Instant) -> Tracker {
    let mut tracker = Tracker::new(false);
    assert_eq!(
        tracker.attach(7, 100),
        Start {
            sequence: 101,
            anew: true
        }
    );
    assert_eq!(
        tracker.heard(beat(7, 100), now),
        Verdict::Live {
            epoch: 1,
            position: 200,
            anew: true
        }
    );
    tracker
}

#[test]
fn it_lives_only_after_a_heartbeat_that_covers_where_it_began() {
    let now = Instant::now();
    let mut tracker = Tracker::new(false);
    tracker.attach(7, 100);
    assert_eq!(tracker.verdict(now), Verdict::Wait);
    assert_eq!(
        tracker.heard(beat(7, 99), now),
        Verdict::Wait,
        "older than the end of the stream that was seen"
    );
    assert_eq!(
        tracker.heard(beat(7, 101), now),
        Verdict::Wait,
        "101 is not delivered yet"
    );
    assert_eq!(
        tracker.delivered(101, now),
        Verdict::Live {
            epoch: 1,
            position: 202,
            anew: true
        }
    );
    assert_eq!(
        tracker.verdict(now),
        Verdict::Live {
            epoch: 1,
            position: 202,
            anew: false
        }
    );
}

#[test]
fn a_whole_stream_is_read_from_its_first_message_and_slow_reading_is_not_standing_still() {
    let now = Instant::now();
    let mut tracker = Tracker::new(true);
    assert_eq!(
        tracker.attach(7, 100),
        Start {
            sequence: 1,
            anew: true
        }
    );
    assert_eq!(tracker.heard(beat(7, 100), now), Verdict::Wait);
    let (half, later) = (BEHIND / 2, BEHIND + BEHIND / 4);
    assert_eq!(tracker.delivered(40, now + half), Verdict::Wait);
    assert_eq!(tracker.delivered(90, now + later), Verdict::Wait);
    assert!(!tracker.is_caught_up());
    assert_eq!(
        tracker.delivered(100, now + later),
        Verdict::Live {
            epoch: 1,
            position: 200,
            anew: true
        }
    );
    assert!(tracker.is_caught_up());
    // The same stream after a lost connection: nothing is read twice.
    assert_eq!(
        tracker.attach(7, 120),
        Start {
            sequence: 101,
            anew: false
        }
    );
}

#[test]
fn gaps_in_the_sequence_are_normal() {
    let now = Instant::now();
    let mut tracker = attached(now);
    assert_eq!(
        tracker.delivered(150, now),
        Verdict::Live {
            epoch: 1,
            position: 200,
            anew: false
        }
    );
    assert_eq!(
        tracker.heard(beat(7, 150), now),
        Verdict::Live {
            epoch: 1,
            position: 300,
            anew: false
        }
    );
}

#[test]
fn three_missed_heartbeats_are_doubt_and_the_next_one_ends_it() {
    let now = Instant::now();
    let mut tracker = attached(now);
    assert_eq!(tracker.verdict(now + MISSED), Verdict::Doubt(Reason::Silent));
    let later = now + MISSED * 2;
    assert_eq!(
        tracker.heard(beat(7, 100), later),
        Verdict::Live {
            epoch: 1,
            position: 200,
            anew: false
        }
    );
}

#[test]
fn a_consumer_that_stays_behind_is_replaced_and_goes_on_where_it_was() {
    let now = Instant::now();
    let mut tracker = attached(now);
    assert_eq!(tracker.heard(beat(7, 103), now), Verdict::Wait);
    assert_eq!(tracker.verdict(now + BEHIND), Verdict::Restart(Reason::Behind));
    assert_eq!(
        tracker.attach(7, 103),
        Start {
            sequence: 101,
            anew: false
        }
    );
    tracker.nothing_pending(103);
    let verdict = tracker.heard(beat(7, 103), now + BEHIND);
    assert_eq!(
        verdict,
        Verdict::Live {
            epoch: 1,
            position: 206,
            anew: false
        }
    );
}

#[test]
fn another_stream_makes_everything_be_read_again() {
    let now = Instant::now();
    let mut tracker = attached(now);
    assert_eq!(tracker.heard(beat(8, 3), now), Verdict::Restart(Reason::Incarnation));
    assert_eq!(
        tracker.attach(8, 3),
        Start {
            sequence: 4,
            anew: true
        }
    );
    assert_eq!(
        tracker.heard(beat(8, 3), now),
        Verdict::Live {
            epoch: 1,
            position: 6,
            anew: true
        }
    );
}

#[test]
fn a_sequence_that_goes_back_makes_everything_be_read_again() {
    let now = Instant::now();
    let mut tracker = attached(now);
    assert_eq!(tracker.heard(beat(7, 90), now), Verdict::Restart(Reason::WentBack));
    assert_eq!(
        tracker.attach(7, 90),
        Start {
            sequence: 91,
            anew: true
        }
    );
    assert_eq!(
        tracker.heard(beat(7, 90), now),
        Verdict::Live {
            epoch: 1,
            position: 180,
            anew: true
        }
    );
    // Seen first when attaching: the stream was restored from a copy.
    assert_eq!(
        tracker.attach(7, 80),
        Start {
            sequence: 81,
            anew: true
        }
    );
    assert_eq!(
        tracker.heard(beat(7, 80), now),
        Verdict::Live {
            epoch: 1,
            position: 160,
            anew: true
        }
    );
}

#[test]
fn a_raised_epoch_makes_everything_be_read_again() {
    let now = Instant::now();
    let mut tracker = attached(now);
    let raised = Heartbeat {
        epoch: 2,
        ..beat(7, 100)
    };
    assert_eq!(tracker.heard(raised.clone(), now), Verdict::Restart(Reason::Epoch));
    tracker.attach(7, 100);
    assert_eq!(
        tracker.heard(raised, now),
        Verdict::Live {
            epoch: 2,
            position: 200,
            anew: true
        }
    );
}
