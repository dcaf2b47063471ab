//! Tenants that share a database are kept apart in it.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use authsome_provisioner::database::{DatabaseStrategy, SharedDatabase, Slot, Tenant, names};
use authsome_provisioner::lease::Fence;
use authsome_testkit::shared_postgres;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

const LIMIT: u32 = 3;

struct App {
    id: ApplicationId,
    passwords: [SecretString; 2],
    fence: Fence,
}

impl App {
    fn new() -> Self {
        let id = ApplicationId::generate(&SystemClock, &SystemEntropy::new());
        let password = |slot: &str| SecretString::from(format!("pw-{slot}-{}", id.suffix()));
        Self {
            id,
            passwords: [password("a"), password("b")],
            fence: Fence::observer(id, Duration::from_mins(10)),
        }
    }

    fn tenant(&self) -> Tenant<'_> {
        Tenant {
            id: self.id,
            connection_limit: LIMIT,
            passwords: [Some(&self.passwords[0]), Some(&self.passwords[1])],
            site: None,
        }
    }

    async fn ensured(strategy: &SharedDatabase) -> Self {
        let app = Self::new();
        strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
        app
    }

    fn url(&self, strategy: &SharedDatabase, slot: Slot) -> SecretUrl {
        let password = match slot {
            Slot::A => &self.passwords[0],
            Slot::B => &self.passwords[1],
        };
        strategy.url(self.id, slot, password)
    }

    /// As its instance connects.
    async fn connect(&self, strategy: &SharedDatabase, slot: Slot) -> PgConnection {
        PgConnection::connect(self.url(strategy, slot).expose()).await.unwrap()
    }
}

/// A database for the test alone, on the server that all tests share.
async fn strategy() -> (SharedDatabase, String) {
    let url = SecretUrl::parse(&shared_postgres().await.unwrap().admin_url()).unwrap();
    let name = format!("shared_{}", App::new().id.suffix());
    let entropy = Arc::new(SystemEntropy::new());
    let strategy = SharedDatabase::new(&url, None, name.clone(), entropy).unwrap();
    (strategy, name)
}

async fn admin(database: &str) -> PgConnection {
    let server = shared_postgres().await.unwrap();
    server.options(database).connect().await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}

fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.unwrap_or_default().into_owned()
}

/// What a statement is refused with.
async fn refused(connection: &mut PgConnection, sql: &str) -> String {
    match run(connection, sql).await {
        Ok(()) => format!("{sql}: allowed"),
        Err(error) => code(&error),
    }
}

const DENIED: &str = "42501";

#[tokio::test]
async fn a_tenant_works_in_its_own_schema_without_naming_it_and_with_either_role() {
    let (strategy, _) = strategy().await;
    let (app, other) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let mut a = app.connect(&strategy, Slot::A).await;
    run(&mut a, "CREATE TABLE users (id integer); INSERT INTO users VALUES (1)")
        .await
        .unwrap();
    let mut b = app.connect(&strategy, Slot::B).await;
    run(&mut b, "INSERT INTO users VALUES (2); ALTER TABLE users ADD name text")
        .await
        .unwrap();
    run(&mut b, "CREATE TEMPORARY TABLE scratch (id integer)")
        .await
        .unwrap();
    // The same name is another table for another tenant.
    let mut theirs = other.connect(&strategy, Slot::A).await;
    run(&mut theirs, "CREATE TABLE users (id integer)").await.unwrap();
    let count = async |connection| -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM users")
            .fetch_one(connection)
            .await
            .unwrap()
    };
    assert_eq!((count(&mut a).await, count(&mut theirs).await), (2, 0));
    let place: String = sqlx::query_scalar("SELECT current_schemas(false)::text || current_user")
        .fetch_one(&mut a)
        .await
        .unwrap();
    assert_eq!(place, format!("{{{}}}{}", names::schema(app.id), names::owner(app.id)));
}

