//! Nothing outlives the process that started it, however that process ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use authsome_testkit::{Exit, GuardedCommand, PostgresOptions, PostgresServer, RedisOptions, RedisServer, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROLE: &str = "TESTKIT_OWNER_WRITES_TO";

/// Not a test of its own: the process that the next test starts and kills. Without its variable it does nothing.
#[tokio::test]
async fn owner_process() {
    let Some(report) = std::env::var_os(ROLE).map(PathBuf::from) else {
        return;
    };
    let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
    let postgres = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let child = |child: Option<&authsome_testkit::GuardedChild>| {
        let child = child.unwrap();
        format!("{} {}\n", child.pid(), child.log().parent().unwrap().display())
    };
    let text = child(redis.child()) + &child(postgres.child());
    std::fs::write(report.with_extension("new"), text).unwrap();
    std::fs::rename(report.with_extension("new"), report).unwrap();
    std::future::pending::<()>().await;
}

fn alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[tokio::test]
async fn servers_and_their_files_go_when_their_owner_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner::owner_process", "--nocapture"])
        .env(ROLE, &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let text = wait_for("the owner's report", Duration::from_mins(1), async || {
        std::fs::read_to_string(&report)
    })
    .await
    .unwrap();
    let servers: Vec<(i32, &Path)> = text
        .lines()
        .map(|line| {
            line.split_once(' ')
                .map(|(pid, files)| (pid.parse().unwrap(), Path::new(files)))
                .unwrap()
        })
        .collect();
    assert_eq!(servers.len(), 2);
    for (pid, files) in &servers {
        assert!(alive(*pid) && files.exists());
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    for (pid, files) in servers {
        let gone = async || {
            if alive(pid) || files.exists() {
                Err(format!("{pid} or {files:?} is there"))
            } else {
                Ok(())
            }
        };
        wait_for("a server and its files to go", Duration::from_secs(20), gone)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_child_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = GuardedCommand::new("/bin/sh", directory.path().join("log"))
        .args(["-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"])
        .stops_by(Signal::SIGTERM, Duration::from_secs(1))
        .spawn()
        .await
        .unwrap();
    wait_for("the trap", Duration::from_secs(5), async || {
        child.log_tail(1).contains("deaf").then_some(())
    })
    .await
    .unwrap();
    assert_eq!(child.stop().await.unwrap().signal(), Some(9));
    assert_eq!(
        child.stop().await.unwrap().signal(),
        Some(9),
        "stopping twice is stopping once"
    );
}

#[tokio::test]
async fn a_successor_waits_until_its_predecessor_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let command = GuardedCommand::new("/bin/sh", &log).args([
        "-c",
        "trap 'sleep 0.3; echo ended; exit 3' TERM; echo began; while :; do sleep 0.02; done",
    ]);
    let first = command.spawn().await.unwrap();
    wait_for("its start", Duration::from_secs(5), async || {
        first.log_tail(1).contains("began").then_some(())
    })
    .await
    .unwrap();
    let exit = first.exit_watch();
    drop(first);
    let second = command.spawn().await.unwrap();
    let code = async || exit.borrow().and_then(Exit::code);
    assert_eq!(
        wait_for("the word of its end", Duration::from_secs(5), code)
            .await
            .unwrap(),
        3
    );
    assert!(second.log_tail(10).starts_with("began\nended"));
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_with_127_and_says_so_in_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let child = GuardedCommand::new("/no/such/program", directory.path().join("log"))
        .spawn()
        .await
        .unwrap();
    assert_eq!(child.exited().await.code(), Some(127));
    assert!(child.log_tail(5).contains("/no/such/program"));
}
