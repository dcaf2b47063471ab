//! Why the platform could not be brought up.

use std::path::PathBuf;

/// What a person is told when `authsome-local` gives up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// A server or program could not be started or reached.
    #[error(transparent)]
    Testkit(#[from] authsome_testkit::Error),
    /// A condition did not come true.
    #[error(transparent)]
    Wait(#[from] authsome_testkit::WaitError),
    /// A file or directory.
    #[error("cannot {action}")]
    Io {
        /// What was being done, with the path.
        action: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another `authsome-local` runs with this state directory.
    #[error("the platform already runs from {state}; stop that one first", state = .0.display())]
    AlreadyRunning(PathBuf),
    /// A file of the state directory is not what was written there.
    #[error("{file} is damaged ({reason}); remove it, or the whole directory to begin anew", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A program that should have done one thing and ended did not succeed.
    #[error("{program} failed: {output}")]
    Command {
        /// The program with its subcommand.
        program: String,
        /// The end of what it said.
        output: String,
    },
    /// The control API could not be reached.
    #[error("cannot ask the control API")]
    Http(#[from] reqwest::Error),
    /// The control API answered something else than was asked for.
    #[error("the control API answered {status} to {request}: {body}")]
    Api {
        /// Method and path.
        request: String,
        /// The status.
        status: u16,
        /// The body, which holds no secret on an error.
        body: String,
    },
    /// Provisioning of the demo application failed for good.
    #[error("provisioning the demo application failed: {reason} {remediation}")]
    Provisioning {
        /// Why, in the platform's words.
        reason: String,
        /// What to do about it.
        remediation: String,
    },
    /// The throwaway database could not be prepared.
    #[error("cannot migrate the database from {directory}", directory = directory.display())]
    Migrate {
        /// Where the migrations are.
        directory: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A statement failed.
    #[error("cannot use the throwaway database")]
    Database(#[from] sqlx::Error),
}

impl LocalError {
    /// Names the file operation that failed.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
