//! The ClusterRole holds what is used, and nothing else.

use std::collections::BTreeSet;

use authsome_contract::model::Step;
use authsome_provisioner::runtime::Runtime;

use super::dedicated::{database, mixed, own_site, passwords, with_own_servers};
use super::life::{build, runtime};
use super::samples::{new_id, workload};
use crate::api_double::ApiDouble;

const ROLE: &str = include_str!("../../../../deploy/kubernetes/provisioner-rbac.yaml");

/// What the role grants: (verb, group, resource). The file is written so that a rule is three lines of lists.
fn granted() -> BTreeSet<(String, String, String)> {
    let mut granted = BTreeSet::new();
    let list = |line: &str| -> Vec<String> {
        let inside = line.split_once('[').unwrap().1.split_once(']').unwrap().0;
        inside
            .split(',')
            .map(|item| item.trim().trim_matches('"').to_owned())
            .collect()
    };
    let lines: Vec<&str> = ROLE.lines().map(str::trim).collect();
    for (position, line) in lines.iter().enumerate() {
        if let Some(groups) = line.strip_prefix("- apiGroups:") {
            let (resources, verbs) = (list(lines[position + 1]), list(lines[position + 2]));
            assert!(lines[position + 1].starts_with("resources:") && lines[position + 2].starts_with("verbs:"));
            for group in list(groups) {
                for resource in &resources {
                    for verb in &verbs {
                        assert!(
                            granted.insert((verb.clone(), group.clone(), resource.clone())),
                            "{verb} {resource} twice"
                        );
                    }
                }
            }
        }
    }
    granted
}

#[tokio::test]
async fn the_cluster_role_holds_exactly_what_a_whole_life_uses() {
    let api = ApiDouble::start().await;
    let mut everything = mixed();
    everything.image.migrate_command = vec!["/authsome".to_owned(), "migrate".to_owned()];
    let image = everything.image.reference.clone();
    let runtime = runtime(&api, everything);
    runtime.check().await.unwrap();
    runtime.room(&workload(new_id(), 1).site).await.unwrap();
    let mut workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    with_own_servers(&runtime).await;
    runtime.migrate(&workload).await.unwrap();
    // Pods that are refused, for the events that say why.
    api.trouble(|trouble| trouble.over_quota = true);
    let site = own_site(new_id());
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let databases = runtime.own_servers().database.unwrap();
    let [a, b] = &passwords();
    let tenant = database(&site, [Some(a), Some(b)]);
    let why = authsome_testkit::wait_for("a reason", super::life::SOON, async || {
        runtime.hindrance(Step::Database, &site).await
    });
    tokio::select! {
        ended = databases.ensure(&tenant, &site.fence) => panic!("{ended:?}"),
        why = why => drop(why.unwrap()),
    }
    api.trouble(|trouble| trouble.over_quota = false);
    // A crash, for its log; and a migration that fails, for its removal.
    api.trouble(|trouble| {
        trouble.crashing.insert(image.clone());
    });
    (workload.generation, workload.site.generation) = (2, 2);
    runtime.ensure(&workload).await.unwrap();
    let trouble = authsome_testkit::wait_for("trouble", super::life::SOON, async || {
        runtime.observe(workload.application).await.unwrap().trouble
    })
    .await
    .unwrap();
    assert!(runtime.last_lines(workload.application, &trouble).await.is_some());
    assert!(runtime.migrate(&workload).await.is_err());
    runtime.stop(&workload.site).await.unwrap();
    runtime.remove(&workload.site).await.unwrap();
    runtime.unsettle(Step::Namespace, &workload.site).await.unwrap();

    let used: BTreeSet<(String, String, String)> = api
        .used()
        .into_iter()
        .map(|call| (call.verb, call.group, call.resource))
        .collect();
    let granted = granted();
    assert_eq!(
        used.difference(&granted).collect::<Vec<_>>(),
        Vec::<&(String, String, String)>::new(),
        "used and not granted"
    );
    assert_eq!(
        granted.difference(&used).collect::<Vec<_>>(),
        Vec::<&(String, String, String)>::new(),
        "granted and not used"
    );
    assert!(!ROLE.contains('*'));
}
