//! Requests that go on while something fails: each stream asks one edge with one key, again and again, and remembers every
//! answer that is not 200.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use reqwest::Client;
use tokio::task::JoinHandle;

use crate::edge_world::{CLIENT, EdgeWorld, SOON, USERS};

/// Connections that ask at once for each stream.
const CONNECTIONS: usize = 2;
/// Between two requests of a connection: the point is that requests are under way, not how many, and a key of the pro plan
/// has a hundred a second.
const PAUSE: Duration = Duration::from_millis(25);
/// More failures than this are not worth reading.
const WORTH_READING: usize = 20;

/// Requests under way. Dropping it stops them.
pub(crate) struct Load {
    began: Instant,
    streams: Vec<Arc<Stream>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Stream {
    what: String,
    url: String,
    key: String,
    answered: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Nothing asks yet.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            streams: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// A secret and the public key of the world's application at each of these edges, once both are known there.
    pub(crate) async fn on(world: &EdgeWorld, edges: &[usize], secret: &str) -> Self {
        let mut load = Self::new();
        for &edge in edges {
            world.until(edge, USERS, secret, 200).await;
            world.until(edge, CLIENT, &world.public_key, 200).await;
            load.add(world, edge, &world.app, USERS, secret);
            load.add(world, edge, &world.app, CLIENT, &world.public_key);
        }
        load
    }

    /// Asks this, too.
    pub(crate) fn add(&mut self, world: &EdgeWorld, edge: usize, app: &str, tail: &str, key: &str) {
        let stream = Arc::new(Stream {
            what: format!("edge {edge} {tail}"),
            url: format!("http://{}/v1/{app}{tail}", world.edges[edge].address),
            key: key.to_owned(),
            answered: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        for _ in 0..CONNECTIONS {
            let (stream, began) = (Arc::clone(&stream), self.began);
            self.tasks
                .push(tokio::spawn(async move { stream.ask_for_ever(began).await }));
        }
        self.streams.push(stream);
    }

    /// Until each stream had so many more answers.
    pub(crate) async fn more(&self, answers: u64) {
        for stream in &self.streams {
            let enough = stream.answered.load(Ordering::Relaxed) + answers;
            wait_for(format!("more answers from {}", stream.what), SOON, async || {
                let answered = stream.answered.load(Ordering::Relaxed);
                if answered >= enough {
                    Ok(())
                } else {
                    Err(format!("{answered} of {enough}"))
                }
            })
            .await
            .unwrap();
        }
    }

    /// Goes on for this long.
    pub(crate) async fn last(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.more(1).await;
    }

    /// Stops, and fails unless every request was answered 200. Returns how many there were.
    pub(crate) fn had_no_failure(self) -> u64 {
        let failures: Vec<String> = self
            .streams
            .iter()
            .flat_map(|stream| stream.failures.lock().unwrap().clone())
            .collect();
        let answered = self
            .streams
            .iter()
            .map(|stream| stream.answered.load(Ordering::Relaxed))
            .sum();
        assert!(
            failures.is_empty(),
            "{} requests failed beside {answered} that did not: {:#?}",
            failures.len(),
            &failures[..failures.len().min(WORTH_READING)]
        );
        println!("{answered} requests in {:?}, none failed", self.began.elapsed());
        answered
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Stream {
    async fn ask_for_ever(&self, began: Instant) {
        let client = Client::builder().no_proxy().timeout(SOON).build().unwrap();
        loop {
            let asked = client.get(&self.url).header("x-api-key", &self.key).send().await;
            let failure = match asked {
                Ok(answer) if answer.status() == 200 => match answer.bytes().await {
                    Ok(_) => None,
                    Err(error) => Some(format!("{error:?}")),
                },
                Ok(answer) => {
                    let status = answer.status();
                    Some(format!("{status} {}", answer.text().await.unwrap_or_default()))
                }
                Err(error) => Some(format!("{error:?}")),
            };
            match failure {
                None => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Some(failure) => {
                    let told = format!("{:?} {}: {failure}", began.elapsed(), self.what);
                    self.failures.lock().unwrap().push(told);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
