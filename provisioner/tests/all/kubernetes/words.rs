//! What is looked at before anything is made, and what is said when instances do not come up.

use authsome_contract::model::Step;
use authsome_provisioner::runtime::kubernetes::{Cluster, Kind, KubernetesRuntime};
use authsome_provisioner::runtime::{Runtime, RuntimeError};
use authsome_provisioner::step::StepError;
use authsome_testkit::wait_for;
use serde_json::json;

use super::life::{SOON, build, runtime, until_healthy};
use super::samples::{new_id, patience, settings, site, workload};
use super::stepped::Stepped;
use crate::api_double::ApiDouble;

#[tokio::test]
async fn why_instances_do_not_come_up_is_said_in_words() {
    type Break<'a> = &'a dyn Fn(&mut crate::api_double::Trouble);
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let image = settings().image.reference;
    let cases: [(&str, Break<'_>, &str, &str); 4] = [
        (
            "image",
            &|t| {
                t.images.insert(image.clone());
            },
            "authsome:1.6.2 of the instance cannot be pulled: the registry does not have it.",
            "not found",
        ),
        (
            "crash",
            &|t| {
                t.crashing.insert(image.clone());
            },
            "with exit code 101",
            "ended with Error",
        ),
        (
            "quota",
            &|t| t.over_quota = true,
            "asks for limits.cpu=1 more, uses limits.cpu=8 and may have limits.cpu=8.",
            "exceeded quota",
        ),
        ("room", &|t| t.full = true, "no room", "0/3 nodes"),
    ];
    for (name, break_it, public, detail) in cases {
        let workload = workload(new_id(), 1);
        api.trouble(|trouble| break_it(trouble));
        runtime.settle(Step::Namespace, &workload.site).await.unwrap();
        runtime.ensure(&workload).await.unwrap();
        let trouble = wait_for("trouble", SOON, async || {
            let placement = runtime.observe(workload.application).await.unwrap();
            assert!(!placement.is_healthy(1), "{name}");
            placement.trouble
        })
        .await
        .unwrap();
        assert!(trouble.public.contains(public), "{name}: {trouble:?}");
        assert!(trouble.detail.contains(detail), "{name}: {trouble:?}");
        let lines = runtime.last_lines(workload.application, &trouble).await;
        assert_eq!(
            lines.is_some_and(|lines| lines.contains("panic: cannot open")),
            name == "crash"
        );
        // What is put right comes up by itself.
        api.trouble(|trouble| *trouble = crate::api_double::Trouble::default());
        api.edit(Kind::Namespace, "", &workload.site.namespace, |object| {
            object["metadata"]["annotations"]["x"] = "y".into();
        });
        until_healthy(&runtime, &workload).await;
    }
}

#[tokio::test]
async fn preflight_names_what_is_missing() {
    let api = ApiDouble::start().await;
    let usable = runtime(&api, settings());
    usable.check().await.unwrap();
    let calls = api.count();
    usable.check().await.unwrap();
    assert_eq!(api.count(), calls, "what was so a moment ago is not asked again");
    api.trouble(|trouble| {
        trouble
            .denied
            .insert(("patch".to_owned(), "networkpolicies".to_owned()));
    });
    let error = runtime(&api, settings()).check().await.unwrap_err();
    let RuntimeError::Unfit { public, detail } = &error else {
        panic!("{error}")
    };
    assert!(detail.contains("patch networkpolicies") && !public.contains("networkpolicies"));
    assert!(!error.is_transient());

    api.trouble(|trouble| trouble.answers = Some(503));
    let error = runtime(&api, settings()).check().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_made() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let site = site(new_id(), 1);
    let said = runtime.room(&site).await.unwrap().unwrap();
    assert!(said.contains("the cluster has room"), "{said}");

    // Somebody gave the namespace a quota of their own.
    let hard = json!({ "hard": { "limits.cpu": "4", "limits.memory": "100Gi" } });
    api.make(Kind::ResourceQuota, &site.namespace, "team", json!({ "spec": hard }));
    let error = runtime.room(&site).await.unwrap_err();
    let RuntimeError::Unfit { public, detail } = &error else {
        panic!("{error}")
    };
    assert!(public.contains("smaller than what its plan"), "{public}");
    assert_eq!(detail, "ResourceQuota team: limits.cpu is 4, and 7 may be needed");
    api.delete(Kind::ResourceQuota, &site.namespace, "team");

    for (nodes, said) in [
        (vec![("400m", "64Gi")], "No node of this region's cluster has the CPU"),
        (vec![("900m", "512Mi")], "has the memory"),
        (vec![("900m", "64Gi")], "has not enough CPU left"),
        (Vec::new(), "has the CPU and memory"),
    ] {
        let nodes = nodes
            .into_iter()
            .map(|(cpu, memory)| (cpu.to_owned(), memory.to_owned()));
        api.trouble(|trouble| trouble.nodes = Some(nodes.collect()));
        let fresh = KubernetesRuntime::start(Cluster::new(api.client()), settings(), patience()).unwrap();
        let error = fresh.room(&site).await.unwrap_err();
        let RuntimeError::Full { public, .. } = &error else {
            panic!("{error}")
        };
        assert!(public.contains(said), "{public}");
        assert!(error.is_transient(), "a node may come back");
    }

    // What runs already is counted: the second application finds what the first one left.
    api.trouble(|trouble| trouble.nodes = Some(vec![("1500m".to_owned(), "64Gi".to_owned())]));
    let fresh = super::life::runtime(&api, settings());
    fresh.room(&site).await.unwrap();
    build(&fresh, &workload(new_id(), 1)).await;
    let error = fresh.room(&site).await.unwrap_err();
    assert!(error.to_string().contains("has not enough CPU left"), "{error}");

    let mut growing = settings();
    growing.grows = true;
    let said = super::life::runtime(&api, growing).room(&site).await.unwrap().unwrap();
    assert!(said.contains("the cluster grows"), "{said}");

    let denied = ("list".to_owned(), "nodes".to_owned());
    api.trouble(|trouble| _ = trouble.denied.insert(denied));
    let fresh = super::life::runtime(&api, settings());
    let said = fresh.room(&site).await.unwrap().unwrap();
    assert!(said.contains("was not checked"), "{said}");
    assert!(api.names(&site.namespace).is_empty(), "nothing was made");
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn the_last_lines_of_a_crash_are_told_without_secrets() {
    let stepped = Stepped::start(settings(), patience()).await;
    let (api, id) = (&stepped.api, stepped.id);
    let ready = stepped.apply(Step::Preflight).await.unwrap();
    assert!(
        ready.detail.contains("Its quota holds what it may grow to"),
        "{ready:?}"
    );
    for step in [Step::Namespace, Step::Database, Step::Redis, Step::Secrets] {
        stepped.apply(step).await.unwrap();
    }
    api.trouble(|trouble| _ = trouble.crashing.insert(settings().image.reference));
    stepped.apply(Step::Instance).await.unwrap();
    let secret = api
        .get(Kind::Secret, &format!("authsome-app-{}", id.suffix()), "authsome")
        .unwrap();
    let password = {
        use base64::Engine;
        let data = secret["data"]["DATABASE_URL"].as_str().unwrap();
        let url = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let url = url::Url::parse(std::str::from_utf8(&url).unwrap()).unwrap();
        url.password().unwrap().to_owned()
    };
    let words = format!("\u{1b}[31mFATAL\u{1b}[0m cannot log in with {password}\n");
    api.trouble(|trouble| trouble.last_words = Some(words));
    let error = stepped.apply(Step::Rollout).await.unwrap_err();
    let StepError::Retry { reason, source } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        reason,
        "The instance ends as soon as it starts, with exit code 101. Its log ends with:\nFATAL cannot log in with ***"
    );
    assert!(!source.to_string().contains(&password));
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn why_a_namespace_does_not_go_away_is_said_in_the_clusters_words() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    let message = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
    api.trouble(|trouble| trouble.held = Some(("NamespaceFinalizersRemaining", message)));
    runtime.remove(&workload.site).await.unwrap();
    let remains = runtime.unsettle(Step::Namespace, &workload.site).await.unwrap_err();
    let StepError::Retry { reason, .. } = remains.into() else {
        panic!("it may go away by itself")
    };
    assert_eq!(reason, format!("The namespace is still there: {message}."));
    // Whoever holds it lets go.
    api.trouble(|trouble| trouble.held = None);
    api.edit(Kind::Namespace, "", &workload.site.namespace, |namespace| {
        namespace["metadata"]["labels"]["held"] = "no".into();
    });
    runtime.unsettle(Step::Namespace, &workload.site).await.unwrap();
    assert_eq!(api.names(&workload.site.namespace), Vec::<String>::new());
}
