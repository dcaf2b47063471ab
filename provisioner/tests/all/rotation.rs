//! New credentials without a moment in which an application does not work, wherever a worker dies on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use authsome_contract::model::{DatabaseChoice, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::secret::{ExposeSecret, SecretString};
use authsome_provisioner::credentials::{self, Credentials};
use authsome_provisioner::database::Slot;
use authsome_provisioner::step::Observed;
use authsome_testkit::wait_for;
use fred::clients::Client;
use fred::interfaces::KeysInterface;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, PgPool};

use crate::redis::connect;
use crate::steps::{Platform, databases};

const ROTATE: &[Step] = Step::of(JobKind::Rotate);

/// The addresses of the application's own database and Redis, with one password of each.
struct Way {
    slots: (Slot, Slot),
    database: PgConnectOptions,
    redis: String,
}

async fn recorded(platform: &Platform) -> Credentials {
    let ring = &platform.facilities.ring;
    credentials::recorded(&platform.control.pool, ring, platform.id)
        .await
        .unwrap()
        .unwrap()
}

/// The way that instances take.
async fn way(platform: &Platform) -> Way {
    let credentials = recorded(platform).await;
    let slots = (credentials.active_database(), credentials.active_redis());
    let intent = platform.intent().await;
    let (database, redis) = (
        credentials.password(credentials::Kind::Database(slots.0)),
        credentials.password(credentials::Kind::Redis(slots.1)),
    );
    let (databases, caches) = (&platform.facilities.databases, &platform.facilities.caches);
    let database = databases.of(&intent).unwrap().url(platform.id, slots.0, database);
    let redis = caches.of(&intent).unwrap().url(platform.id, redis);
    Way {
        slots,
        database: database.expose().parse().unwrap(),
        redis: redis.expose().to_owned(),
    }
}

impl Way {
    async fn enter(&self) -> (Result<PgConnection, sqlx::Error>, Result<Client, fred::error::Error>) {
        (self.database.connect().await, connect(&self.redis).await)
    }

    async fn is_open(&self) -> bool {
        let (database, redis) = self.enter().await;
        assert_eq!(
            database.is_ok(),
            redis.is_ok(),
            "{:?} {:?}",
            database.err(),
            redis.err()
        );
        database.is_ok()
    }
}

async fn next_generation(platform: &Platform) {
    sqlx::query("UPDATE applications SET generation = generation + 1 WHERE id = $1")
        .bind(platform.id)
        .execute(&platform.control.pool)
        .await
        .unwrap();
}

/// As the engine goes through the plan of an operation.
async fn carry_out(platform: &Platform) {
    for &step in ROTATE {
        if platform.observe(step).await != Observed::Done {
            platform.apply(step).await;
        }
    }
    // What completed an earlier rotation has made no passwords of its own.
    let settled = |step: &&Step| !matches!(step, Step::Preflight | Step::Renew);
    for &step in ROTATE.iter().filter(settled) {
        assert_eq!(platform.observe(step).await, Observed::Done, "{step}");
    }
}

