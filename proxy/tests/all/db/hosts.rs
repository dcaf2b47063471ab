//! Host names of applications.

use authsome_core::id::ApplicationId;

use super::Tenants;

impl Tenants {
    /// A host name that was proved.
    pub(crate) async fn host(&self, host: &str, app: ApplicationId) {
        sqlx::query(
            "INSERT INTO hosts (host, application_id, challenge, verified_at)
             VALUES ($1, $2, 'a-challenge-of-some-length', now())",
        )
        .bind(host)
        .bind(app)
        .execute(&mut self.connection().await)
        .await
        .unwrap();
    }

    /// Takes a host name away.
    pub(crate) async fn remove_host(&self, host: &str) {
        let done = sqlx::query("DELETE FROM hosts WHERE host = $1")
            .bind(host)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Takes back the proof of a host name.
    pub(crate) async fn doubt_host(&self, host: &str) {
        sqlx::query("UPDATE hosts SET verified_at = NULL WHERE host = $1")
            .bind(host)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
    }
}
