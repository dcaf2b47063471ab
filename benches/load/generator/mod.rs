//! The load generator: closed loops for what a request costs, an open loop at a fixed rate for how long it takes.
//!
//! Written on tokio, httparse and hdrhistogram rather than taken whole, because no generator does what is needed here: `wrk`
//! has closed loops alone, whose percentiles leave out what a slow server kept from being sent; `oha` corrects for that,
//! but sends every request with the same headers, and ten thousand keys must take turns; hyper's client costs as much
//! as a contender, so that on two cores the generator would be what is measured.

mod arrivals;
mod connection;
mod socket;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use crate::cores::{Cores, stay_on};
use arrivals::Arrivals;
use connection::Connection;

/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked, and what must be answered.
#[derive(Debug, Clone)]
pub(crate) enum Traffic {
    /// Requests that take turns, and the statuses that are right.
    Http {
        requests: Arc<Vec<Vec<u8>>>,
        expected: &'static [u16],
    },
    /// Messages of this length that go to and fro on a connection which was opened by this request's target and key.
    WebSocket { target: String, key: String, bytes: usize },
}

/// What has been done so far. Each thread counts by itself.
#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    /// Bytes of requests and of the bodies of answers (or of messages both ways).
    bytes: AtomicU64,
    wrong: AtomicU64,
    connected: AtomicU64,
}

/// Threads that drive one contender with a closed loop on each connection.
pub(crate) struct Closed {
    counts: Vec<Arc<Counts>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<String>>>,
}

/// What the threads have done until a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) at: Instant,
    pub(crate) done: u64,
    pub(crate) bytes: u64,
}

impl Closed {
    /// Opens the connections and begins; returns when all of them are open.
    pub(crate) fn start(cores: &Cores, address: SocketAddr, traffic: &Traffic, connections: usize) -> Self {
        let threads = cores.generator.len().min(connections);
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Vec<Arc<Counts>> = (0..threads).map(|_| Arc::default()).collect();
        let running = counts
            .iter()
            .enumerate()
            .map(|(thread, counts)| {
                let own: Vec<usize> = (0..connections).filter(|n| n % threads == thread).collect();
                let (counts, stop, traffic, cores) = (
                    Arc::clone(counts),
                    Arc::clone(&stop),
                    traffic.clone(),
                    cores.generator.clone(),
                );
                std::thread::spawn(move || {
                    stay_on(&cores);
                    closed(address, &traffic, &own, connections, &counts, &stop)
                })
            })
            .collect();
        let closed = Self {
            counts,
            stop,
            threads: running,
        };
        let began = Instant::now();
        while closed.sum(|counts| &counts.connected) < connections as u64 {
            assert!(
                began.elapsed() < 6 * PATIENCE,
                "only {} of {connections} connections were opened",
                closed.sum(|counts| &counts.connected)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        closed
    }

    fn sum(&self, which: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.counts
            .iter()
            .map(|counts| which(counts).load(Ordering::Relaxed))
            .sum()
    }

    /// Now.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            at: Instant::now(),
            done: self.sum(|counts| &counts.done),
            bytes: self.sum(|counts| &counts.bytes),
        }
    }

    /// Ends, and fails if anything was answered that should not have been: what is fast and wrong is not measured.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.sum(|counts| &counts.wrong);
        let mut said = None;
        for thread in self.threads {
            said = thread.join().unwrap().or(said);
        }
        assert!(wrong == 0 && said.is_none(), "{wrong} wrong answers, such as {said:?}");
    }
}

/// One thread's connections. Returns something that was answered and should not have been.
fn closed(
    address: SocketAddr,
    traffic: &Traffic,
    own: &[usize],
    connections: usize,
    counts: &Arc<Counts>,
    stop: &Arc<AtomicBool>,
) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let tasks: Vec<_> = own
            .iter()
            .map(|number| {
                let (counts, stop, traffic, number) = (Arc::clone(counts), Arc::clone(stop), traffic.clone(), *number);
                tokio::task::spawn_local(async move {
                    match &traffic {
                        Traffic::Http { requests, expected } => {
                            let turn = Turn::new(requests, number, connections);
                            ask_and_ask(address, turn, expected, &counts, &stop).await
                        }
                        Traffic::WebSocket { target, key, bytes } => {
                            socket::to_and_fro(address, target, key, *bytes, &counts, &stop).await
                        }
                    }
                })
            })
            .collect();
        let mut wrong = None;
        for task in tasks {
            // The first thing that went wrong is the reason of those behind it.
            let said = task.await.unwrap();
            wrong = wrong.or(said);
        }
        wrong
    })
}

/// The requests of one connection: every so-manieth, so that all of them are sent equally often.
struct Turn<'r> {
    requests: &'r [Vec<u8>],
    at: usize,
    step: usize,
}

impl<'r> Turn<'r> {
    fn new(requests: &'r [Vec<u8>], number: usize, connections: usize) -> Self {
        Self {
            requests,
            at: number % requests.len(),
            // An even number of connections and of requests would leave some out for ever.
            step: if requests.len().is_multiple_of(connections) {
                connections
            } else {
                connections + 1
            },
        }
    }

    fn next(&mut self) -> &'r [u8] {
        let request = &self.requests[self.at];
        self.at = (self.at + self.step) % self.requests.len();
        request
    }
}

