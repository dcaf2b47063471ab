//! Every decision, for every status, kind, generation and ledger.

use authsome_core::clock::{Clock, ManualClock};
use authsome_core::entropy::SeededEntropy;
use time::ext::NumericalDuration;

use super::*;

fn intent(status: AppStatus, activated: bool, generation: i64) -> Intent {
    let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(1));
    Intent {
        application_id: ApplicationId::generate(&clock, &entropy),
        workspace_id: WorkspaceId::generate(&clock, &entropy),
        name: "Shop'; DROP TABLE x --".to_owned(),
        environment: Environment::Production,
        plan: Plan::Free,
        region: "local".to_owned(),
        generation,
        observed_generation: 0,
        status,
        activated,
        workspace_status: WorkspaceStatus::Active,
        desired: Intent::desired(status, activated),
        config: serde_json::json!({}),
        origins: Vec::new(),
        base_path: String::new(),
        namespace: "authsome-app-x".to_owned(),
        cpu_limit: "500m".to_owned(),
        memory_limit: "512Mi".to_owned(),
        storage_limit: "5Gi".to_owned(),
        database_url: Some(Sealed(vec![1, 2, 3])),
        redis_url: None,
        edge_credentials: None,
        internal_url: None,
        instance_service: None,
        image: None,
        database: None,
        redis: None,
        endpoints: Vec::new(),
    }
}

fn now() -> OffsetDateTime {
    ManualClock::default().now()
}

fn decided(intent: &Intent, kind: JobKind, generation: i64, ledger: &[(Step, StepStatus)]) -> Decision {
    decide(intent, kind, generation, ledger, now() + 1.minutes(), now())
}

#[test]
fn an_older_generation_is_superseded_whatever_the_kind_and_status() {
    for &status in AppStatus::ALL {
        for &kind in JobKind::ALL {
            assert_eq!(
                decided(&intent(status, true, 3), kind, 2, &[]),
                Decision::Superseded,
                "{status} {kind}"
            );
        }
    }
}

#[test]
fn every_kind_is_carried_out() {
    for &kind in JobKind::ALL {
        let status = match kind {
            JobKind::Purge => AppStatus::Purging,
            _ => stops_as(kind).unwrap_or(AppStatus::Provisioning),
        };
        let decision = decided(&intent(status, false, 1), kind, 1, &[]);
        let Decision::Run(plan) = decision else {
            panic!("{kind}: {decision:?}")
        };
        assert!(!plan.is_empty(), "{kind}");
    }
}

#[test]
fn a_build_runs_only_where_its_success_can_be_recorded() {
    for &status in AppStatus::ALL {
        for activated in [false, true] {
            let decision = decided(&intent(status, activated, 1), JobKind::Provision, 1, &[]);
            let runs = matches!(
                status,
                AppStatus::Provisioning | AppStatus::Updating | AppStatus::Restarting
            );
            assert_eq!(matches!(decision, Decision::Run(_)), runs, "{status}");
            assert_eq!(decision == Decision::Superseded, !runs, "{status}");
        }
    }
}

#[test]
fn an_operation_that_stops_an_application_runs_only_while_it_is_to_be_stopped_for_that_reason() {
    for (kind, stops) in [
        (JobKind::Suspend, AppStatus::Suspended),
        (JobKind::Delete, AppStatus::Deleting),
    ] {
        for &status in AppStatus::ALL {
            for activated in [false, true] {
                let decision = decided(&intent(status, activated, 1), kind, 1, &[]);
                assert_eq!(matches!(decision, Decision::Run(_)), status == stops, "{kind} {status}");
            }
        }
    }
}

#[test]
fn past_its_deadline_an_operation_fails_and_a_superseded_one_is_still_superseded() {
    let (kind, late) = (JobKind::Provision, now() + 1.minutes());
    let present = intent(AppStatus::Provisioning, false, 1);
    assert_eq!(
        decide(&present, kind, 1, &[], late, late),
        Decision::Fail(Verdict::too_late())
    );
    assert!(matches!(
        decide(&present, kind, 1, &[], late, late - 1.milliseconds()),
        Decision::Run(_)
    ));
    assert_eq!(
        decide(&intent(AppStatus::Provisioning, false, 2), kind, 1, &[], late, late),
        Decision::Superseded
    );
}

