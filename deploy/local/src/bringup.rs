//! `authsome-local up`: servers, then programs, then the demo; then keeping it all running; then stopping it in the opposite
//! order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use authsome_testkit::{Program, ProgramCommand, guard};
use tokio::sync::watch;

use crate::configuration::{self, Files, foreign_variables};
use crate::console;
use crate::db;
use crate::demo;
use crate::error::LocalError;
use crate::ports::Ports;
use crate::servers::Servers;
use crate::service::{Phase, keep_running};
use crate::state::State;
use crate::stop::Stop;

/// Longer than any guard gives its process to stop.
const PREDECESSORS: Duration = Duration::from_secs(45);
const SERVERS: [&str; 3] = ["postgres", "redis", "nats"];
const PROGRAMS: [&str; 3] = ["authsome-control", "authsome-proxy", "authsome-provisioner"];

/// Everything that runs.
struct Platform {
    servers: Servers,
    control: Program,
    proxy: Program,
    provisioner: Program,
}

/// Brings the platform up and runs it until somebody wishes it to stop.
///
/// # Errors
/// [`LocalError`]: why it could not be brought up. What was started is stopped then.
pub(crate) async fn up(directory: &Path, any_ports: bool) -> Result<ExitCode, LocalError> {
    let mut stop = Stop::watch()?;
    let mut state = State::open(directory)?;
    let platform = tokio::select! {
        platform = bring_up(&mut state, any_ports) => platform?,
        () = stop.wished() => {
            console::say("\nStopping.");
            return Ok(ExitCode::from(130));
        }
    };
    Box::pin(run(platform, &state, &mut stop)).await;
    console::say("Stopped.");
    Ok(ExitCode::SUCCESS)
}

async fn bring_up(state: &mut State, any_ports: bool) -> Result<Platform, LocalError> {
    await_predecessors(state).await?;
    let (ports, notices) = Ports::choose(state.ports.as_ref(), any_ports)?;
    for notice in notices {
        console::say(&notice);
    }
    // Before any data is made with these secrets.
    state.keep(ports.clone())?;
    console::say("Starting Postgres, Redis and NATS");
    let servers = Servers::start(state, &ports).await?;
    let files = configuration::write(state, &ports, &servers.postgres, &servers.redis, &servers.nats)?;
    console::say("Migrating the control database");
    demo::prepare(state, &files.control).await?;
    // This process holds the state directory and has waited for its predecessor's programs, so no provisioner runs.
    let database = servers.postgres.options(configuration::CONTROL_DATABASE);
    db::end_leases(&database).await?;
    console::say("Starting control, provisioner and proxy");
    let (control, proxy, provisioner) = start_programs(state, &ports, &files).await?;
    let platform = Platform {
        servers,
        control,
        proxy,
        provisioner,
    };
    demo::ensure(state, &ports, &platform.servers).await?.introduce(state);
    Ok(platform)
}

/// After a kill, the guards of the last start still stop its processes, which hold its ports and data.
pub(crate) async fn await_predecessors(state: &State) -> Result<(), LocalError> {
    for name in SERVERS.iter().chain(&PROGRAMS) {
        let log = state.log(name);
        if guard::in_use(&log)? {
            console::say(&format!("Waiting for {name} of an earlier start to end"));
            guard::wait_until_unused(name, &log, PREDECESSORS).await?;
        }
    }
    Ok(())
}

async fn start_programs(
    state: &State,
    ports: &Ports,
    files: &Files,
) -> Result<(Program, Program, Program), LocalError> {
    let [control, proxy, provisioner] = PROGRAMS;
    let control = program(state, control, &files.control, ports.control_admin)?.start();
    let proxy = program(state, proxy, &files.proxy, ports.edge_admin)?.start();
    let provisioner = program(state, provisioner, &files.provisioner, ports.provisioner_admin)?.start();
    Ok(tokio::try_join!(control, proxy, provisioner)?)
}

fn program(state: &State, name: &str, config: &Path, admin: u16) -> Result<ProgramCommand, LocalError> {
    let mut command = ProgramCommand::new(name, state.log(name))?
        .arg("--config")
        .arg(config.display().to_string())
        .ready_at(format!("127.0.0.1:{admin}"), "/readyz")
        .deadline(Duration::from_mins(1));
    for variable in foreign_variables() {
        command = command.env_remove(variable);
    }
    Ok(command)
}

async fn run(mut platform: Platform, state: &State, stop: &mut Stop) {
    let (phase, _) = watch::channel(Phase::Run);
    let logs: [PathBuf; 6] = [
        PROGRAMS[0],
        PROGRAMS[1],
        PROGRAMS[2],
        SERVERS[0],
        SERVERS[1],
        SERVERS[2],
    ]
    .map(|n| state.log(n));
    let Platform {
        servers,
        control,
        proxy,
        provisioner,
    } = &mut platform;
    let (programs, watched) = (Phase::StopPrograms, || phase.subscribe());
    let programs = async {
        tokio::join!(
            keep_running(PROGRAMS[0], &logs[0], control, watched(), programs),
            keep_running(PROGRAMS[1], &logs[1], proxy, watched(), programs),
            keep_running(PROGRAMS[2], &logs[2], provisioner, watched(), programs),
        );
        phase.send_replace(Phase::StopServers);
    };
    let until = Phase::StopServers;
    let servers = async {
        tokio::join!(
            keep_running("Postgres", &logs[3], &mut servers.postgres, watched(), until),
            keep_running("Redis", &logs[4], &mut servers.redis, watched(), until),
            keep_running("NATS", &logs[5], &mut servers.nats, watched(), until),
        );
    };
    let wish = async {
        stop.wished().await;
        console::say("\nStopping. Once more to stop at once.");
        phase.send_replace(Phase::StopPrograms);
        stop.wished().await;
    };
    tokio::select! {
        _ = async { tokio::join!(programs, servers) } => {}
        () = wish => {}
    }
}
