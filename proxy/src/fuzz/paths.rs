//! The two forwarding paths against each other: the same bytes of a client, once with the lane and once without.
//!
//! Owns two edges in this process, each with an instance of its own that remembers what reaches it. Whatever a client sends,
//! both instances must have read the same and both clients the same, but for what differs from request to request by nature.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use authsome_contract::model::{
    AppRecord, CachePolicy, CachePurges, Environment, KeyRecord, KeyState, LimitOverride, Plan, Scopes, Serve, Version,
};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::clock::{Clock, ManualClock, SystemClock};
use authsome_core::config::Reader;
use authsome_core::entropy::{Entropy, SeededEntropy, SystemEntropy};
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_core::lifecycle::Lifecycle;
use bytes::BytesMut;
use http::HeaderValue;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::LIMITS;
use crate::access_log::AccessLog;
use crate::admin::Probes;
use crate::books::Books;
use crate::cache::{CacheMetrics, ResponseCache};
use crate::config::Config;
use crate::drain::InFlight;
use crate::edge::Edge;
use crate::http1::body::{Body, Length};
use crate::http1::head::HeadScanner;
use crate::http1::{Door, Http1};
use crate::lane::{self, Lane};
use crate::limit::{LimitMetrics, Limiter};
use crate::live::{Live, LiveMetrics};
use crate::meter::{Meter, MeterMetrics, MeterSettings};
use crate::metrics::Metrics;
use crate::routing::{self, Routing, RoutingMetrics, RoutingSettings};
use crate::trace::{Ratio, Spans, TraceMetrics, Tracing};
use crate::upstream::{UpstreamMetrics, Upstreams};

/// Longer than any exchange.
const PATIENCE: Duration = Duration::from_mins(1);
/// Separates what the client sends from what the instance answers.
const MARK: &[u8] = b"\n---\n";
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
/// Different in every request.
const BY_NATURE: [&str; 9] = [
    "date",
    "x-authsome-request-id",
    "x-request-id",
    "traceparent",
    "ratelimit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "age",
    // The lane leaves it to HTTP/1.1 itself.
    "keep-alive",
];

/// What the client sends, `{app}`, `{secret}` and `{public}` standing for an application and its keys, and behind a line
/// `---` what the instance answers, are handled alike with the lane and without.
///
/// # Panics
/// If they are not.
pub fn paths(input: &[u8]) {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| Mutex::new(World::new()));
    let world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let (sent, reply) = match input.windows(MARK.len()).position(|window| window == MARK) {
        Some(at) => (&input[..at], &input[at + MARK.len()..]),
        None => (input, REPLY),
    };
    // What the lane refuses of instances, and the library reads in its own way, is no difference to be looked for.
    if !lane::is_plain_reply(reply) {
        return;
    }
    let sent = world.tenant.fill_in(sent);
    let Some(asked) = asked(&sent) else { return };
    let mut sent = sent;
    sent.extend_from_slice(&world.tenant.fill_in(LAST));
    let mut seen = world
        .sides
        .iter()
        .map(|side| world.runtime.block_on(side.run(&sent, reply, &asked)));
    let (with, without) = (seen.next(), seen.next());
    assert_eq!(with, without, "{}", String::from_utf8_lossy(&sent));
}

/// Ends the connection.
const LAST: &[u8] = b"GET /v1/{app}/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// For each request whether it is a HEAD, if the input ends with a whole one or with one that is refused.
fn asked(sent: &[u8]) -> Option<Vec<bool>> {
    let mut asked = Vec::new();
    let mut rest = sent;
    loop {
        while let Some(next) = rest.strip_prefix(b"\r\n") {
            rest = next;
        }
        if rest.is_empty() {
            return Some(asked);
        }
        // What would wait for more.
        let head = match HeadScanner::default().scan(rest, &LIMITS) {
            Ok(Some(head)) => head,
            Ok(None) => return None,
            Err(_) => return Some(asked),
        };
        asked.push(rest.starts_with(b"HEAD "));
        rest = &rest[head.length..];
        let mut body = Body::new(head.body);
        match body.take(rest) {
            Ok(taken) if body.is_done() => rest = &rest[taken..],
            Ok(_) => return None,
            Err(_) => return Some(asked),
        }
    }
}

struct World {
    runtime: Runtime,
    tenant: Tenant,
    sides: [Side; 2],
}

