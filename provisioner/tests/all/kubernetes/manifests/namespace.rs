//! The namespace, and what bounds everything in it.

use authsome_contract::model::Plan;
use authsome_provisioner::runtime::kubernetes::Kind;

use super::{all, named};
use crate::kubernetes::samples::{elaborate, new_id, settings, workload};

#[test]
fn the_namespace_is_restricted_and_bounded_by_the_plan() {
    for (plan, replicas) in [(Plan::Free, 3), (Plan::Pro, 6), (Plan::Enterprise, 10)] {
        let mut workload = workload(new_id(), 1);
        workload.site.plan = plan;
        let all = all(&settings(), &workload);
        let namespace = named(&all, Kind::Namespace, &workload.site.namespace);
        assert!(workload.site.namespace.starts_with("authsome-app-"));
        for mode in ["enforce", "audit", "warn"] {
            assert_eq!(
                namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")],
                "restricted"
            );
        }
        assert!(
            namespace["metadata"]["annotations"]["authsome.cloud/dashboard"]
                .as_str()
                .unwrap()
                .ends_with(&format!(
                    "/d/authsome-applications?var-application={}",
                    workload.application
                ))
        );
        // Those that are replaced, one more while a change rolls, and a migration.
        let hard = &named(&all, Kind::ResourceQuota, "authsome")["spec"]["hard"];
        assert_eq!(hard["pods"], (2 * replicas + 2).to_string());
        assert_eq!(hard["limits.cpu"], (2 * replicas + 2).to_string());
        assert_eq!(hard["limits.memory"], format!("{}Gi", 2 * (2 * replicas + 2)));
        assert_eq!(hard["services.loadbalancers"], "0");
        let range = &named(&all, Kind::LimitRange, "authsome")["spec"]["limits"][0];
        assert_eq!(
            (range["max"]["cpu"].as_str(), range["max"]["memory"].as_str()),
            (Some("1"), Some("2Gi"))
        );
        let scaler = &named(&all, Kind::HorizontalPodAutoscaler, "authsome")["spec"];
        assert_eq!(
            (scaler["minReplicas"].as_u64(), scaler["maxReplicas"].as_u64()),
            (Some(2), Some(replicas))
        );
        let account = named(&all, Kind::ServiceAccount, "authsome");
        assert_eq!(account["automountServiceAccountToken"], false);
    }
}

#[test]
fn dedicated_servers_have_room_in_the_quota() {
    let (plain, full) = (workload(new_id(), 1), elaborate());
    let all = all(&full, &plain);
    let hard = &named(&all, Kind::ResourceQuota, "authsome")["spec"]["hard"];
    assert_eq!(
        (hard["pods"].as_str(), hard["persistentvolumeclaims"].as_str()),
        (Some("16"), Some("2"))
    );
    assert_eq!(hard["requests.storage"], "40Gi");
}
