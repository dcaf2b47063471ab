//! What is removed or changed by hand comes back.

use std::time::Instant;

use authsome_contract::model::Step;
use authsome_core::id::ApplicationId;
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_testkit::wait_for;
use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::json;

use super::platform::Platform;
use super::{PATIENCE, REPAIR};

impl Platform {
    pub(super) async fn repair(&self, id: ApplicationId) {
        for (kind, name) in [
            (Kind::NetworkPolicy, "allow-edge"),
            (Kind::NetworkPolicy, "default-deny"),
            (Kind::Service, "authsome"),
            (Kind::HorizontalPodAutoscaler, "authsome"),
            (Kind::Deployment, "authsome"),
            (Kind::ResourceQuota, "authsome"),
        ] {
            let before = self.get(kind, id, name).await.unwrap()["metadata"]["uid"].clone();
            self.api(kind, id).delete(name, &DeleteParams::default()).await.unwrap();
            let begun = Instant::now();
            wait_for(format!("{} {name} to be made again", kind.name()), REPAIR, async || {
                let now = self.get(kind, id, name).await;
                now.is_some_and(|now| now["metadata"]["uid"] != before).then_some(())
            })
            .await
            .unwrap();
            self.say(format!(
                "{} {name} was removed and is back after {:.1} s",
                kind.name(),
                begun.elapsed().as_secs_f64()
            ));
        }
        wait_for("instances again", PATIENCE, async || {
            (self.ready(id).await >= 2).then_some(())
        })
        .await
        .unwrap();
        for (kind, name, addition) in [
            (
                Kind::NetworkPolicy,
                "default-deny",
                json!({ "podSelector": { "matchLabels": { "nobody": "has" } } }),
            ),
            (Kind::NetworkPolicy, "default-deny", json!({ "ingress": [{}] })),
            (Kind::Service, "authsome", json!({ "selector": { "nobody": "has" } })),
        ] {
            let before = self.get(kind, id, name).await.unwrap()["spec"].clone();
            self.edit(kind, id, name, json!({ "spec": addition })).await;
            let begun = Instant::now();
            wait_for("the addition to be taken back", REPAIR, async || {
                let now = self.get(kind, id, name).await.unwrap()["spec"].clone();
                if now == before { Ok(()) } else { Err(now.to_string()) }
            })
            .await
            .unwrap();
            self.say(format!(
                "{} {name}: {addition} was taken back after {:.1} s",
                kind.name(),
                begun.elapsed().as_secs_f64()
            ));
        }
        self.edit(
            Kind::HorizontalPodAutoscaler,
            id,
            "authsome",
            json!({ "spec": { "maxReplicas": 42 } }),
        )
        .await;
        self.edit(
            Kind::Deployment,
            id,
            "authsome",
            json!({ "metadata": { "annotations": { "team/note": "ours" } } }),
        )
        .await;
        wait_for("the changed field to be put right", REPAIR, async || {
            let scaler = self.get(Kind::HorizontalPodAutoscaler, id, "authsome").await.unwrap();
            (scaler["spec"]["maxReplicas"] != 42).then_some(())
        })
        .await
        .unwrap();
        let deployment = self.get(Kind::Deployment, id, "authsome").await.unwrap();
        assert_eq!(
            deployment["metadata"]["annotations"]["team/note"], "ours",
            "others' fields are left alone"
        );
        self.say("a changed field is put right, others' fields are left alone");
    }

    /// Scraped, and watched by alerts that come back, where the cluster has the Prometheus operator; left out and said so where not.
    pub(super) async fn monitor(&self, id: ApplicationId, created: authsome_core::id::OperationId) {
        let steps = self.control.steps(created).await;
        let step = steps.into_iter().find(|step| step.step == Step::Monitoring).unwrap();
        if step.status == "skipped" {
            assert!(step.detail.unwrap().contains("no Prometheus operator"));
            return;
        }
        let monitor = self.get(Kind::ServiceMonitor, id, "authsome").await.unwrap();
        assert_eq!(
            monitor["spec"]["namespaceSelector"]["matchNames"],
            json!([namespace_of(id)])
        );
        if !step.detail.unwrap().contains("watched by the fleet's alerts") {
            return;
        }
        for kind in [Kind::PrometheusRule, Kind::ConfigMap] {
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.monitoring, &kind.resource());
            let name = "authsome-applications";
            let before = api.get(name).await.unwrap().metadata.uid;
            api.delete(name, &DeleteParams::default()).await.unwrap();
            wait_for("it to be made again", REPAIR, async || {
                let now = api.get_opt(name).await.unwrap();
                now.is_some_and(|now| now.metadata.uid != before).then_some(())
            })
            .await
            .unwrap();
        }
        self.say("the fleet's alerts and dashboard were removed and are back");
    }

    /// Everything goes, and comes back.
    pub(super) async fn lose_the_namespace(&self, id: ApplicationId) {
        let namespace = namespace_of(id);
        let uid = async || {
            let found = self.get(Kind::Namespace, id, &namespace).await;
            found.map(|found| found["metadata"]["uid"].clone())
        };
        let before = uid().await;
        let begun = Instant::now();
        self.api(Kind::Namespace, id)
            .delete(&namespace, &DeleteParams::default())
            .await
            .unwrap();
        wait_for("the namespace and its instances again", PATIENCE, async || {
            let now = uid().await;
            (now.is_some() && now != before && self.ready(id).await >= 2).then_some(())
        })
        .await
        .unwrap();
        self.say(format!(
            "the namespace was deleted; it and its instances are back after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
    }
}
