//! The control database goes back to a backup while edges serve, and `authsome-control admin restored` brings everybody there.

use std::process::Stdio;

use authsome_testkit::programs;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::edge_world::{DATABASE, EdgeWorld, USERS};
use crate::load::Load;

/// Replaces or makes `to` as a copy of `from`, whoever is connected.
async fn copy(world: &EdgeWorld, from: &str, to: &str) {
    let mut maintenance = PgConnection::connect(&world.postgres.admin_url()).await.unwrap();
    let mut run = async |statement: String| {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut maintenance)
            .await
            .unwrap();
    };
    run(format!("DROP DATABASE IF EXISTS {to} WITH (FORCE)")).await;
    run(format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false")).await;
    run(format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{from}'"
    ))
    .await;
    run(format!("CREATE DATABASE {to} TEMPLATE {from}")).await;
    for name in [from, to] {
        run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    }
}

async fn restored(world: &EdgeWorld) -> Value {
    let output = tokio::process::Command::new(programs::binary("authsome-control").unwrap())
        .args(["admin", "restored", "--timeout", "60"])
        .env_clear()
        .env("DATABASE_URL", world.postgres.url(DATABASE))
        .env("REDIS_URL", world.redis.url())
        .env("NATS_URL", world.nats.url())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn edges_converge_to_a_restored_database_and_refuse_what_was_made_after_the_backup() {
    let world = EdgeWorld::start().await;
    let (before_id, before) = world.secret_key().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &before, 200).await;
    }
    // A key that the backup and the present agree on, in use all the while.
    let (_, kept) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &kept).await;
    let backup = format!("{DATABASE}_backup");
    copy(&world, DATABASE, &backup).await;

    let (_, after) = world.secret_key_soon().await;
    assert_eq!(world.revoke(&before_id, "").await.status(), 204);
    for edge in [0, 1] {
        world.until(edge, USERS, &after, 200).await;
        world.until(edge, USERS, &before, 401).await;
    }

    copy(&world, &backup, DATABASE).await;
    for edge in [0, 1] {
        let status = world.ask(edge, USERS, &after).await.status();
        assert_eq!(status, 200, "the edge goes on by what it holds");
    }
    let said = restored(&world).await;
    assert!(said["stamped"].as_u64().unwrap() >= 2, "{said}");
    for edge in [0, 1] {
        world.until(edge, USERS, &after, 401).await;
        world.until(edge, USERS, &before, 200).await;
    }
    // And the feed works on from there.
    let (later_id, later) = world.secret_key_soon().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &later, 200).await;
    }
    assert_eq!(world.revoke(&later_id, "").await.status(), 204);
    for edge in [0, 1] {
        world.until(edge, USERS, &later, 401).await;
    }
    load.more(20).await;
    load.had_no_failure();
}
