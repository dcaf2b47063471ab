//! The strategy `schema`: a schema for each application in one shared database, for density.
//!
//! A tenant has the same three roles as under the strategy `database`; they find names in their own schema only, have no
//! right on any other, and create nothing outside it. The schema belongs to the administrator. Connections are bounded for
//! each login role, since the database is everybody's. Names of others' tables are no secret here (Postgres shows its catalog
//! to everybody), and neither advisory locks nor notification channels are kept apart: what needs that has a database of its
//! own.

use std::sync::Arc;

use async_trait::async_trait;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use secrecy::SecretString;

use super::db::catalog::{self, Names, Outside};
use super::db::quote::{Identifier, NameError};
use super::db::schema::{self, Common};
use super::db::statement::{self, Quoted, Statement};
use super::db::usage;
use super::session::Session;
use super::shared::{ServerUrlError, SharedServer, change, quoted};
use super::{DatabaseError, DatabaseStrategy, Slot, Tenant, Usage, names};
use crate::lease::Fence;

/// One database on a shared server, in which every tenant has a schema.
pub struct SharedDatabase {
    server: SharedServer,
    database: String,
}

impl SharedDatabase {
    /// The database `database` on the server at `admin`, made when it is first needed. `tenants` as with
    /// [`SharedServer::new`].
    pub fn new(
        admin: &SecretUrl,
        tenants: Option<&SecretUrl>,
        database: String,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ServerUrlError> {
        Ok(Self {
            server: SharedServer::new(admin, tenants, entropy)?,
            database,
        })
    }

    fn names(&self, id: ApplicationId) -> Names {
        Names {
            database: self.database.clone(),
            owner: names::owner(id),
            a: names::login(id, Slot::A),
            b: names::login(id, Slot::B),
        }
    }

    /// The role whose members may enter the database.
    fn members(&self) -> String {
        format!("{}_members", self.database)
    }

    async fn seen(&self, session: &mut Session<'_>, names: &Names) -> Result<Outside, DatabaseError> {
        session
            .look("look for the roles", async |c| catalog::outside(c, names).await)
            .await
    }

    async fn common(&self, session: &mut Session<'_>) -> Result<Common, DatabaseError> {
        let members = self.members();
        session
            .look("look for the shared database", async |c| {
                schema::common(c, &self.database, &members).await
            })
            .await
    }

    fn missing_common(&self, seen: &Common) -> Result<Vec<Statement>, NameError> {
        let (database, members) = (Identifier::new(&self.database)?, Identifier::new(&self.members())?);
        Ok(schema::missing_common(&database, &members, seen))
    }

    /// What is missing of the roles.
    async fn missing_roles(
        &self,
        session: &mut Session<'_>,
        tenant: &Tenant<'_>,
        names: &Names,
        quoted: &Quoted,
    ) -> Result<Vec<Statement>, DatabaseError> {
        let verifiers = self.server.verifiers(tenant);
        let seen = self.seen(session, names).await?;
        let members = self.members();
        let is_member = session
            .look("look for a membership", async |c| {
                schema::is_member(c, &names.owner, &members).await
            })
            .await?;
        let limit = Some(tenant.connection_limit);
        let mut plan = statement::missing_roles(quoted, names, &seen, limit, verifiers.each_ref().map(Option::as_ref))?;
        let members = Identifier::new(&members)?;
        plan.extend(schema::missing_settings(
            quoted,
            &names::schema(tenant.id),
            &members,
            &seen,
            is_member,
        )?);
        Ok(plan)
    }

    /// What is missing inside the database.
    async fn missing_inside(
        &self,
        inside: &mut Session<'_>,
        tenant: &Tenant<'_>,
        names: &Names,
        quoted: &Quoted,
    ) -> Result<Vec<Statement>, DatabaseError> {
        let own = names::schema(tenant.id);
        let seen = inside
            .look("look for the schema", async |c| schema::seen(c, &own, names).await)
            .await?;
        let closed = inside
            .look("look at the schema of everybody", schema::public_is_closed)
            .await?;
        let mut plan = Vec::new();
        if !closed {
            plan.push(schema::close_public());
        }
        plan.extend(schema::missing_schema(quoted, &Identifier::new(&own)?, &seen));
        Ok(plan)
    }
}

#[async_trait]
impl DatabaseStrategy for SharedDatabase {
    fn name(&self) -> &'static str {
        "schema"
    }

