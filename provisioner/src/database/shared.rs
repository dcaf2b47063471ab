//! The strategy `database`: a database for each application on one shared server.
//!
//! A tenant has three roles: an owner that cannot log in, and two that log in and act as the owner, so that either can be
//! replaced while the other serves. The database itself belongs to the administrator, so that a tenant can neither lift its
//! connection limit nor let others in. Nobody may connect to a database that was not opened to them; the platform's own
//! databases are closed to `PUBLIC`.

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::db::catalog::{self, Names};
use super::db::quote::{Identifier, NameError};
use super::db::statement::{self, Quoted, Statement};
use super::db::usage;
use super::scram::Verifier;
use super::session::{Session, administrative};
use super::{DatabaseError, DatabaseStrategy, Slot, Tenant, Usage, names};
use crate::lease::Fence;

/// `ALLOW_CONNECTIONS`, `DROP DATABASE … WITH (FORCE)`, and what is still supported.
const OLDEST_VERSION: i32 = 140_000;

/// The maintenance database, there on every server.
const MAINTENANCE: &str = "postgres";

/// An address is not that of a Postgres server. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form postgres://user:password@host[:port][/database]")]
pub struct ServerUrlError;

/// A Postgres server that tenants share.
pub struct SharedServer {
    admin: PgConnectOptions,
    /// The address for instances, without user, password and database.
    tenants: Url,
    entropy: Arc<dyn Entropy>,
}

impl SharedServer {
    /// The server at `admin`, whose user may create roles and databases. `tenants` is the address by which instances
    /// reach it, if that is another one; of its user, password and path nothing is used.
    pub fn new(
        admin: &SecretUrl,
        tenants: Option<&SecretUrl>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ServerUrlError> {
        let options = PgConnectOptions::from_str(admin.expose()).map_err(|_| ServerUrlError)?;
        let mut address = Url::parse(tenants.unwrap_or(admin).expose()).map_err(|_| ServerUrlError)?;
        if !address.has_host() || !matches!(admin.scheme(), "postgres" | "postgresql") {
            return Err(ServerUrlError);
        }
        // How to encrypt is as true for the tenant as for the administrator; anything else in the query is not.
        let kept: Vec<(String, String)> = address
            .query_pairs()
            .filter(|(key, _)| matches!(&**key, "sslmode" | "sslrootcert"))
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        address.set_query(None);
        if !kept.is_empty() {
            address.query_pairs_mut().extend_pairs(kept);
        }
        Ok(Self {
            admin: administrative(options.database(MAINTENANCE)),
            tenants: address,
            entropy,
        })
    }

    pub(super) fn inside(&self, names: &Names) -> PgConnectOptions {
        self.admin.clone().database(&names.database)
    }

    pub(super) fn url_of(&self, database: &str, id: ApplicationId, slot: Slot, password: &SecretString) -> SecretUrl {
        let mut url = self.tenants.clone();
        // A host is there, so both succeed.
        let _ = url.set_username(&names::login(id, slot));
        let _ = url.set_password(Some(password.expose_secret()));
        url.set_path(database);
        match SecretUrl::parse(url.as_str()) {
            Ok(url) => url,
            Err(_) => unreachable!("the text of a URL with a host has a scheme and no blanks"),
        }
    }

    /// A session of the administrator, outside of tenants' databases.
    pub(super) async fn outside<'a>(&self, fence: &'a Fence) -> Result<Session<'a>, DatabaseError> {
        Session::open(&self.admin, fence).await
    }

    pub(super) fn verifiers(&self, tenant: &Tenant<'_>) -> [Option<Verifier>; 2] {
        tenant
            .passwords
            .map(|password| password.map(|password| Verifier::of(password, &*self.entropy)))
    }

    /// The login roles whose password is not the recorded one, found by logging in.
    pub(super) async fn wrong_passwords(
        &self,
        tenant: &Tenant<'_>,
        names: &Names,
        fence: &Fence,
    ) -> Result<Vec<Slot>, DatabaseError> {
        let mut wrong = Vec::new();
        for (slot, password) in Slot::ALL.into_iter().zip(tenant.passwords) {
            let Some(password) = password else { continue };
            let options = self
                .inside(names)
                .username(&names::login(tenant.id, slot))
                .password(password.expose_secret());
            match Session::open(&options, fence).await {
                Ok(mut session) => {
                    let role = session.look("ask for the role in use", catalog::acting_role).await;
                    session.close().await;
                    let role = role?;
                    if role != names.owner {
                        return Err(DatabaseError::Unsuitable(format!(
                            "{} acts as {role}",
                            names::login(tenant.id, slot)
                        )));
                    }
                }
                // The limit of connections is checked after the password.
                Err(error) if error.code().as_deref() == Some("53300") => {}
                Err(error) if error.code().is_some_and(|code| code.starts_with("28")) => wrong.push(slot),
                Err(error) => return Err(error),
            }
        }
        Ok(wrong)
    }

    /// Sets the passwords of login roles that do not have the recorded one.
    pub(super) async fn correct_passwords(
        &self,
        tenant: &Tenant<'_>,
        names: &Names,
        verifiers: &[Option<Verifier>; 2],
        session: &mut Session<'_>,
        fence: &Fence,
    ) -> Result<(), DatabaseError> {
        let quoted = quoted(names)?;
        for slot in self.wrong_passwords(tenant, names, fence).await? {
            let [a, b] = verifiers;
            let verifier = match slot {
                Slot::A => a,
                Slot::B => b,
            };
            if let Some(verifier) = verifier {
                session
                    .run(&statement::set_password(quoted.login(slot), verifier)?)
                    .await?;
            }
        }
        Ok(())
    }

    /// Closes to `PUBLIC` what the administrator may close; returns the names of what stays open.
    async fn close_to_public(&self, session: &mut Session<'_>) -> Result<Vec<String>, DatabaseError> {
        for exposed in session.look("look for open databases", catalog::exposed).await? {
            if exposed.closable {
                // Another provisioner may do the same at the same moment: what counts is how it looks afterwards.
                match session.run(&statement::close_to_public(&exposed.name)?).await {
                    Err(error) if error.is_transient() => tracing::debug!(%error, "closing a database to the public"),
                    outcome => outcome?,
                }
            }
        }
        let left = session.look("look for open databases", catalog::exposed).await?;
        Ok(left.into_iter().map(|exposed| exposed.name).collect())
    }
}

