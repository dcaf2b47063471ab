//! The settings of the edge.
//!
//! Owns their names, defaults and bounds. Every problem is found before the program starts; nothing is read later.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use authsome_core::config::{ByteSize, Reader};
use authsome_core::lifecycle::Timing;
use authsome_core::seal::EdgeRing;
use authsome_core::secret::SecretUrl;
use authsome_core::telemetry::{self, Format};
use http::HeaderValue;

use crate::cache::CacheSettings;
use crate::http1::head::HeadLimits;
use crate::http1::pace::PaceRules;
use crate::lane::LaneSettings;
use crate::limit::LimitSettings;
use crate::listener::Http2;
use crate::routing::RoutingSettings;
use crate::tls::TlsSettings;
use crate::trace::TraceConfig;
use crate::upstream::UpstreamSettings;

mod addresses;

pub use addresses::Addresses;

/// Everything that is configured.
#[derive(Debug)]
pub struct Config {
    /// `listen.address`: customers' traffic.
    pub listen: SocketAddr,
    /// `listen.admin`: probes and metrics.
    pub admin: SocketAddr,
    /// How clients reach the edge.
    pub addresses: Addresses,
    /// `listen.tls` and `tls.*`: customers' traffic with TLS.
    pub tls: Option<TlsSettings>,
    /// `http2.*`.
    pub http2: Http2,
    /// `upgrade.socket`: where a successor asks for the listening sockets; in `data.directory` by default.
    pub upgrade_socket: PathBuf,
    /// Who this edge is.
    pub edge: EdgeIdentity,
    /// Where the table comes from and the counters go.
    pub store: StoreConfig,
    /// `encryption.edge_key`: opens the instances' credentials.
    pub seal: Option<EdgeRing>,
    /// Bounds on requests.
    pub limits: Limits,
    /// Bounds on callers.
    pub callers: LimitSettings,
    /// `routing.*` and `snapshot.directory`: the routing table.
    pub routing: RoutingSettings,
    /// What is kept of instances' responses.
    pub cache: CacheSettings,
    /// `upstream.*`: the way to instances.
    pub upstream: UpstreamSettings,
    /// Threads and pools.
    pub server: ServerConfig,
    /// `lane.*`: the path for simple requests.
    pub lane: LaneSettings,
    /// How long stopping may take.
    pub timing: Timing,
    /// `log.*`.
    pub log: LogConfig,
    /// `traces.*`.
    pub traces: TraceConfig,
}

/// Who an edge is.
#[derive(Debug, Clone)]
pub struct EdgeIdentity {
    /// `region`: where it runs; the value of `X-AuthSome-Region`.
    pub region: String,
    /// The same, ready to be sent.
    pub region_value: HeaderValue,
    /// `edge.name`: its name among edges, for people; users of the control API see it. The host's name by default.
    pub name: String,
}

/// What is outside the process.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `database.url`.
    pub database: SecretUrl,
    /// `redis.url`.
    pub redis: SecretUrl,
    /// `nats.url`.
    pub nats: SecretUrl,
    /// `data.directory`: usage counters that survive a crash.
    pub data: PathBuf,
}

/// Bounds on requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `limits.header_bytes`: of a whole head.
    pub header_bytes: usize,
    /// `limits.body_bytes`: of a body.
    pub body_bytes: u64,
    /// `limits.header_deadline`: from the first byte of a head to its last, and from accepting a connection to the first.
    pub header_deadline: Duration,
    /// `limits.keepalive`: how long a client's connection may be idle.
    pub keepalive: Duration,
    /// `limits.client_read`: between two reads of a request body.
    pub client_read: Duration,
    /// `limits.client_write`: for one write to a client that does not read.
    pub client_write: Duration,
    /// `limits.header_count`: header lines of a head.
    pub header_count: usize,
    /// `limits.body_grace`, `limits.body_rate`, `limits.body_deadline`: how slowly a body may come.
    pub pace: PaceRules,
    /// `limits.live_connections`: upgraded connections and event streams that are open at once.
    pub live_connections: usize,
}

/// Threads and pools.
#[derive(Debug, Clone, Copy)]
pub struct ServerConfig {
    /// `server.threads`: of the forwarding path.
    pub threads: usize,
    /// `server.work_stealing`: one scheduler for all threads instead of one each.
    pub work_stealing: bool,
    /// `upstream.pool_size`: idle connections to instances that each thread keeps.
    pub pool_size: usize,
}

/// How the edge logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `log.level`: a level or a filter.
    pub level: String,
    /// `log.format`.
    pub format: Format,
    /// `log.access`: one line a request.
    pub access: bool,
}

const MIB: u64 = 1024 * 1024;

