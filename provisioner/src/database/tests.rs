//! What can only be tested from inside: crashes between any two statements, and how names are quoted.

use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_testkit::shared_postgres;
use proptest::prelude::*;

use super::db::catalog::{self, Names, Outside};
use super::db::quote::Identifier;
use super::db::statement::{self, Quoted, Statement};
use super::scram::Verifier;
use super::session::{Session, administrative};
use super::*;

const LIMIT: u32 = 20;

struct Server {
    strategy: SharedServer,
    options: sqlx::postgres::PgConnectOptions,
}

async fn server() -> Server {
    let server = shared_postgres().await.unwrap();
    let url = SecretUrl::parse(&server.admin_url()).unwrap();
    let entropy = std::sync::Arc::new(SystemEntropy::new());
    Server {
        strategy: SharedServer::new(&url, None, entropy).unwrap(),
        options: administrative(server.options("postgres")),
    }
}

fn application() -> (ApplicationId, Fence) {
    let id = ApplicationId::generate(&SystemClock, &SystemEntropy::new());
    (id, Fence::observer(id, Duration::from_mins(10)))
}

fn names(id: ApplicationId) -> (Names, Quoted) {
    let names = Names {
        database: names::database(id),
        owner: names::owner(id),
        a: names::login(id, Slot::A),
        b: names::login(id, Slot::B),
    };
    let quoted = Quoted {
        database: Identifier::new(&names.database).unwrap(),
        owner: Identifier::new(&names.owner).unwrap(),
        a: Identifier::new(&names.a).unwrap(),
        b: Identifier::new(&names.b).unwrap(),
    };
    (names, quoted)
}

/// Runs the first statements of a plan, as a worker does that dies after the last of them.
async fn run(options: &sqlx::postgres::PgConnectOptions, fence: &Fence, plan: &[Statement]) {
    let mut session = Session::open(options, fence).await.unwrap();
    for statement in plan {
        session.run(statement).await.unwrap();
    }
}

async fn seen(server: &Server, names: &Names, fence: &Fence) -> Outside {
    let mut session = Session::open(&server.options, fence).await.unwrap();
    session
        .look("look", async |c| catalog::outside(c, names).await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_crash_after_any_statement_is_made_up_for_by_the_next_attempt() {
    let server = server().await;
    let (recorded, lost) = (
        [SecretString::from("recorded-a"), "recorded-b".into()],
        SecretString::from("lost"),
    );
    let mut statements = 1;
    let mut done = 0;
    while done <= statements {
        let (id, fence) = application();
        let (names, quoted) = names(id);
        // Even the password is another one: as if the record had been restored from a backup.
        let verifier = Verifier::of(&lost, &SystemEntropy::new());
        let empty = seen(&server, &names, &fence).await;
        let plan =
            statement::missing_outside(&quoted, &names, &empty, LIMIT, [Some(&verifier), Some(&verifier)]).unwrap();
        statements = plan.len();
        run(&server.options, &fence, &plan[..done]).await;

        let tenant = Tenant {
            id,
            connection_limit: LIMIT,
            passwords: [Some(&recorded[0]), Some(&recorded[1])],
            site: None,
        };
        assert!(!server.strategy.differences(&tenant, &fence).await.unwrap().is_empty());
        server.strategy.ensure(&tenant, &fence).await.unwrap();
        let left = server.strategy.differences(&tenant, &fence).await.unwrap();
        assert!(left.is_empty(), "after {done} of {statements} statements: {left:?}");
        server.strategy.remove(id, &fence).await.unwrap();
        done += 1;
    }
    assert!(statements >= 10, "{statements}");
}

#[tokio::test]
async fn a_crash_during_removal_is_made_up_for_by_the_next_attempt() {
    let server = server().await;
    let passwords = [SecretString::from("one"), "two".into()];
    let mut statements = 1;
    let mut done = 0;
    while done <= statements {
        let (id, fence) = application();
        let (names, quoted) = names(id);
        let tenant = Tenant {
            id,
            connection_limit: LIMIT,
            passwords: [Some(&passwords[0]), Some(&passwords[1])],
            site: None,
        };
        server.strategy.ensure(&tenant, &fence).await.unwrap();
        let plan = statement::removal(&quoted, &seen(&server, &names, &fence).await);
        statements = plan.len();
        run(&server.options, &fence, &plan[..done]).await;

        server.strategy.remove(id, &fence).await.unwrap();
        assert!(
            server.strategy.is_absent(id, &fence).await.unwrap(),
            "after {done} of {statements} statements"
        );
        server.strategy.remove(id, &fence).await.unwrap();
        done += 1;
    }
    assert_eq!(statements, 6);
}

#[tokio::test]
async fn no_statement_starts_without_enough_of_the_lease_left() {
    let server = server().await;
    let (id, _) = application();
    let passwords = [SecretString::from("one"), "two".into()];
    let tenant = Tenant {
        id,
        connection_limit: LIMIT,
        passwords: [Some(&passwords[0]), Some(&passwords[1])],
        site: None,
    };
    let short = Fence::observer(id, Duration::from_secs(10));
    assert!(matches!(
        server.strategy.ensure(&tenant, &short).await,
        Err(DatabaseError::Fenced(_))
    ));
    assert!(
        server.strategy.is_absent(id, &application().1).await.unwrap(),
        "looking was allowed, changing was not"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_server_reads_back_every_quoted_name(name in "[^\0]{1,15}") {
        let quoted = Identifier::new(&name).unwrap().to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(async {
            let server = server().await;
            let mut connection = sqlx::ConnectOptions::connect(&server.options).await.unwrap();
            let sql = format!("SELECT 1 AS {quoted}");
            let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
            sqlx::Column::name(&sqlx::Row::columns(&row)[0]).to_owned()
        });
        prop_assert_eq!(read, name);
    }
}
