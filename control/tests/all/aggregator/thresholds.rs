//! What a team is told of its usage.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{World, counter};
use crate::rows;

#[tokio::test]
async fn a_team_is_told_once_a_month_of_each_threshold_that_an_application_crosses() {
    let world = World::new(1).await;
    let pool = &world.rows.pool;
    // Who looks after the bills, who does not, and whose address nobody confirmed.
    for (name, role, confirmed) in [
        ("owner", "owner", true),
        ("money", "billing", true),
        ("dev", "developer", true),
        ("new", "admin", false),
    ] {
        let user: authsome_core::id::UserId = rows::id();
        sqlx::query(
            "INSERT INTO users (id, email, name, email_verified_at) VALUES ($1, $2, $2, CASE WHEN $3 THEN now() END)",
        )
        .bind(user)
        .bind(format!("{name}@example.com"))
        .bind(confirmed)
        .execute(pool)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO team_members (id, workspace_id, user_id, email, role, status) VALUES ($1, $2, $3, $4, $5, 'active')",
        )
        .bind(rows::id::<authsome_core::id::Member>())
        .bind(world.rows.workspace)
        .bind(user)
        .bind(format!("{name}@example.com"))
        .bind(role)
        .execute(pool)
        .await
        .unwrap();
    }
    sqlx::query(
        "INSERT INTO webhook_endpoints (id, workspace_id, url, secret) VALUES ($1, $2, 'https://hooks.example.com/', 'x')",
    )
    .bind(rows::id::<authsome_core::id::Webhook>())
    .bind(world.rows.workspace)
    .execute(pool)
    .await
    .unwrap();
    let (gradual, sudden, unlimited) = (
        world.rows.application().await,
        world.rows.application().await,
        world.rows.application().await,
    );
    sqlx::query("UPDATE applications SET edge_limits = '{\"requestsPerMonth\": 1000000}' WHERE id = $1")
        .bind(unlimited)
        .execute(pool)
        .await
        .unwrap();
    let hour = OffsetDateTime::now_utc();
    let writer = Uuid::new_v4();
    let last_month = hour.replace_day(1).unwrap() - time::Duration::days(2);
    world.report(writer, vec![counter(gradual, last_month, 200_000)]).await;
    world.drained().await;
    let told = async || -> Vec<(String, i32, i64)> {
        sqlx::query_as(
            "SELECT application_id, (data ->> 'threshold')::int, (data ->> 'requests')::bigint FROM webhook_messages
             WHERE event = 'usage.threshold' ORDER BY created_at, data ->> 'threshold' DESC, id",
        )
        .fetch_all(pool)
        .await
        .unwrap()
    };
    assert_eq!(told().await, [], "the month before is over");
    for requests in [79_999, 80_000, 80_000, 99_000, 100_000, 150_000] {
        world
            .report(
                writer,
                vec![counter(gradual, hour, requests), counter(unlimited, hour, requests)],
            )
            .await;
        world.drained().await;
    }
    assert_eq!(world.refused("database"), 0);
    let (name, both) = (gradual.to_string(), sudden.to_string());
    assert_eq!(told().await, [(name.clone(), 80, 80_000), (name.clone(), 100, 100_000)]);
    world.report(writer, vec![counter(sudden, hour, 120_000)]).await;
    world.drained().await;
    let mut crossed: Vec<i32> = told()
        .await
        .into_iter()
        .filter(|told| told.0 == both)
        .map(|told| told.1)
        .collect();
    crossed.sort_unstable();
    assert_eq!(crossed, [80, 100]);

    let letters: Vec<(String, String, i32)> = sqlx::query_as(
        "SELECT recipient, params ->> 'application', (params ->> 'percent')::int FROM mails WHERE kind = 'usage_threshold'
         ORDER BY created_at, recipient",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let to = |who: &str, application: &str, percent| (format!("{who}@example.com"), application.to_owned(), percent);
    let mut expected = vec![
        to("money", &name, 80),
        to("owner", &name, 80),
        to("money", &name, 100),
        to("owner", &name, 100),
        to("money", &both, 100),
        to("owner", &both, 100),
    ];
    let mut letters = letters;
    expected.sort();
    letters.sort();
    assert_eq!(letters, expected);
}
