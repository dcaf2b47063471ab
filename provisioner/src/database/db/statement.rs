//! The statements that make, change and remove a tenant's database and roles. Each is made of quoted identifiers and
//! literals only, and each may be run again after a crash at any point.

use std::fmt;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::super::names::Slot;
use super::super::scram::Verifier;
use super::catalog::{Database, Inside, Names, Outside, Role};
use super::quote::{Identifier, Literal, NameError};

/// A statement of DDL. `Debug` shows what it is for, never its text.
pub(in super::super) struct Statement {
    /// What it does, for errors.
    pub(in super::super) what: &'static str,
    sql: String,
}

impl Statement {
    pub(super) fn new(what: &'static str, sql: String) -> Self {
        Self { what, sql }
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({})", self.what)
    }
}

/// The quoted names of a tenant.
pub(in super::super) struct Quoted {
    pub(in super::super) database: Identifier,
    pub(in super::super) owner: Identifier,
    pub(in super::super) a: Identifier,
    pub(in super::super) b: Identifier,
}

impl Quoted {
    pub(in super::super) fn login(&self, slot: Slot) -> &Identifier {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }
}

/// Runs one statement by itself (autocommit: `CREATE DATABASE` does not run inside a transaction). That something is
/// already there is success; what it looks like is observed, not assumed.
pub(in super::super) async fn run(connection: &mut PgConnection, statement: &Statement) -> Result<(), sqlx::Error> {
    // The text is ours but for names and verifiers, and those went through `Identifier` and `Literal`.
    let outcome = sqlx::raw_sql(AssertSqlSafe(statement.sql.as_str()))
        .execute(connection)
        .await;
    match outcome {
        Err(sqlx::Error::Database(error)) if is_duplicate(error.code().as_deref()) => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// `duplicate_object` (roles), `duplicate_database`, and the unique violation of two that create at the same moment.
fn is_duplicate(code: Option<&str>) -> bool {
    matches!(code, Some("42710" | "42P04" | "23505"))
}

/// Closes the session; a server that does not answer has closed it already.
pub(in super::super) async fn close(connection: PgConnection) {
    let _ = connection.close().await;
}

/// What is missing of the roles. A login role without a verifier is closed: it cannot log in, and has no session.
/// `connection_limit` is that of each login role, where the strategy has no other place for it.
pub(in super::super) fn missing_roles(
    names: &Quoted,
    plain: &Names,
    seen: &Outside,
    connection_limit: Option<u32>,
    verifiers: [Option<&Verifier>; 2],
) -> Result<Vec<Statement>, NameError> {
    let Quoted { owner, .. } = names;
    let mut plan = Vec::new();
    match &seen.owner {
        None => plan.push(Statement::new(
            "create the owner role",
            format!("CREATE ROLE {owner} NOLOGIN"),
        )),
        Some(role) => {
            if role.can_login {
                plan.push(Statement::new(
                    "forbid the owner role to log in",
                    format!("ALTER ROLE {owner} NOLOGIN"),
                ));
            }
            plan.extend(disarm(owner, role));
        }
    }
    for (slot, verifier) in Slot::ALL.into_iter().zip(verifiers) {
        let login = names.login(slot);
        let role = seen.login(slot);
        match (role, verifier) {
            (None, Some(verifier)) => {
                let verifier = Literal::new(verifier.as_str())?;
                let sql = format!("CREATE ROLE {login} LOGIN INHERIT PASSWORD {verifier}");
                plan.push(Statement::new("create a login role", sql));
            }
            (None, None) => {
                let sql = format!("CREATE ROLE {login} NOLOGIN INHERIT");
                plan.push(Statement::new("create a closed login role", sql));
            }
            (Some(role), Some(_)) if !role.can_login || !role.inherits => {
                let sql = format!("ALTER ROLE {login} LOGIN INHERIT");
                plan.push(Statement::new("allow a login role to log in", sql));
            }
            (Some(_), Some(_)) => {}
            (Some(role), None) => {
                if role.can_login {
                    // Without a password it opens to nobody by being allowed to log in again.
                    let sql = format!("ALTER ROLE {login} NOLOGIN PASSWORD NULL");
                    plan.push(Statement::new("close a login role", sql));
                }
                if role.can_login || role.has_sessions {
                    plan.push(end_sessions(plain.login(slot))?);
                }
            }
        }
        plan.extend(role.and_then(|role| disarm(login, role)));
        let limit = connection_limit.map(i64::from);
        if let Some(limit) = limit
            && role.is_none_or(|role| i64::from(role.connection_limit) != limit)
        {
            let sql = format!("ALTER ROLE {login} CONNECTION LIMIT {limit}");
            plan.push(Statement::new("limit the connections", sql));
        }
        if !role.is_some_and(|role| role.is_member) {
            plan.push(Statement::new(
                "make a login role a member of the owner",
                format!("GRANT {owner} TO {login}"),
            ));
        }
        // Sessions of either role act as the owner, so that what one creates the other can use.
        if !role.is_some_and(|role| role.acts_as(&plain.owner)) {
            let owner = Literal::new(&plain.owner)?;
            let sql = format!("ALTER ROLE {login} SET role TO {owner}");
            plan.push(Statement::new("make a login role act as the owner", sql));
        }
    }
    if !seen.admin_has_roles {
        let (a, b) = (&names.a, &names.b);
        let sql = format!("GRANT {owner}, {a}, {b} TO CURRENT_USER");
        plan.push(Statement::new("let the administrator act for the roles", sql));
    }
    Ok(plan)
}

/// What is missing outside the database: roles, memberships, the database itself with its access rights. The database
/// accepts connections only once nobody but its tenant may connect.
pub(in super::super) fn missing_outside(
    names: &Quoted,
    plain: &Names,
    seen: &Outside,
    connection_limit: u32,
    verifiers: [Option<&Verifier>; 2],
) -> Result<Vec<Statement>, NameError> {
    let Quoted { database, owner, .. } = names;
    let mut plan = missing_roles(names, plain, seen, None, verifiers)?;
    // The database belongs to the administrator: its owner could lift its connection limit and open it to others.
    let fresh = seen.database.is_none();
    if fresh {
        let sql = format!(
            "CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false \
             CONNECTION LIMIT {connection_limit}"
        );
        plan.push(Statement::new("create the database", sql));
    }
    if seen.database.as_ref().is_none_or(|database| database.open_to_public) {
        plan.push(Statement::new(
            "close the database to others",
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
        ));
    }
    let granted = |database: &Database| database.granted == ["CONNECT", "CREATE", "TEMPORARY"];
    if !seen.database.as_ref().is_some_and(granted) {
        let sql = format!("GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {database} TO {owner}");
        plan.push(Statement::new("open the database to its tenant", sql));
    }
    let limit = i64::from(connection_limit);
    if seen
        .database
        .as_ref()
        .is_some_and(|database| i64::from(database.connection_limit) != limit)
    {
        let sql = format!("ALTER DATABASE {database} CONNECTION LIMIT {connection_limit}");
        plan.push(Statement::new("limit the connections", sql));
    }
    if !seen
        .database
        .as_ref()
        .is_some_and(|database| database.allows_connections)
    {
        let sql = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
        plan.push(Statement::new("accept connections", sql));
    }
    Ok(plan)
}

/// Ends the sessions of a role that can log in no more, and waits a moment until they are gone.
pub(super) fn end_sessions(role: &str) -> Result<Statement, NameError> {
    let role = Literal::new(role)?;
    let sql = format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = {role}");
    Ok(Statement::new("end the sessions of a login role", sql))
}

fn disarm(name: &Identifier, role: &Role) -> Option<Statement> {
    role.is_privileged.then(|| {
        let sql = format!("ALTER ROLE {name} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS");
        Statement::new("take rights from a role", sql)
    })
}

/// What is missing inside the database.
pub(in super::super) fn missing_inside(names: &Quoted, owner_name: &str, seen: &Inside) -> Vec<Statement> {
    let Quoted { owner, a, b, .. } = names;
    let mut plan = Vec::new();
    match &seen.public_schema_owner {
        Some(present) if present != owner_name => {
            plan.push(Statement::new(
                "give the schema to the owner role",
                format!("ALTER SCHEMA public OWNER TO {owner}"),
            ));
        }
        // A tenant may drop its schema `public`; that is its own affair.
        Some(_) | None => {}
    }
    if seen.public_schema_open {
        plan.push(Statement::new(
            "close the schema to others",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned(),
        ));
    }
    if seen.logins_own_objects {
        let sql = format!("REASSIGN OWNED BY {a}, {b} TO {owner}");
        plan.push(Statement::new("give the login roles' objects to the owner role", sql));
    }
    plan
}

/// Sets the password of a login role.
pub(in super::super) fn set_password(login: &Identifier, verifier: &Verifier) -> Result<Statement, NameError> {
    let verifier = Literal::new(verifier.as_str())?;
    Ok(Statement::new(
        "set a password",
        format!("ALTER ROLE {login} PASSWORD {verifier}"),
    ))
}

/// Takes CONNECT on a database of the platform itself from everybody.
pub(in super::super) fn close_to_public(database: &str) -> Result<Statement, NameError> {
    let database = Identifier::new(database)?;
    Ok(Statement::new(
        "close a database of the platform to tenants",
        format!("REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC"),
    ))
}

/// Everything away. New logins are stopped first; dropping the database ends the sessions that are left.
pub(in super::super) fn removal(names: &Quoted, seen: &Outside) -> Vec<Statement> {
    let Quoted { database, owner, a, b } = names;
    let mut plan = Vec::new();
    for (slot, login) in [(Slot::A, a), (Slot::B, b)] {
        if seen.login(slot).is_some() {
            plan.push(Statement::new(
                "forbid a login role to log in",
                format!("ALTER ROLE {login} NOLOGIN"),
            ));
        }
    }
    if seen.database.is_some() {
        plan.push(Statement::new(
            "drop the database",
            format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"),
        ));
    }
    for (seen, role) in [
        (seen.login(Slot::A), a),
        (seen.login(Slot::B), b),
        (seen.owner.as_ref(), owner),
    ] {
        if seen.is_some() {
            plan.push(Statement::new("drop a role", format!("DROP ROLE IF EXISTS {role}")));
        }
    }
    plan
}
