//! What the tenant server has: roles, databases and their access rights, from its catalog.

use sqlx::PgConnection;

use super::super::names::Slot;

/// The administrator and its server.
#[derive(Debug)]
pub(in super::super) struct Server {
    pub(in super::super) version: i32,
    pub(in super::super) may_create_roles: bool,
    pub(in super::super) may_create_databases: bool,
}

/// A role of a tenant.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Role {
    pub(in super::super) can_login: bool,
    pub(in super::super) inherits: bool,
    /// Has a right that no tenant's role has: superuser, createdb, createrole, replication, bypassrls.
    pub(in super::super) is_privileged: bool,
    /// Is a member of the tenant's owner role.
    pub(in super::super) is_member: bool,
    /// Sessions that it may have at a time; -1 is without limit.
    pub(in super::super) connection_limit: i32,
    /// It has sessions right now.
    pub(in super::super) has_sessions: bool,
    settings: Vec<String>,
}

impl Role {
    pub(in super::super) fn acts_as(&self, owner: &str) -> bool {
        self.settings
            .iter()
            .any(|setting| setting.strip_prefix("role=") == Some(owner))
    }

    /// Are unqualified names found in this schema, and in no other?
    pub(in super::super) fn searches(&self, schema: &str) -> bool {
        self.settings
            .iter()
            .filter_map(|setting| setting.strip_prefix("search_path="))
            .any(|path| path.trim_matches('"') == schema)
    }
}

/// The database of a tenant, from outside.
#[derive(Debug, Clone)]
pub(in super::super) struct Database {
    pub(in super::super) allows_connections: bool,
    pub(in super::super) connection_limit: i32,
    /// Anybody has any right on it.
    pub(in super::super) open_to_public: bool,
    /// What whoever may enter may do in it, in alphabetical order.
    pub(in super::super) granted: Vec<String>,
}

/// What there is of a tenant, seen from outside its database.
#[derive(Debug, Clone)]
pub(in super::super) struct Outside {
    pub(in super::super) owner: Option<Role>,
    pub(in super::super) a: Option<Role>,
    pub(in super::super) b: Option<Role>,
    pub(in super::super) database: Option<Database>,
    /// The administrator may act for all three roles.
    pub(in super::super) admin_has_roles: bool,
}

impl Outside {
    pub(in super::super) fn login(&self, slot: Slot) -> Option<&Role> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    /// Nothing of the tenant is there.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.owner.is_none() && self.a.is_none() && self.b.is_none() && self.database.is_none()
    }
}

/// What there is inside a tenant's database.
#[derive(Debug, Clone)]
pub(in super::super) struct Inside {
    pub(in super::super) public_schema_owner: Option<String>,
    pub(in super::super) public_schema_open: bool,
    /// Objects belong to a login role instead of the owner role.
    pub(in super::super) logins_own_objects: bool,
}

/// Names as they are in the catalog.
#[derive(Debug, Clone)]
pub(in super::super) struct Names {
    pub(in super::super) database: String,
    pub(in super::super) owner: String,
    pub(in super::super) a: String,
    pub(in super::super) b: String,
}

impl Names {
    pub(in super::super) fn login(&self, slot: Slot) -> &str {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }
}

pub(in super::super) async fn server(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT current_setting('server_version_num')::integer AS "version!", rolsuper AS "superuser!",
                  rolcreaterole AS "create_roles!", rolcreatedb AS "create_databases!"
           FROM pg_roles WHERE rolname = current_user"#
    )
    .fetch_one(connection)
    .await?;
    Ok(Server {
        version: row.version,
        may_create_roles: row.superuser || row.create_roles,
        may_create_databases: row.superuser || row.create_databases,
    })
}

/// A database that anybody may connect to.
#[derive(Debug)]
pub(in super::super) struct Exposed {
    pub(in super::super) name: String,
    /// The administrator may close it.
    pub(in super::super) closable: bool,
}

/// The databases that anybody may connect to.
pub(in super::super) async fn exposed(connection: &mut PgConnection) -> Result<Vec<Exposed>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT d.datname::text AS "name!", pg_has_role(d.datdba, 'USAGE') AS "closable!"
           FROM pg_database d
           WHERE d.datallowconn AND EXISTS (
               SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
               WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT')
           ORDER BY d.datname"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Exposed {
            name: row.name,
            closable: row.closable,
        })
        .collect())
}

