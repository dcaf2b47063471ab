//! What can go wrong when a server or program is started, stopped or reached.

use std::path::PathBuf;
use std::time::Duration;

use crate::guard::Exit;
use crate::wait::WaitError;

/// Why a server, a program or a proxy could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that must be installed is not.
    #[error("{program} is not installed: looked on PATH and in {searched}. {install}")]
    MissingProgram {
        /// The executable's file name.
        program: String,
        /// The other places that were searched, for people.
        searched: String,
        /// How to install it.
        install: String,
    },
    /// A program of this workspace has not been built.
    #[error(
        "{program} is not built: expected it at {expected}; run `cargo build -p {program}` or set AUTHSOME_BIN_DIR"
    )]
    NotBuilt {
        /// The program's name.
        program: String,
        /// Where it was looked for.
        expected: PathBuf,
    },
    /// As root, Postgres needs another user to run as, and none exists.
    #[error("running as root, but there is neither a user `postgres` nor `nobody` for Postgres to run as")]
    NoAccount,
    /// A file, directory or process operation failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done, with the path.
        action: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another process still holds the log file, which only one server at a time may own.
    #[error("{program} from an earlier start still runs and holds {log}", log = log.display())]
    StillRunning {
        /// The program being started.
        program: String,
        /// The log file that it holds locked.
        log: PathBuf,
    },
    /// The process ended before it was ready.
    #[error("{program} ended with {exit} before it was ready; the end of its log:\n{log_tail}")]
    ExitedEarly {
        /// The program.
        program: String,
        /// How it ended.
        exit: Exit,
        /// Its last lines.
        log_tail: String,
    },
    /// The process runs but did not become ready in time.
    #[error("{program} was not ready after {waited:?} ({last}); the end of its log:\n{log_tail}")]
    NotReady {
        /// The program.
        program: String,
        /// How long it was given.
        waited: Duration,
        /// What the last probe saw.
        last: String,
        /// Its last lines.
        log_tail: String,
    },
    /// The process did not end although it was told to and then killed.
    #[error("{program} (process {pid}) did not end within {waited:?}")]
    DidNotEnd {
        /// The program.
        program: String,
        /// Its process id.
        pid: u32,
        /// How long it was given.
        waited: Duration,
    },
    /// The port that was asked for is in use.
    #[error("port {port} on 127.0.0.1 is in use, {program} cannot listen there")]
    PortTaken {
        /// The program.
        program: String,
        /// The port.
        port: u16,
    },
    /// No free port was found.
    #[error("no free TCP port on 127.0.0.1 after {tries} tries")]
    NoFreePort {
        /// How many ports were tried.
        tries: u32,
    },
    /// A statement that prepares a database failed.
    #[error("cannot {action}")]
    Postgres {
        /// What was being done.
        action: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// The migrations given for a template database failed.
    #[error("cannot migrate the template database")]
    Migrate(#[source] Box<sqlx::migrate::MigrateError>),
    /// A condition did not come true.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl Error {
    /// Names the file or process operation that failed.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// Names the statement that failed.
    pub(crate) fn postgres(action: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Self {
        let action = action.into();
        move |source| Self::Postgres { action, source }
    }
}