#[test]
fn all_steps_are_planned_in_their_order_and_only_done_ones_are_merely_confirmed() {
    for &recorded in StepStatus::ALL {
        for &step in Step::PROVISION {
            let ledger = [(step, recorded)];
            let Decision::Run(plan) = decided(
                &intent(AppStatus::Provisioning, false, 1),
                JobKind::Provision,
                1,
                &ledger,
            ) else {
                panic!("{step} {recorded:?} is not run");
            };
            assert_eq!(
                plan.iter().map(|planned| planned.step).collect::<Vec<_>>(),
                Step::PROVISION
            );
            for planned in plan {
                let confirmed = planned.step == step && recorded == StepStatus::Done;
                assert_eq!(planned.mode == Mode::Confirm, confirmed, "{step} {recorded:?}");
            }
        }
    }
}

#[test]
fn what_should_run_is_what_the_edge_would_send_requests_to() {
    for &status in AppStatus::ALL {
        for activated in [false, true] {
            let intent = intent(status, activated, 1);
            let serves = status.serve(activated, WorkspaceStatus::Active) == Serve::Yes;
            assert_eq!(intent.serves(), serves, "{status}");
            if serves {
                assert_eq!(intent.desired, Desired::Running, "{status}");
            }
            let stopped = Intent {
                workspace_status: WorkspaceStatus::Suspended,
                ..intent
            };
            assert!(!stopped.serves());
        }
    }
}

#[test]
fn sealed_columns_are_not_printed() {
    let shown = format!("{:?}", intent(AppStatus::Active, true, 1));
    assert!(shown.contains("Sealed(3 bytes)") && !shown.contains("[1, 2, 3]"));
}

#[test]
fn a_purge_undoes_every_step_that_made_something_and_runs_only_while_the_application_is_purged() {
    for &status in AppStatus::ALL {
        let decision = decided(
            &intent(status, true, 1),
            JobKind::Purge,
            1,
            &[(Step::Instance, StepStatus::Done)],
        );
        match (status, decision) {
            (AppStatus::Purging, Decision::Run(plan)) => {
                assert!(plan.iter().all(|planned| planned.mode == Mode::Undo));
                let steps: Vec<Step> = plan.iter().map(|planned| planned.step).collect();
                let mut reversed: Vec<Step> = Step::PROVISION.iter().rev().copied().collect();
                reversed.retain(|step| *step != Step::Preflight);
                assert_eq!(steps, reversed);
            }
            (AppStatus::Purging, other) => panic!("{other:?}"),
            (_, decision) => assert_eq!(decision, Decision::Superseded, "{status}"),
        }
    }
}

#[test]
fn what_takes_something_away_is_never_given_up_and_everything_else_is_bounded() {
    for &kind in JobKind::ALL {
        let lasts = matches!(kind, JobKind::Suspend | JobKind::Delete | JobKind::Purge);
        let status = match kind {
            JobKind::Purge => AppStatus::Purging,
            _ => stops_as(kind).unwrap_or(AppStatus::Provisioning),
        };
        let late = decide(&intent(status, false, 1), kind, 1, &[], now(), now() + 100.days());
        assert_eq!(matches!(late, Decision::Run(_)), lasts, "{kind}: {late:?}");
        assert_eq!(matches!(late, Decision::Fail(_)), !lasts, "{kind}: {late:?}");
        for number in 1..20 {
            for may_pass in [false, true] {
                let again = lasts || (may_pass && number < ATTEMPTS);
                assert_eq!(
                    is_tried_again(kind, number, may_pass),
                    again,
                    "{kind} {number} {may_pass}"
                );
            }
        }
        let left = time_left(kind, now(), now() + 1.days());
        assert_eq!(left > Duration::ZERO, lasts, "{kind}");
        assert!(
            time_left(kind, now() + 1.minutes(), now()) >= Duration::from_mins(1),
            "{kind}"
        );
    }
}

#[test]
fn what_rests_is_stopped_served_before_and_has_no_operation_under_way() {
    for &status in AppStatus::ALL {
        for activated in [false, true] {
            for observed in [2, 3] {
                let intent = Intent {
                    observed_generation: observed,
                    ..intent(status, activated, 3)
                };
                let stopped = matches!(status, AppStatus::Suspended | AppStatus::Deleting);
                assert_eq!(intent.rests(), stopped && activated && observed == 3, "{status}");
                assert_eq!(intent.is_kept(), intent.serves() || intent.rests(), "{status}");
                if intent.rests() {
                    assert!(!intent.serves() && intent.desired == Desired::Stopped, "{status}");
                }
            }
        }
    }
}
