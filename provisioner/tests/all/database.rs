//! Tenants' databases are kept apart, and their passwords to themselves.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use authsome_provisioner::database::{DatabaseError, DatabaseStrategy, SharedServer, Slot, Tenant, names};
use authsome_provisioner::lease::Fence;
use authsome_testkit::{PostgresOptions, PostgresServer, shared_postgres, wait_for};
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::captured::Captured;

const LIMIT: u32 = 4;

/// A tenant with its database.
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

    async fn ensured(strategy: &SharedServer) -> Self {
        let app = Self::new();
        strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
        app
    }

    fn password(&self, slot: Slot) -> &SecretString {
        match slot {
            Slot::A => &self.passwords[0],
            Slot::B => &self.passwords[1],
        }
    }

    /// As its instance connects.
    async fn connect(&self, strategy: &SharedServer, slot: Slot) -> PgConnection {
        let url = strategy.url(self.id, slot, self.password(slot));
        PgConnection::connect(url.expose()).await.unwrap()
    }

    /// With its role, to another database.
    async fn intrude(&self, strategy: &SharedServer, slot: Slot, database: &str) -> Result<PgConnection, sqlx::Error> {
        let url = strategy.url(self.id, slot, self.password(slot));
        let options: PgConnectOptions = url.expose().parse().unwrap();
        options.database(database).connect().await
    }
}

fn strategy_at(url: &str) -> SharedServer {
    SharedServer::new(&SecretUrl::parse(url).unwrap(), None, Arc::new(SystemEntropy::new())).unwrap()
}

async fn strategy() -> SharedServer {
    strategy_at(&shared_postgres().await.unwrap().admin_url())
}

async fn admin(database: &str) -> PgConnection {
    shared_postgres()
        .await
        .unwrap()
        .options(database)
        .connect()
        .await
        .unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}

