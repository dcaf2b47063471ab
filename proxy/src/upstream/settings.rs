//! The settings of the way to instances.
//!
//! Owns their names, defaults and bounds; everything is read once, before the program starts.

use std::net::SocketAddr;
use std::time::Duration;

use authsome_contract::model::Plan;
use authsome_core::config::Reader;

use super::budget::BudgetPolicy;
use super::health::HealthPolicy;
use super::peer::Timeouts;
use super::tls::TlsFiles;

/// Everything that is configured about the way to instances.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Deadlines.
    pub timeouts: Timeouts,
    /// How many requests of one application there may be at once.
    pub caps: Caps,
    /// When endpoints are left out.
    pub health: HealthPolicy,
    /// How they are probed then.
    pub probes: ProbeSettings,
    /// `upstream.health.server_errors`: does an answer of 500 or above count as a failure of its endpoint?
    pub server_errors: bool,
    /// Retries of one application.
    pub retry: BudgetPolicy,
    /// Retries of all together.
    pub retry_all: BudgetPolicy,
    /// How names are resolved.
    pub dns: DnsSettings,
    /// `upstream.tls.*`: whom the edge trusts, and as whom it appears.
    pub tls: TlsFiles,
}

/// How many requests of one application may be on their way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// `upstream.in_flight.free`.
    pub free: usize,
    /// `upstream.in_flight.pro`.
    pub pro: usize,
    /// `upstream.in_flight.enterprise`.
    pub enterprise: usize,
    /// `upstream.streams`: event streams and upgraded connections, counted by themselves.
    pub streams: usize,
}

impl Caps {
    /// That of a plan.
    pub const fn of(&self, plan: Plan) -> usize {
        match plan {
            Plan::Free => self.free,
            Plan::Pro => self.pro,
            Plan::Enterprise => self.enterprise,
        }
    }
}

/// How ejected endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// `upstream.health.path`: below the application's base path.
    pub path: String,
    /// `upstream.health.probe_timeout`: for each step of a probe.
    pub timeout: Duration,
    /// Probes at once.
    pub concurrency: usize,
}

/// How names of services are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsSettings {
    /// `upstream.dns.server`: asked instead of those of the system.
    pub server: Option<SocketAddr>,
    /// `upstream.dns.timeout`: for one resolution.
    pub timeout: Duration,
    /// `upstream.dns.min_refresh`: however short the records live.
    pub min_refresh: Duration,
    /// `upstream.dns.max_refresh`: however long they live.
    pub max_refresh: Duration,
    /// `upstream.dns.idle`: names that no request needed for so long are not followed.
    pub idle: Duration,
    /// `upstream.dns.concurrency`: resolutions at once.
    pub concurrency: usize,
}

impl UpstreamSettings {
    /// Reads all of it; what is wrong is kept by the reader.
    pub fn read(reader: &mut Reader) -> Self {
        let percent = reader.or("upstream.retry.percent", 20_u32);
        reader.check("upstream.retry.percent", percent <= 100, "must be 0 to 100");
        let burst = reader.or("upstream.retry.burst", 20_u32);
        reader.check("upstream.retry.burst", burst <= 100_000, "must be 0 to 100000");
        let budget = |factor: u32| BudgetPolicy {
            percent,
            burst: if percent == 0 { 0 } else { burst.saturating_mul(factor) },
            floor: u32::from(percent > 0) * factor,
        };
        Self {
            timeouts: timeouts(reader),
            caps: caps(reader),
            health: health(reader),
            probes: probes(reader),
            server_errors: reader.or("upstream.health.server_errors", false),
            retry: budget(1),
            retry_all: budget(10),
            dns: dns(reader),
            tls: TlsFiles::read(reader),
        }
    }
}

fn timeouts(reader: &mut Reader) -> Timeouts {
    let read = positive(reader, "upstream.read_timeout", 30);
    let first_byte = reader.or("upstream.first_byte_timeout", read);
    // The forwarding library waits for no byte of an answer for longer.
    reader.check(
        "upstream.first_byte_timeout",
        !first_byte.is_zero() && first_byte <= read,
        "must be greater than 0 and at most upstream.read_timeout",
    );
    Timeouts {
        connect: positive(reader, "upstream.connect_timeout", 2),
        tls: positive(reader, "upstream.tls_timeout", 3),
        first_byte,
        read,
        stream_idle: positive(reader, "upstream.stream_idle_timeout", 600),
        write: positive(reader, "upstream.write_timeout", 30),
        // Go's and Node's servers keep idle connections for a minute or longer.
        idle: positive(reader, "upstream.idle_timeout", 30),
        total: positive(reader, "upstream.total_timeout", 600),
    }
}

fn caps(reader: &mut Reader) -> Caps {
    Caps {
        free: count(reader, "upstream.in_flight.free", 100),
        pro: count(reader, "upstream.in_flight.pro", 1_000),
        enterprise: count(reader, "upstream.in_flight.enterprise", 10_000),
        streams: count(reader, "upstream.streams", 10_000),
    }
}

