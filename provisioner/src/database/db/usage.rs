//! How much each tenant uses, in one statement for all of a server's.

use sqlx::PgConnection;

use super::super::Usage;

/// Tenants with a database each. The administrator owns them, so it may ask for their sizes.
pub(in super::super) async fn of_databases(connection: &mut PgConnection) -> Result<Vec<Usage>, sqlx::Error> {
    sqlx::query_as!(
        Usage,
        r#"SELECT substr(d.datname, length('authsome_app_') + 1) AS "suffix!", pg_database_size(d.oid) AS "bytes!",
                  pg_stat_get_db_numbackends(d.oid)::bigint AS "connections!"
           FROM pg_database d WHERE starts_with(d.datname, 'authsome_app_') AND d.datallowconn"#
    )
    .fetch_all(connection)
    .await
}

/// Tenants with a schema each in the database of this session.
pub(in super::super) async fn of_schemas(connection: &mut PgConnection) -> Result<Vec<Usage>, sqlx::Error> {
    sqlx::query_as!(
        Usage,
        r#"SELECT substr(n.nspname, length('app_') + 1) AS "suffix!",
                  coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS "bytes!",
                  (SELECT count(*) FROM pg_stat_activity s
                   WHERE s.datname = current_database() AND s.usename IN (n.nspname || '_a', n.nspname || '_b')) AS "connections!"
           FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'm', 'S')
           WHERE starts_with(n.nspname, 'app_') GROUP BY n.nspname"#
    )
    .fetch_all(connection)
    .await
}