/// Asks the application as the edge does, again and again, where the application's row says that it is.
async fn clients(pool: PgPool, id: String, over: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    let http = reqwest::Client::new();
    while !over.load(Ordering::Relaxed) {
        let endpoints: Vec<String> = sqlx::query_scalar("SELECT unnest(endpoints) FROM applications WHERE id = $1")
            .bind(&id)
            .fetch_all(&pool)
            .await
            .unwrap();
        let address = format!("http://{}/users", endpoints[0]);
        let answer = http.get(&address).send().await.unwrap();
        assert!(answer.status().is_success(), "{address}: {}", answer.status());
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

async fn build(choice: DatabaseChoice) -> Platform {
    let mut platform = Platform::start().await;
    platform.facilities.databases = databases(choice).await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    platform
}

async fn rotates_without_downtime(choice: DatabaseChoice) {
    let platform = build(choice).await;
    let before = way(&platform).await;
    let (database, cache) = before.enter().await;
    let (mut database, cache) = (database.unwrap(), cache.unwrap());
    // The age of a Redis session is in whole seconds.
    let begun = tokio::time::Instant::now();
    let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let asking = tokio::spawn(clients(
        platform.control.pool.clone(),
        platform.id.to_string(),
        Arc::clone(&over),
        Arc::clone(&answered),
    ));
    wait_for("a second and some requests", Duration::from_secs(30), async || {
        (begun.elapsed() > Duration::from_millis(2100) && answered.load(Ordering::Relaxed) > 10).then_some(())
    })
    .await
    .unwrap();
    next_generation(&platform).await;
    carry_out(&platform).await;
    assert_eq!(platform.observe(Step::Renew).await, Observed::Done);
    let so_far = answered.load(Ordering::Relaxed);
    wait_for("requests after it", Duration::from_secs(30), async || {
        (asking.is_finished() || answered.load(Ordering::Relaxed) > so_far + 10).then_some(())
    })
    .await
    .unwrap();
    over.store(true, Ordering::Relaxed);
    // A request that failed has ended it with a panic.
    asking.await.unwrap();

    let after = way(&platform).await;
    assert_eq!((before.slots, after.slots), ((Slot::A, Slot::A), (Slot::B, Slot::B)));
    assert!(!before.is_open().await && after.is_open().await);
    // Sessions that somebody had with what is gone have ended too.
    sqlx::query("SELECT 1").execute(&mut database).await.unwrap_err();
    cache.get::<Option<String>, _>("app:x").await.unwrap_err();

    // And back, with a password that was never there before.
    next_generation(&platform).await;
    carry_out(&platform).await;
    let third = way(&platform).await;
    assert_eq!(third.slots, (Slot::A, Slot::A));
    assert!(third.is_open().await && !before.is_open().await && !after.is_open().await);
    platform.facilities.runtime.shutdown().await;
}

#[tokio::test]
async fn an_application_with_its_own_database_serves_through_a_rotation_and_the_old_password_is_dead() {
    rotates_without_downtime(DatabaseChoice::Database).await;
}

#[tokio::test]
async fn an_application_with_its_own_schema_serves_through_a_rotation_and_the_old_password_is_dead() {
    rotates_without_downtime(DatabaseChoice::Schema).await;
}

#[tokio::test]
async fn a_rotation_that_is_left_after_any_step_is_completed_by_itself_or_by_the_next_one() {
    let platform = build(DatabaseChoice::Database).await;
    let same: Vec<usize> = (0..=ROTATE.len()).collect();
    // After new passwords, after the switch, and before the end.
    for (again, left) in [(false, same), (true, vec![2, 5, 8])] {
        for done in left {
            let before = way(&platform).await;
            next_generation(&platform).await;
            for &step in &ROTATE[..done] {
                platform.apply(step).await;
            }
            // Nobody is locked out in between.
            assert!(way(&platform).await.is_open().await, "{done}");
            let endpoint = platform.intent().await.endpoints[0].clone();
            let answer = reqwest::get(format!("http://{endpoint}/users")).await.unwrap();
            assert!(answer.status().is_success(), "{done}");
            if again {
                next_generation(&platform).await;
            }
            carry_out(&platform).await;
            assert!(!before.is_open().await, "after {done} steps, again: {again}");
            assert!(way(&platform).await.is_open().await);
            let open = recorded(&platform).await;
            assert_eq!(open.database().into_iter().flatten().count(), 1);
            assert_eq!(open.redis().into_iter().flatten().count(), 1);
        }
    }
    platform.facilities.runtime.shutdown().await;
}

#[tokio::test]
async fn no_two_passwords_of_an_application_are_ever_the_same() {
    let platform = build(DatabaseChoice::Database).await;
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..3 {
        let open = recorded(&platform).await;
        let texts = [open.database(), open.redis()]
            .concat()
            .into_iter()
            .flatten()
            .map(|one: &SecretString| one.expose_secret().to_owned());
        for text in texts {
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        next_generation(&platform).await;
        carry_out(&platform).await;
    }
    // Two of each at the beginning, and one more of each with every rotation.
    assert_eq!(seen.len(), 8);
    platform.facilities.runtime.shutdown().await;
}
