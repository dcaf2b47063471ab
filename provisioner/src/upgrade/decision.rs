//! What to do next with an upgrade. Pure: from its row, what is known of its applications, and the time.

use authsome_contract::model::AppStatus;
use time::OffsetDateTime;

use super::{Member, State, Status, Upgrade};

/// What became of an application whose update, or whose way back, was under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It still is.
    UnderWay,
    /// It has the image that it was to have, and serves.
    Healthy,
    /// It does not come up with it, for this public reason.
    Failed(String),
    /// Its team stopped or deleted it meanwhile.
    Gone,
}

/// By where the application is, whoever moved it: an operation of its team that took the place of ours carries the same image.
pub fn outcome(member: &Member) -> Outcome {
    match member.status {
        AppStatus::Active if member.observed_generation >= member.generation => Outcome::Healthy,
        AppStatus::Failed => Outcome::Failed(
            member
                .failure
                .clone()
                .unwrap_or_else(|| "The application did not come up.".to_owned()),
        ),
        AppStatus::Suspended | AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted => Outcome::Gone,
        AppStatus::Provisioning | AppStatus::Active | AppStatus::Updating | AppStatus::Restarting => Outcome::UnderWay,
    }
}

/// How many applications are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Updates and ways back under way.
    pub under_way: u32,
    /// Updates that are under way or ended well, in any wave.
    pub begun: u32,
    /// Those that failed, in any wave.
    pub failures: u32,
    /// Those that have the new image and are to lose it if the upgrade is taken back.
    pub upgraded: u32,
}

impl Counts {
    /// Over all members: states, whether they failed, and how many.
    pub fn of(states: impl IntoIterator<Item = (State, bool, u32)>) -> Self {
        let mut counts = Self::default();
        for (state, failed, count) in states {
            if failed {
                counts.failures += count;
            }
            match state {
                State::Updating => {
                    counts.under_way += count;
                    counts.begun += count;
                }
                State::TakingBack => counts.under_way += count,
                State::Updated => {
                    counts.upgraded += count;
                    counts.begun += count;
                }
                State::Set => counts.upgraded += count,
                // A wave is as large as it says when so many are healthy: another takes the place of one that failed.
                State::TakenBack | State::Stuck | State::Left => {}
            }
        }
        counts
    }
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing for now.
    Wait,
    /// Too many failed.
    Halt(String),
    /// Begin as many updates, fewer if there are not as many applications.
    Begin(u32),
    /// Nothing of the wave is under way any more: its time of being watched begins.
    Settle,
    /// It was watched: look at its applications once more, and go on with the next wave, or finish with the last.
    Advance,
    /// Give so many applications their former image back.
    TakeBack(u32),
    /// All of them have it.
    TakenBack,
}

