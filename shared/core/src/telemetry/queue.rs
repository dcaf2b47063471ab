//! Log lines through a bounded queue: a reader of the log that stops reading stops nobody but the thread that writes.

use std::io::{Result, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const QUEUE: usize = 16_384;
/// Bytes that are written at once, but for the last line.
const TOGETHER: usize = 64 * 1024;
/// Between two looks for room in a full queue, by whoever waits for its end.
const ROOM: Duration = Duration::from_millis(1);

enum Entry {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where lines wait to be written. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct LogQueue {
    queue: SyncSender<Entry>,
    dropped: IntCounter,
}

impl LogQueue {
    /// Starts the thread that writes; it ends with the last clone.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(output: impl Write + Send + 'static, dropped: IntCounter) -> Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&entries, output))?;
        Ok(Self { queue, dropped })
    }

    /// Lines that found the queue full; to be registered with the program's metrics.
    pub fn dropped(&self) -> IntCounter {
        self.dropped.clone()
    }

    /// Waits until everything handed over so far is written, at most `limit`. Blocks.
    pub fn flush(&self, limit: Duration) {
        let by = Instant::now() + limit;
        let (done, waiting) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        // Too late or gone: the lines are lost, and nobody is left to be told.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(entry) {
            if Instant::now() >= by {
                return;
            }
            entry = back;
            std::thread::sleep(ROOM);
        }
        let _ = waiting.recv_timeout(by.saturating_duration_since(Instant::now()));
    }
}

/// Lines that wait together are written together: each write is a system call.
fn write(entries: &Receiver<Entry>, mut output: impl Write) {
    let mut lines = Vec::with_capacity(TOGETHER);
    while let Ok(entry) = entries.recv() {
        let mut next = Some(entry);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => {
                    lines.extend_from_slice(&line);
                    if lines.len() >= TOGETHER {
                        write_out(&mut lines, &mut output);
                    }
                }
                Entry::Flush(done) => {
                    write_out(&mut lines, &mut output);
                    let _ = output.flush();
                    let _ = done.try_send(());
                }
            }
            next = entries.try_recv().ok();
        }
        write_out(&mut lines, &mut output);
    }
}

fn write_out(lines: &mut Vec<u8>, output: &mut impl Write) {
    // Lines that cannot be written are lost; there is nowhere to say so.
    let _ = output.write_all(lines);
    lines.clear();
}

/// One event: the subscriber writes it whole.
#[derive(Debug)]
pub struct LineWriter<'a>(&'a LogQueue);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        if self.0.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.0.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes nothing until it is let go.
    struct Stalled(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_output_costs_lines_and_never_waits() {
        let (go, gate) = sync_channel(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let dropped = IntCounter::new("dropped", "x").unwrap();
        let queue = LogQueue::start(Stalled(gate, Arc::clone(&written)), dropped.clone()).unwrap();
        // The writer has as many in its hands as it writes at once, 13,108 of these.
        let lines = 3 * QUEUE;
        for _ in 0..lines {
            queue.make_writer().write_all(b"line\n").unwrap();
        }
        assert!(dropped.get() >= QUEUE as u64, "{}", dropped.get());
        drop(go);
        queue.flush(Duration::from_secs(20));
        let written = written.lock().unwrap().len() as u64;
        assert_eq!(written, 5 * (lines as u64 - dropped.get()));
    }

    /// Counts writes; the first waits until it is let go.
    struct Counted(Receiver<()>, Arc<Mutex<(u32, Vec<u8>)>>);

    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            let _ = self.0.recv();
            let mut seen = self.1.lock().unwrap();
            seen.0 += 1;
            seen.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_wait_together_are_written_together_and_in_their_order() {
        let (go, gate) = sync_channel(1);
        let seen = Arc::new(Mutex::new((0, Vec::new())));
        let dropped = IntCounter::new("dropped", "x").unwrap();
        let queue = LogQueue::start(Counted(gate, Arc::clone(&seen)), dropped).unwrap();
        let mut expected = String::new();
        for line in 0..1000 {
            let line = format!("{line}\n");
            queue.make_writer().write_all(line.as_bytes()).unwrap();
            expected.push_str(&line);
        }
        drop(go);
        queue.flush(Duration::from_secs(20));
        let seen = seen.lock().unwrap();
        assert_eq!(String::from_utf8_lossy(&seen.1), expected);
        // The first is written as soon as it is there; what came meanwhile follows at once.
        assert!(seen.0 <= 2, "{} writes", seen.0);
    }
}
