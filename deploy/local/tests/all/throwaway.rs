//! `with-database`: a migrated Postgres for one command.

use sqlx::{Connection, PgConnection};
use tokio::process::Command;

fn with_database(script: &str) -> Command {
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
    let mut command = Command::new(env!("CARGO_BIN_EXE_authsome-local"));
    command.args(["with-database", "--migrations", migrations, "--", "sh", "-c", script]);
    command
}

#[tokio::test]
async fn a_command_finds_a_migrated_database_and_its_exit_code_is_passed_on() {
    let output = with_database("echo $DATABASE_URL; exit 7").output().await.unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let url = String::from_utf8(output.stdout).unwrap();
    assert!(
        url.starts_with("postgres://authsome:") && url.trim_end().ends_with("/control"),
        "{url}"
    );
    let gone = PgConnection::connect(url.trim()).await;
    assert!(gone.is_err(), "the database goes with the command");
}
