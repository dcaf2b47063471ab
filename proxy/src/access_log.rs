//! One line for each request, written beside the request path.
//!
//! Owns a bounded queue and the thread that empties it into the log. A log that cannot keep up loses lines, which are counted;
//! a request never waits for it. A line holds no key, no query, no header and no body.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use authsome_core::id::{ApplicationId, KeyId, RequestId};
use prometheus::IntCounter;

/// Lines that may wait: about a second of a busy edge, 4 MiB at most.
const QUEUE: usize = 16_384;
/// By so much a line may be later than its request. The queue has room for three million requests a second.
const GATHER: Duration = Duration::from_millis(5);
/// Of a path; what is longer is cut.
const PATH_SHOWN: usize = 256;

/// What is told of a request.
#[derive(Debug)]
pub struct Line {
    /// Its id.
    pub request_id: RequestId,
    /// The trace that it belongs to.
    pub trace_id: Option<u128>,
    /// The application that its path names.
    pub app: Option<ApplicationId>,
    /// The key that it was admitted with.
    pub key: Option<KeyId>,
    /// Its method.
    pub method: String,
    /// `1.1`, `2`.
    pub protocol: &'static str,
    /// Its path relative to the application, through [`shown_path`].
    pub path: String,
    /// The status of the answer; `None` if there was none.
    pub status: Option<u16>,
    /// Why the edge answered by itself.
    pub refusal: Option<&'static str>,
    /// From the end of its head to the end of the answer.
    pub took: Duration,
    /// The edge's own part: until a connection to an instance was asked for.
    pub own: Duration,
    /// The instance's part: until the head of its answer.
    pub upstream: Option<Duration>,
    /// Head and body from the client.
    pub bytes_in: u64,
    /// Head and body to the client.
    pub bytes_out: u64,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// Connections to instances that were tried.
    pub tries: usize,
    /// What failed, of the forwarding library's closed set of error types.
    pub failure: Option<&'static str>,
}

enum Entry {
    // Boxed: the queue is allocated at its full length.
    Line(Box<Line>),
    Flush(SyncSender<()>),
}

/// Where lines go. Clones go to the same place.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: Option<SyncSender<Entry>>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Starts the writer; it ends with the last clone. `dropped` counts lines that found the queue full.
    pub fn start(dropped: IntCounter) -> Result<Self, std::io::Error> {
        let (queue, entries) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&entries))?;
        Ok(Self {
            queue: Some(queue),
            dropped,
        })
    }

    /// Writes nothing.
    pub fn disabled(dropped: IntCounter) -> Self {
        Self { queue: None, dropped }
    }

    /// Are lines worth making?
    pub fn is_enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands a line over; never waits.
    pub fn write(&self, line: Line) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(Entry::Line(Box::new(line)))
        {
            self.dropped.inc();
        }
    }

    /// Waits until everything handed over so far is written, at most `limit`. Blocks.
    pub fn flush(&self, limit: Duration) {
        let Some(queue) = &self.queue else { return };
        let (done, waiting) = sync_channel(1);
        if queue.try_send(Entry::Flush(done)).is_ok() {
            // Too late or gone: the lines are lost, and nobody is left to be told.
            let _ = waiting.recv_timeout(limit);
        }
    }
}

/// Waits for a line, then for [`GATHER`] without listening: a request that hands one over meanwhile wakes nobody. Waking this
/// thread, and by it the one that writes, for each line cost a busy edge two thirds of what the line did.
fn write(entries: &Receiver<Entry>) {
    let take = |entry| match entry {
        Entry::Line(line) => {
            log(&line);
            true
        }
        Entry::Flush(done) => {
            let _ = done.try_send(());
            false
        }
    };
    while let Ok(entry) = entries.recv() {
        if take(entry) {
            std::thread::sleep(GATHER);
        }
        while let Ok(entry) = entries.try_recv() {
            take(entry);
        }
    }
}

fn log(line: &Line) {
    tracing::info!(
        target: "authsome_proxy::access",
        request_id = %line.request_id,
        trace_id = line.trace_id.map(|id| tracing::field::display(format!("{id:032x}"))),
        app = line.app.map(tracing::field::display),
        key = line.key.map(tracing::field::display),
        method = line.method,
        protocol = line.protocol,
        path = line.path,
        status = line.status,
        refusal = line.refusal,
        failure = line.failure,
        took_us = micros(line.took),
        edge_us = micros(line.own),
        upstream_us = line.upstream.map(micros),
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        peer = line.peer.map(tracing::field::display),
        tries = line.tries,
        "request"
    );
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A path as it may be shown: without anything that looks like a key, cut at 256 bytes.
pub fn shown_path(path: &str) -> String {
    const MARKERS: [&str; 4] = ["sk_live_", "sk_test_", "pk_live_", "pk_test_"];
    if MARKERS.iter().any(|marker| path.contains(marker)) || path.contains("%5f") || path.contains("%5F") {
        return "(hidden)".to_owned();
    }
    let mut end = path.len().min(PATH_SHOWN);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_something_like_a_key_is_not_shown() {
        assert_eq!(shown_path("/v1/me"), "/v1/me");
        assert_eq!(shown_path("/v1/verify/sk_live_x"), "(hidden)");
        assert_eq!(shown_path("/v1/verify/pk%5Flive_x"), "(hidden)");
        assert_eq!(shown_path(&"/x".repeat(500)).len(), PATH_SHOWN);
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let dropped = IntCounter::new("dropped", "x").unwrap();
        let (queue, _entries) = sync_channel(1);
        let log = AccessLog {
            queue: Some(queue),
            dropped: dropped.clone(),
        };
        let entropy = authsome_core::entropy::SeededEntropy::new(1);
        for _ in 0..3 {
            log.write(Line {
                request_id: RequestId::generate(&authsome_core::clock::ManualClock::default(), &entropy),
                trace_id: None,
                app: None,
                key: None,
                method: "GET".to_owned(),
                protocol: "1.1",
                path: "/".to_owned(),
                status: Some(200),
                refusal: None,
                took: Duration::ZERO,
                own: Duration::ZERO,
                upstream: None,
                bytes_in: 0,
                bytes_out: 0,
                peer: None,
                tries: 0,
                failure: None,
            });
        }
        assert_eq!(dropped.get(), 2);
    }
}