    async fn check(&self, fence: &Fence) -> Result<Vec<String>, DatabaseError> {
        self.server.check(fence).await
    }

    async fn differences(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<Vec<String>, DatabaseError> {
        let names = self.names(tenant.id);
        let quoted = quoted(&names)?;
        let mut session = self.server.outside(fence).await?;
        let seen = self.common(&mut session).await?;
        let mut plan = self.missing_common(&seen)?;
        plan.extend(self.missing_roles(&mut session, tenant, &names, &quoted).await?);
        session.close().await;
        if plan.is_empty() {
            let mut inside = Session::open(&self.server.inside(&names), fence).await?;
            plan = self.missing_inside(&mut inside, tenant, &names, &quoted).await?;
            inside.close().await;
        }
        let mut differences: Vec<String> = plan.iter().map(|change| change.what.to_owned()).collect();
        if differences.is_empty() {
            let wrong = self.server.wrong_passwords(tenant, &names, fence).await?;
            differences.extend(
                wrong
                    .iter()
                    .map(|slot| format!("set the password of login role {slot:?}")),
            );
        }
        Ok(differences)
    }

    async fn ensure(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<(), DatabaseError> {
        let names = self.names(tenant.id);
        let quoted = quoted(&names)?;
        let mut session = self.server.outside(fence).await?;
        let seen = self.common(&mut session).await?;
        change(&mut session, &self.missing_common(&seen)?).await?;
        let plan = self.missing_roles(&mut session, tenant, &names, &quoted).await?;
        change(&mut session, &plan).await?;

        let mut inside = Session::open(&self.server.inside(&names), fence).await?;
        let plan = self.missing_inside(&mut inside, tenant, &names, &quoted).await?;
        change(&mut inside, &plan).await?;
        inside.close().await;

        let verifiers = self.server.verifiers(tenant);
        self.server
            .correct_passwords(tenant, &names, &verifiers, &mut session, fence)
            .await?;
        session.close().await;
        Ok(())
    }

    async fn is_absent(&self, id: ApplicationId, fence: &Fence) -> Result<bool, DatabaseError> {
        let names = self.names(id);
        let mut session = self.server.outside(fence).await?;
        let seen = self.seen(&mut session, &names).await?;
        session.close().await;
        if seen.owner.is_some() || seen.a.is_some() || seen.b.is_some() {
            return Ok(false);
        }
        if seen.database.is_none() {
            return Ok(true);
        }
        let mut inside = Session::open(&self.server.inside(&names), fence).await?;
        let own = names::schema(id);
        let seen = inside
            .look("look for the schema", async |c| schema::seen(c, &own, &names).await)
            .await?;
        inside.close().await;
        Ok(!seen.is_there())
    }

    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), DatabaseError> {
        let names = self.names(id);
        let quoted = quoted(&names)?;
        let mut session = self.server.outside(fence).await?;
        let seen = self.seen(&mut session, &names).await?;
        change(&mut session, &schema::closing(&quoted, &names, &seen)?).await?;
        if seen.database.is_some() {
            let mut inside = Session::open(&self.server.inside(&names), fence).await?;
            let own = Identifier::new(&names::schema(id))?;
            change(&mut inside, &schema::emptying(&quoted, &own, &seen)).await?;
            inside.close().await;
        }
        change(&mut session, &schema::roles_away(&quoted, &seen)).await?;
        session.close().await;
        Ok(())
    }

    fn url(&self, id: ApplicationId, slot: Slot, password: &SecretString) -> SecretUrl {
        self.server.url_of(&self.database, id, slot, password)
    }

    async fn usage(&self, fence: &Fence) -> Result<Vec<Usage>, DatabaseError> {
        let names = self.names(ApplicationId::from_uuid(uuid::Uuid::nil()));
        let mut session = match Session::open(&self.server.inside(&names), fence).await {
            // Nobody has needed it yet.
            Err(error) if error.code().as_deref() == Some("3D000") => return Ok(Vec::new()),
            session => session?,
        };
        let used = session.measure(usage::of_schemas).await;
        session.close().await;
        used
    }
}