#[tokio::test]
async fn a_tenant_reaches_nothing_of_another_and_makes_nothing_outside_its_schema() {
    let (strategy, database) = strategy().await;
    let (app, other) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let mut theirs = other.connect(&strategy, Slot::A).await;
    // Even what the other one gives to everybody stays behind its schema.
    run(
        &mut theirs,
        "CREATE TABLE users (id integer); GRANT ALL ON users TO PUBLIC;
         CREATE FUNCTION shout() RETURNS text LANGUAGE sql AS 'SELECT ''hi''';
         CREATE SEQUENCE numbers; GRANT ALL ON numbers TO PUBLIC",
    )
    .await
    .unwrap();
    let (schema, own) = (names::schema(other.id), names::schema(app.id));
    let (their_owner, their_login) = (names::owner(other.id), names::login(other.id, Slot::B));
    for slot in Slot::ALL {
        let mut session = app.connect(&strategy, slot).await;
        for role in ["SET ROLE NONE".to_owned(), format!("SET ROLE {}", names::owner(app.id))] {
            run(&mut session, &role).await.unwrap();
            for sql in [
                format!("SELECT * FROM {schema}.users"),
                format!("INSERT INTO {schema}.users VALUES (1)"),
                format!("SELECT {schema}.shout()"),
                format!("SELECT nextval('{schema}.numbers')"),
                format!("CREATE TABLE {schema}.mine (id integer)"),
                format!("DROP TABLE {schema}.users"),
                format!("DROP SCHEMA {schema} CASCADE"),
                "CREATE TABLE public.mine (id integer)".to_owned(),
                "CREATE SCHEMA mine".to_owned(),
                "CREATE EXTENSION pgcrypto".to_owned(),
                format!("SET ROLE {their_owner}"),
                format!("SET ROLE {their_login}"),
                format!("SET SESSION AUTHORIZATION {their_login}"),
                format!("ALTER ROLE {their_login} PASSWORD 'x'"),
                format!("ALTER ROLE {their_login} SET search_path TO {own}"),
                "CREATE ROLE mine".to_owned(),
                "CREATE DATABASE mine".to_owned(),
                format!("ALTER DATABASE {database} SET search_path TO {own}"),
                format!("GRANT {database}_members TO PUBLIC"),
                format!("DROP SCHEMA {own} CASCADE"),
                format!("ALTER SCHEMA {own} RENAME TO mine"),
                "SELECT rolpassword FROM pg_authid".to_owned(),
                "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
            ] {
                let answer = refused(&mut session, &sql).await;
                // A role that is not there to be granted to is no right either.
                assert!(
                    [DENIED, "0LP01", "42704"].contains(&answer.as_str()),
                    "{role}, {sql}: {answer}"
                );
            }
            // These are answered with a warning, and change nothing.
            for sql in [
                format!("GRANT ALL ON SCHEMA {own} TO PUBLIC"),
                format!("REVOKE CONNECT ON DATABASE {database} FROM {database}_members"),
            ] {
                run(&mut session, &sql).await.ok();
            }
        }
    }
    let mut theirs = other.connect(&strategy, Slot::B).await;
    assert_eq!(
        refused(&mut theirs, &format!("CREATE TABLE {own}.x (id integer)")).await,
        DENIED
    );
}

#[tokio::test]
async fn a_tenant_enters_the_shared_database_and_no_other_and_a_stranger_does_not_enter_it() {
    let (strategy, database) = strategy().await;
    let app = App::ensured(&strategy).await;
    strategy.check(&app.fence).await.unwrap();
    let (elsewhere, second) = self::strategy().await;
    let stranger = App::ensured(&elsewhere).await;
    let connect = async |app: &App, strategy: &SharedDatabase, database: &str| {
        let options: PgConnectOptions = app.url(strategy, Slot::A).expose().parse().unwrap();
        options.database(database).connect().await
    };
    connect(&app, &strategy, &database).await.unwrap();
    for other in [second.as_str(), "postgres", "template1"] {
        assert_eq!(
            code(&connect(&app, &strategy, other).await.unwrap_err()),
            DENIED,
            "{other}"
        );
    }
    assert_eq!(
        code(&connect(&stranger, &elsewhere, &database).await.unwrap_err()),
        DENIED
    );
}