/// `candidates`: applications that could be begun; `coming`: those that could be later, since something of their own is under
/// way.
pub fn next(upgrade: &Upgrade, counts: Counts, candidates: u32, coming: u32, now: OffsetDateTime) -> Next {
    let free = upgrade.parallel.saturating_sub(counts.under_way);
    match upgrade.status {
        Status::TakingBack if counts.upgraded > 0 && free > 0 => return Next::TakeBack(free),
        Status::TakingBack if counts.upgraded == 0 && counts.under_way == 0 => return Next::TakenBack,
        Status::Running => {}
        _ => return Next::Wait,
    }
    let failures = counts.failures.saturating_sub(upgrade.forgiven);
    // What the first wave is for is to find that out.
    let allowed = if upgrade.wave == 0 { 0 } else { upgrade.max_failures };
    if failures > allowed {
        return Next::Halt(format!(
            "{failures} applications failed, and {allowed} may{}.",
            if upgrade.wave == 0 { " in the first wave" } else { "" }
        ));
    }
    let wave = upgrade.waves.get(upgrade.wave).copied();
    let target = wave.and_then(|wave| wave.target(upgrade.total));
    let left = target.map_or(u32::MAX, |target| target.saturating_sub(counts.begun));
    if left > 0 && candidates > 0 {
        return match free.min(left).min(candidates) {
            0 => Next::Wait,
            count => Next::Begin(count),
        };
    }
    let last = upgrade.wave + 1 >= upgrade.waves.len();
    if counts.under_way > 0 || (last && coming > 0) {
        return Next::Wait;
    }
    match upgrade.settled_at {
        None => Next::Settle,
        Some(at) if now - at >= upgrade.soak => Next::Advance,
        Some(_) => Next::Wait,
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::id::ApplicationId;
    use proptest::prelude::*;
    use time::ext::NumericalDuration;

    use super::super::wave::{USUAL, Wave};
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn upgrade(wave: usize) -> Upgrade {
        Upgrade {
            id: 1,
            region: "eu".to_owned(),
            image: "x:2".to_owned(),
            status: Status::Running,
            waves: USUAL.to_vec(),
            wave,
            settled_at: None,
            soak: 60.seconds(),
            parallel: 10,
            max_failures: 2,
            forgiven: 0,
            total: 1000,
            reason: None,
            created_at: NOW,
            finished_at: None,
        }
    }

    fn counts(under_way: u32, begun: u32, failures: u32) -> Counts {
        Counts {
            under_way,
            begun,
            failures,
            upgraded: begun,
        }
    }

    #[test]
    fn waves_follow_each_other_only_when_the_former_is_over_and_was_watched() {
        let first = upgrade(0);
        assert_eq!(next(&first, counts(0, 0, 0), 1000, 0, NOW), Next::Begin(1));
        assert_eq!(next(&first, counts(1, 1, 0), 999, 0, NOW), Next::Wait);
        assert_eq!(next(&first, counts(0, 1, 0), 999, 0, NOW), Next::Settle);
        let settled = Upgrade {
            settled_at: Some(NOW),
            ..upgrade(0)
        };
        assert_eq!(next(&settled, counts(0, 1, 0), 999, 0, NOW + 59.seconds()), Next::Wait);
        assert_eq!(
            next(&settled, counts(0, 1, 0), 999, 0, NOW + 60.seconds()),
            Next::Advance
        );
        // Never more at a time than allowed, never more than the wave's share.
        assert_eq!(next(&upgrade(1), counts(0, 1, 0), 999, 0, NOW), Next::Begin(10));
        assert_eq!(next(&upgrade(1), counts(7, 20, 0), 980, 0, NOW), Next::Begin(3));
        assert_eq!(next(&upgrade(1), counts(3, 48, 0), 952, 0, NOW), Next::Begin(2));
        assert_eq!(next(&upgrade(1), counts(10, 48, 0), 952, 0, NOW), Next::Wait);
        // The last one waits for those that something else is done with.
        assert_eq!(next(&upgrade(3), counts(0, 1000, 0), 0, 1, NOW), Next::Wait);
        assert_eq!(next(&upgrade(3), counts(0, 1000, 0), 0, 0, NOW), Next::Settle);
        assert_eq!(
            next(&upgrade(3), counts(0, 1000, 0), 4, 0, NOW),
            Next::Begin(4),
            "those that came meanwhile"
        );
    }

    #[test]
    fn it_halts_above_the_bound_at_once_in_the_first_wave_and_not_for_what_was_forgiven() {
        assert!(matches!(next(&upgrade(0), counts(0, 1, 1), 999, 0, NOW), Next::Halt(_)));
        assert_eq!(next(&upgrade(1), counts(0, 3, 2), 997, 0, NOW), Next::Begin(10));
        assert!(matches!(
            next(&upgrade(1), counts(5, 20, 3), 980, 0, NOW),
            Next::Halt(_)
        ));
        let forgiven = Upgrade {
            forgiven: 3,
            ..upgrade(1)
        };
        assert_eq!(next(&forgiven, counts(5, 20, 3), 980, 0, NOW), Next::Begin(5));
    }

    #[test]
    fn what_is_not_running_begins_nothing_and_what_is_taken_back_ends_when_nothing_is_left() {
        for status in [
            Status::Paused,
            Status::Halted,
            Status::Succeeded,
            Status::TakenBack,
            Status::Aborted,
        ] {
            let stopped = Upgrade { status, ..upgrade(2) };
            assert_eq!(next(&stopped, counts(0, 5, 9), 900, 0, NOW), Next::Wait, "{status:?}");
        }
        let back = Upgrade {
            status: Status::TakingBack,
            ..upgrade(2)
        };
        assert_eq!(next(&back, counts(2, 50, 0), 900, 0, NOW), Next::TakeBack(8));
        let none = Counts {
            under_way: 2,
            begun: 50,
            failures: 0,
            upgraded: 0,
        };
        assert_eq!(next(&back, none, 900, 0, NOW), Next::Wait);
        assert_eq!(
            next(&back, Counts { under_way: 0, ..none }, 900, 0, NOW),
            Next::TakenBack
        );
    }

    #[test]
    fn what_became_of_an_application_is_read_from_where_it_is() {
        let member = |status, observed_generation| Member {
            application: ApplicationId::from_uuid(uuid::Uuid::nil()),
            wave: 0,
            state: State::Updating,
            failed: false,
            previous: None,
            generation: 4,
            operation: None,
            reason: None,
            status,
            observed_generation,
            failure: Some("It crashes.".to_owned()),
        };
        for (status, observed, expected) in [
            (AppStatus::Active, 4, Outcome::Healthy),
            (AppStatus::Active, 5, Outcome::Healthy),
            (AppStatus::Active, 3, Outcome::UnderWay),
            (AppStatus::Updating, 3, Outcome::UnderWay),
            (AppStatus::Restarting, 4, Outcome::UnderWay),
            (AppStatus::Provisioning, 0, Outcome::UnderWay),
            (AppStatus::Failed, 3, Outcome::Failed("It crashes.".to_owned())),
            (AppStatus::Suspended, 4, Outcome::Gone),
            (AppStatus::Deleting, 4, Outcome::Gone),
            (AppStatus::Purging, 4, Outcome::Gone),
            (AppStatus::Deleted, 4, Outcome::Gone),
        ] {
            assert_eq!(outcome(&member(status, observed)), expected, "{status} {observed}");
        }
    }

    proptest! {
        /// Whatever happens, an upgrade in which every update ends well reaches its end, with every wave as large as it says.
        #[test]
        fn a_fleet_without_failures_is_upgraded_to_the_last(total in 0u32..300, parallel in 1u32..20) {
            let mut upgrade = Upgrade { parallel, total, ..upgrade(0) };
            let (mut begun, mut under_way, mut now) = (0, 0, NOW);
            let mut finished = false;
            for _ in 0..2_000 {
                now += 61.seconds();
                match next(&upgrade, counts(under_way, begun, 0), total - begun, 0, now) {
                    Next::Begin(count) => {
                        begun += count;
                        under_way += count;
                        prop_assert!(under_way <= parallel);
                        if let Some(target) = upgrade.waves[upgrade.wave].target(total) {
                            prop_assert!(begun <= target);
                        }
                    }
                    Next::Wait => {
                        prop_assert!(under_way > 0, "nothing to wait for");
                        under_way -= 1;
                    }
                    Next::Settle => {
                        prop_assert_eq!(under_way, 0);
                        upgrade.settled_at = Some(now);
                    }
                    Next::Advance => {
                        upgrade.settled_at = None;
                        upgrade.wave += 1;
                        if upgrade.wave == upgrade.waves.len() {
                            finished = true;
                            break;
                        }
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert!(finished);
            prop_assert_eq!(begun, total);
        }
    }

    #[test]
    fn counts_are_over_all_members() {
        let members = [
            (State::Updating, false, 1),
            (State::Updated, false, 7),
            (State::Set, false, 2),
            (State::Left, false, 9),
            (State::TakingBack, true, 1),
            (State::TakenBack, true, 3),
            (State::Stuck, true, 1),
        ];
        let expected = Counts {
            under_way: 2,
            begun: 8,
            failures: 5,
            upgraded: 9,
        };
        assert_eq!(Counts::of(members), expected);
        assert_eq!(Wave::Count(1).target(0), Some(1));
    }
}
