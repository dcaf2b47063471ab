//! What the DNS says of names that customers give us.
//!
//! Asks the system's name servers, or those that are configured. Nothing is remembered: a proof must be fresh. A resolver that
//! does not answer is [`DnsError`]; whoever asked says "try again", and nothing is concluded from silence.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use authsome_core::config::Reader;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// The most TXT records of one name that are looked at.
const TEXTS_MAX: usize = 100;

/// Who is asked, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// `dns.servers`: `address:port`; the system's where there are none.
    pub servers: Vec<SocketAddr>,
    /// `dns.timeout`: for one question. Default 5s.
    pub timeout: Duration,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
        }
    }
}

impl DnsSettings {
    /// Reads the section `dns`.
    pub fn read(reader: &mut Reader) -> Self {
        let defaults = Self::default();
        let names: Vec<String> = reader.or("dns.servers", Vec::new());
        let servers: Result<Vec<SocketAddr>, _> = names.iter().map(|server| server.parse()).collect();
        reader.check("dns.servers", servers.is_ok(), "must be addresses such as 10.0.0.2:53");
        let timeout = reader.or("dns.timeout", defaults.timeout);
        let sensible = Duration::from_millis(100)..=Duration::from_secs(20);
        reader.check("dns.timeout", sensible.contains(&timeout), "must be from 100ms to 20s");
        Self {
            servers: servers.unwrap_or_default(),
            timeout,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The resolver could not be set up, or failed.
    #[error("the name could not be resolved: {0}")]
    Net(#[from] NetError),
    /// It did not answer.
    #[error("the name servers did not answer within {0:?}")]
    Silent(Duration),
}

/// Asks the DNS.
#[derive(Debug, Clone)]
pub struct Dns {
    settings: DnsSettings,
}

impl Dns {
    /// Asks as `settings` say.
    pub fn new(settings: DnsSettings) -> Self {
        Self { settings }
    }

    /// The TXT records of a name, each as one text; none where there is no such name.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let resolver = self.resolver()?;
        let asking = resolver.txt_lookup(format!("{name}."));
        let found = match self.bounded(asking).await {
            Err(DnsError::Net(error)) if error.is_no_records_found() => return Ok(Vec::new()),
            found => found?,
        };
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(texts.take(TEXTS_MAX).collect())
    }

    /// The addresses of a name; none where there is no such name.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let resolver = self.resolver()?;
        let asking = resolver.lookup_ip(format!("{}.", name.trim_end_matches('.')));
        match self.bounded(asking).await {
            Err(DnsError::Net(error)) if error.is_no_records_found() => Ok(Vec::new()),
            found => Ok(found?.iter().collect()),
        }
    }

    async fn bounded<T>(&self, asking: impl Future<Output = Result<T, NetError>>) -> Result<T, DnsError> {
        let limit = self.settings.timeout;
        tokio::time::timeout(limit, asking)
            .await
            .map_err(|_| DnsError::Silent(limit))?
            .map_err(DnsError::Net)
    }

    /// Made for each question: they are rare, and the system's configuration may change.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.settings.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.settings.servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.attempts = 2;
        options.timeout = self.settings.timeout / 2;
        builder.build()
    }
}
