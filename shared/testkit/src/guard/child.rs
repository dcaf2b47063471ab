//! A running child. When its guard is killed, which nobody here does, the child's end is still seen and counts as a kill.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::exit::Exit;
use super::log::{self, PREDECESSOR_SLACK};
use super::process;
use crate::error::Error;

/// A running child under its guard. Dropping it stops the child in the background and removes its scratch directory.
#[derive(Debug)]
pub struct GuardedChild {
    name: String,
    pid: u32,
    stdin: Option<ChildStdin>,
    exit: watch::Receiver<Option<Exit>>,
    log: PathBuf,
    grace: Duration,
}

impl GuardedChild {
    /// Takes a guard that was just started and learns the child's process id from it.
    pub(super) fn under(mut guard: Child, name: String, log: PathBuf, grace: Duration) -> Result<Self, Error> {
        let missing = || Error::io(format!("start the guard of {name}"))(std::io::ErrorKind::BrokenPipe.into());
        let stdin = guard.stdin.take().ok_or_else(missing)?;
        let mut stdout = BufReader::new(guard.stdout.take().ok_or_else(missing)?);
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .map_err(Error::io(format!("learn the process id of {name}")))?;
        let pid = line.trim().parse::<u32>().map_err(|_| missing())?;

        // A thread rather than a task: a server may be shared by tests that each have a runtime of their own.
        let (sender, exit) = watch::channel(None);
        std::thread::Builder::new()
            .name(format!("guard-{name}"))
            .spawn(move || {
                let mut status = None;
                for line in stdout.lines().map_while(Result::ok) {
                    if let Some(code) = line.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
                        status = Some(Exit(code));
                        sender.send_replace(status);
                    }
                }
                // Without a word from the guard it was killed itself: its own end is all that is known.
                let ended = guard
                    .wait()
                    .ok()
                    .and_then(|status| status.code())
                    .map_or(Exit::UNKNOWN, Exit);
                if status.is_none() {
                    sender.send_replace(Some(ended));
                }
            })
            .map_err(Error::io("start a watching thread"))?;
        Ok(Self {
            name,
            pid,
            stdin: Some(stdin),
            exit,
            log,
            grace,
        })
    }

    /// The process id of the program itself, not of its guard.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that both output streams go to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// A watch on the end of the process that outlives this handle; it works from any runtime.
    pub fn exit_watch(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Waits until it has ended. Has no deadline: put one around it.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        // The sender ends only after it has sent a value, so an error cannot be seen before one.
        match exit.wait_for(Option::is_some).await {
            Ok(value) => value.unwrap_or(Exit::UNKNOWN),
            Err(_) => Exit::UNKNOWN,
        }
    }

    /// Sends a signal to the program. One that has ended already is left alone.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        if self.exit().is_some() {
            return Ok(());
        }
        process::send(self.pid, signal).map_err(Error::io(format!("send {signal} to {}", self.name)))
    }

    /// Stops the program and all its children in their tracks (SIGSTOP); connections stay open and nothing answers.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)?;
        self.signal_children(Signal::SIGSTOP)
    }

    /// Lets a paused program go on.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal_children(Signal::SIGCONT)?;
        self.signal(Signal::SIGCONT)
    }

    fn signal_children(&self, signal: Signal) -> Result<(), Error> {
        for child in process::children_of(self.pid)? {
            // A child may end between the listing and the signal.
            let _ = process::send(child, signal);
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// [`Error::DidNotEnd`] when it survives for 10 seconds.
    pub async fn kill(&self) -> Result<Exit, Error> {
        self.signal(Signal::SIGKILL)?;
        self.ended_within(Duration::from_secs(10)).await
    }

    /// Asks it to stop, waits for the end, kills it when its grace has passed. Stopping twice is stopping once.
    ///
    /// # Errors
    /// [`Error::DidNotEnd`] when it survives even that.
    pub async fn stop(&mut self) -> Result<Exit, Error> {
        if let (None, Some(stdin)) = (self.exit(), &mut self.stdin) {
            // A guard that is gone takes no word; its child's end is then waited for all the same.
            let _ = stdin.write_all(b"stop\n");
        }
        self.ended_within(self.grace + PREDECESSOR_SLACK).await
    }

    /// Parts from an ended child and spares its scratch directory, for a successor that goes on in it.
    pub(crate) fn leave(mut self) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(b"leave\n");
        }
    }

    async fn ended_within(&self, waited: Duration) -> Result<Exit, Error> {
        tokio::time::timeout(waited, self.exited())
            .await
            .map_err(|_| Error::DidNotEnd {
                program: self.name.clone(),
                pid: self.pid,
                waited,
            })
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        log::log_tail(&self.log, lines)
    }
}
