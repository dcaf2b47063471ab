//! What is particular to schemas in one shared database: the database itself, the role whose members may enter it, and a
//! schema for each tenant.

use sqlx::PgConnection;

use super::super::names::Slot;
use super::catalog::{self, Database, Names, Outside};
use super::quote::{Identifier, Literal, NameError};
use super::statement::{Quoted, Statement, end_sessions};

/// The database that tenants share.
pub(in super::super) struct Common {
    database: Option<Database>,
    has_members: bool,
}

/// A tenant's schema, and what else of the tenant concerns the shared database.
pub(in super::super) struct Seen {
    is_there: bool,
    granted: Vec<String>,
    is_open: bool,
    logins_own_objects: bool,
}

impl Seen {
    /// Is there a schema?
    pub(in super::super) fn is_there(&self) -> bool {
        self.is_there
    }
}

/// The shared database, seen from outside it.
pub(in super::super) async fn common(
    connection: &mut PgConnection,
    database: &str,
    members: &str,
) -> Result<Common, sqlx::Error> {
    let has_members = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND NOT rolcanlogin) AS "there!""#,
        members,
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Common {
        database: catalog::database(connection, database, members).await?,
        has_members,
    })
}

/// Is the role a direct member of the other?
pub(in super::super) async fn is_member(
    connection: &mut PgConnection,
    role: &str,
    members: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
                          WHERE r.rolname = $1 AND g.rolname = $2) AS "is_member!""#,
        role,
        members,
    )
    .fetch_one(connection)
    .await
}

/// Is everybody kept out of the schema `public` of the session's database?
pub(in super::super) async fn public_is_closed(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (SELECT FROM pg_namespace n,
                                     aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
                              WHERE n.nspname = 'public' AND x.grantee = 0) AS "closed!""#
    )
    .fetch_one(connection)
    .await
}

/// The tenant's schema, seen from inside the shared database.
pub(in super::super) async fn seen(
    connection: &mut PgConnection,
    schema: &str,
    names: &Names,
) -> Result<Seen, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT ARRAY(SELECT DISTINCT x.privilege_type
                        FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x JOIN pg_roles r ON r.oid = x.grantee
                        WHERE r.rolname = $2 ORDER BY 1) AS "granted!",
                  EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
                          LEFT JOIN pg_roles r ON r.oid = x.grantee
                          WHERE x.grantee <> n.nspowner AND r.rolname IS DISTINCT FROM $2) AS "open!"
           FROM pg_namespace n WHERE n.nspname = $1"#,
        schema,
        names.owner,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let logins_own_objects = catalog::inside(connection, names).await?.logins_own_objects;
    let is_there = row.is_some();
    let (granted, is_open) = row.map(|row| (row.granted, row.open)).unwrap_or_default();
    Ok(Seen {
        is_there,
        granted,
        is_open,
        logins_own_objects,
    })
}

/// What is missing of the shared database, from outside. It accepts connections only once nobody but members may connect.
pub(in super::super) fn missing_common(database: &Identifier, members: &Identifier, seen: &Common) -> Vec<Statement> {
    let mut plan = Vec::new();
    if !seen.has_members {
        let sql = format!("CREATE ROLE {members} NOLOGIN");
        plan.push(Statement::new("create the role of those who may enter", sql));
    }
    let there = seen.database.as_ref();
    if there.is_none() {
        let sql = format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false");
        plan.push(Statement::new("create the shared database", sql));
    }
    if there.is_none_or(|database| database.open_to_public) {
        let sql = format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC");
        plan.push(Statement::new("close the shared database to others", sql));
    }
    if there.is_none_or(|database| database.granted != ["CONNECT", "TEMPORARY"]) {
        let sql = format!(
            "REVOKE ALL ON DATABASE {database} FROM {members}; GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {members}"
        );
        plan.push(Statement::new("open the shared database to its members", sql));
    }
    if !there.is_some_and(|database| database.allows_connections) {
        let sql = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
        plan.push(Statement::new("accept connections", sql));
    }
    plan
}

