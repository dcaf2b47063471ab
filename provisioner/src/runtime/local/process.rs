//! One child process: what it is given, and how it is ended.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use authsome_core::secret::ExposeSecret;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

use super::{LocalConfig, RuntimeError, log};
use crate::runtime::Workload;

/// How long an instance may take to finish what it has begun: it allows itself 10 s.
const GRACE: Duration = Duration::from_secs(12);

/// A running instance. Dropped, it is killed.
pub(super) struct Process {
    child: Child,
    /// Its end of life: when this closes, by whatever cause, the instance ends.
    _stdin: Option<ChildStdin>,
}

/// Is the program there and executable?
pub(super) fn check_program(program: &Path) -> Result<(), RuntimeError> {
    let wrong = |detail: String| RuntimeError::Program {
        program: program.display().to_string(),
        detail,
    };
    let metadata = std::fs::metadata(program).map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_file() {
        return Err(wrong("not a file".to_owned()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(wrong("not executable".to_owned()));
    }
    Ok(())
}

/// A loopback port that nobody has at this moment. Somebody may take it before the instance does: it is then started again
/// with another.
pub(super) fn free_port() -> Result<SocketAddr, RuntimeError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| RuntimeError::Io {
            doing: "find a free port".to_owned(),
            source,
        })
}

impl Process {
    /// Starts the instance. Everything secret is in its environment, which other users cannot read; the provisioner's own
    /// is not passed on.
    pub(super) fn start(
        config: &LocalConfig,
        workload: &Workload,
        replica: usize,
        address: SocketAddr,
    ) -> Result<Self, RuntimeError> {
        let path = log::path(&config.directory, workload.application, replica);
        let out = log::open(&path)?;
        let io = |doing: String| move |source| RuntimeError::Io { doing, source };
        let err = out.try_clone().map_err(io(format!("open {} twice", path.display())))?;
        let mut command = Command::new(&config.program);
        command
            .arg("--exit-with-stdin")
            .env_clear()
            .env("HOST", address.ip().to_string())
            .env("PORT", address.port().to_string())
            .env("BASE_PATH", &workload.base_path)
            .env("DATABASE_URL", workload.database_url.expose())
            .env("REDIS_URL", workload.redis_url.expose())
            .env("REDIS_KEY_PREFIX", &workload.redis_prefix)
            .env("APP_ID", workload.application.to_string())
            .env("PUBLIC_BASE_URL", &workload.public_base_url)
            .env("LOG_LEVEL", &config.log_level)
            .env("CONFIG_JSON", workload.config.to_string())
            .envs(workload.secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret())))
            .current_dir(&config.directory)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            // A Ctrl-C at the terminal is for the provisioner, which ends its instances itself.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| RuntimeError::Program {
            program: config.program.display().to_string(),
            detail: error.to_string(),
        })?;
        let stdin = child.stdin.take();
        Ok(Self { child, _stdin: stdin })
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> String {
        describe(self.child.wait().await)
    }

    /// Asks it to end, waits, and then insists.
    pub(super) async fn end(mut self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended by itself in this very moment.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.child.id(), after = ?GRACE, "instance does not end; killing it");
            self.kill().await;
        }
    }

    /// Ends it at once.
    pub(super) async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(pid = self.child.id(), %error, "cannot kill an instance");
        }
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it cannot be waited for: {error}"),
    }
}
