//! A worker that dies anywhere in a rotation, as a killed process does: with all that it had open, before it gets an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{DatabaseChoice, RedisChoice, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::seal::PlatformRing;
use authsome_core::secret::SecretUrl;
use authsome_provisioner::credentials::{self, Kind as Password};
use authsome_provisioner::database::SharedServer;
use authsome_provisioner::lease::Lease;
use authsome_provisioner::redis::AclServer;
use authsome_provisioner::runtime::Runtime;
use authsome_provisioner::runtime::kubernetes::{Cluster, Kind, KubernetesRuntime, namespace_of};
use authsome_provisioner::step::{self, Facilities, Observed, StepContext, StepError};
use authsome_provisioner::tenancy::{Caches, Databases};
use authsome_testkit::{shared_postgres, wait_for};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};
use url::Url;

use super::samples::{patience, settings};
use super::stepped::Stepped;
use crate::lease::{run_out, take};
use crate::lifeline::{Counted, Lifeline};
use crate::redis::connect;

/// For what may take long on a busy machine, and says nothing by that.
const PATIENCE: Duration = Duration::from_mins(1);
/// A worker that lives may find a server too slow, and tries again as the engine does.
const RETRIES: usize = 20;

/// A process with connections of its own, and a lease.
struct Worker {
    lifeline: Lifeline,
    pool: PgPool,
    facilities: Facilities,
    lease: Lease,
}

/// The same address at another place.
fn moved(url: &str, place: &str) -> SecretUrl {
    let mut url = Url::parse(url).unwrap();
    let (host, port) = place.rsplit_once(':').unwrap();
    url.set_host(Some(host)).unwrap();
    url.set_port(Some(port.parse().unwrap())).unwrap();
    SecretUrl::parse(url.as_str()).unwrap()
}

fn place(url: &str) -> String {
    let url = Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

impl Worker {
    async fn start(stepped: &Stepped) -> Self {
        let lifeline = Lifeline::new();
        let (tenants, redis) = (shared_postgres().await.unwrap().admin_url(), stepped.redis.url());
        let control = &stepped.control.database.url;
        let at = async |url: &str| {
            let here = lifeline.to(place(url), Counted::Everything).await;
            moved(url, &here)
        };
        let (control, own_tenants, own_redis) = (at(control).await, at(&tenants).await, at(&redis).await);
        let api = lifeline.to(stepped.api.address.to_string(), Counted::Changes).await;
        let client = kube::Client::try_from(kube::Config::new(format!("http://{api}").parse().unwrap())).unwrap();
        let runtime = KubernetesRuntime::start(Cluster::new(client), settings(), patience()).unwrap();
        wait_for("the cluster to be listed", PATIENCE, async || runtime.check().await)
            .await
            .unwrap();
        let far = |url: &str| SecretUrl::parse(url).unwrap();
        let databases = SharedServer::new(&own_tenants, Some(&far(&tenants)), Arc::new(SystemEntropy::new())).unwrap();
        let caches = AclServer::new(&own_redis, Some(&far(&redis))).unwrap();
        let facilities = Facilities {
            databases: Databases::only(DatabaseChoice::Database, Arc::new(databases)),
            caches: Caches::only(RedisChoice::Acl, Arc::new(caches)),
            runtime: Arc::new(runtime),
            ring: Arc::clone(&stepped.facilities.ring),
            edge_ring: Arc::clone(&stepped.facilities.edge_ring),
            clock: Arc::clone(&stepped.facilities.clock),
            entropy: Arc::clone(&stepped.facilities.entropy),
            public_base_url: stepped.facilities.public_base_url.clone(),
        };
        // Who has the lease is dead.
        run_out(&stepped.control.pool, stepped.id).await;
        let lease = take(&stepped.control.pool, stepped.id, "worker", Duration::from_mins(5));
        Self {
            pool: PgPoolOptions::new()
                .max_connections(4)
                .connect_lazy(control.expose())
                .unwrap(),
            lease: lease.await.unwrap(),
            lifeline,
            facilities,
        }
    }

    /// Takes a step as the engine does: looks, and acts where something is missing.
    async fn take(&self, id: ApplicationId, step: Step) -> Result<(), StepError> {
        let mut connection = self.pool.acquire().await.unwrap();
        let intent = authsome_provisioner::db::intent::load(&mut connection, id).await;
        let intent = intent.unwrap().unwrap();
        drop(connection);
        let cx = StepContext {
            intent: &intent,
            fence: self.lease.fence(),
            pool: &self.pool,
            facilities: &self.facilities,
        };
        let action = step::action(step);
        if action.observe(&cx).await? != Observed::Done {
            action.apply(&cx).await?;
        }
        Ok(())
    }
}

/// The addresses of the application's Postgres and Redis, with the passwords that open them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    database: String,
    redis: String,
}

