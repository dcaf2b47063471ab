//! The way to an application's instances: their addresses, how they are connected to, what they are shown, and what a
//! failure of theirs means to the client.
//!
//! Depends on the record of the application only. An instance that is away is answered with 502, 503 or 504 after at most
//! [`TRIES`] attempts to connect; nothing is sent twice.

mod fault;
mod instance;
mod peer;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use authsome_contract::model::AppRecord;
use authsome_core::id::ApplicationId;
use authsome_core::seal::EdgeRing;
use http::HeaderValue;

pub use fault::{Blame, refusal_of};
pub use instance::{CredentialsError, EDGE_CREDENTIALS_COLUMN, InstanceCredentials};
pub use peer::{Timeouts, peer};

/// How often a connection is tried, each time at the next address. Only failed connects are retried: until one succeeds
/// nothing was sent.
pub const TRIES: usize = 3;

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
}

impl Prepared {
    /// Prepares a record. `ring` unseals its credentials. What is wrong with them is logged here, once for each version.
    pub fn new(record: &AppRecord, ring: Option<&EdgeRing>) -> Self {
        let prefix = format!("/v1/{}", record.id);
        let instance = InstanceCredentials::unseal(record, ring);
        if let Err(error) = &instance {
            tracing::error!(app = %record.id, version = %record.version, %error, "cannot use the instance's credentials");
        }
        Self {
            // An id is base32, so the fallback does not occur.
            prefix_value: HeaderValue::from_str(&prefix).unwrap_or_else(|_| HeaderValue::from_static("")),
            prefix,
            group_key: group_key(&record.id),
            instance,
            cookie_dropped: AtomicBool::new(false),
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
}

/// Both halves of the id hold random bits of their own.
fn group_key(id: &ApplicationId) -> u64 {
    let (high, low) = id.uuid().as_u64_pair();
    high.rotate_left(32) ^ low
}

/// Is this authority (`host` or `host:port`, as an instance may name itself) one of these endpoints? An instance on the edge's own
/// machine may call itself `localhost`.
pub fn is_endpoint(endpoints: &[SocketAddr], authority: &str) -> bool {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return endpoints.contains(&address);
    }
    if let Ok(ip) = authority.parse::<IpAddr>() {
        return endpoints.iter().any(|endpoint| endpoint.ip() == ip);
    }
    let (name, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    name.eq_ignore_ascii_case("localhost")
        && port.parse().is_ok_and(|port: u16| {
            endpoints
                .iter()
                .any(|endpoint| endpoint.ip().is_loopback() && endpoint.port() == port)
        })
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
        let endpoints = ["127.0.0.1:8080".parse().unwrap(), "10.0.0.7:80".parse().unwrap()];
        for own in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "localhost:8080",
            "LOCALHOST:8080",
            "10.0.0.7",
            "10.0.0.7:80",
        ] {
            assert!(is_endpoint(&endpoints, own), "{own}");
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
            assert!(!is_endpoint(&endpoints, other), "{other}");
        }
    }

    #[test]
    fn the_target_is_base_path_tail_and_query() {
        assert_eq!(target("", "/v1/me", None), "/v1/me");
        assert_eq!(target("/api/auth", "/%2e%2e/x", Some("")), "/api/auth/%2e%2e/x?");
        assert_eq!(target("/api", "/", Some("a=b?c")), "/api/?a=b?c");
    }
}