impl Config {
    /// Reads all settings; what is wrong is kept by the reader.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let listen = reader.or("listen.address", SocketAddr::from(([0, 0, 0, 0], 8081)));
        let admin = reader.or("listen.admin", SocketAddr::from(([127, 0, 0, 1], 9081)));
        let distinct = listen != admin || listen.port() == 0;
        reader.check("listen.admin", distinct, "must not be the same as listen.address");
        let addresses = Addresses::read(reader);
        let tls = TlsSettings::read(reader);
        let own = tls
            .as_ref()
            .is_none_or(|tls| tls.address.port() == 0 || (tls.address != listen && tls.address != admin));
        reader.check(
            "listen.tls",
            own,
            "must not be the same as listen.address or listen.admin",
        );
        let http2 = Http2::read(reader);
        let edge = EdgeIdentity::read(reader);
        let database = url(reader, "database.url", &["postgres", "postgresql"]);
        let redis = url(
            reader,
            "redis.url",
            &["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel"],
        );
        let nats = url(reader, "nats.url", &["nats", "tls"]);
        let data = reader.or("data.directory", PathBuf::from("/var/lib/authsome-proxy"));
        let routing = RoutingSettings::read(reader, &data);
        let upgrade_socket = reader.or("upgrade.socket", data.join("upgrade.sock"));
        let seal = reader.optional("encryption.edge_key");
        let limits = Limits::read(reader);
        let callers = LimitSettings::read(reader);
        let cache = read_cache(reader);
        let upstream = UpstreamSettings::read(reader);
        let server = ServerConfig::read(reader);
        let lane = LaneSettings::read(reader);
        let timing = Timing {
            linger: reader.or("shutdown.linger", Duration::from_secs(5)),
            deadline: reader.or("shutdown.deadline", Duration::from_secs(36)),
        };
        reader.check(
            "shutdown.deadline",
            timing.deadline >= Duration::from_secs(1),
            "must be at least 1s",
        );
        let log = LogConfig::read(reader);
        let traces = TraceConfig::read(reader);
        Some(Self {
            listen,
            admin,
            addresses,
            tls,
            http2,
            upgrade_socket,
            edge: edge?,
            store: StoreConfig {
                database: database?,
                redis: redis?,
                nats: nats?,
                data,
            },
            seal,
            limits,
            callers,
            routing,
            cache,
            upstream,
            server,
            lane,
            timing,
            log,
            traces: traces?,
        })
    }
}

fn url(reader: &mut Reader, key: &'static str, schemes: &[&str]) -> Option<SecretUrl> {
    let url: SecretUrl = reader.required(key)?;
    let known = schemes.contains(&url.scheme());
    reader.check(key, known, &format!("must begin with {}://", schemes.join(":// or ")));
    known.then_some(url)
}