#[tokio::test]
async fn connections_are_bounded_for_each_role_and_follow_the_plan() {
    let (strategy, _) = strategy().await;
    let app = App::ensured(&strategy).await;
    let mut open = Vec::new();
    for _ in 0..LIMIT {
        open.push(app.connect(&strategy, Slot::A).await);
    }
    let full = PgConnection::connect(app.url(&strategy, Slot::A).expose())
        .await
        .unwrap_err();
    assert_eq!(code(&full), "53300");
    app.connect(&strategy, Slot::B).await;
    // A full role is no wrong password.
    assert_eq!(
        strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
        Vec::<String>::new()
    );

    let larger = Tenant {
        connection_limit: LIMIT + 2,
        ..app.tenant()
    };
    let differences = strategy.differences(&larger, &app.fence).await.unwrap();
    assert_eq!(differences, ["limit the connections", "limit the connections"]);
    strategy.ensure(&larger, &app.fence).await.unwrap();
    open.push(app.connect(&strategy, Slot::A).await);
}

#[tokio::test]
async fn whatever_was_changed_by_hand_is_found_and_put_right() {
    let (strategy, database) = strategy().await;
    let app = App::ensured(&strategy).await;
    let (owner, login, schema) = (
        names::owner(app.id),
        names::login(app.id, Slot::A),
        names::schema(app.id),
    );
    for change in [
        format!("DROP SCHEMA {schema} CASCADE"),
        format!("GRANT USAGE ON SCHEMA {schema} TO PUBLIC"),
        format!("REVOKE CREATE ON SCHEMA {schema} FROM {owner}"),
        "GRANT CREATE ON SCHEMA public TO PUBLIC".to_owned(),
        format!("ALTER ROLE {login} SET search_path TO public"),
        format!("ALTER ROLE {login} PASSWORD 'other'"),
        format!("ALTER ROLE {login} CONNECTION LIMIT -1"),
        format!("ALTER ROLE {login} SUPERUSER"),
        format!("REVOKE {database}_members FROM {owner}"),
        format!("REVOKE {owner} FROM {login}"),
        format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC"),
        format!("GRANT CREATE ON DATABASE {database} TO {database}_members"),
        format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
    ] {
        let place = if change.starts_with("ALTER DATABASE") {
            "postgres"
        } else {
            database.as_str()
        };
        run(&mut admin(place).await, &change).await.unwrap();
        let found = strategy.differences(&app.tenant(), &app.fence).await.unwrap();
        assert!(!found.is_empty(), "{change}");
        strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
        let left = strategy.differences(&app.tenant(), &app.fence).await.unwrap();
        assert_eq!(left, Vec::<String>::new(), "{change}");
        app.connect(&strategy, Slot::A).await;
    }
}

#[tokio::test]
async fn a_role_without_a_password_is_closed_and_its_sessions_end() {
    let (strategy, _) = strategy().await;
    let app = App::ensured(&strategy).await;
    let (mut a, mut b) = (
        app.connect(&strategy, Slot::A).await,
        app.connect(&strategy, Slot::B).await,
    );
    let closed = Tenant {
        passwords: [None, Some(&app.passwords[1])],
        ..app.tenant()
    };
    assert!(!strategy.differences(&closed, &app.fence).await.unwrap().is_empty());
    strategy.ensure(&closed, &app.fence).await.unwrap();
    assert_eq!(
        strategy.differences(&closed, &app.fence).await.unwrap(),
        Vec::<String>::new()
    );
    run(&mut a, "SELECT 1").await.unwrap_err();
    run(&mut b, "SELECT 1").await.unwrap();
    let error = PgConnection::connect(app.url(&strategy, Slot::A).expose())
        .await
        .unwrap_err();
    assert!(code(&error).starts_with("28"), "{error}");
    // And it opens again with a password of its own.
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
    app.connect(&strategy, Slot::A).await;
}

