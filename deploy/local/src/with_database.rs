//! `authsome-local with-database`: a migrated throwaway Postgres for one command, such as a compiler that checks SQL.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use authsome_testkit::{PostgresOptions, PostgresServer};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use crate::error::LocalError;
use crate::stop::Stop;

/// For a command that was asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `command` and returns its exit code.
///
/// # Errors
/// [`LocalError`] when the database cannot be prepared or the command not be started.
pub(crate) async fn run(migrations: &Path, command: &[String]) -> Result<ExitCode, LocalError> {
    // Ctrl-C reaches the command by itself; from now on it no longer ends us before it.
    let mut stop = Stop::watch()?;
    let server = PostgresServer::start(PostgresOptions::default()).await?;
    server.create_database("control").await?;
    let url = server.url("control");
    migrate(&url, migrations).await?;

    let (program, arguments) = command
        .split_first()
        .map_or(("", command), |(program, rest)| (program.as_str(), rest));
    let mut child = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", &url)
        .kill_on_drop(true)
        .spawn()
        .map_err(LocalError::io(format!("run {program}")))?;
    let waiting = LocalError::io(format!("wait for {program}"));
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = async {
            stop.wished().await;
            tokio::time::sleep(GRACE).await;
        } => None,
    };
    let code = match ended {
        Some(status) => status
            .map_err(waiting)?
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
        None => 130,
    };
    Ok(ExitCode::from(code))
}

async fn migrate(url: &str, directory: &Path) -> Result<(), LocalError> {
    let failed = |source| LocalError::Migrate {
        directory: directory.to_owned(),
        source: Box::new(source),
    };
    let migrator = Migrator::new(directory).await.map_err(failed)?;
    let mut connection = PgConnection::connect(url).await?;
    migrator
        .run_direct(None, &mut connection, false)
        .await
        .map_err(failed)?;
    Ok(connection.close().await?)
}
