//! The life of the process: from the command line to the last flush.
//!
//! Owns the order of starting and stopping. Pingora runs in a thread of its own, because it ends with a sleep of fixed length;
//! the main thread waits for what really matters (requests in flight, counters, log lines) and then returns, which ends the
//! process. Stopping: readiness off, `shutdown.linger`, nothing new is accepted and idle connections are closed, requests end,
//! what is still open at the deadline is closed, counters are sent, exit. A second signal ends it at once. A successor that
//! was handed the listening sockets makes this process stop in the same way, but that it accepts nothing from the beginning.

mod assembly;
mod files;
mod sockets;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::config::ConfigArgs;
use authsome_core::error::Chain;
use authsome_core::lifecycle::{Lifecycle, Outcome, Shutdown};
use authsome_core::telemetry::{self, LogQueue, TelemetryError};
use clap::Parser;
use pingora::server::RunArgs;
use tokio::sync::{oneshot, watch};

use crate::config::Config;
use crate::drain::{Drain, InFlight, Stage};
use crate::listener::BindError;
use crate::routing::Routing;
use crate::store::StoreError;
use crate::tls::TlsError;
use crate::trace::ExporterError;
use crate::upgrade::{Handover, Inherited, Predecessor, UpgradeError, Waiting};
use crate::upstream::TlsFileError;
use assembly::build;
use sockets::Sockets;
use stop::{FLUSH, Running, Terminate};

/// Between two looks whether the routing table is loaded.
const LOADED: Duration = Duration::from_millis(20);
/// The last lines of the access log.
const LOG_FLUSH: Duration = Duration::from_secs(1);
/// The last spans.
const SPANS_FLUSH: Duration = Duration::from_secs(3);
/// The edge of AuthSome Cloud: proves the API key of a request, finds the instance of its application, forwards, and
/// counts.
///
/// Settings come from a TOML file and from AUTHSOME_* variables over it (AUTHSOME_LISTEN_ADDRESS for listen.address).
/// DATABASE_URL, REDIS_URL, NATS_URL and LOG_LEVEL are read too.
#[derive(Parser)]
#[command(name = "authsome-proxy", version)]
struct Args {
    /// Reads settings from this TOML file
    #[arg(long, env = "AUTHSOME_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Says whether the configuration is right, and ends: exit code 0, or 2 with every problem
    #[arg(long)]
    check_config: bool,
    /// Takes over the listening sockets of the edge that runs with the same upgrade.socket, which then stops; starts like
    /// any where there is none
    #[arg(long)]
    upgrade: bool,
}

/// Why the edge could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A port cannot be listened on.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// TLS cannot be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The predecessor does not hand over.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// Logs or metrics cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// There are no more file descriptors.
    #[error("cannot copy a listening socket")]
    Copy(#[source] std::io::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The server ended by itself.
    #[error("the server ended by itself")]
    ServerEnded,
    /// The certificates for instances, which were right a moment ago, cannot be read.
    #[error(transparent)]
    InstanceTls(#[from] TlsFileError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] ExporterError),
    /// The store ended by itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs the edge until it is told to stop. Exit code 2: the configuration is wrong; 1: it could not start or go on.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let config = match (ConfigArgs {
        file: args.config,
        check: args.check_config,
    })
    .load(Config::read)
    {
        Ok(config) => config,
        Err(code) => return code,
    };
    let lines = match telemetry::init_queued(config.log.format, &filter(&config.log.level)) {
        Ok(lines) => lines,
        Err(error) => return failed(&error.into()),
    };
    let code = run_with(config, args.upgrade, &lines);
    lines.flush(LOG_FLUSH);
    code
}

