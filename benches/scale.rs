//! What lists, searches and looks at the audit trail take at a million applications and ten million events: a database is filled,
//! each question is asked as the API asks it, and Postgres tells the plan that it used.
//!
//! `AUTHSOME_SCALE=1000000,10000000` is that size, which takes 8 GB of disk; without it a tenth of it is filled. Printed are the times
//! of thirty questions of each kind after a first one, which may read from the disk, and `EXPLAIN (ANALYZE, BUFFERS)` of one.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

use std::time::{Duration, Instant};

use authsome_benches::measure::{Stopwatch, is_rehearsal, machine};
use authsome_contract::model::{AppStatus, Environment};
use authsome_control::db::applications::{self, Filter};
use authsome_control::db::{audit_trail, keys};
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_testkit::{Database, Plans, Population, fresh_database, plans, population};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

/// Questions of each kind whose times are told.
const TIMES: usize = 30;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (applications, audit_events) = size();
        let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let watch = Stopwatch::start();
        let population = Population {
            people: applications / 20 + 1,
            workspaces: applications / 10 + 1,
            applications,
            audit_events,
        };
        population::fill(&database.options, population).await.unwrap();
        let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
            .fetch_one(&mut PgConnection::connect_with(&database.options).await.unwrap())
            .await
            .unwrap();
        println!(
            "filled {applications} applications and {audit_events} audit events in {:.0?}: {} MB ({})",
            watch.read().wall,
            bytes / 1_000_000,
            machine()
        );
        ask(&database).await;
    });
}

fn size() -> (i32, i32) {
    let chosen = std::env::var("AUTHSOME_SCALE").ok().and_then(|text| {
        let (applications, events) = text.split_once(',')?;
        Some((applications.trim().parse().ok()?, events.trim().parse().ok()?))
    });
    match chosen {
        Some(size) => size,
        None if is_rehearsal() => (2_000, 5_000),
        None => (100_000, 1_000_000),
    }
}

/// What the API asks.
#[derive(Debug, Clone, Copy)]
enum Question {
    FirstPage,
    Filtered,
    DeepPage,
    SearchName,
    SearchSlug,
    One,
    Keys,
    Newest,
    RareAction,
    Actor,
    Application,
    LongAgo,
}

const QUESTIONS: [(Question, &str); 12] = [
    (
        Question::FirstPage,
        "list: first page of the largest workspace, with its total",
    ),
    (Question::Filtered, "list: by environment and status"),
    (Question::DeepPage, "list: page 500"),
    (Question::SearchName, "search: by the beginning of names"),
    (Question::SearchSlug, "search: by the beginning of slugs"),
    (Question::One, "one application"),
    (Question::Keys, "keys of an application"),
    (Question::Newest, "audit: newest 50 events"),
    (Question::RareAction, "audit: by a rare action"),
    (Question::Actor, "audit: by actor"),
    (Question::Application, "audit: by application"),
    (Question::LongAgo, "audit: an hour of long ago"),
];

async fn ask(database: &Database) {
    let mut plain = PgConnection::connect_with(&database.options).await.unwrap();
    let explained = plans::telling(database.options.clone(), true);
    let mut explained = PgConnection::connect_with(&explained).await.unwrap();
    for (question, name) in QUESTIONS {
        let first = timed(question, &mut plain).await.0;
        let mut times = Vec::with_capacity(TIMES);
        let mut rows = 0;
        for _ in 0..TIMES {
            let (time, found) = timed(question, &mut plain).await;
            times.push(time);
            rows = found;
        }
        times.sort_unstable();
        println!(
            "\n{name}: {rows} rows; first {first:.2?}, then p50 {:.2?}, max {:.2?} ({})",
            times[TIMES / 2],
            times[TIMES - 1],
            machine()
        );
        let listening = Plans::listen();
        put(question, &mut explained).await;
        for plan in listening.take() {
            println!("    {}", plan.replace('\n', "\n    "));
        }
    }
}

async fn timed(question: Question, connection: &mut PgConnection) -> (Duration, usize) {
    let began = Instant::now();
    let rows = put(question, connection).await;
    (began.elapsed(), rows)
}

async fn put(question: Question, connection: &mut PgConnection) -> usize {
    let workspace: WorkspaceId = Population::id("ws", 0).parse().unwrap();
    let app: ApplicationId = Population::id("app", 10).parse().unwrap();
    let all = Filter {
        environment: None,
        status: None,
        search: None,
        limit: 20,
        offset: 0,
    };
    let filter = match question {
        Question::FirstPage => all,
        Question::Filtered => Filter {
            environment: Some(Environment::Staging),
            status: Some(AppStatus::Suspended),
            ..all
        },
        Question::DeepPage => Filter {
            offset: 499 * 20,
            ..all
        },
        Question::SearchName => Filter {
            search: Some("Forum 1"),
            ..all
        },
        Question::SearchSlug => Filter {
            search: Some("app-99"),
            ..all
        },
        Question::One => {
            let found = applications::get(connection, app, "2026-01").await.unwrap();
            return usize::from(found.is_some());
        }
        Question::Keys => return keys::of_application(connection, app, 20, 0).await.unwrap().0.len(),
        Question::Newest | Question::RareAction | Question::Actor | Question::Application | Question::LongAgo => {
            return events(question, workspace, connection).await;
        }
    };
    let page = applications::of_workspace(connection, workspace, "2026-01", filter).await;
    page.unwrap().0.len()
}

async fn events(question: Question, workspace: WorkspaceId, connection: &mut PgConnection) -> usize {
    let (actor, app) = (Population::id("usr", 7), Population::id("app", 10));
    let nothing = audit_trail::Filter::default();
    let filter = match question {
        Question::RareAction => audit_trail::Filter {
            action: Some("application.delete".to_owned()),
            ..nothing
        },
        Question::Actor => audit_trail::Filter {
            actor: Some(actor),
            ..nothing
        },
        Question::Application => audit_trail::Filter {
            application: Some(app),
            ..nothing
        },
        Question::LongAgo => {
            // Events are a second apart, so the oldest tenth is of this time.
            let oldest = audit_trail::after(connection, workspace, &nothing, 0, 1).await.unwrap();
            let since = oldest[0].created_at + time::Duration::hours(1);
            audit_trail::Filter {
                since: Some(since),
                until: Some(since + time::Duration::hours(1)),
                ..nothing
            }
        }
        _ => nothing,
    };
    let found = audit_trail::before(connection, workspace, &filter, i64::MAX, 50).await;
    let rows: Vec<OffsetDateTime> = found.unwrap().iter().map(|event| event.created_at).collect();
    rows.len()
}
