//! Creating people from the command line of an operator.

use authsome_core::error::Failure;
use authsome_core::id::UserId;
use authsome_db::DbError;
use authsome_db::audit::{ActorType, Event};
use secrecy::SecretString;
use serde_json::json;

use super::name;
use crate::db::users;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Passwords};
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::EventId;
use sqlx::PgPool;

/// What is needed to write a person outside the running service.
#[derive(Debug)]
pub struct Office<'a> {
    /// The control database.
    pub pool: &'a PgPool,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
    /// Hashes the password.
    pub passwords: &'a Passwords,
}

/// Creates a person with a confirmed address. Where the address is taken: 409.
pub async fn create(office: &Office<'_>, email: &str, name: &str, password: SecretString) -> Outcome<UserId> {
    let mut fields = Fields::new();
    let title = fields.take("name", name::title(name));
    let email = fields.take("email", name::email(email));
    fields.take("password", identity::acceptable(&password));
    fields.finish()?;
    let email = email.unwrap_or_default();

    let hash = office.passwords.hash(password, office.entropy).await?;
    let id = UserId::generate(office.clock, office.entropy);
    let mut transaction = office.pool.begin().await?;
    users::insert(
        &mut transaction,
        id,
        &email,
        &title.unwrap_or_default(),
        &hash,
        office.clock.now(),
    )
    .await
    .map_err(|error| match error {
        DbError::Duplicate { .. } => Failure::conflict("This e-mail address has an account")
            .with_reason("taken")
            .into(),
        other => crate::error::Problem::from(other),
    })?;
    let text = id.to_string();
    let event = Event {
        id: EventId::generate(office.clock, office.entropy),
        workspace_id: None,
        application_id: None,
        actor_id: None,
        actor_type: ActorType::Service,
        action: "user.create",
        resource: "user",
        resource_id: Some(&text),
        changes: json!({}),
        ip_address: None,
        user_agent: None,
        succeeded: true,
        request_id: None,
    };
    authsome_db::audit::record(&mut transaction, &event).await?;
    transaction.commit().await?;
    Ok(id)
}

/// The id of the person with this address, whatever became of them.
pub async fn find(pool: &PgPool, email: &str) -> Outcome<Option<UserId>> {
    let account = users::by_email(&mut *pool.acquire().await?, email).await?;
    Ok(account.map(|account| account.id))
}
