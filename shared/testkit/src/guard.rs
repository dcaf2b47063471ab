//! A child process that cannot outlive the process that started it, without any unsafe code.
//!
//! The child runs under a small `sh` guard whose standard input is a pipe held open by us. However we end, SIGKILL
//! included, the kernel closes the pipe; the guard then stops the child (its own stop signal first, SIGKILL after a bounded
//! time) and removes its scratch directory. The guard sits in a process group of its own, so a Ctrl-C in a terminal reaches
//! only us and the order of stopping stays ours.
//!
//! The child's log file is its lock as well: it is `flock`ed through the very descriptor that the child writes to, so
//! the lock is held for exactly as long as the child or any descendant of it lives, and a successor waits for that.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::account::Account;
use crate::error::Error;

/// The guard's program. Arguments: stop signal, seconds of grace, scratch directory (may be empty), command and its
/// arguments. It prints the child's process id, later `exit STATUS`, and obeys two words on its standard input: `stop`,
/// and (after the child has ended) `leave`, which spares the scratch directory.
const GUARD: &str = r#"
signal=$1 grace=$2 scratch=$3
shift 3
exec 3<&0
"$@" </dev/null >&2 3<&- &
child=$!
# Whoever reads this may be gone when the guard speaks: that must not end it. After the child, which would inherit it.
trap '' PIPE
echo "$child"
(
    read -r word <&3
    kill -s "$signal" "$child"
    kill -s CONT "$child"
    left=$((grace * 10))
    while [ "$left" -gt 0 ] && kill -0 "$child"; do
        sleep 0.1
        left=$((left - 1))
    done
    kill -s KILL "$child"
) >/dev/null 2>&1 &
watcher=$!
# The child alone holds the log, and with it the lock, from here on; nor does the shell comment on its end there.
exec 2>/dev/null
wait "$child"
status=$?
# Waited for: until it is really gone it may take a byte of the word that is meant for the loop below.
kill "$watcher"
wait "$watcher"
echo "exit $status"
if [ -n "$scratch" ]; then
    word=
    while read -r word <&3; do
        [ "$word" = leave ] && break
    done
    # Children of a killed server may still write for a moment after it has ended.
    left=100
    while [ "$word" != leave ] && [ "$left" -gt 0 ] && ! rm -rf "$scratch"; do
        sleep 0.1
        left=$((left - 1))
    done
fi
exit "$status"
"#;

/// How long a predecessor that still holds the log file is waited for, beyond its own grace.
const PREDECESSOR_SLACK: Duration = Duration::from_secs(5);

/// A log longer than this (16 MiB) is begun anew at the next start.
const LONGEST_LOG: u64 = 16 * 1024 * 1024;

/// How a guarded process ended, as a shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(i32);

impl Exit {
    /// Whether it ended by itself with status 0.
    pub fn success(self) -> bool {
        self.0 == 0
    }

    /// Its exit code, unless a signal ended it.
    pub fn code(self) -> Option<i32> {
        (0..=128).contains(&self.0).then_some(self.0)
    }

    /// The number of the signal that ended it.
    pub fn signal(self) -> Option<i32> {
        (self.0 > 128).then(|| self.0 - 128)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "signal {signal}"),
            None => write!(f, "exit code {}", self.0),
        }
    }
}

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
        let log = self.locked_log().await?;
        tokio::task::spawn_blocking(move || command.spawn_blocking(log))
            .await
            .map_err(|join| Error::io("start a process")(std::io::Error::other(join)))?
    }

    async fn locked_log(&self) -> Result<File, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(Error::io(format!("open the log file {}", self.log.display())))?;
        let give_up = Instant::now() + self.grace + PREDECESSOR_SLACK;
        loop {
            match log.try_lock() {
                Ok(()) => {
                    self.begin_anew_if_long(&log)?;
                    return Ok(log);
                }
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::StillRunning {
                        program: self.name(),
                        log: self.log.clone(),
                    });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(Error::io(format!("lock the log file {}", self.log.display()))(source));
                }
            }
        }
    }

    fn begin_anew_if_long(&self, log: &File) -> Result<(), Error> {
        let cutting = Error::io(format!("cut the log file {}", self.log.display()));
        log.metadata()
            .and_then(|meta| {
                if meta.len() > LONGEST_LOG {
                    log.set_len(0)
                } else {
                    Ok(())
                }
            })
            .map_err(cutting)
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
        let mut guard = command
            .spawn()
            .map_err(Error::io(format!("start the guard of {name}")))?;
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
                let ended = guard.wait().ok().and_then(|status| status.code()).unwrap_or(128 + 9);
                if status.is_none() {
                    sender.send_replace(Some(Exit(ended)));
                }
            })
            .map_err(Error::io("start a watching thread"))?;
        Ok(GuardedChild {
            name,
            pid,
            stdin: Some(stdin),
            exit,
            log: self.log.clone(),
            grace: self.grace,
        })
    }
}

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
            Ok(value) => value.unwrap_or(Exit(128 + 9)),
            Err(_) => Exit(128 + 9),
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
        send(self.pid, signal).map_err(Error::io(format!("send {signal} to {}", self.name)))
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
        for child in children_of(self.pid)? {
            // A child may end between the listing and the signal.
            let _ = send(child, signal);
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
        log_tail(&self.log, lines)
    }
}

/// Whether a process that was started with this log file still runs.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened or locked.
pub fn in_use(log: &Path) -> Result<bool, Error> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io(format!("open {}", log.display()))(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(Error::io(format!("lock {}", log.display()))(error)),
    }
}

/// Waits until no process that was started with this log file runs any more.
///
/// # Errors
/// [`Error::StillRunning`] once `within` has passed.
pub async fn wait_until_unused(program: &str, log: &Path, within: Duration) -> Result<(), Error> {
    let give_up = Instant::now() + within;
    while in_use(log)? {
        if Instant::now() >= give_up {
            return Err(Error::StillRunning {
                program: program.to_owned(),
                log: log.to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The last `lines` lines of a log file, at most 64 KiB; what cannot be read is said instead.
pub fn log_tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}

fn send(pid: u32, signal: Signal) -> Result<(), std::io::Error> {
    let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The direct children of a process: from `/proc` where there is one, else from `ps`.
fn children_of(parent: u32) -> Result<Vec<u32>, Error> {
    let listing = Error::io("list processes");
    if Path::new("/proc/self/stat").exists() {
        let entries = std::fs::read_dir("/proc").map_err(listing)?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        return Ok(pids.filter(|pid| parent_in_proc(*pid) == Some(parent)).collect());
    }
    let output = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid="])
        .output()
        .map_err(listing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?))
    });
    Ok(pairs.filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| pid).collect())
}

fn parent_in_proc(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets: the fields begin after the last bracket (state, then parent).
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