impl World {
    #[expect(clippy::unwrap_used, reason = "a world that cannot be built shows nothing")]
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let tenant = Tenant::new();
        let sides = [true, false].map(|lane| runtime.block_on(Side::new(lane, &tenant)));
        Self { runtime, tenant, sides }
    }
}

struct Tenant {
    app: ApplicationId,
    secret: ApiKey,
    public: ApiKey,
}

impl Tenant {
    fn new() -> Self {
        let entropy = SeededEntropy::new(7);
        let app = ApplicationId::generate(&ManualClock::default(), &entropy);
        let key = |key_type| ApiKey::generate(key_type, KeyMode::Live, &app, &entropy);
        Self {
            app,
            secret: key(KeyType::Secret),
            public: key(KeyType::Public),
        }
    }

    fn fill_in(&self, text: &[u8]) -> Vec<u8> {
        let id = self.app.text();
        let places: [(&[u8], &[u8]); 3] = [
            (b"{app}", id.as_bytes()),
            (b"{secret}", self.secret.expose().as_bytes()),
            (b"{public}", self.public.expose().as_bytes()),
        ];
        let mut filled = Vec::with_capacity(text.len() + 256);
        let mut rest = text;
        'all: while let Some(first) = rest.first() {
            for (place, value) in places {
                if let Some(after) = rest.strip_prefix(place) {
                    filled.extend_from_slice(value);
                    rest = after;
                    continue 'all;
                }
            }
            filled.push(*first);
            rest = &rest[1..];
        }
        filled
    }

    fn install(&self, routing: &Routing, instance: SocketAddr) {
        let version = Version { epoch: 1, row: 1 };
        let app = AppRecord {
            id: self.app,
            workspace_id: WorkspaceId::generate(&ManualClock::default(), &SeededEntropy::new(8)),
            environment: Environment::Production,
            region: "local".to_owned(),
            serve: Serve::Yes,
            endpoints: vec![instance],
            base_path: "/base".to_owned(),
            plan: Plan::Enterprise,
            quota_exhausted: false,
            origins: vec!["https://app.test".to_owned()],
            path_policy: Vec::new(),
            edge_credentials: None,
            strict_seconds: None,
            secret_from_browsers: false,
            limits: Some(LimitOverride {
                requests_per_second: NonZeroU32::new(1_000_000),
                burst: NonZeroU32::new(1_000_000),
                ..LimitOverride::default()
            }),
            cache_policy: CachePolicy::default(),
            cache_purges: CachePurges::default(),
            instance_service: None,
            instance_tls: None,
            version,
        };
        let versioned = Versioned {
            version,
            record: Some(app),
        };
        routing.install(Change::App(self.app, versioned));
        for (key, key_type) in [(&self.secret, KeyType::Secret), (&self.public, KeyType::Public)] {
            let digest = key.digest();
            let record = KeyRecord {
                digest,
                id: KeyId::generate(&ManualClock::default(), &SeededEntropy::new(9)),
                application_id: self.app,
                key_type,
                scopes: Scopes::ALL,
                state: KeyState::Active,
                expires_at_ms: None,
                networks: Vec::new(),
                origins: Vec::new(),
                version,
            };
            let versioned = Versioned {
                version,
                record: Some(record),
            };
            routing.install(Change::Key(digest, versioned));
        }
    }
}

/// A head and a body: the first line, the other lines in order, the body.
type Read = (String, Vec<String>, Vec<u8>);

/// What both ends have read.
#[derive(Debug, PartialEq)]
struct Seen {
    instance: Vec<Read>,
    client: Vec<Read>,
    /// What the client read that is no answer.
    rest: Vec<u8>,
}

/// One edge and its instance.
struct Side {
    http1: Http1,
    shutdown: watch::Receiver<bool>,
    _stop: watch::Sender<bool>,
    instance: Arc<Mutex<Instance>>,
}

#[derive(Default)]
struct Instance {
    reply: Vec<u8>,
    seen: Vec<Read>,
}

