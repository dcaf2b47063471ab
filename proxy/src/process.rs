//! The life of the process: from the command line to the last flush.
//!
//! Owns the order of starting and stopping. Pingora runs in a thread of its own, because it ends with a sleep of fixed length;
//! the main thread waits for what really matters (requests in flight, counters, log lines) and then returns, which ends the
//! process. Stopping: readiness off, `shutdown.linger`, nothing new is accepted and idle connections are closed, requests end,
//! what is still open at the deadline is closed, counters are sent, exit. A second signal ends it at once. A successor that
//! was handed the listening sockets makes this process stop in the same way, but that it accepts nothing from the beginning.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use authsome_core::clock::SystemClock;
use authsome_core::config::ConfigArgs;
use authsome_core::entropy::Entropy;
use authsome_core::error::Chain;
use authsome_core::lifecycle::{Lifecycle, Outcome, Shutdown};
use authsome_core::telemetry::{self, LogQueue, TelemetryError};
use clap::Parser;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::background::background_service;
use tokio::sync::{oneshot, watch};

use crate::access_log::AccessLog;
use crate::admin::{Admin, Probes};
use crate::books::Books;
use crate::cache::{CacheMetrics, ResponseCache};
use crate::config::Config;
use crate::drain::{Drain, InFlight, Stage};
use crate::edge::Edge;
use crate::entropy::PooledEntropy;
use crate::http1::Door;
use crate::lane::Lane;
use crate::limit::{Callers, Connections, Leaser, LimitMetrics, Limiter};
use crate::listener::{BindError, Front, ListenerMetrics, Listening, Port, bind};
use crate::live::{Live, LiveMetrics};
use crate::meter::{Meter, MeterMetrics, MeterSettings};
use crate::metrics::Metrics;
use crate::routing::{self, EdgeName, Reporter, Routing, RoutingMetrics};
use crate::store::{Parts, Store, StoreError};
use crate::tls::{Reload, Tls, TlsError, TlsMetrics};
use crate::trace::{Exporter, ExporterError, Spans, TraceMetrics, Tracing};
use crate::upgrade::{Handover, Inherited, Listener, Predecessor, UpgradeError, Waiting};
use crate::upstream::{TRIES, TlsFileError, UpstreamMetrics, UpstreamService, Upstreams};

/// Kept from the stop's deadline for the counters, however long requests take.
const FLUSH: Duration = Duration::from_secs(6);
/// Between two looks whether the routing table is loaded.
const LOADED: Duration = Duration::from_millis(20);
/// For connections that are closed at the deadline to be counted and logged.
const CLOSED: Duration = Duration::from_secs(1);
/// The last lines of the access log.
const LOG_FLUSH: Duration = Duration::from_secs(1);
/// The last spans.
const SPANS_FLUSH: Duration = Duration::from_secs(3);
/// Longer than any stop: the main thread decides when the process ends, not Pingora's sleep.
const NEVER_SECONDS: u64 = 24 * 60 * 60;
/// For connections of HTTP/2 that were told to go: so long a request may be on its way that was sent before that was heard.
const FAREWELL: Duration = Duration::from_secs(2);

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

fn run_with(config: Config, upgrade: bool, lines: &LogQueue) -> ExitCode {
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

/// The parts that stopping needs.
struct Running {
    in_flight: InFlight,
    drain: Drain,
    live: Live,
    terminate: watch::Sender<bool>,
    stop_store: watch::Sender<bool>,
    requests: Duration,
}

impl Running {
    /// Runs until the soft stop, then ends everything in order.
    async fn until(
        self,
        soft: tokio_util::sync::CancellationToken,
        server_ended: oneshot::Receiver<()>,
        mut store: oneshot::Receiver<Result<(), StoreError>>,
    ) -> Result<(), EdgeError> {
        tokio::select! {
            () = soft.cancelled() => {}
            _ = server_ended => return Err(EdgeError::ServerEnded),
            ended = &mut store => return Err(match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) | Err(_) => StoreError::Part { part: "the store", source: None }.into(),
            }),
        }
        self.drain.go(Stage::Closing);
        self.terminate.send_replace(true);
        self.drain.left(FAREWELL.min(self.requests)).await;
        if let Err(left) = self.in_flight.ended(self.requests).await {
            tracing::warn!(requests = left, "requests are cut off: they did not end in time");
            self.live.end_all();
            // Those that do not end now end with the process.
            let _ = self.in_flight.ended(CLOSED).await;
        }
        self.stop_store.send_replace(true);
        match tokio::time::timeout(FLUSH, store).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(error.into()),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the store did not end in time; what it has not sent is sent at the next start");
            }
        }
        Ok(())
    }
}