pub(in super::super) async fn outside(connection: &mut PgConnection, names: &Names) -> Result<Outside, sqlx::Error> {
    let roles = [names.owner.clone(), names.a.clone(), names.b.clone()];
    let rows = sqlx::query!(
        r#"SELECT r.rolname::text AS "name!", r.rolcanlogin AS "can_login!", r.rolinherit AS "inherits!",
                  (r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls) AS "privileged!",
                  EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid
                          WHERE m.member = r.oid AND o.rolname = $2) AS "is_member!",
                  r.rolconnlimit AS "connection_limit!",
                  EXISTS (SELECT FROM pg_stat_activity s WHERE s.usesysid = r.oid) AS "has_sessions!",
                  r.rolconfig AS settings, pg_has_role(r.oid, 'USAGE') AS "admin_has!"
           FROM pg_roles r WHERE r.rolname = ANY ($1)"#,
        &roles,
        names.owner,
    )
    .fetch_all(&mut *connection)
    .await?;
    let is_superuser =
        sqlx::query_scalar!(r#"SELECT rolsuper AS "superuser!" FROM pg_roles WHERE rolname = current_user"#)
            .fetch_one(&mut *connection)
            .await?;
    let admin_has_roles = is_superuser || (rows.len() == roles.len() && rows.iter().all(|row| row.admin_has));
    let mut found = rows.into_iter().map(|row| {
        let role = Role {
            can_login: row.can_login,
            inherits: row.inherits,
            is_privileged: row.privileged,
            is_member: row.is_member,
            connection_limit: row.connection_limit,
            has_sessions: row.has_sessions,
            settings: row.settings.unwrap_or_default(),
        };
        (row.name, role)
    });
    let (mut owner, mut a, mut b) = (None, None, None);
    for (name, role) in found.by_ref() {
        if name == names.owner {
            owner = Some(role);
        } else if name == names.a {
            a = Some(role);
        } else if name == names.b {
            b = Some(role);
        }
    }
    let database = database(connection, &names.database, &names.owner).await?;
    Ok(Outside {
        owner,
        a,
        b,
        database,
        admin_has_roles,
    })
}

/// A database, and what `role` may do in it.
pub(in super::super) async fn database(
    connection: &mut PgConnection,
    name: &str,
    role: &str,
) -> Result<Option<Database>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT d.datallowconn AS "allows_connections!", d.datconnlimit AS "connection_limit!",
                  EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x
                          WHERE x.grantee = 0) AS "open_to_public!",
                  ARRAY(SELECT DISTINCT x.privilege_type
                        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x JOIN pg_roles r ON r.oid = x.grantee
                        WHERE r.rolname = $2 ORDER BY 1) AS "granted!"
           FROM pg_database d WHERE d.datname = $1"#,
        name,
        role,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Database {
        allows_connections: row.allows_connections,
        connection_limit: row.connection_limit,
        open_to_public: row.open_to_public,
        granted: row.granted,
    }))
}

pub(in super::super) async fn inside(connection: &mut PgConnection, names: &Names) -> Result<Inside, sqlx::Error> {
    let schema = sqlx::query!(
        r#"SELECT pg_get_userbyid(n.nspowner)::text AS "owner!",
                  EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
                          WHERE x.grantee = 0) AS "open!"
           FROM pg_namespace n WHERE n.nspname = 'public'"#
    )
    .fetch_optional(&mut *connection)
    .await?;
    let logins = [names.a.clone(), names.b.clone()];
    let logins_own_objects = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
                          WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = ANY ($1)
                            AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS "own!""#,
        &logins,
    )
    .fetch_one(connection)
    .await?;
    let (public_schema_owner, public_schema_open) = match schema {
        Some(schema) => (Some(schema.owner), schema.open),
        None => (None, false),
    };
    Ok(Inside {
        public_schema_owner,
        public_schema_open,
        logins_own_objects,
    })
}

/// Does a session work as it should: it acts as the owner.
pub(in super::super) async fn acting_role(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT current_user::text AS "role!""#)
        .fetch_one(connection)
        .await
}
