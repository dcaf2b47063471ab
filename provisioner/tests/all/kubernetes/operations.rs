//! Many applications, two provisioners, whole operations: a job from NATS, a database, a Redis user and every object in the cluster.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use authsome_testkit::{
    NatsOptions, NatsServer, Program, RedisOptions, RedisServer, port, private_file, secret, shared_postgres, wait_for,
};

use super::scale::{resident, tell};
use crate::api_double::ApiDouble;
use crate::consumer::{jetstream, publish_job};
use crate::engine::{Control, REGION};
use crate::program::provisioner_command;
use crate::redis::{connect, send};

/// What every provisioner of the installation is told.
async fn configuration(control: &Control, nats: &NatsServer, redis: &RedisServer, kubeconfig: &Path) -> String {
    let (key, edge_key) = (secret::random_key().unwrap(), secret::random_key().unwrap());
    let tenants = shared_postgres().await.unwrap().admin_url();
    format!(
        "region = \"{REGION}\"\nruntime = \"kubernetes\"\n[database]\nurl = \"{}\"\n[nats]\nurl = \"{}\"\n[tenants]\n\
         database_url = \"{tenants}\"\nredis_url = \"{}\"\n[kubernetes]\nkubeconfig = \"{}\"\n\
         image = \"authsome.example/authsome:test\"\n[encryption]\nkey = \"{key}\"\nedge_key = \"{edge_key}\"\n[public]\n\
         edge = \"https://api.example\"\n",
        control.database.url,
        nats.url(),
        redis.url(),
        kubeconfig.display(),
    )
}

async fn provisioner(directory: &Path, number: usize, configuration: &str) -> Program {
    let admin = format!("127.0.0.1:{}", port::free().unwrap());
    let config = directory.join(format!("provisioner-{number}.toml"));
    let mut text = configuration.to_owned();
    write!(text, "[listen]\nadmin = \"{admin}\"\n").unwrap();
    private_file::write(&config, &text).unwrap();
    provisioner_command(directory.join(format!("log-{number}")), &config, &admin)
        .start()
        .await
        .unwrap()
}

async fn count(control: &Control, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(&control.pool).await.unwrap()
}

async fn fleet(size: usize) {
    let (api, control, nats, redis) = tokio::join!(
        ApiDouble::start(),
        Control::start(),
        NatsServer::start(NatsOptions::default()),
        RedisServer::start(RedisOptions::default())
    );
    let (nats, redis) = (nats.unwrap(), redis.unwrap());
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    private_file::write(&kubeconfig, &api.kubeconfig()).unwrap();
    let configuration = configuration(&control, &nats, &redis, &kubeconfig).await;
    let programs = [
        provisioner(directory.path(), 1, &configuration).await,
        provisioner(directory.path(), 2, &configuration).await,
    ];
    let before = programs.each_ref().map(|program| resident(program.child().pid()));
    let mut wanted = Vec::new();
    for _ in 0..size {
        wanted.push(control.wanted().await);
    }
    let jetstream = jetstream(&nats).await;
    let (calls, begun) = (api.count(), Instant::now());
    for &one in &wanted {
        publish_job(&jetstream, one).await;
    }
    let all = i64::try_from(size).unwrap();
    let patience = Duration::from_mins(1) + Duration::from_secs(3) * u32::try_from(size).unwrap();
    wait_for("every application to be active", patience, async || {
        let failed = count(&control, "SELECT count(*) FROM operations WHERE status = 'failed'").await;
        assert_eq!(failed, 0, "{}", programs[0].log());
        let active = count(&control, "SELECT count(*) FROM applications WHERE status = 'active'").await;
        if active == all { Ok(()) } else { Err(active.to_string()) }
    })
    .await
    .unwrap();
    let (took, calls) = (begun.elapsed(), api.count() - calls);
    let after = programs.each_ref().map(|program| resident(program.child().pid()));

    assert_eq!(
        count(&control, "SELECT count(*) FROM operations WHERE attempts = 1").await,
        all
    );
    // Each has all of it, and nothing is there twice.
    let suffixes: Vec<String> = wanted.iter().map(|one| one.application.suffix().to_string()).collect();
    let databases: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_database WHERE datname IN (SELECT 'authsome_app_' || unnest($1::text[]))",
    )
    .bind(&suffixes)
    .fetch_one(&control.pool)
    .await
    .unwrap();
    assert_eq!(databases, all);
    let admin = connect(&redis.url()).await.unwrap();
    let users: Vec<String> = send(&admin, "ACL USERS").await.unwrap().convert().unwrap();
    for suffix in &suffixes {
        assert!(users.iter().any(|user| user.ends_with(suffix)), "{suffix}");
        let objects = api.names(&format!("authsome-app-{suffix}"));
        assert!(objects.len() >= 15, "{objects:?}");
    }
    let each = calls / u64::try_from(size).unwrap();
    tell(&format!(
        "{size} whole operations by two provisioners with four at a time each: {:.1} s, {:.2} s for each application; {each} \
         calls to the API server for each; {:?} MiB at the start and {:?} MiB at the end",
        took.as_secs_f64(),
        took.as_secs_f64() / f64::from(u32::try_from(size).unwrap()),
        before.map(|kib| kib / 1024),
        after.map(|kib| kib / 1024),
    ));
    assert!(each < 25, "{each}");
}

/// Twenty, or as many as `AUTHSOME_OPERATIONS` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_built_from_jobs_by_two_provisioners_at_the_first_attempt_and_nothing_is_made_twice() {
    let wanted = std::env::var("AUTHSOME_OPERATIONS").ok();
    fleet(wanted.and_then(|text| text.parse().ok()).unwrap_or(20)).await;
}
