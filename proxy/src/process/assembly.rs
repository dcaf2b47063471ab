//! The edge put together from its parts, by the configuration.

use std::sync::Arc;
use std::time::Instant;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::Entropy;
use authsome_core::lifecycle::Shutdown;
use authsome_core::telemetry::{self, LogQueue, TelemetryError};
use pingora::proxy::http_proxy;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::background::background_service;
use tokio::sync::{oneshot, watch};

use super::EdgeError;
use super::sockets::Sockets;
use crate::access_log::AccessLog;
use crate::admin::{Admin, Probes};
use crate::books::Books;
use crate::cache::{CacheMetrics, ResponseCache};
use crate::config::Config;
use crate::drain::{Drain, InFlight};
use crate::edge::Edge;
use crate::entropy::PooledEntropy;
use crate::http1::Door;
use crate::lane::Lane;
use crate::limit::{Callers, Connections, Leaser, LimitMetrics, Limiter};
use crate::listener::{Front, ListenerMetrics, Listening, Port};
use crate::live::{Live, LiveMetrics};
use crate::meter::{Meter, MeterMetrics, MeterSettings};
use crate::metrics::Metrics;
use crate::routing::{self, EdgeName, Reporter, Routing, RoutingMetrics};
use crate::store::{Parts, Store, StoreError};
use crate::tls::{Reload, Tls, TlsMetrics};
use crate::trace::{Exporter, Spans, TraceMetrics, Tracing};
use crate::upstream::{TRIES, UpstreamMetrics, UpstreamService, Upstreams};

/// Longer than any stop: the main thread decides when the process ends, not Pingora's sleep.
const NEVER_SECONDS: u64 = 24 * 60 * 60;

/// What runs, and what of it the process itself looks after.
pub(super) struct Built {
    pub(super) server: Server,
    pub(super) reload: Option<Reload>,
    pub(super) access_log: AccessLog,
    pub(super) live: Live,
    pub(super) routing: Routing,
    pub(super) exporter: Option<Exporter>,
}

/// Puts the edge together. Nothing listens or connects yet.
pub(super) fn build(
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
