//! The way to an application's instances: their addresses, whose turn it is, how they are connected to, what they are shown,
//! and what a failure of theirs means to the client.
//!
//! Depends on the record of the application, and where that gives a name instead of addresses, on a resolver, which requests
//! never wait for once a name is known. An instance that is away is answered with 502, 503 or 504 after at most [`TRIES`]
//! attempts, of which all but the first are paid for by a budget. What is decided here knows nothing of who forwards.

pub mod app;
pub mod budget;
mod endpoint;
mod fault;
pub mod health;
mod instance;
mod metrics;
mod patience;
mod peer;
mod probe;
mod registry;
mod relay;
pub mod resolve;
pub mod retry;
mod service;
pub mod set;
mod settings;
mod tls;
mod tunnel;
mod way;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use authsome_contract::model::AppRecord;
use authsome_core::id::ApplicationId;
use authsome_core::seal::EdgeRing;
use http::HeaderValue;
use rustls::pki_types::ServerName;

pub use app::{Kind, Permit, Upstream};
pub use endpoint::{Attempt, Endpoint};
pub use fault::{Blame, refusal_of};
pub use health::Outcome;
pub use instance::{CredentialsError, EDGE_CREDENTIALS_COLUMN, InstanceCredentials};
pub use metrics::UpstreamMetrics;
pub use patience::{Line, Patience};
pub(crate) use peer::dial;
pub use peer::{Carried, Purpose, Timeouts, peer};
pub use probe::ProbeTarget;
pub use registry::{Upstreams, Wanted};
pub use resolve::{BadServiceName, Named, ServiceName};
pub use retry::{Failed, Next, Stage, TRIES};
pub use service::UpstreamService;
pub use set::{Set, Tried};
pub use settings::{Caps, DnsSettings, ProbeSettings, UpstreamSettings};
pub use tls::{TlsFileError, TlsFiles, TlsIdentity};
pub use tunnel::Hold;
pub use way::{Call, Replay, Way};

/// What is worked out once for a record and used by every request.
#[derive(Debug)]
pub struct Prepared {
    /// The application's prefix on the shared host: `/v1/app_…`.
    pub prefix: String,
    /// The same as a header value.
    pub prefix_value: HeaderValue,
    /// Separates pooled connections of applications whose instances had the same address at different times.
    pub group_key: u64,
    /// What the instance itself wants to be shown; an error if it cannot be unsealed, and then nothing is forwarded.
    pub instance: Result<InstanceCredentials, CredentialsError>,
    /// A cookie of this record's instances was dropped and said so.
    cookie_dropped: AtomicBool,
    /// What is remembered of the application beyond this record.
    pub upstream: Arc<Upstream>,
    /// Where its endpoints come from.
    pub source: Source,
    /// The name of its instances' certificates, if they speak TLS.
    pub server_name: Option<Arc<str>>,
    /// How many of its requests may be on their way at once.
    pub cap: usize,
}

/// Where endpoints come from.
#[derive(Debug)]
pub enum Source {
    /// The record lists them.
    Fixed(Set),
    /// The record names a service, and perhaps lists some beside it.
    Named(Arc<Named>),
}

impl Prepared {
    /// Prepares a record. `ring` unseals its credentials. What is wrong with it is logged here, once for each version.
    pub fn new(record: &AppRecord, ring: Option<&EdgeRing>, upstreams: &Upstreams) -> Self {
        let prefix = format!("/v1/{}", record.id);
        let instance = InstanceCredentials::unseal(record, ring);
        if let Err(error) = &instance {
            tracing::error!(app = %record.id, version = %record.version, %error, "cannot use the instance's credentials");
        }
        let upstream = upstreams.of(record.id);
        let source = Source::of(record, &upstream);
        let server_name = record.instance_tls.as_ref().map(|tls| &*tls.server_name);
        upstream.probed_at(ProbeTarget {
            server_name: server_name.map(str::to_owned),
            path: format!("{}{}", record.base_path, upstreams.settings().probes.path),
        });
        Self {
            // An id is base32, so the fallback does not occur.
            prefix_value: HeaderValue::from_str(&prefix).unwrap_or_else(|_| HeaderValue::from_static("")),
            prefix,
            group_key: group_key(&record.id),
            instance,
            cookie_dropped: AtomicBool::new(false),
            source,
            cap: cap(record, upstreams.settings()),
            server_name: server_name.map(Arc::from),
            upstream,
        }
    }