/// Tells Pingora's own services to stop.
struct Terminate(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Terminate {
    async fn recv(&self) -> ShutdownSignal {
        let mut terminated = self.0.clone();
        // An error means that the main thread is gone, and the process with it.
        let _ = terminated.wait_for(|stop| *stop).await;
        ShutdownSignal::GracefulTerminate
    }
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

/// What is listened on.
struct Sockets {
    traffic: TcpListener,
    tls: Option<TcpListener>,
    admin: TcpListener,
}

impl Sockets {
    const TRAFFIC: &str = "listen.address";
    const TLS: &str = "listen.tls";
    const ADMIN: &str = "listen.admin";

    /// Those that are inherited, and new ones for addresses that no predecessor had.
    async fn open(config: &Config, mut inherited: Inherited) -> Result<Self, BindError> {
        let mut open = async |address, key| match inherited.take(key, address) {
            Some(socket) => Ok(socket),
            None => bind(address, key).await,
        };
        Ok(Self {
            traffic: open(config.listen, Self::TRAFFIC).await?,
            tls: match &config.tls {
                Some(tls) => Some(open(tls.address, Self::TLS).await?),
                None => None,
            },
            admin: open(config.admin, Self::ADMIN).await?,
        })
    }

    /// The same sockets once more, for a successor.
    fn copies(&self) -> Result<Vec<Listener>, EdgeError> {
        [
            (Self::TRAFFIC, Some(&self.traffic)),
            (Self::TLS, self.tls.as_ref()),
            (Self::ADMIN, Some(&self.admin)),
        ]
        .into_iter()
        .filter_map(|(key, socket)| {
            let copy = socket?.try_clone().map_err(EdgeError::Copy);
            Some(copy.map(|socket| Listener { key, socket }))
        })
        .collect()
    }
}

struct Built {
    server: Server,
    reload: Option<Reload>,
    access_log: AccessLog,
    live: Live,
    routing: Routing,
    exporter: Option<Exporter>,
}

fn build(
    config: Config,
    sockets: Sockets,
    shutdown: Shutdown,
    (drain, in_flight): (Drain, InFlight),
    stop: watch::Receiver<bool>,
    ended: oneshot::Sender<Result<(), StoreError>>,
    lines: &LogQueue,
) -> Result<Built, EdgeError> {
    let registry = telemetry::registry("authsome-proxy", env!("CARGO_PKG_VERSION"))?;
    let metrics = Arc::new(Metrics::new(&registry).map_err(TelemetryError::from)?);
    let routing_metrics = RoutingMetrics::register(&registry).map_err(TelemetryError::from)?;
    let meter_metrics = MeterMetrics::register(&registry).map_err(TelemetryError::from)?;
    let live_metrics = LiveMetrics::register(&registry).map_err(TelemetryError::from)?;
    let listener_metrics = ListenerMetrics::register(&registry).map_err(TelemetryError::from)?;
    let cache_metrics = CacheMetrics::register(&registry).map_err(TelemetryError::from)?;
    let upstream_metrics = UpstreamMetrics::register(&registry).map_err(TelemetryError::from)?;
    let limit_metrics = LimitMetrics::register(&registry).map_err(TelemetryError::from)?;
    let limiter = Limiter::new(&config.callers, limit_metrics, Instant::now());
    registry
        .register(Box::new(lines.dropped()))
        .map_err(TelemetryError::from)?;
    let trace_metrics = TraceMetrics::register(&registry).map_err(TelemetryError::from)?;
    let (spans, exporter) = match &config.traces.endpoint {
        Some(endpoint) => {
            let (spans, exporter) = Exporter::new(endpoint, &config.edge.name, &config.edge.region, trace_metrics)?;
            (spans, Some(exporter))
        }
        None => (Spans::disabled(trace_metrics), None),
    };
    let tracing = Tracing {
        ratio: config.traces.ratio,
        spans,
    };
    let live = Live::new(config.limits.live_connections, live_metrics);
    let clock = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(PooledEntropy::default());

    let settings = MeterSettings::in_directory(config.store.data.clone());
    let (meter, publisher) = Meter::open(settings, clock.clone(), Arc::clone(&entropy), meter_metrics);
    let (routing, backend) = routing::new(config.routing.clone(), meter, clock.clone(), &*entropy, routing_metrics);
    let name = EdgeName {
        name: config.edge.name.clone(),
        region: config.edge.region.clone(),
    };
    let reporter = Reporter::new(routing.clone(), name, &*entropy);
    let assumed_edges = config.callers.assumed_edges;
    let leaser = Leaser::new(limiter.clone(), config.store.redis.clone(), assumed_edges, &*entropy);
    let probes = Arc::new(Probes::new(shutdown, routing.clone()));
    let access_log = if config.log.access {
        AccessLog::start(metrics.log_dropped.clone()).map_err(EdgeError::Thread)?
    } else {
        AccessLog::disabled(metrics.log_dropped.clone())
    };

    let (upstreams, wanted) = Upstreams::new(config.upstream.clone(), Arc::clone(&entropy), upstream_metrics)?;
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));
    server.bootstrap();
    let door = Door {
        metrics: Arc::clone(&metrics),
        access_log: access_log.clone(),
        clock: clock.clone(),
        entropy: Arc::clone(&entropy),
        region: config.edge.region_value.clone(),
    };
    let trusted_proxies = config.addresses.proxies.clone();
    let books = Arc::new(Books {
        metrics: Arc::clone(&metrics),
        access_log: access_log.clone(),
        clock: clock.clone(),
        tracing: tracing.clone(),
    });
    let edge = Edge {
        books,
        routing: routing.clone(),
        seal: config.seal.map(Arc::new),
        limits: config.limits,
        upstreams: Arc::clone(&upstreams),
        limiter: limiter.clone(),
        region: config.edge.region_value.clone(),
        addresses: config.addresses,
        clock,
        entropy,
        metrics: Arc::clone(&metrics),
        access_log: access_log.clone(),
        in_flight: in_flight.clone(),
        live: live.clone(),
        cache: ResponseCache::new(&config.cache, cache_metrics),
        tracing,
        probes: Arc::clone(&probes),
    };
    let callers = Callers {
        connections: Connections::new(config.callers.connections_per_address),
        trusted: trusted_proxies,
        limiter,
    };
    let lane = config.lane.enabled.then(|| {
        let idle = config.server.pool_size;
        Lane::new(edge.clone(), config.server.threads, idle)
    });
    let front = Front::new(
        http_proxy(&server.configuration, edge),
        lane,
        door,
        config.limits,
        config.http2,
        drain.clone(),
        listener_metrics.clone(),
    );
    let mut ports = vec![Port {
        socket: sockets.traffic,
        tls: None,
    }];
    let mut reload = None;
    if let (Some(settings), Some(socket)) = (config.tls, sockets.tls) {
        let tls_metrics = TlsMetrics::register(&registry).map_err(TelemetryError::from)?;
        let timeout = settings.handshake_timeout;
        let certificates = Reload::start(settings, tls_metrics.clone())?;
        let tls = Tls::new(certificates.certificates(), timeout, tls_metrics)?;
        reload = Some(certificates);
        ports.push(Port {
            socket,
            tls: Some(Arc::new(tls)),
        });
    }
    let traffic =
        Listening::new("traffic", ports, front, None, drain.clone(), listener_metrics.clone()).bounded_by(callers);
    let port = Port {
        socket: sockets.admin,
        tls: None,
    };
    let admin = Admin::new(probes, registry, metrics, in_flight);
    let admin = Listening::new("admin", vec![port], admin, Some(1), drain, listener_metrics);
    let store = Store::new(Parts {
        config: config.store,
        backend,
        publisher,
        reporter,
        leaser,
        stop,
        ended,
    });
    server.add_service(background_service("store", store));
    let upstream = UpstreamService::new(upstreams, wanted);
    server.add_service(background_service("upstream", upstream));
    server.add_service(admin);
    server.add_service(traffic);
    Ok(Built {
        server,
        reload,
        access_log,
        live,
        routing,
        exporter,
    })
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        work_stealing: config.server.work_stealing,
        upstream_keepalive_pool_size: config.server.pool_size,
        max_retries: TRIES,
        grace_period_seconds: Some(NEVER_SECONDS),
        ..ServerConf::default()
    }
}