pub(super) async fn change(session: &mut Session<'_>, plan: &[Statement]) -> Result<(), DatabaseError> {
    for change in plan {
        session.run(change).await?;
    }
    Ok(())
}

fn catalog_names(id: ApplicationId) -> Names {
    Names {
        database: names::database(id),
        owner: names::owner(id),
        a: names::login(id, Slot::A),
        b: names::login(id, Slot::B),
    }
}

pub(super) fn quoted(names: &Names) -> Result<Quoted, NameError> {
    Ok(Quoted {
        database: Identifier::new(&names.database)?,
        owner: Identifier::new(&names.owner)?,
        a: Identifier::new(&names.a)?,
        b: Identifier::new(&names.b)?,
    })
}

#[async_trait]
impl DatabaseStrategy for SharedServer {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn check(&self, fence: &Fence) -> Result<Vec<String>, DatabaseError> {
        let mut session = Session::open(&self.admin, fence).await?;
        let server = session.look("ask for the version and rights", catalog::server).await?;
        if server.version < OLDEST_VERSION {
            let message = format!("version {} is older than {OLDEST_VERSION}", server.version);
            return Err(DatabaseError::Unsuitable(message));
        }
        if !server.may_create_roles || !server.may_create_databases {
            return Err(DatabaseError::Unsuitable(
                "the administrator may not create roles and databases".to_owned(),
            ));
        }
        let open = self.close_to_public(&mut session).await?;
        session.close().await;
        Ok(open)
    }

    async fn differences(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<Vec<String>, DatabaseError> {
        let names = catalog_names(tenant.id);
        let quoted = quoted(&names)?;
        let verifiers = self.verifiers(tenant);
        let mut session = Session::open(&self.admin, fence).await?;
        let seen = session
            .look("look for the database", async |c| catalog::outside(c, &names).await)
            .await?;
        session.close().await;
        let mut plan = statement::missing_outside(
            &quoted,
            &names,
            &seen,
            tenant.connection_limit,
            verifiers.each_ref().map(Option::as_ref),
        )?;
        if plan.is_empty() {
            let mut session = Session::open(&self.inside(&names), fence).await?;
            let seen = session
                .look("look into the database", async |c| catalog::inside(c, &names).await)
                .await?;
            session.close().await;
            plan = statement::missing_inside(&quoted, &names.owner, &seen);
        }
        let mut differences: Vec<String> = plan.iter().map(|change| change.what.to_owned()).collect();
        if differences.is_empty() {
            let wrong = self.wrong_passwords(tenant, &names, fence).await?;
            differences.extend(
                wrong
                    .iter()
                    .map(|slot| format!("set the password of login role {slot:?}")),
            );
        }
        Ok(differences)
    }

    async fn ensure(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<(), DatabaseError> {
        let names = catalog_names(tenant.id);
        let quoted = quoted(&names)?;
        let verifiers = self.verifiers(tenant);

        let mut session = Session::open(&self.admin, fence).await?;
        let seen = session
            .look("look for the database", async |c| catalog::outside(c, &names).await)
            .await?;
        let plan = statement::missing_outside(
            &quoted,
            &names,
            &seen,
            tenant.connection_limit,
            verifiers.each_ref().map(Option::as_ref),
        )?;
        change(&mut session, &plan).await?;

        let mut inside = Session::open(&self.inside(&names), fence).await?;
        let seen = inside
            .look("look into the database", async |c| catalog::inside(c, &names).await)
            .await?;
        change(&mut inside, &statement::missing_inside(&quoted, &names.owner, &seen)).await?;
        inside.close().await;

        self.correct_passwords(tenant, &names, &verifiers, &mut session, fence)
            .await?;
        session.close().await;
        Ok(())
    }

    async fn is_absent(&self, id: ApplicationId, fence: &Fence) -> Result<bool, DatabaseError> {
        let names = catalog_names(id);
        let mut session = Session::open(&self.admin, fence).await?;
        let seen = session
            .look("look for the database", async |c| catalog::outside(c, &names).await)
            .await?;
        session.close().await;
        Ok(seen.is_empty())
    }

    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), DatabaseError> {
        let names = catalog_names(id);
        let mut session = Session::open(&self.admin, fence).await?;
        let seen = session
            .look("look for the database", async |c| catalog::outside(c, &names).await)
            .await?;
        change(&mut session, &statement::removal(&quoted(&names)?, &seen)).await?;
        session.close().await;
        Ok(())
    }

    fn url(&self, id: ApplicationId, slot: Slot, password: &SecretString) -> SecretUrl {
        self.url_of(&names::database(id), id, slot, password)
    }

    async fn usage(&self, fence: &Fence) -> Result<Vec<Usage>, DatabaseError> {
        let mut session = Session::open(&self.admin, fence).await?;
        let used = session.measure(usage::of_databases).await;
        session.close().await;
        used
    }
}