fn lock(instance: &Mutex<Instance>) -> MutexGuard<'_, Instance> {
    instance.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Side {
    #[expect(clippy::unwrap_used, reason = "a world that cannot be built shows nothing")]
    async fn new(lane: bool, tenant: &Tenant) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let instance = Arc::new(Mutex::new(Instance::default()));
        tokio::spawn(accept(listener, Arc::clone(&instance)));

        let environment = [
            ("DATABASE_URL", "postgres://nobody"),
            ("REDIS_URL", "redis://nobody"),
            ("NATS_URL", "nats://nobody"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Reader::new(None, environment.into_iter().collect())
            .finish(Config::read)
            .unwrap();
        let registry = Registry::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let metrics = Arc::new(Metrics::new(&registry).unwrap());
        // Where nothing can be made, counting goes on in memory.
        let (meter, _publisher) = Meter::open(
            MeterSettings::in_directory("/dev/null/none".into()),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            MeterMetrics::register(&registry).unwrap(),
        );
        let (routing, _backend) = routing::new(
            RoutingSettings::default(),
            meter,
            Arc::clone(&clock),
            &*entropy,
            RoutingMetrics::register(&registry).unwrap(),
        );
        tenant.install(&routing, address);
        let tracing = Tracing {
            ratio: Ratio::new(0.0).unwrap(),
            spans: Spans::disabled(TraceMetrics::register(&registry).unwrap()),
        };
        let access_log = AccessLog::disabled(metrics.log_dropped.clone());
        let lifecycle = Lifecycle::new(config.timing);
        let (upstreams, _wanted) = Upstreams::new(
            config.upstream,
            Arc::clone(&entropy),
            UpstreamMetrics::register(&registry).unwrap(),
        )
        .unwrap();
        let limits = LimitMetrics::register(&registry).unwrap();
        let edge = Edge {
            books: Arc::new(Books {
                metrics: Arc::clone(&metrics),
                access_log: access_log.clone(),
                clock: Arc::clone(&clock),
                tracing: tracing.clone(),
            }),
            routing: routing.clone(),
            seal: None,
            limits: config.limits,
            upstreams,
            limiter: Limiter::new(&config.callers, limits, Instant::now()),
            region: HeaderValue::from_static("local"),
            addresses: config.addresses,
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            metrics: Arc::clone(&metrics),
            access_log: access_log.clone(),
            in_flight: InFlight::default(),
            live: Live::new(16, LiveMetrics::register(&registry).unwrap()),
            cache: ResponseCache::new(&config.cache, CacheMetrics::register(&registry).unwrap()),
            tracing,
            probes: Arc::new(Probes::new(lifecycle.shutdown().clone(), routing)),
        };
        let door = Door {
            metrics,
            access_log,
            clock,
            entropy,
            region: HeaderValue::from_static("local"),
        };
        let lane = lane.then(|| Lane::new(edge.clone(), 2, 16));
        let proxy = Arc::new(http_proxy(&Arc::new(ServerConf::default()), edge));
        let (stop, shutdown) = watch::channel(false);
        Self {
            http1: Http1::new(proxy, lane, Arc::new(door), config.limits),
            shutdown,
            _stop: stop,
            instance,
        }
    }

    #[expect(clippy::panic, reason = "an exchange that never ends is what is looked for")]
    async fn run(&self, sent: &[u8], reply: &[u8], asked: &[bool]) -> Seen {
        *lock(&self.instance) = Instance {
            reply: reply.to_vec(),
            seen: Vec::new(),
        };
        let (client, edge) = tokio::io::duplex(1024 * 1024);
        let serve = Box::pin(self.http1.serve(Box::new(edge), BytesMut::new(), &self.shutdown));
        let ask = async {
            let (mut from, mut to) = tokio::io::split(client);
            let mut answers = Vec::new();
            // An edge that refuses takes no more; what it says counts.
            let _ = tokio::join!(to.write_all(sent), from.read_to_end(&mut answers));
            answers
        };
        let Ok((answers, ())) = tokio::time::timeout(PATIENCE, async { tokio::join!(ask, serve) }).await else {
            panic!("no end: {}", String::from_utf8_lossy(sent));
        };
        let (client, rest) = answers_of(&answers, asked);
        Seen {
            instance: std::mem::take(&mut lock(&self.instance).seen),
            client,
            rest,
        }
    }
}

async fn accept(listener: TcpListener, instance: Arc<Mutex<Instance>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&instance)));
    }
}

