use std::time::Duration;

use authsome_core::secret::SecretUrl;
use authsome_db::{MIGRATOR, migrate, pool};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn several_processes_may_migrate_at_once() {
    let database = authsome_testkit::databases::empty_database().await.unwrap();
    let url = SecretUrl::parse(&database.url).unwrap();
    let pools: Vec<_> = (0..4)
        .map(|_| pool::lazy(&url, &pool::PoolOptions::new("authsome-test")).unwrap())
        .collect();
    let (a, b, c, d) = tokio::join!(
        migrate::migrate(&pools[0], PATIENCE),
        migrate::migrate(&pools[1], PATIENCE),
        migrate::migrate(&pools[2], PATIENCE),
        migrate::migrate(&pools[3], PATIENCE),
    );
    for outcome in [a, b, c, d] {
        outcome.unwrap();
    }
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success")
        .fetch_one(&pools[0])
        .await
        .unwrap();
    assert_eq!(usize::try_from(applied).unwrap(), MIGRATOR.iter().count());
    migrate::migrate(&pools[0], PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_process_that_never_gets_the_lock_says_so_and_gives_up() {
    let database = authsome_testkit::databases::empty_database().await.unwrap();
    let url = SecretUrl::parse(&database.url).unwrap();
    let pool = pool::lazy(&url, &pool::PoolOptions::new("authsome-test")).unwrap();
    let mut holder = pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(migrate::LOCK)
        .execute(&mut *holder)
        .await
        .unwrap();
    let outcome = migrate::migrate(&pool, Duration::from_millis(300)).await;
    assert!(matches!(outcome, Err(migrate::MigrateError::Locked(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_unreachable_database_is_unavailable_and_not_a_bug() {
    let port = authsome_testkit::port::free().unwrap();
    let url = SecretUrl::parse(&format!("postgres://nobody@127.0.0.1:{port}/none")).unwrap();
    let options = pool::PoolOptions {
        acquire_timeout: Duration::from_millis(500),
        ..pool::PoolOptions::new("authsome-test")
    };
    let error = pool::ping(&pool::lazy(&url, &options).unwrap()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[tokio::test]
async fn an_earlier_release_restarts_on_the_schema_of_a_later_one() {
    let tenancy = crate::fixture::tenancy().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99990101000000, 'of a later release', true, '\\x00', 1)",
    )
    .execute(&tenancy.pool)
    .await
    .unwrap();
    migrate::migrate(&tenancy.pool, PATIENCE).await.unwrap();
    assert_eq!(migrate::pending(&tenancy.pool).await.unwrap(), 0);
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let tenancy = crate::fixture::tenancy().await;
    sqlx::query(
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = (SELECT min(version) FROM _sqlx_migrations)",
    )
    .execute(&tenancy.pool)
    .await
    .unwrap();
    let outcome = migrate::migrate(&tenancy.pool, PATIENCE).await;
    assert!(
        matches!(outcome, Err(migrate::MigrateError::Migration(_))),
        "{outcome:?}"
    );
}