/// Nobody creates anything in the schema `public`.
pub(in super::super) fn close_public() -> Statement {
    Statement::new(
        "close the schema to others",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned(),
    )
}

/// What is missing of a tenant's roles besides what every strategy wants of them: they may enter, and find their names in
/// their own schema only.
pub(in super::super) fn missing_settings(
    names: &Quoted,
    schema: &str,
    members: &Identifier,
    seen: &Outside,
    is_member: bool,
) -> Result<Vec<Statement>, NameError> {
    let Quoted { owner, .. } = names;
    let mut plan = Vec::new();
    if !is_member {
        let sql = format!("GRANT {members} TO {owner}");
        plan.push(Statement::new("let the tenant into the shared database", sql));
    }
    for slot in Slot::ALL {
        if !seen.login(slot).is_some_and(|role| role.searches(schema)) {
            let (login, path) = (names.login(slot), Literal::new(schema)?);
            let sql = format!("ALTER ROLE {login} SET search_path TO {path}");
            plan.push(Statement::new("make a login role use its schema", sql));
        }
    }
    Ok(plan)
}

/// What is missing of a tenant's schema. It belongs to the administrator: its owner could let others in, or drop it.
pub(in super::super) fn missing_schema(names: &Quoted, schema: &Identifier, seen: &Seen) -> Vec<Statement> {
    let Quoted { owner, a, b, .. } = names;
    let mut plan = Vec::new();
    if !seen.is_there {
        let sql = format!("CREATE SCHEMA {schema}");
        plan.push(Statement::new("create the schema", sql));
    }
    if seen.is_open {
        let sql = format!("REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {a}, {b}");
        plan.push(Statement::new("close the schema to others", sql));
    }
    if seen.granted != ["CREATE", "USAGE"] {
        let sql = format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner}");
        plan.push(Statement::new("open the schema to its tenant", sql));
    }
    if seen.logins_own_objects {
        let sql = format!("REASSIGN OWNED BY {a}, {b} TO {owner}");
        plan.push(Statement::new("give the login roles' objects to the owner role", sql));
    }
    plan
}

/// Nobody logs in any more, and nobody is there.
pub(in super::super) fn closing(names: &Quoted, plain: &Names, seen: &Outside) -> Result<Vec<Statement>, NameError> {
    let mut plan = Vec::new();
    for slot in Slot::ALL {
        if seen.login(slot).is_some() {
            let login = names.login(slot);
            let sql = format!("ALTER ROLE {login} NOLOGIN");
            plan.push(Statement::new("forbid a login role to log in", sql));
            plan.push(end_sessions(plain.login(slot))?);
        }
    }
    Ok(plan)
}

/// Everything of the tenant inside the shared database away, wherever it put it.
pub(in super::super) fn emptying(names: &Quoted, schema: &Identifier, seen: &Outside) -> Vec<Statement> {
    let mut plan = vec![Statement::new(
        "drop the schema",
        format!("DROP SCHEMA IF EXISTS {schema} CASCADE"),
    )];
    plan.extend(present(names, seen).map(|role| {
        let sql = format!("DROP OWNED BY {role} CASCADE");
        Statement::new("drop what a role has", sql)
    }));
    plan
}

/// The roles away, once nothing depends on them.
pub(in super::super) fn roles_away(names: &Quoted, seen: &Outside) -> Vec<Statement> {
    present(names, seen)
        .map(|role| Statement::new("drop a role", format!("DROP ROLE IF EXISTS {role}")))
        .collect()
}

fn present<'a>(names: &'a Quoted, seen: &'a Outside) -> impl Iterator<Item = &'a Identifier> {
    let roles = [
        (seen.login(Slot::A), &names.a),
        (seen.login(Slot::B), &names.b),
        (seen.owner.as_ref(), &names.owner),
    ];
    roles.into_iter().filter_map(|(seen, name)| seen.map(|_| name))
}
