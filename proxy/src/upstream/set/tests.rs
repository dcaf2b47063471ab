use std::collections::HashMap;

use authsome_core::entropy::SeededEntropy;
use proptest::prelude::*;

use super::*;
use crate::upstream::health::{Health, Outcome};

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 8080))
}

fn set(count: u8) -> Set {
    Set::new(
        (0..count)
            .map(|last| Arc::new(Endpoint::new(address(last), Health::new())))
            .collect(),
    )
}

struct Bench {
    set: Set,
    now: Instant,
    policy: HealthPolicy,
    entropy: SeededEntropy,
}

impl Bench {
    fn of(set: Set) -> Self {
        Self {
            set,
            now: Instant::now(),
            policy: HealthPolicy::default(),
            entropy: SeededEntropy::new(1),
        }
    }

    fn pick(&self, tried: &Tried) -> Attempt {
        self.set.pick(tried, self.now, &self.policy, &self.entropy).unwrap()
    }

    fn fail(&self, last: u8, times: u32) {
        let endpoint = self
            .set
            .endpoints
            .iter()
            .find(|endpoint| endpoint.address() == address(last))
            .unwrap();
        for _ in 0..times {
            Attempt::new(Arc::clone(endpoint), None, self.now).settle(
                Outcome::Failed,
                &self.policy,
                || self.now,
                &self.entropy,
            );
        }
    }

    fn spread(&self, requests: usize) -> HashMap<SocketAddr, usize> {
        let mut spread = HashMap::new();
        for _ in 0..requests {
            let mut attempt = self.pick(&Tried::default());
            *spread.entry(attempt.endpoint().address()).or_insert(0) += 1;
            attempt.settle(Outcome::Answered, &self.policy, || self.now, &self.entropy);
        }
        spread
    }
}

#[test]
fn turns_go_round_evenly() {
    let bench = Bench::of(set(3));
    assert_eq!(bench.spread(300).into_values().collect::<Vec<_>>(), [100; 3]);
}

#[test]
fn an_ejected_endpoint_is_passed_over_and_the_others_share_its_turns() {
    let bench = Bench::of(set(4));
    bench.fail(2, bench.policy.failures);
    let spread = bench.spread(400);
    assert_eq!(spread.get(&address(2)), None);
    assert_eq!(spread.values().sum::<usize>(), 400);
}

#[test]
fn where_all_are_ejected_all_are_used() {
    let bench = Bench::of(set(3));
    for last in 0..3 {
        bench.fail(last, bench.policy.failures);
    }
    let mut picked = std::collections::HashSet::new();
    for _ in 0..3 {
        picked.insert(bench.pick(&Tried::default()).endpoint().address());
    }
    assert_eq!(picked.len(), 3);
}

#[test]
fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    let bench = Bench::of(set(3));
    for _ in 0..10 {
        let mut tried = Tried::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            let attempt = bench.pick(&tried);
            tried.add(attempt.endpoint().address());
            assert!(seen.insert(attempt.endpoint().address()));
        }
    }
}

#[test]
fn a_retry_prefers_one_that_failed_it_to_one_that_fails_everybody() {
    let bench = Bench::of(set(2));
    bench.fail(1, bench.policy.failures);
    let mut tried = Tried::default();
    tried.add(address(0));
    assert_eq!(bench.pick(&tried).endpoint().address(), address(0));
}

#[test]
fn one_endpoint_alone_is_always_used() {
    let bench = Bench::of(set(1));
    bench.fail(0, 100);
    let mut tried = Tried::default();
    for _ in 0..5 {
        let attempt = bench.pick(&tried);
        assert_eq!(attempt.endpoint().address(), address(0));
        tried.add(address(0));
    }
    assert!(
        set(0)
            .pick(&Tried::default(), bench.now, &bench.policy, &bench.entropy)
            .is_none()
    );
}

#[test]
fn a_trial_that_is_dropped_makes_room_for_the_next() {
    let mut bench = Bench::of(set(2));
    bench.fail(0, bench.policy.failures);
    bench.now += bench.policy.probe_longest;
    let endpoint = Arc::clone(&bench.set.endpoints[0]);
    assert!(endpoint.probe(bench.now));
    endpoint.probed(Outcome::Answered, bench.now, &bench.policy, &bench.entropy);
    for _ in 0..5 {
        let trial = loop {
            let attempt = bench.pick(&Tried::default());
            if attempt.endpoint().address() == address(0) {
                break attempt;
            }
        };
        for _ in 0..10 {
            assert_ne!(bench.pick(&Tried::default()).endpoint().address(), address(0));
        }
        drop(trial);
    }
}

#[test]
fn endpoints_know_whether_they_are_in_a_set() {
    let endpoint = Arc::new(Endpoint::new(address(1), Health::new()));
    let first = Set::new(vec![Arc::clone(&endpoint), Arc::clone(&endpoint)]);
    let second = Set::new(vec![Arc::clone(&endpoint)]);
    drop(first);
    assert!(endpoint.is_listed());
    drop(second);
    assert!(!endpoint.is_listed());
}

proptest! {
    /// Whoever is ejected: there is a choice, and it is not an ejected one while another is left.
    #[test]
    fn a_choice_is_always_made_and_never_a_bad_one_beside_a_good_one(
        count in 1..8_u8,
        ejected in prop::collection::vec(0..8_u8, 0..8),
        tried_ones in prop::collection::vec(0..8_u8, 0..3),
    ) {
        let bench = Bench::of(set(count));
        let ejected: Vec<u8> = ejected.into_iter().filter(|last| *last < count).collect();
        for last in &ejected {
            bench.fail(*last, bench.policy.failures);
        }
        let mut tried = Tried::default();
        for last in &tried_ones {
            tried.add(address(*last));
        }
        let good = |last: u8| !ejected.contains(&last);
        let chosen = bench.pick(&tried).endpoint().address();
        if (0..count).any(|last| good(last) && !tried_ones.contains(&last)) {
            prop_assert!(!tried.has(chosen));
        }
        if (0..count).any(good) {
            prop_assert!((0..count).any(|last| good(last) && address(last) == chosen));
        }
    }
}