/// Reads requests and answers them, until one side closes.
async fn answer(mut stream: TcpStream, instance: Arc<Mutex<Instance>>) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let (request, length) = loop {
            if let Some(request) = request_of(&read) {
                break request;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        read.drain(..length);
        let is_head = request.0.starts_with("HEAD ");
        let reply = {
            let mut instance = lock(&instance);
            instance.seen.push(request);
            instance.reply.clone()
        };
        let head = reply.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let end = if is_head { head } else { reply.len() };
        stream.write_all(&reply[..end]).await.ok()?;
        if lane::ends_with_connection(&reply) {
            return None;
        }
    }
}

/// A whole request at the beginning of these bytes, and its length.
fn request_of(bytes: &[u8]) -> Option<(Read, usize)> {
    let mut space = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut space);
    let httparse::Status::Complete(length) = parsed.parse(bytes).ok()? else {
        return None;
    };
    let framing = parsed.headers.iter().find_map(|line| {
        let value = str::from_utf8(line.value).ok()?;
        if line.name.eq_ignore_ascii_case("content-length") {
            return value.parse().ok().map(Length::Bytes);
        }
        line.name
            .eq_ignore_ascii_case("transfer-encoding")
            .then_some(Length::Chunked)
    });
    let (body, taken) = body_of(&bytes[length..], framing.unwrap_or(Length::Bytes(0)))?;
    let start = format!("{} {}", parsed.method?, parsed.path?);
    Some(((start, lines(parsed.headers), body), length + taken))
}

/// The data of a whole body at the beginning of these bytes, and the length of both.
fn body_of(bytes: &[u8], length: Length) -> Option<(Vec<u8>, usize)> {
    let mut body = Body::new(length);
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let (framing, here) = body.part(&bytes[at..]).ok()?;
        at += framing;
        data.extend_from_slice(&bytes[at..at + here]);
        at += here;
        if here == 0 {
            return body.is_done().then_some((data, at));
        }
    }
}

fn answers_of(mut bytes: &[u8], asked: &[bool]) -> (Vec<Read>, Vec<u8>) {
    let mut answers = Vec::new();
    let mut asked = asked.iter().copied().chain(std::iter::repeat(false));
    let mut is_head = asked.next().unwrap_or(false);
    while let Some((answer, length)) = answer_of(bytes, is_head) {
        if !answer.0.starts_with('1') {
            is_head = asked.next().unwrap_or(false);
        }
        answers.push(answer);
        bytes = &bytes[length..];
    }
    // The answer to a HEAD that was refused before anybody knew that it was one has a body.
    (answers, without_ids(bytes.to_vec()))
}

/// A whole answer at the beginning of these bytes, and its length.
fn answer_of(bytes: &[u8], is_head: bool) -> Option<(Read, usize)> {
    let mut space = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Response::new(&mut space);
    let httparse::Status::Complete(length) = parsed.parse(bytes).ok()? else {
        return None;
    };
    let status = parsed.code?;
    let framing = parsed.headers.iter().find_map(|line| {
        let value = str::from_utf8(line.value).ok()?;
        if line.name.eq_ignore_ascii_case("content-length") {
            return value.parse().ok().map(Length::Bytes);
        }
        line.name
            .eq_ignore_ascii_case("transfer-encoding")
            .then_some(Length::Chunked)
    });
    let framing = if is_head || status < 200 || matches!(status, 204 | 304) {
        Length::Bytes(0)
    } else {
        framing.unwrap_or(Length::Bytes(0))
    };
    let (body, taken) = body_of(&bytes[length..], framing)?;
    let start = format!("{status} {}", parsed.reason.unwrap_or_default());
    Some(((start, lines(parsed.headers), without_ids(body)), length + taken))
}

/// In lower case and in order, without what differs by nature.
fn lines(headers: &[httparse::Header<'_>]) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|line| (line.name.to_ascii_lowercase(), String::from_utf8_lossy(line.value)))
        .filter(|(name, _)| !BY_NATURE.contains(&&**name))
        .map(|(name, value)| format!("{name}: {}", value.trim()))
        .collect();
    lines.sort();
    lines
}

/// The id of the request is in every refusal.
fn without_ids(body: Vec<u8>) -> Vec<u8> {
    const ID: usize = 26;
    match body.windows(4).position(|window| window == b"req_") {
        Some(at) if body.len() >= at + 4 + ID => [&body[..at], &body[at + 4 + ID..]].concat(),
        _ => body,
    }
}