impl EdgeIdentity {
    fn read(reader: &mut Reader) -> Option<Self> {
        let region = reader.or("region", "local".to_owned());
        let label = |text: &str| {
            !text.is_empty()
                && text.len() <= 63
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        reader.check("region", label(&region), "must be 1 to 63 letters, digits, '-' or '_'");
        let name = reader
            .optional("edge.name")
            .or_else(host_name)
            .unwrap_or_else(|| "edge".to_owned());
        reader.check(
            "edge.name",
            !name.is_empty() && name.len() <= 253,
            "must be 1 to 253 characters",
        );
        Some(Self {
            region_value: HeaderValue::from_str(&region).ok()?,
            region,
            name,
        })
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/etc/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

impl Limits {
    /// The bounds on a head.
    pub fn head(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.header_bytes,
            lines: self.header_count,
        }
    }

    fn read(reader: &mut Reader) -> Self {
        let header: ByteSize = reader.or("limits.header_bytes", ByteSize::kib(32));
        let body: ByteSize = reader.or("limits.body_bytes", ByteSize::mib(10));
        // Above this the forwarding library itself gives up, with an answer that is not ours.
        reader.check(
            "limits.header_bytes",
            (1024..=MIB / 2).contains(&header.as_u64()),
            "must be 1KiB to 512KiB",
        );
        reader.check("limits.body_bytes", body.as_u64() > 0, "must be greater than 0");
        let header_count = reader.or("limits.header_count", 100);
        // More the forwarding library does not read.
        reader.check(
            "limits.header_count",
            (16..=250).contains(&header_count),
            "must be 16 to 250",
        );
        let live_connections = reader.or("limits.live_connections", 65_536);
        reader.check(
            "limits.live_connections",
            (1..=10_000_000).contains(&live_connections),
            "must be 1 to 10000000",
        );
        Self {
            header_bytes: header.as_usize(),
            body_bytes: body.as_u64(),
            header_deadline: positive(reader, "limits.header_deadline", 10),
            keepalive: positive(reader, "limits.keepalive", 60),
            header_count,
            pace: PaceRules {
                grace: positive(reader, "limits.body_grace", 10),
                // As Kestrel's and below Apache's: no link in use is slower, and no attacker can hold a connection cheaply.
                rate: reader.or("limits.body_rate", ByteSize::bytes(240)).as_u64(),
                deadline: positive(reader, "limits.body_deadline", 300),
            },
            client_read: positive(reader, "limits.client_read", 30),
            client_write: positive(reader, "limits.client_write", 30),
            live_connections,
        }
    }
}

fn read_cache(reader: &mut Reader) -> CacheSettings {
    let bytes: ByteSize = reader.or("cache.bytes", ByteSize::mib(64));
    let object: ByteSize = reader.or("cache.object_bytes", ByteSize::mib(1));
    reader.check(
        "cache.object_bytes",
        bytes.as_u64() == 0 || (1..=bytes.as_u64() / 4).contains(&object.as_u64()),
        "must be greater than 0 and at most a quarter of cache.bytes",
    );
    CacheSettings {
        bytes: bytes.as_u64(),
        object_bytes: object.as_usize(),
        wait: positive(reader, "cache.wait", 3),
    }
}

fn positive(reader: &mut Reader, key: &'static str, seconds: u64) -> Duration {
    let duration = reader.or(key, Duration::from_secs(seconds));
    reader.check(key, !duration.is_zero(), "must be greater than 0");
    duration
}

impl ServerConfig {
    fn read(reader: &mut Reader) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = reader.or("server.threads", cores);
        reader.check("server.threads", (1..=1024).contains(&threads), "must be 1 to 1024");
        let pool_size = reader.or("upstream.pool_size", 1024);
        reader.check(
            "upstream.pool_size",
            (1..=65_536).contains(&pool_size),
            "must be 1 to 65536",
        );
        Self {
            threads,
            work_stealing: reader.or("server.work_stealing", true),
            pool_size,
        }
    }
}

impl LogConfig {
    fn read(reader: &mut Reader) -> Self {
        let level = reader.or("log.level", "info".to_owned());
        reader.check(
            "log.level",
            telemetry::check_filter(&level).is_ok(),
            "must be a level or a filter such as info",
        );
        Self {
            level,
            format: reader.or("log.format", Format::Json),
            access: reader.or("log.access", true),
        }
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::config::Environment;

    use super::*;

    const STORE: [(&str, &str); 3] = [
        ("DATABASE_URL", "postgres://db/control"),
        ("REDIS_URL", "redis://cache"),
        ("NATS_URL", "nats://bus"),
    ];

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let environment: Environment = STORE
            .iter()
            .chain(variables)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Reader::new(None, environment)
            .finish(Config::read)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_three_addresses_are_enough() {
        let config = read(&[]).unwrap();
        assert_eq!(config.listen.port(), 8081);
        assert_eq!(config.admin.to_string(), "127.0.0.1:9081");
        assert_eq!(config.limits.body_bytes, 10 * MIB);
        assert_eq!(config.limits.header_bytes, 32 * 1024);
        assert_eq!(config.timing.linger, Duration::from_secs(5));
        assert!(config.seal.is_none());
    }

    #[test]
    fn every_problem_is_named_by_its_key() {
        let problems = read(&[
            ("AUTHSOME_LISTEN_ADDRESS", "nowhere"),
            ("NATS_URL", "http://bus"),
            ("AUTHSOME_LIMITS_HEADER_BYTES", "2MiB"),
            ("AUTHSOME_UPSTREAM_READ_TIMEOUT", "0s"),
            ("AUTHSOME_REGION", "a b"),
            ("AUTHSOME_PUBLIC_EDGE", "api.example.com"),
            ("AUTHSOME_ENCRYPTION_EDGE_KEY", "short"),
            ("LOG_LEVEL", "info,x=loud"),
            ("AUTHSOME_SERVER_THREADS", "0"),
            ("AUTHSOME_TRACES_OTLP_ENDPOINT", "grpc://collector"),
            ("AUTHSOME_TRACES_SAMPLE_RATIO", "1.5"),
            ("AUTHSOME_TRUSTED_PROXIES", "10.0.0.0/8, proxies"),
            ("AUTHSOME_FORWARDED_HEADER", "x-real-ip"),
            ("AUTHSOME_PUBLIC_APPS_DOMAIN", "*.example.com"),
        ])
        .unwrap_err();
        for key in [
            "listen.address",
            "nats.url",
            "limits.header_bytes",
            "upstream.read_timeout",
            "region",
            "public.edge",
            "encryption.edge_key",
            "log.level",
            "server.threads",
            "traces.otlp_endpoint",
            "traces.sample_ratio",
            "trusted_proxies",
            "forwarded_header",
            "public.apps_domain",
        ] {
            assert!(problems.contains(key), "{key} is not in:\n{problems}");
        }
    }

    #[test]
    fn the_scheme_that_clients_see_comes_from_the_public_url() {
        assert_eq!(
            read(&[("AUTHSOME_PUBLIC_EDGE", "https://api.example.com")])
                .unwrap()
                .addresses
                .public_scheme,
            Some("https")
        );
        assert_eq!(read(&[]).unwrap().addresses.public_scheme, None);
    }
}
