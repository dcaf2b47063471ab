//! How often a request takes memory from the heap, against the committed counts in `allocations.json`.
//!
//! The count is the same on every machine and in every run but for what the edge does by itself now and then; the least of
//! several batches has none of that. A change that lowers a count lowers it in the file too.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use authsome_benches::{records, stream, upstream};
use authsome_contract::model::Plan;
use authsome_control::tasks::connect;
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_core::secret::SecretUrl;
use authsome_testkit::{GuardedChild, GuardedCommand, NatsOptions, NatsServer, http_probe, port, wait_for};

const BASELINE: &str = include_str!("allocations.json");
/// A request that now and then grows a buffer.
const TOLERANCE: f64 = 1.0;
const BATCHES: usize = 12;
const REQUESTS: u32 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_takes_no_more_from_the_heap_than_was_agreed() {
    let with_lane = Counted::start(true).await;
    let without = Counted::start(false).await;
    let (app, key) = (with_lane.app, with_lane.key.clone());
    let line = |method: &str, more: &str, key: &str| {
        format!("{method} /v1/{app}/users HTTP/1.1\r\nhost: api.authsome.test\r\nx-api-key: {key}\r\n{more}\r\n")
    };
    let post = format!("{}{}", line("POST", "content-length: 1024\r\n", &key), " ".repeat(1024));
    // Another letter in the middle, so that only the checksum is wrong.
    let at = key.len() / 2;
    let other = if &key[at..=at] == "a" { "b" } else { "a" };
    let mistyped = format!("{}{other}{}", &key[..at], &key[at + 1..]);
    let elsewhere = without.request("GET");
    let cases = [
        ("authenticated GET", with_lane.taken(&line("GET", "", &key), 200)),
        ("authenticated POST of 1 KiB", with_lane.taken(&post, 200)),
        ("refused by checksum", with_lane.taken(&line("GET", "", &mistyped), 401)),
        ("authenticated GET without the lane", without.taken(&elsewhere, 200)),
    ];
    let agreed: BTreeMap<String, f64> = serde_json::from_str(BASELINE).unwrap();
    let more: Vec<String> = cases
        .iter()
        .filter(|(name, taken)| *taken > agreed[*name] + TOLERANCE)
        .map(|(name, taken)| format!("{name}: {taken} a request, agreed are {}", agreed[*name]))
        .collect();
    println!("{cases:#?}");
    assert!(more.is_empty(), "{more:#?}");
}

/// An edge that counts, with one application, its instance and its table.
struct Counted {
    address: SocketAddr,
    counter: SocketAddr,
    app: ApplicationId,
    key: String,
    _child: GuardedChild,
    _nats: NatsServer,
    _directory: tempfile::TempDir,
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()))
}

impl Counted {
    async fn start(lane: bool) -> Self {
        let instance = free();
        std::thread::spawn(move || upstream::serve(instance, 1));
        let (clock, entropy) = (SystemClock, SystemEntropy::new());
        let app = ApplicationId::generate(&clock, &entropy);
        let key = ApiKey::generate(KeyType::Secret, KeyMode::Live, &app, &entropy);
        let changes = [
            records::app_of(app, &instance.to_string(), Plan::Enterprise),
            records::key_of(app, key.digest()),
        ];
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let client = connect::nats(&SecretUrl::parse(&nats.url()).unwrap(), "stream")
            .await
            .unwrap();
        let heartbeat = stream::fill(&client, changes.into_iter()).await;
        tokio::spawn(stream::beat(client, heartbeat));

        let directory = tempfile::tempdir().unwrap();
        let (address, admin, counter, nobody) = (free(), free(), free(), free());
        let binary = env!("CARGO_BIN_EXE_authsome-counted-edge");
        let child = GuardedCommand::new(binary, directory.path().join("log"))
            .env("AUTHSOME_COUNTED_LISTEN", counter.to_string())
            .env("AUTHSOME_LISTEN_ADDRESS", address.to_string())
            .env("AUTHSOME_LISTEN_ADMIN", admin.to_string())
            .env(
                "AUTHSOME_DATA_DIRECTORY",
                directory.path().join("data").display().to_string(),
            )
            .env("AUTHSOME_SERVER_THREADS", "1")
            .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
            .env("AUTHSOME_LOG_ACCESS", "false")
            .env("AUTHSOME_LANE_ENABLED", lane.to_string())
            .env("AUTHSOME_LIMITS_REFUSALS_PER_ADDRESS", "100000")
            .env("DATABASE_URL", format!("postgres://nobody@{nobody}/control"))
            .env("REDIS_URL", format!("redis://{nobody}"))
            .env("NATS_URL", nats.url())
            .spawn()
            .await
            .unwrap();
        let at = admin.to_string();
        wait_for("an edge with its table", Duration::from_mins(1), async || {
            http_probe::ok(&at, "/readyz").await
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", child.log_tail(30)));
        Self {
            address,
            counter,
            app,
            key: key.expose().to_owned(),
            _child: child,
            _nats: nats,
            _directory: directory,
        }
    }

    fn request(&self, method: &str) -> String {
        format!(
            "{method} /v1/{}/users HTTP/1.1\r\nhost: api.authsome.test\r\nx-api-key: {}\r\n\r\n",
            self.app, self.key
        )
    }

    /// Allocations of one such request on a connection that is in use.
    fn taken(&self, request: &str, status: u16) -> f64 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut batch = || {
            let before = self.count();
            for _ in 0..REQUESTS {
                exchange(&mut stream, request, status);
            }
            self.count() - before
        };
        // What is made at the first.
        batch();
        let least = (0..BATCHES).map(|_| batch()).min().unwrap();
        f64::from(u32::try_from(least).unwrap()) / f64::from(REQUESTS)
    }

    fn count(&self) -> u64 {
        let mut stream = TcpStream::connect(self.counter).unwrap();
        let mut count = [0; 8];
        stream.read_exact(&mut count).unwrap();
        u64::from_le_bytes(count)
    }
}

/// A request and its whole answer, which says how long it is.
fn exchange(stream: &mut TcpStream, request: &str, status: u16) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap_or_else(|| panic!("no length in {head}")).parse().unwrap();
        if body.len() == length {
            return;
        }
    }
}
