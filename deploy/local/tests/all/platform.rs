//! A platform of its own for a test: `authsome-local up` with a state directory of its own and free ports.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use authsome_testkit::{Exit, GuardedChild, GuardedCommand, guard, wait_for};
use nix::sys::signal::Signal;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

/// The first start of everything, on a machine that is busy compiling something else.
const UP: Duration = Duration::from_mins(3);

/// A platform. Dropping it stops it and removes its data.
pub(crate) struct Platform {
    local: Option<GuardedChild>,
    pub(crate) demo: Value,
    pub(crate) client: Client,
    directory: tempfile::TempDir,
}

impl Platform {
    /// Starts a platform and waits until `up` says that it runs.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::builder()
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .unwrap();
        let mut platform = Self {
            local: None,
            demo: Value::Null,
            client,
            directory,
        };
        platform.up().await;
        platform
    }

    /// Starts it again after an end.
    pub(crate) async fn up(&mut self) {
        let number = std::fs::read_dir(self.directory.path()).unwrap().count();
        let log = self.directory.path().join(format!("up-{number}.log"));
        let local = GuardedCommand::new(env!("CARGO_BIN_EXE_authsome-local"), log)
            .args(["up", "--any-ports", "--state-dir"])
            .arg(self.state("").display().to_string())
            // What a developer's shell may hold must not matter.
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/elsewhere")
            .env("AUTHSOME_LISTEN_API", "not an address")
            .stops_by(Signal::SIGTERM, Duration::from_mins(1))
            .spawn()
            .await
            .unwrap();
        let runs = wait_for("the platform to run", UP, async || {
            let said = local.log_tail(60);
            match local.exit() {
                _ if said.contains("AuthSome Cloud runs.") => Ok(Ok(())),
                Some(exit) => Ok(Err(format!("it ended with {exit}:\n{said}"))),
                None => Err(said),
            }
        });
        match runs.await {
            Ok(Ok(())) => {}
            Ok(Err(said)) => panic!("{said}\n{}", self.logs()),
            Err(error) => panic!("{error}\n{}", self.logs()),
        }
        self.demo = serde_json::from_str(&std::fs::read_to_string(self.state("demo.json")).unwrap()).unwrap();
        self.local = Some(local);
    }

    /// What every program logged last, for a failure.
    pub(crate) fn logs(&self) -> String {
        let names = ["authsome-control", "authsome-proxy", "authsome-provisioner"];
        names
            .map(|name| format!("--- {name}\n{}\n", guard::log_tail(&self.log(name), 40)))
            .concat()
    }

    /// A file of the state directory.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join("state").join(name)
    }

    /// A log file.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.state("logs").join(format!("{name}.log"))
    }

    /// What `up` has said.
    pub(crate) fn said(&self) -> String {
        self.local().log_tail(1000)
    }

    /// The running `authsome-local`.
    pub(crate) fn local(&self) -> &GuardedChild {
        self.local.as_ref().unwrap()
    }

    /// Ctrl-C.
    pub(crate) async fn interrupt(&mut self) -> Exit {
        let local = self.local.take().unwrap();
        local.signal(Signal::SIGINT).unwrap();
        tokio::time::timeout(Duration::from_mins(1), local.exited())
            .await
            .unwrap()
    }

    /// SIGKILL: no chance to stop anything.
    pub(crate) async fn kill(&mut self) {
        self.local.take().unwrap().kill().await.unwrap();
    }

    /// A field of `demo.json`.
    pub(crate) fn demo(&self, field: &str) -> &str {
        self.demo[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {}", self.demo))
    }

    /// A request to an application through the edge.
    pub(crate) fn edge(&self, method: Method, application: &str, tail: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}/v1/{application}{tail}", self.demo("edgeUrl")))
    }

    /// A connection to the control database.
    pub(crate) async fn database(&self) -> PgConnection {
        PgConnection::connect(self.demo("databaseUrl")).await.unwrap()
    }

    /// Until nothing of it runs. The guard that this test holds `authsome-local` by ends a moment after it, too.
    pub(crate) async fn until_gone(&self, within: Duration) {
        let gone = async || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(left.join("\n")),
        };
        wait_for("every process to go", within, gone).await.unwrap();
    }

    /// Everything that runs with a file of this directory on its command line, as `pid command line`.
    pub(crate) fn processes(&self) -> Vec<String> {
        let path = self.state("").display().to_string();
        let path = path.trim_end_matches('/');
        command_lines().into_iter().filter(|line| line.contains(path)).collect()
    }
}

/// All processes of this machine, as `pid command line`: from `/proc` where there is one, since `ps` need not be installed.
pub(crate) fn command_lines() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        let output = std::process::Command::new("ps")
            .args(["-A", "-ww", "-o", "pid=,args="])
            .output()
            .unwrap();
        return String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let line = |pid: u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        Some(format!("{pid} {}", words.trim_end()))
    };
    pids.filter_map(line).collect()
}

impl Drop for Platform {
    fn drop(&mut self) {
        // The guard stops it in the background; its log is in use until it has gone. That is what is waited for, a look every
        // 20 ms: nothing can be awaited in a drop.
        if let Some(local) = self.local.take() {
            let log = local.log().to_owned();
            drop(local);
            let give_up = Instant::now() + Duration::from_mins(1);
            while guard::in_use(&log).unwrap_or(false) && Instant::now() < give_up {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let reset = std::process::Command::new(env!("CARGO_BIN_EXE_authsome-local"))
            .args(["reset", "--state-dir"])
            .arg(self.state(""))
            .output();
        let removed = reset.is_ok_and(|output| output.status.success());
        assert!(
            removed || std::thread::panicking(),
            "the platform's data could not be removed"
        );
    }
}