fn health(reader: &mut Reader) -> HealthPolicy {
    let default = HealthPolicy::default();
    let failures = reader.or("upstream.health.failures", default.failures);
    reader.check(
        "upstream.health.failures",
        (1..=1_000).contains(&failures),
        "must be 1 to 1000",
    );
    let trials = reader.or("upstream.health.trials", default.trials);
    reader.check(
        "upstream.health.trials",
        (1..=100).contains(&trials),
        "must be 1 to 100",
    );
    let probe_first = reader.or("upstream.health.probe_first", default.probe_first);
    let probe_longest = reader.or("upstream.health.probe_longest", default.probe_longest);
    reader.check(
        "upstream.health.probe_first",
        probe_first >= Duration::from_millis(10),
        "must be at least 10ms",
    );
    reader.check(
        "upstream.health.probe_longest",
        probe_longest >= probe_first,
        "must not be shorter than upstream.health.probe_first",
    );
    HealthPolicy {
        failures,
        probe_first,
        probe_longest,
        trials,
        slow_start: reader.or("upstream.health.slow_start", default.slow_start),
        forgive: default.forgive,
    }
}

fn probes(reader: &mut Reader) -> ProbeSettings {
    let path = reader.or("upstream.health.path", "/v1/health".to_owned());
    reader.check(
        "upstream.health.path",
        path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok(),
        "must be a path such as /v1/health",
    );
    ProbeSettings {
        path,
        timeout: positive(reader, "upstream.health.probe_timeout", 2),
        concurrency: 32,
    }
}

fn dns(reader: &mut Reader) -> DnsSettings {
    let min_refresh = reader.or("upstream.dns.min_refresh", Duration::from_secs(5));
    let max_refresh = reader.or("upstream.dns.max_refresh", Duration::from_mins(1));
    reader.check(
        "upstream.dns.min_refresh",
        min_refresh >= Duration::from_millis(10),
        "must be at least 10ms",
    );
    reader.check(
        "upstream.dns.max_refresh",
        max_refresh >= min_refresh,
        "must not be shorter than upstream.dns.min_refresh",
    );
    DnsSettings {
        server: reader.optional("upstream.dns.server"),
        timeout: positive(reader, "upstream.dns.timeout", 2),
        min_refresh,
        max_refresh,
        idle: positive(reader, "upstream.dns.idle", 600),
        concurrency: count(reader, "upstream.dns.concurrency", 32).min(4_096),
    }
}

fn positive(reader: &mut Reader, key: &'static str, seconds: u64) -> Duration {
    let duration = reader.or(key, Duration::from_secs(seconds));
    reader.check(key, !duration.is_zero(), "must be greater than 0");
    duration
}

fn count(reader: &mut Reader, key: &'static str, default: usize) -> usize {
    let count = reader.or(key, default);
    reader.check(key, (1..=1_000_000).contains(&count), "must be 1 to 1000000");
    count
}

#[cfg(test)]
mod tests {
    use authsome_core::config::Environment;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<UpstreamSettings, String> {
        let environment: Environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Reader::new(None, environment)
            .finish(|reader| Some(UpstreamSettings::read(reader)))
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.health, HealthPolicy::default());
        assert_eq!(settings.caps.of(Plan::Free), 100);
        assert_eq!((settings.retry.percent, settings.retry_all.burst), (20, 200));
    }

    #[test]
    fn retries_can_be_switched_off() {
        let retry = read(&[("AUTHSOME_UPSTREAM_RETRY_PERCENT", "0")]).unwrap().retry;
        assert_eq!((retry.burst, retry.floor), (0, 0));
    }

    #[test]
    fn every_problem_is_named_by_its_key() {
        let problems = read(&[
            ("AUTHSOME_UPSTREAM_READ_TIMEOUT", "0s"),
            ("AUTHSOME_UPSTREAM_FIRST_BYTE_TIMEOUT", "10s"),
            ("AUTHSOME_UPSTREAM_RETRY_PERCENT", "101"),
            ("AUTHSOME_UPSTREAM_HEALTH_FAILURES", "0"),
            ("AUTHSOME_UPSTREAM_HEALTH_PATH", "health"),
            ("AUTHSOME_UPSTREAM_HEALTH_PROBE_FIRST", "2m"),
            ("AUTHSOME_UPSTREAM_DNS_MAX_REFRESH", "1s"),
            ("AUTHSOME_UPSTREAM_DNS_SERVER", "resolver"),
            ("AUTHSOME_UPSTREAM_IN_FLIGHT_FREE", "0"),
            ("AUTHSOME_UPSTREAM_TLS_CA", "/nowhere/ca.pem"),
        ])
        .unwrap_err();
        for key in [
            "upstream.read_timeout",
            "upstream.first_byte_timeout",
            "upstream.retry.percent",
            "upstream.health.failures",
            "upstream.health.path",
            "upstream.health.probe_longest",
            "upstream.dns.max_refresh",
            "upstream.dns.server",
            "upstream.in_flight.free",
            "upstream.tls.ca",
        ] {
            assert!(problems.contains(key), "{key} is not in:\n{problems}");
        }
    }
}
