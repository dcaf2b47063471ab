//! What to run under a guard, and starting it. A guard that cannot be started is an error; a program that cannot be is
//! a child that has ended, with status 126 or 127.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::child::GuardedChild;
use super::log::{self, PREDECESSOR_SLACK};
use super::script::GUARD;
use crate::account::Account;
use crate::error::Error;

/// What to run, where, as whom, and how to stop it.
#[derive(Debug, Clone)]
pub struct GuardedCommand {
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    removed_envs: Vec<String>,
    directory: Option<PathBuf>,
    log: PathBuf,
    account: Option<Account>,
    stop_signal: Signal,
    grace: Duration,
    scratch: Option<PathBuf>,
    file_limit_kib: Option<u64>,
}

impl GuardedCommand {
    /// Runs `program`, with both its output streams appended to `log` (created with mode 0600). It is stopped by SIGTERM
    /// with 10 seconds of grace until said otherwise.
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            removed_envs: Vec::new(),
            directory: None,
            log: log.into(),
            account: None,
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(10),
            scratch: None,
            file_limit_kib: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable; the rest is inherited.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Keeps an inherited environment variable from the child.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.removed_envs.push(name.into());
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it (and its guard) as this user.
    #[must_use]
    pub fn account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// The signal that asks it to stop, and how long it may take before SIGKILL (whole seconds).
    #[must_use]
    pub fn stops_by(mut self, signal: Signal, grace: Duration) -> Self {
        self.stop_signal = signal;
        self.grace = grace;
        self
    }

    /// A directory that is removed once the child has ended and its owner is gone or has dropped it.
    #[must_use]
    pub fn scratch(mut self, directory: Option<PathBuf>) -> Self {
        self.scratch = directory;
        self
    }

    /// No file that it writes may become longer than this: a write that would make it so fails, as on a disk that is full.
    #[must_use]
    pub fn file_limit_kib(mut self, kib: u64) -> Self {
        self.file_limit_kib = Some(kib);
        self
    }

    /// The program's file name, for messages.
    pub fn name(&self) -> String {
        self.program
            .file_name()
            .unwrap_or(self.program.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// Starts it. Waits for a predecessor with the same log file to end first.
    ///
    /// # Errors
    /// [`Error::StillRunning`] when that predecessor does not end, [`Error::Io`] when the guard cannot be started.
    pub async fn spawn(&self) -> Result<GuardedChild, Error> {
        let command = self.clone();
        let log = log::open_locked(&self.name(), &self.log, self.grace + PREDECESSOR_SLACK).await?;
        tokio::task::spawn_blocking(move || command.spawn_blocking(log))
            .await
            .map_err(|join| Error::io("start a process")(std::io::Error::other(join)))?
    }

    fn spawn_blocking(&self, log: File) -> Result<GuardedChild, Error> {
        let name = self.name();
        let mut command = Command::new("/bin/sh");
        // Before what is set: a name may be both.
        for name in &self.removed_envs {
            command.env_remove(name);
        }
        command
            .args([
                "-c",
                GUARD,
                "guard",
                self.stop_signal.as_str().trim_start_matches("SIG"),
            ])
            .arg(self.grace.as_secs().to_string())
            .arg(self.scratch.as_deref().unwrap_or(Path::new("")))
            .args(self.file_limit_kib.map(limited).into_iter().flatten())
            .arg(&self.program)
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        let guard = command
            .spawn()
            .map_err(Error::io(format!("start the guard of {name}")))?;
        GuardedChild::under(guard, name, self.log.clone(), self.grace)
    }
}

/// What goes before a command so that its files stay below this. POSIX counts in blocks of 512 bytes, whatever a shell does
/// beyond that; the signal that comes with the failing write is ignored, as no full disk sends one.
fn limited(kib: u64) -> [String; 4] {
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2);
    ["/bin/sh".to_owned(), "-c".to_owned(), script, "limited".to_owned()]
}