#[tokio::test]
async fn removing_one_tenant_leaves_nothing_of_it_and_everything_of_the_others() {
    let (strategy, database) = strategy().await;
    let (app, other) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    for tenant in [&app, &other] {
        let mut session = tenant.connect(&strategy, Slot::A).await;
        run(
            &mut session,
            "CREATE TABLE users (id integer); INSERT INTO users VALUES (1);
             CREATE TYPE colour AS ENUM ('red'); CREATE VIEW v AS SELECT * FROM users; SELECT lo_create(0)",
        )
        .await
        .unwrap();
    }
    let mut held = app.connect(&strategy, Slot::A).await;
    run(&mut held, "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    assert!(!strategy.is_absent(app.id, &app.fence).await.unwrap());
    for _ in 0..2 {
        strategy.remove(app.id, &app.fence).await.unwrap();
        assert!(strategy.is_absent(app.id, &app.fence).await.unwrap());
    }
    run(&mut held, "SELECT 1").await.unwrap_err();
    let mut admin = admin(&database).await;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1) + (SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 || '%')
              + (SELECT count(*) - 1 FROM pg_largeobject_metadata)",
    )
    .bind(names::schema(app.id))
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert_eq!(left, 0);
    let mut theirs = other.connect(&strategy, Slot::A).await;
    run(&mut theirs, "SELECT * FROM users").await.unwrap();
}

#[tokio::test]
async fn many_tenants_are_made_at_the_same_moment_in_a_database_that_is_not_there_yet() {
    let (strategy, _) = strategy().await;
    let apps: Vec<App> = (0..6).map(|_| App::new()).collect();
    let made = apps.iter().map(async |app| {
        // A row that another session changed at the same moment is tried again, as the engine does.
        let mut outcome = strategy.ensure(&app.tenant(), &app.fence).await;
        for _ in 0..10 {
            match outcome {
                Err(error) if error.is_transient() => outcome = strategy.ensure(&app.tenant(), &app.fence).await,
                outcome => return outcome.unwrap(),
            }
        }
    });
    futures::future::join_all(made).await;
    for app in &apps {
        assert_eq!(
            strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
            Vec::<String>::new()
        );
        app.connect(&strategy, Slot::A).await;
    }
}

#[tokio::test]
async fn an_administrator_that_is_no_superuser_is_enough() {
    let server = shared_postgres().await.unwrap();
    let role = format!("operator_{}", App::new().id.suffix());
    run(
        &mut admin("postgres").await,
        &format!(
            "CREATE ROLE {role} LOGIN CREATEDB CREATEROLE PASSWORD 'pw'; GRANT CONNECT ON DATABASE postgres TO {role}"
        ),
    )
    .await
    .unwrap();
    let url = SecretUrl::parse(&server.url_as(&role, "pw", "postgres")).unwrap();
    let name = format!("shared_{}", App::new().id.suffix());
    let strategy = SharedDatabase::new(&url, None, name, Arc::new(SystemEntropy::new())).unwrap();
    let app = App::ensured(&strategy).await;
    let mut session = app.connect(&strategy, Slot::A).await;
    run(&mut session, "CREATE TABLE users (id integer)").await.unwrap();
    let closed = Tenant {
        passwords: [None, Some(&app.passwords[1])],
        ..app.tenant()
    };
    strategy.ensure(&closed, &app.fence).await.unwrap();
    run(&mut session, "SELECT 1").await.unwrap_err();
    strategy.remove(app.id, &app.fence).await.unwrap();
    assert!(strategy.is_absent(app.id, &app.fence).await.unwrap());
}

#[tokio::test]
async fn what_each_tenant_uses_is_told_for_all_of_them_at_once() {
    let (strategy, _) = strategy().await;
    let fence = App::new().fence;
    assert_eq!(
        strategy.usage(&fence).await.unwrap(),
        [],
        "nobody has needed the database yet"
    );
    let (full, empty) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let mut connection = full.connect(&strategy, Slot::A).await;
    run(
        &mut connection,
        "CREATE TABLE things (id bigserial PRIMARY KEY, text text)",
    )
    .await
    .unwrap();
    run(
        &mut connection,
        "INSERT INTO things (text) SELECT repeat(md5(n::text), 8) FROM generate_series(1, 10000) n",
    )
    .await
    .unwrap();
    let used = strategy.usage(&fence).await.unwrap();
    let of = |app: &App| used.iter().find(|one| one.suffix == *app.id.suffix()).unwrap();
    assert_eq!((of(&empty).bytes, of(&empty).connections), (0, 0));
    // 10,000 texts of 256 bytes, and an index.
    assert!(of(&full).bytes > 2_560_000 && of(&full).bytes < 10_000_000, "{used:?}");
    assert_eq!(of(&full).connections, 1);
    connection.close().await.unwrap();
}
