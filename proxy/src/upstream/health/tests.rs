use authsome_core::entropy::SeededEntropy;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> HealthPolicy {
    HealthPolicy::default()
}

/// One endpoint, its clock, and its dice.
struct Bench {
    health: Health,
    now: Instant,
    entropy: SeededEntropy,
    policy: HealthPolicy,
}

impl Bench {
    fn new() -> Self {
        Self {
            health: Health::new(),
            now: Instant::now(),
            entropy: SeededEntropy::new(3),
            policy: policy(),
        }
    }

    fn admit(&mut self) -> Option<Admission> {
        self.health.admit(self.now, &self.policy, &self.entropy)
    }

    fn observe(&mut self, outcome: Outcome, admission: Option<Admission>, began: Instant) -> Option<Change> {
        self.health
            .observe(outcome, admission, began, self.now, &self.policy, &self.entropy)
    }

    /// A request that is admitted, if it is, and ends at once.
    fn request(&mut self, outcome: Outcome) -> Option<Change> {
        let admission = self.admit()?;
        self.observe(outcome, Some(admission), self.now)
    }

    fn probed(&mut self, outcome: Outcome) -> Option<Change> {
        self.health.probed(outcome, self.now, &self.policy, &self.entropy)
    }

    fn ejected() -> Self {
        let mut bench = Self::new();
        for _ in 0..bench.policy.failures {
            bench.request(Outcome::Failed);
        }
        assert!(bench.health.is_ejected());
        bench
    }

    fn half_open() -> Self {
        let mut bench = Self::ejected();
        bench.now += bench.policy.probe_longest;
        assert!(bench.health.probe(bench.now));
        assert_eq!(bench.probed(Outcome::Answered), Some(Change::HalfOpened));
        bench
    }

    fn ramping() -> Self {
        let mut bench = Self::half_open();
        assert_eq!(bench.request(Outcome::Answered), None);
        assert_eq!(bench.request(Outcome::Answered), None);
        assert_eq!(bench.request(Outcome::Answered), Some(Change::Returned));
        bench
    }

    /// Of a hundred requests, how many it takes.
    fn share(&mut self) -> usize {
        (0..1000).filter(|_| self.admit().is_some()).count() / 10
    }
}

#[test]
fn failures_in_a_row_eject_and_an_answer_between_them_forgives() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        for _ in 1..bench.policy.failures {
            assert_eq!(bench.request(Outcome::Failed), None);
        }
        assert_eq!(bench.request(Outcome::Answered), None);
        assert!(bench.health.is_plain());
    }
    for _ in 1..bench.policy.failures {
        assert_eq!(bench.request(Outcome::Failed), None);
        assert_eq!(
            bench.request(Outcome::Unknown),
            None,
            "says nothing, and forgives nothing"
        );
    }
    assert_eq!(bench.request(Outcome::Failed), Some(Change::Ejected));
    assert_eq!(bench.admit(), None);
}

#[test]
fn only_ejected_endpoints_are_probed_and_by_one_probe_at_a_time() {
    let mut bench = Bench::new();
    assert_eq!(bench.health.probe_at(), None);
    assert!(!bench.health.probe(bench.now + 100 * SECOND));
    let mut bench = Bench::ejected();
    let due = bench.health.probe_at().unwrap();
    assert!(due > bench.now && due <= bench.now + bench.policy.probe_first);
    assert!(!bench.health.probe(bench.now), "not yet");
    bench.now = due;
    assert!(bench.health.probe(bench.now));
    assert!(!bench.health.probe(bench.now + 100 * SECOND), "one is under way");
    assert_eq!(bench.health.probe_at(), None);
}

#[test]
fn pauses_between_probes_double_up_to_the_longest_and_vary() {
    let mut bench = Bench::ejected();
    let mut expected = bench.policy.probe_first;
    for _ in 0..12 {
        expected = (expected * 2).min(bench.policy.probe_longest);
        bench.now = bench.health.probe_at().unwrap();
        assert!(bench.health.probe(bench.now));
        assert_eq!(bench.probed(Outcome::Failed), None);
        let pause = bench.health.probe_at().unwrap() - bench.now;
        assert!(pause >= expected / 2 && pause <= expected, "{pause:?} of {expected:?}");
    }
    let pauses: std::collections::HashSet<Duration> = (0..50)
        .map(|_| super::pause(3, &bench.policy, &bench.entropy))
        .collect();
    assert!(pauses.len() > 40, "{pauses:?}");
}

#[test]
fn a_probe_of_which_nothing_is_known_is_repeated_without_a_longer_pause() {
    let mut bench = Bench::ejected();
    for _ in 0..20 {
        bench.now = bench.health.probe_at().unwrap();
        assert!(bench.health.probe(bench.now));
        assert_eq!(bench.probed(Outcome::Unknown), None);
        assert!(bench.health.probe_at().unwrap() - bench.now <= bench.policy.probe_first * 2);
    }
}

#[test]
fn a_half_open_endpoint_gets_one_request_at_a_time() {
    let mut bench = Bench::half_open();
    assert_eq!(bench.admit(), Some(Admission::Trial));
    assert_eq!(bench.admit(), None);
    assert_eq!(bench.observe(Outcome::Unknown, Some(Admission::Trial), bench.now), None);
    assert_eq!(
        bench.admit(),
        Some(Admission::Trial),
        "one that said nothing is tried again"
    );
}

