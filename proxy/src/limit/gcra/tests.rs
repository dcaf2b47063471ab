use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const WEEK: u64 = 7 * 24 * 3600 * SECOND;

fn allowance(per_second: u32, burst: u32) -> Allowance {
    Allowance::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
}

/// One subject over a time.
struct Subject {
    word: u64,
    allowance: Allowance,
}

impl Subject {
    fn new(per_second: u32, burst: u32, nanos: u64) -> Self {
        Self {
            word: fresh(Moment::after_nanos(nanos)),
            allowance: allowance(per_second, burst),
        }
    }

    fn ask(&mut self, share: Share, nanos: u64) -> Verdict {
        let step = step(self.word, self.allowance, share, Moment::after_nanos(nanos));
        if step.verdict.admitted {
            self.word = step.word;
        }
        step.verdict
    }
}

#[test]
fn a_burst_passes_at_once_and_then_one_in_each_interval() {
    let mut subject = Subject::new(10, 10, 0);
    for left in (0..10).rev() {
        let verdict = subject.ask(Share::WHOLE, 0);
        assert_eq!((verdict.admitted, verdict.remaining), (true, left));
        assert_eq!(verdict.reset_ms, u64::from(10 - left) * 100);
    }
    let refused = subject.ask(Share::WHOLE, 0);
    assert_eq!(
        refused,
        Verdict {
            admitted: false,
            remaining: 0,
            reset_ms: 1000,
            retry_after_ms: 100
        }
    );
    assert!(!subject.ask(Share::WHOLE, SECOND / 10 - 100).admitted);
    assert!(subject.ask(Share::WHOLE, SECOND / 10).admitted);
    assert!(!subject.ask(Share::WHOLE, SECOND / 10).admitted);
    let rested = subject.ask(Share::WHOLE, 100 * SECOND);
    assert_eq!(rested.remaining, 9, "a pause gives one burst back, not more");
}

#[test]
fn a_refused_request_costs_nothing() {
    let mut subject = Subject::new(1, 1, 0);
    assert!(subject.ask(Share::WHOLE, 0).admitted);
    for tenth in 1..10 {
        assert!(!subject.ask(Share::WHOLE, tenth * SECOND / 10).admitted);
    }
    assert!(subject.ask(Share::WHOLE, SECOND).admitted);
}

#[test]
fn a_share_makes_the_rate_smaller_and_leaves_the_burst() {
    let mut subject = Subject::new(100, 100, 0);
    let quarter = Share::of_parts(u64::from(Share::PARTS) / 4);
    let at_once = (0..200).filter(|_| subject.ask(quarter, 0).admitted).count();
    assert_eq!(at_once, 100);
    let later = (0..200).filter(|_| subject.ask(quarter, SECOND).admitted).count();
    assert_eq!(later, 25);
}

#[test]
fn another_share_keeps_what_is_left() {
    let half = Share::of_parts(u64::from(Share::PARTS) / 2);
    let mut subject = Subject::new(100, 100, 0);
    for _ in 0..60 {
        subject.ask(Share::WHOLE, 0);
    }
    let now = Moment::after_nanos(0);
    assert_eq!(left(subject.word, subject.allowance, half, now), 40);
    subject.word = retune(subject.word, subject.allowance, half, now);
    assert_eq!(left(subject.word, subject.allowance, half, now), 40);
    subject.word = retune(subject.word, subject.allowance, Share::WHOLE, now);
    assert_eq!(left(subject.word, subject.allowance, Share::WHOLE, now), 40);
}

#[test]
fn a_lowered_limit_keeps_nobody_waiting_longer_than_from_the_start() {
    let mut subject = Subject::new(1, 3600, 0);
    while subject.ask(Share::WHOLE, 0).admitted {}
    subject.allowance = allowance(10, 10);
    assert_eq!(subject.ask(Share::WHOLE, 0).retry_after_ms, 100);
}

#[test]
fn time_may_run_for_years() {
    let years = 20 * 365 * 24 * 3600 * SECOND;
    let mut subject = Subject::new(10, 10, 0);
    assert!(subject.ask(Share::WHOLE, 0).admitted);
    // Whatever the word of long ago looks like by then, nobody waits longer than for one burst.
    for week in 0..years / WEEK {
        let nanos = week * WEEK;
        let verdict = subject.ask(Share::WHOLE, nanos);
        assert!(verdict.retry_after_ms <= 100, "{nanos}: {verdict:?}");
    }
}

#[test]
fn the_extremes_stay_in_range() {
    for (per_second, burst) in [(1, 3600), (1, u32::MAX), (u32::MAX, u32::MAX), (1_000_000, 1), (1, 1)] {
        for share in [Share::WHOLE, Share::of_parts(0)] {
            let mut subject = Subject::new(per_second, burst, 5);
            let verdict = subject.ask(share, 5);
            assert!(verdict.admitted);
            assert_eq!(verdict.remaining, subject.allowance.burst() - 1);
            subject.word = pack(Moment((HALF - 1) & TIME_MASK), Share::WHOLE);
            let late = subject.ask(share, 0);
            assert!(late.reset_ms > 0);
        }
    }
}