fn code(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(|code| code.to_string())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_tenant_can_connect_to_its_own_database_and_to_no_other() {
    let strategy = strategy().await;
    let (a, b) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let control = authsome_testkit::fresh_database(&authsome_db::MIGRATOR).await.unwrap();
    assert_eq!(strategy.check(&a.fence).await.unwrap(), Vec::<String>::new());

    for slot in Slot::ALL {
        a.connect(&strategy, slot).await;
        for other in [
            names::database(b.id),
            control.name.clone(),
            "postgres".to_owned(),
            "template1".to_owned(),
        ] {
            let error = a.intrude(&strategy, slot, &other).await.unwrap_err();
            assert_eq!(code(&error), "42501", "{other}: {error}");
        }
    }
    let error = a.intrude(&strategy, Slot::A, "template0").await.unwrap_err();
    assert_eq!(code(&error), "55000");
}

#[tokio::test]
async fn what_one_login_role_creates_the_other_can_use_and_change() {
    let strategy = strategy().await;
    let app = App::ensured(&strategy).await;
    let mut a = app.connect(&strategy, Slot::A).await;
    run(
        &mut a,
        "CREATE TABLE users (id integer); INSERT INTO users VALUES (1); CREATE SCHEMA extra",
    )
    .await
    .unwrap();
    let mut b = app.connect(&strategy, Slot::B).await;
    run(
        &mut b,
        "INSERT INTO users VALUES (2); ALTER TABLE users ADD name text; CREATE TABLE extra.more (id integer)",
    )
    .await
    .unwrap();
    run(&mut a, "DROP TABLE extra.more; UPDATE users SET name = 'x'")
        .await
        .unwrap();

    // Even what a session made as itself, having left its role, comes to the owner when the step is next applied.
    run(&mut a, "SET ROLE NONE; CREATE TABLE stray (id integer)")
        .await
        .unwrap();
    assert_eq!(
        code(&run(&mut b, "ALTER TABLE stray ADD name text").await.unwrap_err()),
        "42501"
    );
    assert_eq!(strategy.differences(&app.tenant(), &app.fence).await.unwrap().len(), 1);
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
    run(&mut b, "ALTER TABLE stray ADD name text").await.unwrap();
}

#[tokio::test]
async fn ensuring_twice_changes_nothing() {
    let strategy = strategy().await;
    let app = App::ensured(&strategy).await;
    let state = async || {
        let mut admin = admin("postgres").await;
        let roles: Vec<String> =
            sqlx::query_scalar("SELECT to_jsonb(r)::text FROM pg_authid r WHERE rolname LIKE $1 ORDER BY 1")
                .bind(format!("{}%", names::owner(app.id)))
                .fetch_all(&mut admin)
                .await
                .unwrap();
        let database: String = sqlx::query_scalar(
            "SELECT (to_jsonb(d) - 'datfrozenxid' - 'datminmxid')::text FROM pg_database d WHERE datname = $1",
        )
        .bind(names::database(app.id))
        .fetch_one(&mut admin)
        .await
        .unwrap();
        (roles, database)
    };
    let before = state().await;
    assert_eq!(
        strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
        Vec::<String>::new()
    );
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
    assert_eq!(state().await, before, "not even the verifiers of the passwords");
}

#[tokio::test]
async fn a_password_that_is_not_the_recorded_one_is_set_again() {
    let strategy = strategy().await;
    let app = App::ensured(&strategy).await;
    let mut session = app.connect(&strategy, Slot::A).await;
    run(
        &mut session,
        "SET ROLE NONE; ALTER ROLE CURRENT_USER PASSWORD 'another'",
    )
    .await
    .unwrap();
    assert_eq!(strategy.differences(&app.tenant(), &app.fence).await.unwrap().len(), 1);
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
    app.connect(&strategy, Slot::A).await;
}

#[tokio::test]
async fn a_tenant_can_neither_lift_its_limits_nor_let_others_in() {
    let strategy = strategy().await;
    let (app, other) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let mut session = app.connect(&strategy, Slot::A).await;
    let (database, stranger) = (names::database(app.id), names::owner(other.id));
    for refused in [
        format!("ALTER DATABASE {database} CONNECTION LIMIT -1"),
        format!("ALTER DATABASE {database} OWNER TO {stranger}"),
        format!("DROP DATABASE {database}"),
        "CREATE DATABASE mine".to_owned(),
        "CREATE ROLE mine".to_owned(),
        format!("SET ROLE {stranger}"),
        format!("GRANT {stranger} TO CURRENT_USER"),
        "ALTER SYSTEM SET work_mem = '1GB'".to_owned(),
        "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
        "SELECT pg_read_file('postgresql.conf')".to_owned(),
        "SELECT rolpassword FROM pg_authid".to_owned(),
    ] {
        assert!(run(&mut session, &refused).await.is_err(), "{refused}");
    }
    // A grant of what one does not own is a warning and no grant.
    run(&mut session, &format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC"))
        .await
        .unwrap();
    assert_eq!(
        code(&other.intrude(&strategy, Slot::A, &database).await.unwrap_err()),
        "42501"
    );

    let mut sessions = vec![session];
    for _ in 1..LIMIT {
        sessions.push(app.connect(&strategy, Slot::B).await);
    }
    let error = app.intrude(&strategy, Slot::B, &database).await.unwrap_err();
    assert_eq!(code(&error), "53300", "the plan's connections are used up: {error}");
    assert_eq!(
        strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_changed_plan_changes_the_connection_limit() {
    let strategy = strategy().await;
    let app = App::ensured(&strategy).await;
    let larger = Tenant {
        connection_limit: 60,
        ..app.tenant()
    };
    assert_eq!(
        strategy.differences(&larger, &app.fence).await.unwrap(),
        ["limit the connections"]
    );
    strategy.ensure(&larger, &app.fence).await.unwrap();
    assert_eq!(
        strategy.differences(&larger, &app.fence).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn removing_ends_sessions_and_leaves_nothing_and_twice_is_once() {
    let strategy = strategy().await;
    let app = App::ensured(&strategy).await;
    let mut session = app.connect(&strategy, Slot::A).await;
    run(&mut session, "CREATE TABLE users (id integer)").await.unwrap();
    for _ in 0..2 {
        strategy.remove(app.id, &app.fence).await.unwrap();
        assert!(strategy.is_absent(app.id, &app.fence).await.unwrap());
    }
    assert!(run(&mut session, "SELECT 1").await.is_err());
    assert!(app.intrude(&strategy, Slot::A, "postgres").await.is_err());
}

#[tokio::test]
async fn an_administrator_that_is_no_superuser_is_enough() {
    let mut superuser = admin("postgres").await;
    let name = format!("operator_{}", App::new().id.suffix());
    run(
        &mut superuser,
        &format!("CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD 'pw'"),
    )
    .await
    .unwrap();
    run(&mut superuser, &format!("GRANT CONNECT ON DATABASE postgres TO {name}"))
        .await
        .unwrap();
    let server = shared_postgres().await.unwrap();
    let strategy = strategy_at(&server.url_as(&name, "pw", "postgres"));
    let app = App::ensured(&strategy).await;
    // What it does not own it cannot close, and says so.
    run(&mut superuser, "GRANT CONNECT ON DATABASE template1 TO PUBLIC")
        .await
        .unwrap();
    assert!(
        strategy
            .check(&app.fence)
            .await
            .unwrap()
            .contains(&"template1".to_owned())
    );
    let left = strategy_at(&server.admin_url()).check(&app.fence).await.unwrap();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(
        strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
        Vec::<String>::new()
    );
    for slot in Slot::ALL {
        let mut session = app.connect(&strategy, slot).await;
        run(
            &mut session,
            "CREATE TABLE IF NOT EXISTS users (id integer); DELETE FROM users",
        )
        .await
        .unwrap();
    }
    assert!(app.intrude(&strategy, Slot::A, "postgres").await.is_err());
    strategy.remove(app.id, &app.fence).await.unwrap();
    assert!(strategy.is_absent(app.id, &app.fence).await.unwrap());
}

#[tokio::test]
async fn passwords_reach_neither_the_servers_log_nor_ours() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("postgres.log");
    let server = PostgresServer::start(PostgresOptions {
        log: Some(log.clone()),
        ..PostgresOptions::default()
    })
    .await
    .unwrap();
    let mut superuser = server.options("postgres").connect().await.unwrap();
    for setting in [
        "log_statement = 'all'",
        "log_min_messages = 'debug2'",
        "log_connections = on",
    ] {
        run(&mut superuser, &format!("ALTER SYSTEM SET {setting}"))
            .await
            .unwrap();
    }
    run(&mut superuser, "SELECT pg_reload_conf()").await.unwrap();
    wait_for("the server to log statements", Duration::from_secs(10), async || {
        run(&mut superuser, "SELECT 'a marker in the log'")
            .await
            .map_err(|error| error.to_string())?;
        let text = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        if text.contains("a marker in the log") {
            Ok(())
        } else {
            Err("no statement is logged".to_owned())
        }
    })
    .await
    .unwrap();

    let (captured, guard) = Captured::begin();
    let strategy = strategy_at(&server.admin_url());
    let app = App::ensured(&strategy).await;
    let wrong = Tenant {
        passwords: [Some(&app.passwords[1]), Some(&app.passwords[0])],
        ..app.tenant()
    };
    strategy.ensure(&wrong, &app.fence).await.unwrap();
    drop(guard);

    let (theirs, ours) = (std::fs::read_to_string(&log).unwrap(), captured.text());
    assert!(theirs.contains("SCRAM-SHA-256$4096:"), "statements are logged");
    for password in &app.passwords {
        let password = secrecy::ExposeSecret::expose_secret(password);
        assert!(!theirs.contains(password), "in the server's log");
        assert!(!ours.contains(password), "in our log");
    }
    assert!(!ours.contains(server.password()) && !ours.contains("SCRAM-SHA-256$"));
    assert!(!format!("{:?}", strategy.url(app.id, Slot::A, &app.passwords[0])).contains("pw-a-"));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_may_be_tried_again() {
    let server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let strategy = strategy_at(&server.admin_url());
    let app = App::ensured(&strategy).await;
    server.pause().unwrap();
    let begun = tokio::time::Instant::now();
    let error = strategy.differences(&app.tenant(), &app.fence).await.unwrap_err();
    assert!(
        matches!(error, DatabaseError::TimedOut { .. }) && error.is_transient(),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    server.resume().unwrap();
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
}

#[test]
fn what_is_no_server_address_is_refused_without_being_repeated() {
    for text in [
        "mysql://u:hunter2@db/x",
        "postgres:///x?password=hunter2",
        "postgres://u:hunter2@db:port/x",
    ] {
        let url = SecretUrl::parse(text).unwrap();
        let Err(error) = SharedServer::new(&url, None, Arc::new(SystemEntropy::new())) else {
            panic!("{text}")
        };
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn instances_are_given_their_own_address_of_the_server_and_how_to_encrypt() {
    let admin =
        SecretUrl::parse("postgres://root:hunter2@10.0.0.1:5433/postgres?sslmode=disable&application_name=x").unwrap();
    let tenants = SecretUrl::parse("postgres://db.internal/?sslmode=require").unwrap();
    let app = App::new();
    let url = |tenants| {
        let strategy = SharedServer::new(&admin, tenants, Arc::new(SystemEntropy::new())).unwrap();
        strategy.url(app.id, Slot::B, &"p/w@x".into()).expose().to_owned()
    };
    let (login, database) = (names::login(app.id, Slot::B), names::database(app.id));
    assert_eq!(
        url(None),
        format!("postgres://{login}:p%2Fw%40x@10.0.0.1:5433/{database}?sslmode=disable")
    );
    assert_eq!(
        url(Some(&tenants)),
        format!("postgres://{login}:p%2Fw%40x@db.internal/{database}?sslmode=require")
    );
}
