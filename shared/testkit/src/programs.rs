//! The workspace's own programs as child processes: the binaries that cargo put beside the running test, started under a
//! guard, with a log file each and a wait for their readiness path.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::error::Error;
use crate::guard::{Exit, GuardedChild, GuardedCommand};
use crate::http_probe;

/// Beyond the 30 seconds that a program drains for.
const GRACE: Duration = Duration::from_secs(35);

/// The binary of a program of this workspace: in `AUTHSOME_BIN_DIR` when that is set, else in the target directory that
/// the running executable came from.
///
/// # Errors
/// [`Error::NotBuilt`] with the place where it should be.
pub fn binary(program: &str) -> Result<PathBuf, Error> {
    let directory = match env::var_os("AUTHSOME_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => own_directory()?,
    };
    let expected = directory.join(program);
    if expected.is_file() {
        Ok(expected)
    } else {
        Err(Error::NotBuilt {
            program: program.to_owned(),
            expected,
        })
    }
}

/// `target/<profile>`: tests run in its `deps`, benches and examples likewise one level down.
fn own_directory() -> Result<PathBuf, Error> {
    let executable = env::current_exe().map_err(Error::io("find the running executable"))?;
    let directory = executable.parent().unwrap_or(Path::new("."));
    let nested = directory
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    Ok(if nested {
        directory.parent().unwrap_or(directory)
    } else {
        directory
    }
    .to_owned())
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct ProgramCommand {
    command: GuardedCommand,
    ready: Option<(String, String)>,
    deadline: Duration,
}

impl ProgramCommand {
    /// A program of this workspace by name, for example `authsome-proxy`, with its output in `log`.
    ///
    /// # Errors
    /// [`Error::NotBuilt`].
    pub fn new(program: &str, log: impl Into<PathBuf>) -> Result<Self, Error> {
        let command = GuardedCommand::new(binary(program)?, log).stops_by(Signal::SIGTERM, GRACE);
        Ok(Self {
            command,
            ready: None,
            deadline: Duration::from_secs(30),
        })
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.command = self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command = self.command.args(args);
        self
    }

    /// Sets an environment variable; the rest is inherited.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.command = self.command.env(name, value);
        self
    }

    /// Keeps an inherited environment variable from the program.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.command = self.command.env_remove(name);
        self
    }

    /// See [`GuardedCommand::file_limit_kib`].
    #[must_use]
    pub fn file_limit_kib(mut self, kib: u64) -> Self {
        self.command = self.command.file_limit_kib(kib);
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.command = self.command.current_dir(directory);
        self
    }

    /// It is ready once `http://{address}{path}` answers 200, for example `/readyz` on its admin port.
    #[must_use]
    pub fn ready_at(mut self, address: impl Into<String>, path: impl Into<String>) -> Self {
        self.ready = Some((address.into(), path.into()));
        self
    }

    /// How long it may take to become ready; 30 seconds unless said.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts it and waits until it is ready (or just runs, without [`Self::ready_at`]).
    ///
    /// # Errors
    /// [`Error::ExitedEarly`] and [`Error::NotReady`] carry the end of its log.
    pub async fn start(self) -> Result<Program, Error> {
        let mut program = self.spawn().await?;
        program.wait_ready().await?;
        Ok(program)
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StillRunning`].
    pub async fn spawn(self) -> Result<Program, Error> {
        let child = self.command.spawn().await?;
        Ok(Program { child, command: self })
    }
}

/// A running program. Dropping it stops it in the background.
#[derive(Debug)]
pub struct Program {
    child: GuardedChild,
    command: ProgramCommand,
}

impl Program {
    /// The process behind it: its id, log, signals, end.
    pub fn child(&self) -> &GuardedChild {
        &self.child
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.child.log()).unwrap_or_default()
    }

    /// Waits for its readiness path.
    ///
    /// # Errors
    /// [`Error::ExitedEarly`] and [`Error::NotReady`] carry the end of its log.
    pub async fn wait_ready(&mut self) -> Result<(), Error> {
        let Some((address, path)) = &self.command.ready else {
            return Ok(());
        };
        let end = Instant::now() + self.command.deadline;
        let program = self.child.name().to_owned();
        loop {
            let last = tokio::select! {
                biased;
                exit = self.child.exited() => {
                    return Err(Error::ExitedEarly { program, exit, log_tail: self.child.log_tail(30) });
                }
                seen = http_probe::ok(address, path) => match seen {
                    Ok(()) => return Ok(()),
                    Err(last) => last,
                },
            };
            if Instant::now() >= end {
                let (waited, log_tail) = (self.command.deadline, self.child.log_tail(30));
                return Err(Error::NotReady {
                    program,
                    waited,
                    last,
                    log_tail,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL: no chance to clean up.
    ///
    /// # Errors
    /// [`Error::DidNotEnd`].
    pub async fn kill(&mut self) -> Result<Exit, Error> {
        self.child.kill().await
    }

    /// SIGTERM, and waits for its end (SIGKILL after 35 seconds).
    ///
    /// # Errors
    /// [`Error::DidNotEnd`].
    pub async fn stop(&mut self) -> Result<Exit, Error> {
        self.child.stop().await
    }

    /// Starts it again with the same arguments, after stopping it if it runs.
    ///
    /// # Errors
    /// As [`ProgramCommand::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.child.stop().await?;
        self.child = self.command.command.spawn().await?;
        self.wait_ready().await
    }
}