/// The reference: tokens as exact fractions (numerators over 10^9 × 4096), which drip in continuously.
struct Bucket {
    tokens: u128,
    at: u64,
}

impl Bucket {
    const ONE: u128 = SECOND as u128 * Share::PARTS as u128;

    /// What may come at once, and what drips in within one unit of time: to a unit an instant may be earlier than it is
    /// taken for.
    fn capacity(allowance: Allowance) -> u128 {
        let drip = u128::from(allowance.per_second()) * u128::from(Share::PARTS) * u128::from(UNIT_NANOS);
        u128::from(allowance.burst()) * Self::ONE + drip
    }

    fn full(allowance: Allowance) -> Self {
        Self {
            tokens: Self::capacity(allowance),
            at: 0,
        }
    }

    fn ask(&mut self, allowance: Allowance, share: Share, nanos: u64) -> bool {
        let rate = u128::from(allowance.per_second()) * u128::from(share.parts());
        let dripped = u128::from(nanos - self.at) * rate;
        self.tokens = Self::capacity(allowance).min(self.tokens + dripped);
        self.at = nanos;
        let admitted = self.tokens >= Self::ONE;
        if admitted {
            self.tokens -= Self::ONE;
        }
        admitted
    }
}

/// Pauses that matter: none, short ones, some of about an interval, and long ones.
fn pauses() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(
        prop_oneof![Just(0), 0..50_000_u64, 0..20_000_000_u64, 0..3 * SECOND],
        1..300,
    )
}

fn shares() -> impl Strategy<Value = Share> {
    prop_oneof![
        Just(Share::WHOLE),
        (1..=u64::from(Share::PARTS)).prop_map(Share::of_parts)
    ]
}

proptest! {
    #[test]
    fn between_any_two_instants_no_more_than_burst_and_rate_are_admitted(
        per_second in 1..5_000_u32, burst in 1..200_u32, share in shares(), pauses in pauses(),
    ) {
        let mut subject = Subject::new(per_second, burst, 0);
        let mut now = 0;
        let mut admitted: Vec<u64> = Vec::new();
        for pause in pauses {
            now += pause;
            if subject.ask(share, now).admitted {
                admitted.push(now);
            }
        }
        for (first, from) in admitted.iter().enumerate() {
            for (count, to) in admitted[first..].iter().enumerate() {
                // The unit of time is 16 ns: an instant may be as much earlier than it is taken for.
                let time = u128::from(to - from + UNIT_NANOS);
                let drips = time * u128::from(per_second) * u128::from(share.parts()) / Bucket::ONE;
                prop_assert!((count as u128) < u128::from(burst) + drips, "{count} in {time}");
            }
        }
    }

    #[test]
    fn it_never_admits_more_than_the_reference_and_lags_it_by_rounding_only(
        per_second in 1..5_000_u32, burst in 1..200_u32, changes in prop::collection::vec((shares(), pauses()), 1..6),
    ) {
        let mut subject = Subject::new(per_second, burst, 0);
        let mut bucket = Bucket::full(subject.allowance);
        let (mut now, mut ours, mut theirs) = (0, 0_u64, 0_u64);
        for (share, pauses) in changes {
            subject.word = retune(subject.word, subject.allowance, share, Moment::after_nanos(now));
            for pause in pauses {
                now += pause;
                ours += u64::from(subject.ask(share, now).admitted);
                theirs += u64::from(bucket.ask(subject.allowance, share, now));
                prop_assert!(ours <= theirs, "{ours} of {theirs}");
            }
        }
        prop_assert!(theirs - ours <= 1 + theirs / 50, "{ours} of {theirs}");
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused(per_second in 1..5_000_u32, burst in 1..200_u32, share in shares()) {
        let mut subject = Subject::new(per_second, burst, 0);
        let interval = subject.allowance.interval(share) * UNIT_NANOS;
        for nth in 0..1_000 {
            prop_assert!(subject.ask(share, nth * interval).admitted);
        }
    }

    #[test]
    fn the_told_wait_is_enough_and_a_shorter_one_is_not(
        per_second in 1..500_u32, burst in 1..100_u32, share in shares(), pauses in pauses(),
    ) {
        let mut subject = Subject::new(per_second, burst, 0);
        let mut now = 0;
        for pause in pauses {
            now += pause;
            let verdict = subject.ask(share, now);
            if !verdict.admitted {
                let wait = verdict.retry_after_ms * 1_000_000;
                let at = |nanos| step(subject.word, subject.allowance, share, Moment::after_nanos(nanos)).verdict.admitted;
                prop_assert!(at(now + wait));
                prop_assert!(!at(now + wait - 1_000_000 - UNIT_NANOS) || wait <= 1_000_000);
            }
        }
    }

    #[test]
    fn the_word_holds_what_was_put_in(nanos in any::<u64>(), parts in 1..=u64::from(Share::PARTS)) {
        let (moment, share) = (Moment::after_nanos(nanos), Share::of_parts(parts));
        prop_assert_eq!(unpack(pack(moment, share)), (moment, share));
    }
}
