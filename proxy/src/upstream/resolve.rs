//! Names of services to addresses, off the request path.
//!
//! Owns the questions: who is asked, how often, how many at once. A name is followed from its first request until nobody has
//! needed it for a while. When the resolver is away the last good addresses stay in use.

mod named;
mod schedule;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authsome_core::entropy::Entropy;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use named::{BadServiceName, Named, ServiceName};
use schedule::{Change, RefreshBounds, Said, Schedule};

use super::registry::Upstreams;
use super::settings::DnsSettings;

/// Names that wait for their first question.
pub(super) const WANTED: usize = 4096;

/// A name, and when it is asked for next.
struct Turn {
    due: Instant,
    named: Arc<Named>,
    schedule: Schedule,
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// Follows names until it is dropped.
pub(super) async fn follow(upstreams: Arc<Upstreams>, mut wanted: mpsc::Receiver<Arc<Named>>) {
    let settings = upstreams.settings().dns;
    let mut client = Client::new(settings);
    let mut turns: BinaryHeap<Reverse<Turn>> = BinaryHeap::new();
    let mut asking: JoinSet<(Turn, Said, Vec<SocketAddr>)> = JoinSet::new();
    loop {
        let now = Instant::now();
        while asking.len() < settings.concurrency
            && let Some(Reverse(turn)) = turns.pop_if_due(now)
        {
            let idle = turn.named.idle_for(upstreams.elapsed());
            if idle.is_none_or(|idle| idle > settings.idle) {
                turn.named.forsake();
                continue;
            }
            let resolver = client.resolver();
            asking.spawn(async move {
                let (said, addresses) = ask(resolver, turn.named.name(), settings.timeout).await;
                (turn, said, addresses)
            });
        }
        upstreams.metrics().names.set(gauge(turns.len() + asking.len()));
        // A full house waits for an answer; otherwise also for the next turn.
        let next = turns.peek().filter(|_| asking.len() < settings.concurrency);
        let pause = next.map_or(Duration::from_hours(1), |Reverse(turn)| {
            turn.due.saturating_duration_since(now)
        });
        tokio::select! {
            named = wanted.recv() => {
                let Some(named) = named else { return };
                turns.push(Reverse(Turn { due: Instant::now(), named, schedule: Schedule::default() }));
            }
            Some(done) = asking.join_next() => match done {
                Ok((turn, said, addresses)) => {
                    turns.push(Reverse(apply(&upstreams, turn, said, &addresses, upstreams.entropy())));
                }
                // Its name is lost with it; it was a panic in the resolver.
                Err(error) => tracing::error!(%error, "a resolution ended badly"),
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

trait PopIfDue {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<Turn>>;
}

impl PopIfDue for BinaryHeap<Reverse<Turn>> {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<Turn>> {
        self.peek()
            .is_some_and(|Reverse(turn)| turn.due <= now)
            .then(|| self.pop())?
    }
}

fn apply(upstreams: &Upstreams, mut turn: Turn, said: Said, addresses: &[SocketAddr], entropy: &dyn Entropy) -> Turn {
    let settings = upstreams.settings().dns;
    let bounds = RefreshBounds {
        min: settings.min_refresh,
        max: settings.max_refresh,
    };
    let now = Instant::now();
    let (change, pause) = turn.schedule.after(said, &bounds, entropy);
    match change {
        Change::Replace => turn.named.replace(addresses, now),
        Change::Clear => turn.named.replace(&[], now),
        Change::Keep => {}
    }
    turn.named.was_asked();
    let outcome = match said {
        Said::Addresses(_) => 0,
        Said::Nothing => 1,
        Said::Failed => 2,
    };
    upstreams.metrics().resolutions[outcome].inc();
    turn.due = now + pause;
    turn
}

/// Who is asked. The system's configuration is read when it is needed, and again if that failed.
struct Client {
    settings: DnsSettings,
    resolver: Option<TokioResolver>,
}

impl Client {
    fn new(settings: DnsSettings) -> Self {
        Self {
            settings,
            resolver: None,
        }
    }

    fn resolver(&mut self) -> Option<TokioResolver> {
        if self.resolver.is_none() {
            match build(&self.settings) {
                Ok(resolver) => self.resolver = Some(resolver),
                Err(error) => tracing::error!(%error, "names of services cannot be resolved"),
            }
        }
        self.resolver.clone()
    }
}

fn build(settings: &DnsSettings) -> Result<TokioResolver, NetError> {
    let mut builder = match settings.server {
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    // What is remembered, and for how long, is decided here.
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // A name with a dot is tried as it is before the search list; most are complete.
    options.ndots = 1;
    options.attempts = 2;
    options.timeout = settings.timeout / 2;
    builder.build()
}

async fn ask(resolver: Option<TokioResolver>, name: &ServiceName, limit: Duration) -> (Said, Vec<SocketAddr>) {
    let Some(resolver) = resolver else {
        return (Said::Failed, Vec::new());
    };
    match tokio::time::timeout(limit, resolver.lookup_ip(name.host())).await {
        Ok(Ok(found)) => {
            let lifetime = found.valid_until().saturating_duration_since(Instant::now());
            let mut addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, name.port())).collect();
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() {
                (Said::Nothing, addresses)
            } else {
                (Said::Addresses(lifetime), addresses)
            }
        }
        Ok(Err(error)) if error.is_no_records_found() => (Said::Nothing, Vec::new()),
        Ok(Err(error)) => {
            tracing::debug!(%name, %error, "a name could not be resolved");
            (Said::Failed, Vec::new())
        }
        Err(_) => (Said::Failed, Vec::new()),
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