impl Way {
    /// Only a refusal is a no: a server that is slow is asked again.
    async fn opens_postgres(&self) -> bool {
        let options: PgConnectOptions = self.database.parse().unwrap();
        wait_for("Postgres to let in or refuse", PATIENCE, async || {
            match options.connect().await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    Ok(true)
                }
                Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("28")) => {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })
        .await
        .unwrap()
    }

    async fn opens_redis(&self) -> bool {
        wait_for("Redis to let in or refuse", PATIENCE, async || {
            match connect(&self.redis).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == &fred::error::ErrorKind::Auth => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
        .unwrap()
    }

    async fn opens(&self) -> [bool; 2] {
        [self.opens_postgres().await, self.opens_redis().await]
    }
}

/// The passwords that are to be used, as recorded.
async fn active(stepped: &Stepped) -> Way {
    let (ring, id): (&PlatformRing, _) = (&stepped.facilities.ring, stepped.id);
    let recorded = credentials::recorded(&stepped.control.pool, ring, id).await;
    let recorded = recorded.unwrap().unwrap();
    let (database, redis) = (recorded.active_database(), recorded.active_redis());
    let (databases, caches) = (&stepped.facilities.databases, &stepped.facilities.caches);
    let (databases, caches) = (databases.in_use().next().unwrap(), caches.in_use().next().unwrap());
    let database = databases.url(id, database, recorded.password(Password::Database(database)));
    let redis = caches.url(id, recorded.password(Password::Redis(redis)));
    Way {
        database: database.expose().to_owned(),
        redis: redis.expose().to_owned(),
    }
}

/// What instances that start now are given.
fn given(stepped: &Stepped) -> Way {
    let secret = stepped.api.get(Kind::Secret, &namespace_of(stepped.id), "authsome");
    let secret = secret.unwrap();
    let text = |name: &str| {
        let encoded = secret["data"][name].as_str().unwrap();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    };
    Way {
        database: text("DATABASE_URL"),
        redis: text("REDIS_URL"),
    }
}

/// One rotation: in every step workers die with the answer to the `first` thing that they say, then with that to the one `stride`
/// later, and so on, until one gets to the end of the step.
async fn rotation(stepped: &mut Stepped, first: usize, stride: usize, deaths: &mut BTreeMap<Step, usize>) {
    let before = active(stepped).await;
    assert_eq!(given(stepped), before);
    stepped.next(JobKind::Rotate).await;
    for &step in Step::of(JobKind::Rotate) {
        let (mut last, mut retries) = (first, 0);
        loop {
            let worker = Worker::start(stepped).await;
            worker.lifeline.ends_with(last);
            let taken = tokio::select! {
                biased;
                () = worker.lifeline.ended() => None,
                taken = worker.take(stepped.id, step) => Some(taken),
            };
            drop(worker);
            match taken {
                Some(Ok(())) => break,
                Some(Err(StepError::Retry { .. })) if retries < RETRIES => retries += 1,
                Some(Err(error)) => panic!("{step}: {error:?}"),
                None => {
                    last += stride;
                    *deaths.entry(step).or_default() += 1;
                    // Whoever runs now, and whoever is started now.
                    let mut ways = vec![active(stepped).await, given(stepped)];
                    if step != Step::Retire {
                        ways.push(before.clone());
                    }
                    ways.dedup();
                    for way in &ways {
                        assert_eq!(way.opens().await, [true; 2], "{step}, {last}: {way:?}");
                    }
                }
            }
        }
    }
    let after = active(stepped).await;
    assert_eq!(given(stepped), after);
    assert_eq!((before.opens().await, after.opens().await), ([false; 2], [true; 2]));
    let recorded = credentials::recorded(&stepped.control.pool, &stepped.facilities.ring, stepped.id);
    let recorded = recorded.await.unwrap().unwrap();
    assert_eq!(recorded.database().into_iter().flatten().count(), 1);
    assert_eq!(recorded.redis().into_iter().flatten().count(), 1);
}

#[tokio::test]
async fn a_worker_that_dies_inside_any_step_of_a_rotation_locks_nobody_out_and_the_next_one_finishes() {
    let mut stepped = Stepped::start(settings(), patience()).await;
    stepped.apply_all(Step::PROVISION).await;
    let (mut deaths, stride) = (BTreeMap::new(), 8);
    // From different beginnings, so that others meet what those before them left half done.
    for first in [1, 4, 7] {
        rotation(&mut stepped, first, stride, &mut deaths).await;
    }
    for step in Step::of(JobKind::Rotate) {
        // To see a roll-out through is to look at what the watch brings.
        let least = usize::from(*step != Step::Rollout);
        assert!(deaths.get(step).copied().unwrap_or(0) >= least, "{step}: {deaths:?}");
    }
    assert_eq!(stepped.api.unknown(), Vec::<String>::new());
}
