//! Two regions, each with a cluster of its own: what belongs to one never reaches the other.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use authsome_contract::model::AppStatus;
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::operation::OperationStatus;
use authsome_provisioner::runtime::kubernetes::{Kind, namespace_of};
use authsome_testkit::{
    NatsOptions, NatsServer, Program, RedisOptions, RedisServer, port, private_file, secret, shared_postgres,
};
use time::ext::NumericalDuration;

use crate::api_double::ApiDouble;
use crate::engine::Control;
use crate::program::provisioner_command;

struct World {
    control: Control,
    nats: NatsServer,
    redis: RedisServer,
    directory: tempfile::TempDir,
    keys: [String; 2],
}

impl World {
    async fn start() -> Self {
        let (control, nats, redis) = tokio::join!(
            Control::start(),
            NatsServer::start(NatsOptions::default()),
            RedisServer::start(RedisOptions::default())
        );
        Self {
            control,
            nats: nats.unwrap(),
            redis: redis.unwrap(),
            directory: tempfile::tempdir().unwrap(),
            keys: [secret::random_key().unwrap(), secret::random_key().unwrap()],
        }
    }

    /// A provisioner that serves these regions, each by its cluster.
    async fn provisioner(&self, name: &str, clusters: &[(&str, &ApiDouble)]) -> Program {
        let mut named = String::new();
        for (region, api) in clusters {
            let kubeconfig = self.directory.path().join(format!("{name}-{region}.kubeconfig"));
            private_file::write(&kubeconfig, &api.kubeconfig()).unwrap();
            writeln!(named, "{region} = \"{}\"", kubeconfig.display()).unwrap();
        }
        let admin = format!("127.0.0.1:{}", port::free().unwrap());
        let config = self.directory.path().join(format!("{name}.toml"));
        let [key, edge_key] = &self.keys;
        let text = format!(
            "runtime = \"kubernetes\"\n[database]\nurl = \"{}\"\n[nats]\nurl = \"{}\"\n[tenants]\ndatabase_url = \"{}\"\n\
             redis_url = \"{}\"\n[kubernetes]\nimage = \"registry.example/authsome:1\"\n[kubernetes.clusters]\n{named}\
             [encryption]\nkey = \"{key}\"\nedge_key = \"{edge_key}\"\n[public]\nedge = \"https://api.example\"\n[listen]\n\
             admin = \"{admin}\"\n[reconcile]\ninterval = \"200ms\"\n[drift]\ninterval = \"200ms\"\n[log]\nformat = \"pretty\"\n",
            self.control.database.url,
            self.nats.url(),
            shared_postgres().await.unwrap().admin_url(),
            self.redis.url(),
        );
        private_file::write(&config, &text).unwrap();
        provisioner_command(self.directory.path().join(format!("{name}.log")), &config, &admin)
            .start()
            .await
            .unwrap()
    }

    async fn wanted(&self, region: &str) -> (ApplicationId, OperationId) {
        let id = self.control.application(AppStatus::Provisioning).await;
        sqlx::query("UPDATE applications SET region = $2 WHERE id = $1")
            .bind(id)
            .bind(region)
            .execute(&self.control.pool)
            .await
            .unwrap();
        let deadline = SystemClock.now() + 10.minutes();
        (id, self.control.operation(id, JobKind::Provision, 1, deadline).await)
    }
}

/// Applications that a cluster has anything of.
fn applications(api: &ApiDouble) -> BTreeSet<String> {
    let namespaces = api.all(Kind::Namespace);
    namespaces
        .iter()
        .map(|namespace| namespace["metadata"]["name"].as_str().unwrap().to_owned())
        .filter(|name| name.starts_with("authsome-app-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_region_has_its_cluster_and_nothing_of_one_reaches_the_other() {
    let (world, eu, us) = tokio::join!(World::start(), ApiDouble::start(), ApiDouble::start());
    let both = world
        .provisioner("both", &[("eu-west-1", &eu), ("us-east-1", &us)])
        .await;
    let ours = [
        world.wanted("eu-west-1").await,
        world.wanted("us-east-1").await,
        world.wanted("eu-west-1").await,
    ];
    for (_, operation) in ours {
        world.control.until(operation, OperationStatus::Succeeded).await;
    }
    let expected =
        |numbers: &[usize]| -> BTreeSet<String> { numbers.iter().map(|n| namespace_of(ours[*n].0)).collect() };
    assert_eq!(
        (applications(&eu), applications(&us)),
        (expected(&[0, 2]), expected(&[1]))
    );
    // What is removed comes back where it was.
    let namespace = namespace_of(ours[1].0);
    us.delete(Kind::Service, &namespace, "authsome");
    authsome_testkit::wait_for("the Service", Duration::from_secs(30), async || {
        us.get(Kind::Service, &namespace, "authsome").map(drop)
    })
    .await
    .unwrap();
    assert_eq!(
        (applications(&eu), applications(&us)),
        (expected(&[0, 2]), expected(&[1]))
    );
    drop(both);

    // One that serves one region leaves the other's work to others, and does not so much as look there.
    let calls = us.count();
    let only = world.provisioner("eu", &[("eu-west-1", &eu)]).await;
    let (theirs, waiting) = world.wanted("us-east-1").await;
    let (own, done) = world.wanted("eu-west-1").await;
    world.control.until(done, OperationStatus::Succeeded).await;
    let left = world.control.load(waiting).await;
    assert_eq!((left.status, left.attempts), (OperationStatus::Queued, 0));
    assert_eq!(us.count(), calls);
    assert!(applications(&eu).contains(&namespace_of(own)) && !applications(&eu).contains(&namespace_of(theirs)));

    // The other region's own provisioner takes it up.
    let other = world.provisioner("us", &[("us-east-1", &us)]).await;
    world.control.until(waiting, OperationStatus::Succeeded).await;
    assert!(applications(&us).contains(&namespace_of(theirs)) && !applications(&eu).contains(&namespace_of(theirs)));
    for api in [&eu, &us] {
        assert_eq!(api.unknown(), Vec::<String>::new());
    }
    drop((only, other));
}
