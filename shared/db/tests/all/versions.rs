use authsome_core::key::Digest;

use crate::fixture::tenancy;

async fn version(tenancy: &crate::fixture::Tenancy, id: authsome_core::id::ApplicationId) -> (i64, i64) {
    sqlx::query_as("SELECT epoch, version FROM applications WHERE id = $1")
        .bind(id)
        .fetch_one(&tenancy.pool)
        .await
        .unwrap()
}

async fn execute(tenancy: &crate::fixture::Tenancy, statement: &'static str, id: &str) {
    let done = sqlx::query(statement).bind(id).execute(&tenancy.pool).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{statement}");
}

#[tokio::test]
async fn every_change_the_edge_sees_raises_the_version_and_enters_the_outbox() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    assert_eq!(version(&tenancy, app).await, (1, 1));
    for (index, statement) in [
        "UPDATE applications SET status = 'active', activated_at = now() WHERE id = $1",
        "UPDATE applications SET endpoints = '{127.0.0.1:4000}' WHERE id = $1",
        "UPDATE applications SET base_path = '/authsome' WHERE id = $1",
        "UPDATE applications SET origins = '{https://shop.example}' WHERE id = $1",
        "UPDATE applications SET quota_exhausted = true WHERE id = $1",
        "UPDATE applications SET edge_credentials = '\\x00' WHERE id = $1",
        "UPDATE applications SET strict_seconds = 30 WHERE id = $1",
        "UPDATE applications SET secret_from_browsers = true WHERE id = $1",
        "UPDATE applications SET edge_limits = '{\"burst\":5}' WHERE id = $1",
        "UPDATE applications SET cache_policy = '{\"enabled\":false}' WHERE id = $1",
        "UPDATE applications SET cache_purges = '{\"allMs\":5}' WHERE id = $1",
        "UPDATE applications SET instance_service = 'authsome.shop.svc:8080' WHERE id = $1",
        "UPDATE applications SET instance_tls = '{\"serverName\":\"shop.svc\"}' WHERE id = $1",
    ]
    .into_iter()
    .enumerate()
    {
        execute(&tenancy, statement, &app.to_string()).await;
        assert_eq!(
            version(&tenancy, app).await,
            (1, i64::try_from(index).unwrap() + 2),
            "{statement}"
        );
    }
    let rows = tenancy.outbox().await;
    let expected: Vec<_> = (1..=14).map(|v| ("app".to_owned(), app.to_string(), v)).collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn what_the_edge_does_not_see_neither_raises_the_version_nor_travels() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let key = tenancy.secret_key(app, [7; 32]).await;
    let before = tenancy.outbox().await;
    execute(
        &tenancy,
        "UPDATE applications SET name = 'New', config = '{\"a\":1}' WHERE id = $1",
        &app.to_string(),
    )
    .await;
    execute(
        &tenancy,
        "UPDATE applications SET status = status, generation = 2 WHERE id = $1",
        &app.to_string(),
    )
    .await;
    execute(
        &tenancy,
        "UPDATE api_keys SET last_used_at = now(), name = 'x' WHERE id = $1",
        &key.to_string(),
    )
    .await;
    assert_eq!(version(&tenancy, app).await, (1, 1));
    assert_eq!(tenancy.outbox().await, before);
}

#[tokio::test]
async fn a_key_travels_when_it_is_made_revoked_and_removed() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let digest = Digest::of(b"some key");
    let key = tenancy
        .secret_key(app, digest.as_ref().try_into().unwrap())
        .await
        .to_string();
    execute(&tenancy, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", &key).await;
    execute(&tenancy, "DELETE FROM api_keys WHERE id = $1", &key).await;
    let rows: Vec<_> = tenancy
        .outbox()
        .await
        .into_iter()
        .filter(|row| row.0 == "key")
        .collect();
    let expected: Vec<_> = (1..=3).map(|v| ("key".to_owned(), digest.to_string(), v)).collect();
    assert_eq!(rows, expected, "the removal announces a version above the last one");
}

#[tokio::test]
async fn a_change_of_plan_reaches_every_application_of_the_workspace() {
    let tenancy = tenancy().await;
    let (one, two) = (tenancy.application("one").await, tenancy.application("two").await);
    execute(
        &tenancy,
        "UPDATE workspaces SET plan = 'pro' WHERE id = $1",
        &tenancy.workspace.to_string(),
    )
    .await;
    assert_eq!(version(&tenancy, one).await, (1, 2));
    assert_eq!(version(&tenancy, two).await, (1, 2));
    execute(
        &tenancy,
        "UPDATE workspaces SET name = 'Other' WHERE id = $1",
        &tenancy.workspace.to_string(),
    )
    .await;
    assert_eq!(version(&tenancy, one).await, (1, 2));
    let plan: Option<String> = sqlx::query_scalar("SELECT plan FROM edge_apps WHERE id = $1")
        .bind(one)
        .fetch_one(&tenancy.pool)
        .await
        .unwrap();
    assert_eq!(plan.as_deref(), Some("pro"));
}

#[tokio::test]
async fn nobody_can_set_a_version_by_hand() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    execute(
        &tenancy,
        "UPDATE applications SET version = 900, epoch = 5 WHERE id = $1",
        &app.to_string(),
    )
    .await;
    assert_eq!(version(&tenancy, app).await, (1, 2));
}

#[tokio::test]
async fn a_later_epoch_stamps_every_later_change() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    sqlx::query("UPDATE platform SET epoch = 2")
        .execute(&tenancy.pool)
        .await
        .unwrap();
    execute(
        &tenancy,
        "UPDATE applications SET status = 'active' WHERE id = $1",
        &app.to_string(),
    )
    .await;
    assert_eq!(version(&tenancy, app).await, (2, 2));
}

#[tokio::test]
async fn the_digest_of_a_key_never_changes() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let key = tenancy.secret_key(app, [7; 32]).await;
    let refused = sqlx::query("UPDATE api_keys SET digest = $2 WHERE id = $1")
        .bind(key)
        .bind([8_u8; 32].as_slice())
        .execute(&tenancy.pool)
        .await;
    assert!(refused.is_err());
}