async fn ask_and_ask(
    address: SocketAddr,
    mut turn: Turn<'_>,
    expected: &[u16],
    counts: &Counts,
    stop: &AtomicBool,
) -> Option<String> {
    let mut connection = match Connection::open(address).await {
        Ok(connection) => connection,
        Err(error) => return Some(error.to_string()),
    };
    counts.connected.fetch_add(1, Ordering::Relaxed);
    let mut wrong = None;
    while !stop.load(Ordering::Relaxed) {
        let request = turn.next();
        match connection.exchange(request).await {
            Ok(answer) if expected.contains(&answer.status) => {
                counts.done.fetch_add(1, Ordering::Relaxed);
                let bytes = request.len() as u64 + answer.bytes;
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(answer) => {
                counts.wrong.fetch_add(1, Ordering::Relaxed);
                wrong.get_or_insert(format!("status {}", answer.status));
            }
            Err(error) => {
                counts.wrong.fetch_add(1, Ordering::Relaxed);
                return wrong.or(Some(error.to_string()));
            }
        }
    }
    wrong
}

/// What an open loop found.
pub(crate) struct Latencies {
    /// Nanoseconds from the moment at which a request was due, whether or not a connection was free to send it then.
    pub(crate) histogram: Histogram<u64>,
    /// Requests that were answered a second.
    pub(crate) achieved: f64,
    /// Due and not answered when patience ended; they are in the histogram with the time that they had waited.
    pub(crate) unanswered: u64,
}

/// Sends so many requests a second for this long, whatever becomes of them, after a second that does not count.
pub(crate) fn open(
    cores: &Cores,
    address: SocketAddr,
    traffic: &Traffic,
    connections: usize,
    rate: f64,
    window: Duration,
) -> Latencies {
    let Traffic::Http { requests, expected } = traffic else {
        unreachable!("only requests have a rate");
    };
    let threads = cores.generator.len().min(connections);
    let parts: Vec<_> = (0..threads)
        .map(|thread| {
            let (requests, expected, cores) = (Arc::clone(requests), *expected, cores.generator.clone());
            let own = (0..connections).filter(|n| n % threads == thread).collect::<Vec<_>>();
            std::thread::spawn(move || {
                stay_on(&cores);
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let rate = rate / threads as f64;
                LocalSet::new().block_on(
                    &runtime,
                    at_rate(address, &requests, expected, &own, connections, rate, window),
                )
            })
        })
        .collect();
    let mut all = Latencies {
        histogram: histogram(),
        achieved: 0.0,
        unanswered: 0,
    };
    for part in parts {
        let part = part.join().unwrap();
        all.histogram.add(&part.histogram).unwrap();
        all.achieved += part.achieved;
        all.unanswered += part.unanswered;
    }
    all
}

/// Up to a minute, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

async fn at_rate(
    address: SocketAddr,
    requests: &Arc<Vec<Vec<u8>>>,
    expected: &'static [u16],
    own: &[usize],
    connections: usize,
    rate: f64,
    window: Duration,
) -> Latencies {
    const WARM_UP: Duration = Duration::from_secs(1);
    let mut open = Vec::new();
    for number in own {
        open.push((*number, Connection::open(address).await.unwrap()));
    }
    let arrivals = Rc::new(Arrivals::new(Instant::now() + WARM_UP, window));
    let tasks: Vec<_> = open
        .into_iter()
        .map(|(number, mut connection)| {
            let (arrivals, requests) = (Rc::clone(&arrivals), Arc::clone(requests));
            tokio::task::spawn_local(async move {
                let mut turn = Turn::new(&requests, number, connections);
                while let Some(due) = arrivals.next().await {
                    let answer = connection.exchange(turn.next()).await.unwrap();
                    assert!(expected.contains(&answer.status), "status {}", answer.status);
                    arrivals.answered(due);
                }
            })
        })
        .collect();
    arrivals.pace(rate).await;
    let patience = tokio::time::timeout(PATIENCE, async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    let _ = patience.await;
    arrivals.read(window)
}

/// Sends each request once, so that what is made at the first is there before anything is measured.
pub(crate) fn once(address: SocketAddr, requests: &[Vec<u8>], expected: &[u16]) {
    const CONNECTIONS: usize = 16;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connections = (0..CONNECTIONS).map(|number| async move {
        let mut connection = Connection::open(address).await.unwrap();
        for request in requests.iter().skip(number).step_by(CONNECTIONS) {
            let answer = connection.exchange(request).await.unwrap();
            assert!(expected.contains(&answer.status), "status {}", answer.status);
        }
    });
    runtime.block_on(futures::future::join_all(connections));
}

/// Connections that are open and idle; they close when this is dropped.
pub(crate) struct Idle {
    _connections: Vec<std::net::TcpStream>,
}

impl Idle {
    /// So many, each of which has had one answer. The requests take turns: one key alone would soon use up its rate.
    pub(crate) fn open(address: SocketAddr, requests: &[Vec<u8>], count: usize) -> Self {
        use std::io::{Read, Write};
        let connections = requests
            .iter()
            .cycle()
            .take(count)
            .map(|request| {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.write_all(request).unwrap();
                let mut buffer = [0; 4096];
                let n = stream.read(&mut buffer).unwrap();
                assert!(
                    buffer[..n].starts_with(b"HTTP/1.1 200"),
                    "an idle connection was not answered"
                );
                stream
            })
            .collect();
        Self {
            _connections: connections,
        }
    }
}