fn run_with(mut config: Config, upgrade: bool, lines: &LogQueue) -> ExitCode {
    let files = files::raise();
    let idle = files::idle(config.server.pool_size, config.server.threads, files);
    if idle < config.server.pool_size {
        tracing::warn!(
            files,
            idle,
            wanted = config.server.pool_size,
            "fewer idle connections to instances are kept than upstream.pool_size says: the process may not open files enough"
        );
        config.server.pool_size = idle;
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is already installed");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&EdgeError::Thread(error)),
    };
    match runtime.block_on(serve(config, upgrade, lines)) {
        Ok(outcome) => outcome.into(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &EdgeError) -> ExitCode {
    tracing::error!(error = %Chain(error), "the edge cannot run: {}", Chain(error));
    ExitCode::FAILURE
}

/// The forwarding library logs requests with their queries, and below `info` their headers; the edge has its own log.
fn filter(level: &str) -> String {
    if level.contains("pingora") {
        level.to_owned()
    } else {
        format!("{level},pingora_proxy=off,pingora_core=warn")
    }
}

async fn serve(config: Config, upgrade: bool, lines: &LogQueue) -> Result<Outcome, EdgeError> {
    let handover = if upgrade {
        Handover::ask(&config.upgrade_socket).await?
    } else {
        Handover::Nobody
    };
    let (inherited, waiting) = match handover {
        Handover::Begun(inherited, waiting) => (inherited, Some(waiting)),
        Handover::Nobody => (Inherited::default(), None),
    };
    let sockets = Sockets::open(&config, inherited).await?;
    let to_hand_over = sockets.copies()?;
    let upgrade_socket = config.upgrade_socket.clone();
    let lifecycle = Lifecycle::new(config.timing);
    let in_flight = InFlight::default();
    let drain = Drain::at(if waiting.is_some() {
        Stage::Waiting
    } else {
        Stage::Serving
    });
    let (stop_store, stop) = watch::channel(false);
    let (store_ended, store) = oneshot::channel();
    let (terminate, terminated) = watch::channel(false);
    let timing = config.timing;
    let log_settings = (config.listen, config.admin, config.edge.clone());

    let built = build(
        config,
        sockets,
        lifecycle.shutdown().clone(),
        (drain.clone(), in_flight.clone()),
        stop.clone(),
        store_ended,
        lines,
    )?;
    // Never dropped: entry by entry that takes a moment, in which the stop would wait, and the process ends anyway.
    std::mem::forget(built.routing.clone());
    let exporting = built.exporter.map(|exporter| tokio::spawn(exporter.run(stop.clone())));
    let access_log = built.access_log.clone();
    let (server_gone, server_ended) = oneshot::channel::<()>();
    let server = built.server;
    std::thread::Builder::new()
        .name("pingora".to_owned())
        .spawn(move || {
            // Dropped when the server ends, in whatever way.
            let _gone = server_gone;
            server.run(RunArgs {
                shutdown_signal: Box::new(Terminate(terminated)),
            });
        })
        .map_err(EdgeError::Thread)?;
    let (listen, admin, edge) = log_settings;
    tracing::info!(%listen, %admin, edge = edge.name, region = edge.region, "the edge is starting");

    let soft = lifecycle.soft();
    if let Some(reload) = built.reload {
        lifecycle.spawn("certificates", reload.run(soft.clone()));
    }
    let running = Running {
        in_flight,
        drain,
        live: built.live.clone(),
        terminate,
        stop_store,
        requests: timing.deadline.saturating_sub(FLUSH).max(timing.deadline / 2),
        deadline: timing.deadline,
    };
    let predecessor = Predecessor::new(
        upgrade_socket,
        to_hand_over,
        running.drain.clone(),
        lifecycle.shutdown().clone(),
    );
    lifecycle.spawn(
        "upgrade",
        take_over(
            waiting,
            running.drain.clone(),
            built.routing.clone(),
            predecessor,
            lifecycle.shutdown().clone(),
        ),
    );
    lifecycle.spawn_critical(
        "live connections",
        built.live.watch(built.routing, Arc::new(SystemClock), stop),
    );
    lifecycle.spawn_critical("edge", running.until(soft, server_ended, store));
    let outcome = lifecycle.run().await;
    if let Some(exporting) = exporting {
        // It ends within its own deadline once the store was told to stop.
        let _ = tokio::time::timeout(SPANS_FLUSH, exporting).await;
    }
    access_log.flush(LOG_FLUSH);
    tracing::info!(?outcome, "the edge has stopped");
    Ok(outcome)
}

/// Tells the predecessor once this process can serve, then stands by for a successor of its own.
async fn take_over(
    waiting: Option<Waiting>,
    drain: Drain,
    routing: Routing,
    predecessor: Predecessor,
    shutdown: Shutdown,
) {
    if let Some(waiting) = waiting {
        let told = async {
            while routing.loaded_from().is_none() {
                tokio::time::sleep(LOADED).await;
            }
            // Not a request is lost to the change: for a moment both accept.
            drain.go(Stage::Serving);
            waiting.ready().await;
        };
        if shutdown.draining().run_until_cancelled(told).await.is_none() {
            return;
        }
    }
    predecessor.run().await;
}
