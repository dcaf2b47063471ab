//! What is waited for and does not come: told while it is waited for, and given up on with the reason long before the time is up.

use std::time::Duration;

use authsome_contract::model::Step;
use authsome_contract::wire::job::JobKind;
use authsome_provisioner::database::Tenant;
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_provisioner::runtime::{Patience, Runtime};
use authsome_provisioner::step::StepError;
use authsome_testkit::wait_for;

use super::dedicated::{database, mixed, own_site, passwords};
use super::life::{SOON, runtime, until_healthy};
use super::samples::{new_id, patience, settings, workload};
use super::stepped::Stepped;
use crate::api_double::{ApiDouble, Trouble};

type Break<'a> = &'a dyn Fn(&mut Trouble);

/// A roll-out may take far longer than a test.
fn unhurried() -> Patience {
    Patience {
        rollout: Duration::from_mins(30),
        failing: Duration::from_secs(2),
        ..patience()
    }
}

/// Controllers look when something changes.
fn look(stepped: &Stepped, kind: Kind, name: &str) {
    let namespace = namespace_of(stepped.id);
    stepped.api.edit(kind, &namespace, name, |object| {
        let looks = object["metadata"]["annotations"]["looks"].as_str().unwrap_or_default();
        object["metadata"]["annotations"]["looks"] = format!("{looks}+").into();
    });
}

