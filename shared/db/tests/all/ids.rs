use authsome_core::id::{ApplicationId, WorkspaceId};

use crate::fixture::tenancy;

#[tokio::test]
async fn ids_are_text_in_the_database_alone_and_in_arrays() {
    let tenancy = tenancy().await;
    let wanted = vec![tenancy.application("one").await, tenancy.application("two").await];
    tenancy.application("three").await;
    let found: Vec<ApplicationId> =
        sqlx::query_scalar("SELECT id FROM applications WHERE id = ANY($1) ORDER BY created_at")
            .bind(&wanted)
            .fetch_all(&tenancy.pool)
            .await
            .unwrap();
    assert_eq!(found, wanted);
    let text: String = sqlx::query_scalar("SELECT id FROM applications WHERE id = $1")
        .bind(wanted[0])
        .fetch_one(&tenancy.pool)
        .await
        .unwrap();
    assert_eq!(text, wanted[0].to_string());
    let none: Option<ApplicationId> = sqlx::query_scalar("SELECT NULL::text")
        .fetch_one(&tenancy.pool)
        .await
        .unwrap();
    assert_eq!(none, None);
}

#[tokio::test]
async fn an_id_of_another_kind_does_not_decode() {
    let tenancy = tenancy().await;
    let app = tenancy.application("one").await;
    let wrong: Result<WorkspaceId, _> = sqlx::query_scalar("SELECT id FROM applications WHERE id = $1")
        .bind(app)
        .fetch_one(&tenancy.pool)
        .await;
    assert!(matches!(wrong, Err(sqlx::Error::ColumnDecode { .. })), "{wrong:?}");
}