    /// Says once for each version of the record that a cookie of its instances cannot work on the shared host.
    pub fn warn_of_dropped_cookie(&self, app: Option<ApplicationId>) {
        if !self.cookie_dropped.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                app = app.map(tracing::field::display),
                "a cookie with the prefix __Host- was dropped: it needs a host of the application's own"
            );
        }
    }

    /// Does this authority, as in a `Location`, lead to an instance rather than to the edge?
    pub fn is_internal(&self, authority: &str) -> bool {
        match &self.source {
            Source::Fixed(set) => set.is_named_by(authority),
            Source::Named(named) => {
                named.name().is_named_by(authority)
                    || named.current().as_ref().is_some_and(|set| set.is_named_by(authority))
            }
        }
    }
}

impl Source {
    fn of(record: &AppRecord, upstream: &Arc<Upstream>) -> Self {
        let unusable = |what: &'static str| {
            tracing::error!(app = %record.id, version = %record.version, what, "the application has no usable endpoints");
            Self::Fixed(Set::new(Vec::new()))
        };
        // Without a name the certificate would be anybody's, and plain TCP is not what the record says.
        if let Some(tls) = &record.instance_tls
            && ServerName::try_from(tls.server_name.as_str()).is_err()
        {
            return unusable("the name of its instances' certificate is not a name");
        }
        match record.instance_service.as_deref().map(str::parse::<ServiceName>) {
            None => Self::Fixed(upstream.set(&record.endpoints, Instant::now())),
            Some(Ok(name)) => Self::Named(upstream.named(&name, &record.endpoints)),
            Some(Err(_)) => unusable("its service is not of the form name:port"),
        }
    }
}

/// By contract, or else by plan.
fn cap(record: &AppRecord, settings: &UpstreamSettings) -> usize {
    let contract = record.limits.and_then(|limits| limits.in_flight);
    contract.map_or(settings.caps.of(record.plan), |cap| cap.get() as usize)
}

/// Both halves of the id hold random bits of their own.
fn group_key(id: &ApplicationId) -> u64 {
    let (high, low) = id.uuid().as_u64_pair();
    high.rotate_left(32) ^ low
}

/// Is this authority (`host` or `host:port`, as an instance may name itself) one of these endpoints? An instance on the edge's own
/// machine may call itself `localhost`.
fn is_endpoint(mut endpoints: impl Iterator<Item = SocketAddr>, authority: &str) -> bool {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return endpoints.any(|endpoint| endpoint == address);
    }
    if let Ok(ip) = authority.parse::<IpAddr>() {
        return endpoints.any(|endpoint| endpoint.ip() == ip);
    }
    let (name, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    name.eq_ignore_ascii_case("localhost")
        && port
            .parse()
            .is_ok_and(|port: u16| endpoints.any(|endpoint| endpoint.ip().is_loopback() && endpoint.port() == port))
}

/// The request target for the instance: its base path, the tail as it came, the query.
pub fn target(base_path: &str, tail: &str, query: Option<&str>) -> String {
    let mut target = String::with_capacity(base_path.len() + tail.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(base_path);
    target.push_str(tail);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_known_by_its_addresses_and_as_localhost() {
        let endpoints: [SocketAddr; 2] = ["127.0.0.1:8080".parse().unwrap(), "10.0.0.7:80".parse().unwrap()];
        for own in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "localhost:8080",
            "LOCALHOST:8080",
            "10.0.0.7",
            "10.0.0.7:80",
        ] {
            assert!(is_endpoint(endpoints.into_iter(), own), "{own}");
        }
        for other in [
            "localhost",
            "localhost:8081",
            "localhost:x",
            "10.0.0.7:8080",
            "10.0.0.8",
            "",
            "localhost.evil:8080",
        ] {
            assert!(!is_endpoint(endpoints.into_iter(), other), "{other}");
        }
    }

    #[test]
    fn the_target_is_base_path_tail_and_query() {
        assert_eq!(target("", "/v1/me", None), "/v1/me");
        assert_eq!(target("/api/auth", "/%2e%2e/x", Some("")), "/api/auth/%2e%2e/x?");
        assert_eq!(target("/api", "/", Some("a=b?c")), "/api/?a=b?c");
    }
}