#[tokio::test]
async fn what_keeps_a_server_of_an_applications_own_from_coming_up_is_said_in_words() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, mixed());
    runtime.check().await.unwrap();
    let databases = runtime.own_servers().database.unwrap();
    let cases: [(Break<'_>, &str, bool); 5] = [
        (
            &|t| _ = t.images.insert("postgres:17".to_owned()),
            "The image postgres:17 of the application's own Postgres cannot be pulled: the registry does not have it.",
            false,
        ),
        (
            &|t| _ = t.crashing.insert("postgres:17".to_owned()),
            "The application's own Postgres ends as soon as it starts, with exit code 101.",
            true,
        ),
        (
            &|t| t.over_quota = true,
            "The application has reached the limits of its plan in the cluster: it asks for limits.cpu=1 more, uses \
             limits.cpu=8 and may have limits.cpu=8.",
            true,
        ),
        (
            &|t| t.no_volumes = true,
            "The cluster of this region has no volume for the application's own Postgres.",
            true,
        ),
        (
            &|t| t.full = true,
            "The cluster of this region has no room for the application's own Postgres.",
            true,
        ),
    ];
    for (break_it, public, passes) in cases {
        let site = own_site(new_id());
        runtime.settle(Step::Namespace, &site).await.unwrap();
        api.trouble(|trouble| break_it(trouble));
        let [a, b] = &passwords();
        let tenant: Tenant<'_> = database(&site, [Some(a), Some(b)]);
        let seen = wait_for("a reason", SOON, async || {
            runtime.hindrance(Step::Database, &site).await
        });
        let trouble = tokio::select! {
            ended = databases.ensure(&tenant, &site.fence) => panic!("{public}: {ended:?}"),
            seen = seen => seen.unwrap(),
        };
        assert_eq!((trouble.public.as_str(), trouble.remedy.is_none()), (public, passes));
        assert!(
            runtime.hindrance(Step::Redis, &site).await.is_none(),
            "nobody has begun it"
        );
        api.trouble(|trouble| *trouble = Trouble::default());
    }
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn pods_of_a_migration_that_are_refused_are_told_and_who_may_not_read_events_waits_as_before() {
    let api = ApiDouble::start().await;
    let mut settings = settings();
    settings.image.migrate_command = vec!["/authsome".to_owned(), "migrate".to_owned()];
    let runtime = runtime(&api, settings);
    runtime.check().await.unwrap();
    let workload = workload(new_id(), 1);
    runtime.settle(Step::Namespace, &workload.site).await.unwrap();
    runtime.ensure(&workload).await.unwrap();
    until_healthy(&runtime, &workload).await;
    api.trouble(|trouble| trouble.over_quota = true);
    let looking = async {
        let seen = wait_for("a reason", SOON, async || {
            runtime.hindrance(Step::Migrate, &workload.site).await
        });
        let trouble = seen.await.unwrap();
        assert!(trouble.public.contains("the limits of its plan"), "{trouble:?}");
        let denied = ("list".to_owned(), "events".to_owned());
        api.trouble(|trouble| _ = trouble.denied.insert(denied));
        assert!(runtime.hindrance(Step::Migrate, &workload.site).await.is_none());
    };
    tokio::select! {
        ended = runtime.migrate(&workload) => panic!("{ended:?}"),
        () = looking => {}
    }
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_told_at_once_and_fails_the_roll_out_long_before_its_time_is_up() {
    let stepped = Stepped::start(settings(), unhurried()).await;
    for step in [
        Step::Preflight,
        Step::Namespace,
        Step::Database,
        Step::Redis,
        Step::Secrets,
    ] {
        stepped.apply(step).await.unwrap();
    }
    let image = settings().image.reference;
    stepped.api.trouble(|trouble| _ = trouble.images.insert(image.clone()));
    stepped.apply(Step::Instance).await.unwrap();
    let why = format!("The image {image} of the instance cannot be pulled: the registry does not have it.");
    let telling = wait_for("it to be told", SOON, async || {
        let told = stepped.told(Step::Rollout).await;
        (told == Some(format!("0 of 2 instances are ready. {why}")))
            .then_some(())
            .ok_or(format!("{told:?}"))
    });
    let (error, told) = tokio::join!(stepped.apply(Step::Rollout), telling);
    told.unwrap();
    let error = error.unwrap_err();
    let StepError::Fatal {
        reason, remediation, ..
    } = &error
    else {
        panic!("trying again does not help: {error:?}")
    };
    assert_eq!(*reason, why);
    assert!(remediation.starts_with("Choose an image that the registry has"));
}

#[tokio::test]
async fn a_server_of_its_own_that_does_not_come_up_fails_the_step_with_the_reason() {
    let stepped = Stepped::start(mixed(), unhurried()).await.with_own_servers();
    for step in [Step::Preflight, Step::Namespace] {
        stepped.apply(step).await.unwrap();
    }
    stepped.api.trouble(|trouble| trouble.over_quota = true);
    let told = wait_for("it to be told", SOON, async || {
        let told = stepped.told(Step::Database).await;
        let tells = told
            .as_ref()
            .is_some_and(|text| text.contains("the limits of its plan"));
        tells.then_some(()).ok_or(format!("{told:?}"))
    });
    let (error, told) = tokio::join!(stepped.apply(Step::Database), told);
    told.unwrap();
    let StepError::Retry { reason, source } = error.unwrap_err() else {
        panic!("a quota may grow")
    };
    assert!(
        reason.contains("uses limits.cpu=8 and may have limits.cpu=8"),
        "{reason}"
    );
    assert!(source.to_string().contains("exceeded quota"), "{source}");
    // And with its last lines, where it wrote any.
    stepped.api.trouble(|trouble| {
        trouble.over_quota = false;
        trouble.crashing.insert("postgres:17".to_owned());
    });
    look(&stepped, Kind::StatefulSet, "postgres");
    let error = stepped.apply(Step::Database).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "The application's own Postgres ends as soon as it starts, with exit code 101. Its log ends with:\n\
         listening\npanic: cannot open the database"
    );
    stepped.api.trouble(|trouble| trouble.crashing.clear());
    look(&stepped, Kind::StatefulSet, "postgres");
    stepped.apply(Step::Database).await.unwrap();
    assert_eq!(stepped.api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_wrong_with_the_instances_before_does_not_count_against_the_roll_out_that_replaces_them() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    runtime.check().await.unwrap();
    let mut workload = workload(new_id(), 1);
    runtime.settle(Step::Namespace, &workload.site).await.unwrap();
    let (broken, slow) = (settings().image.reference, "ghcr.io/example/authsome:slow".to_owned());
    api.trouble(|trouble| {
        trouble.crashing.insert(broken);
        trouble.starting.insert(slow.clone());
    });
    runtime.ensure(&workload).await.unwrap();
    wait_for("the crash", SOON, async || {
        runtime.observe(workload.application).await.unwrap().trouble
    })
    .await
    .unwrap();
    (workload.generation, workload.site.generation, workload.site.image) = (2, 2, Some(slow));
    runtime.ensure(&workload).await.unwrap();
    wait_for("pods of both generations and no trouble", SOON, async || {
        let placement = runtime.observe(workload.application).await.unwrap();
        let both = [1, 2].iter().all(|&of| placement.of_generation(of).count() > 0);
        (both && placement.trouble.is_none())
            .then_some(())
            .ok_or(format!("{placement:?}"))
    })
    .await
    .unwrap();
    api.trouble(|trouble| trouble.starting.clear());
    api.edit(Kind::Namespace, "", &workload.site.namespace, |object| {
        object["metadata"]["annotations"]["x"] = "y".into();
    });
    until_healthy(&runtime, &workload).await;
}

/// What is told beside the end of a rotation, and how it ends.
async fn retiring(stepped: &Stepped, words: &str) -> StepError {
    let told = wait_for("it to be told", SOON, async || {
        let told = stepped.told(Step::Retire).await;
        let tells = told.as_ref().is_some_and(|text| text.contains(words));
        tells.then_some(()).ok_or(format!("{told:?}"))
    });
    let (error, told) = tokio::join!(stepped.apply(Step::Retire), told);
    told.unwrap();
    error.unwrap_err()
}

#[tokio::test]
async fn old_credentials_that_cannot_be_taken_away_are_told_with_the_reason_and_given_up_on_long_before_the_time_is_up()
{
    let mut stepped = Stepped::start(settings(), unhurried()).await;
    stepped.apply_all(&Step::PROVISION[..Step::PROVISION.len() - 2]).await;
    stepped.next(JobKind::Rotate).await;
    stepped
        .apply_all(&[Step::Renew, Step::Database, Step::Redis, Step::Secrets])
        .await;
    // The instances that use them stay, since those that are to replace them do not come up.
    let image = settings().image.reference;
    stepped.api.trouble(|trouble| _ = trouble.images.insert(image.clone()));
    stepped.apply(Step::Instance).await.unwrap();
    let why = format!("The image {image} of the instance cannot be pulled: the registry does not have it.");
    let error = retiring(&stepped, &format!("Instances that use the old credentials: 2. {why}")).await;
    let StepError::Fatal { reason, .. } = &error else {
        panic!("trying again does not help: {error:?}")
    };
    assert_eq!(*reason, why);
    stepped.api.trouble(|trouble| trouble.images.clear());
    look(&stepped, Kind::Deployment, "authsome");
    stepped.apply_all(&[Step::Rollout, Step::Activate, Step::Retire]).await;
}

#[tokio::test]
async fn a_server_of_its_own_that_does_not_take_the_old_credentials_away_fails_the_step_with_the_reason() {
    let mut stepped = Stepped::start(mixed(), unhurried()).await.with_own_servers();
    stepped.apply_all(&Step::PROVISION[..Step::PROVISION.len() - 2]).await;
    stepped.next(JobKind::Rotate).await;
    let rest = Step::of(JobKind::Rotate);
    stepped.apply_all(&rest[..rest.len() - 1]).await;
    stepped
        .api
        .trouble(|trouble| _ = trouble.crashing.insert("postgres:17".to_owned()));
    look(&stepped, Kind::StatefulSet, "postgres");
    let public = "The application's own Postgres ends as soon as it starts, with exit code 101.";
    let error = retiring(&stepped, public).await;
    assert!(
        matches!(error, StepError::Retry { .. }) && error.to_string().starts_with(public),
        "{error:?}"
    );
    stepped.api.trouble(|trouble| trouble.crashing.clear());
    look(&stepped, Kind::StatefulSet, "postgres");
    stepped.apply(Step::Retire).await.unwrap();
    assert_eq!(stepped.api.unknown(), Vec::<String>::new());
}