#[test]
fn one_failure_ejects_a_half_open_endpoint_again_for_longer() {
    let mut bench = Bench::half_open();
    bench.request(Outcome::Answered);
    assert_eq!(bench.request(Outcome::Failed), Some(Change::Ejected));
    let pause = bench.health.probe_at().unwrap() - bench.now;
    assert!(pause >= bench.policy.probe_first, "{pause:?}");
}

#[test]
fn a_returned_endpoint_takes_its_share_slowly() {
    let mut bench = Bench::ramping();
    let slow = bench.policy.slow_start;
    for (elapsed, expected) in [(slow / 100, 10), (slow / 2, 50), (slow * 9 / 10, 90), (slow, 100)] {
        let mut at = Bench {
            now: bench.now + elapsed,
            entropy: SeededEntropy::new(9),
            ..bench
        };
        let share = at.share();
        assert!(share.abs_diff(expected) <= 5, "{share} % after {elapsed:?}");
        bench = Bench::ramping();
    }
    let mut joined = Bench {
        health: Health::joining(bench.now),
        ..Bench::ramping()
    };
    joined.now = bench.now;
    assert!(joined.share() <= 15);
    let mut at_once = Bench::ramping();
    at_once.policy.slow_start = Duration::ZERO;
    assert_eq!(at_once.share(), 100);
}

#[test]
fn a_ramp_that_nobody_used_is_over_with_its_time() {
    let mut bench = Bench::ramping();
    bench.now += bench.policy.slow_start;
    assert_eq!(bench.admit(), Some(Admission::Open));
    bench.request(Outcome::Answered);
    assert!(!bench.health.is_plain(), "it is still held to its ejection");
    bench.now += bench.policy.forgive;
    bench.request(Outcome::Answered);
    assert!(bench.health.is_plain());
}

#[test]
fn what_began_before_an_endpoint_came_back_says_nothing_about_it() {
    let began = Instant::now().checked_sub(60 * SECOND).unwrap();
    let mut bench = Bench::ejected();
    assert_eq!(bench.observe(Outcome::Answered, Some(Admission::Open), began), None);
    assert!(bench.health.is_ejected());
    let mut bench = Bench::half_open();
    for _ in 0..10 {
        assert_eq!(bench.observe(Outcome::Failed, Some(Admission::Open), began), None);
        assert_eq!(bench.observe(Outcome::Answered, Some(Admission::Open), began), None);
    }
    assert_eq!(bench.admit(), Some(Admission::Trial));
    assert_eq!(bench.observe(Outcome::Failed, Some(Admission::Trial), began), None);
    assert_eq!(bench.admit(), None, "an old trial does not free the present one");
    let mut bench = Bench::ramping();
    for _ in 0..10 {
        assert_eq!(bench.observe(Outcome::Failed, Some(Admission::Open), began), None);
    }
    assert!(!bench.health.is_ejected());
}

#[test]
fn an_ejected_endpoint_that_had_to_be_used_and_answered_is_half_open() {
    let mut bench = Bench::ejected();
    bench.now += SECOND;
    assert_eq!(bench.observe(Outcome::Failed, None, bench.now), None);
    assert_eq!(
        bench.observe(Outcome::Answered, None, bench.now),
        Some(Change::HalfOpened)
    );
    assert_eq!(
        bench.probed(Outcome::Failed),
        None,
        "a probe that was under way is out of date"
    );
    assert_eq!(bench.admit(), Some(Admission::Trial));
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Request(Outcome),
    Forced(Outcome),
    Late(Outcome),
    Probe(Outcome),
    Wait(u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let outcome = prop_oneof![Just(Outcome::Answered), Just(Outcome::Failed), Just(Outcome::Unknown)];
    let event = prop_oneof![
        4 => outcome.clone().prop_map(Event::Request),
        1 => outcome.clone().prop_map(Event::Forced),
        1 => outcome.clone().prop_map(Event::Late),
        2 => outcome.prop_map(Event::Probe),
        2 => (0..40_000_u32).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..400)
}

proptest! {
    /// Whatever happens to it: an endpoint that works again gets its full share back, and one that fails is ejected.
    #[test]
    fn no_history_locks_an_endpoint_out_or_in(history in events(), seed: u64) {
        let mut bench = Bench { entropy: SeededEntropy::new(seed), ..Bench::new() };
        let start = bench.now;
        for event in history {
            match event {
                Event::Request(outcome) => { bench.request(outcome); }
                Event::Forced(outcome) => { bench.observe(outcome, None, bench.now); }
                Event::Late(outcome) => { bench.observe(outcome, Some(Admission::Open), start); }
                Event::Probe(outcome) => if bench.health.probe(bench.now) { bench.probed(outcome); },
                Event::Wait(ms) => bench.now += Duration::from_millis(ms.into()),
            }
            let due = bench.health.probe_at();
            prop_assert_eq!(due.is_some(), bench.health.is_ejected());
            prop_assert!(due.is_none_or(|due| due <= bench.now + bench.policy.probe_longest));
        }
        let mut failing = Bench { entropy: SeededEntropy::new(seed), ..bench };
        failing.now += failing.policy.slow_start;
        for _ in 0..failing.policy.failures { failing.request(Outcome::Failed); }
        prop_assert!(failing.health.is_ejected());

        for _ in 0..100 {
            bench.now += bench.policy.probe_longest;
            if bench.health.probe(bench.now) { bench.probed(Outcome::Answered); }
            bench.request(Outcome::Answered);
        }
        bench.now += bench.policy.forgive;
        bench.request(Outcome::Answered);
        prop_assert!(bench.health.is_plain());
        prop_assert_eq!(bench.share(), 100);
    }
}
