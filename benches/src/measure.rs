//! Wall time, CPU time, memory, and how busy the machine was. Read from `/proc`: elsewhere they are 0.

use std::fmt;
use std::time::{Duration, Instant};

/// Wall and CPU time that something took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// On the clock.
    pub wall: Duration,
    /// On all cores together, user and system; in steps of 10 ms.
    pub cpu: Duration,
}

/// Measures until it is asked.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// From now on.
    pub fn start() -> Self {
        Self {
            cpu: cpu_time(),
            began: Instant::now(),
        }
    }

    /// Until now.
    pub fn read(&self) -> Cost {
        Cost {
            wall: self.began.elapsed(),
            cpu: cpu_time().saturating_sub(self.cpu),
        }
    }
}

impl Cost {
    /// One of `n` equal parts.
    #[must_use]
    pub fn each(&self, n: u64) -> Self {
        let part = |whole: Duration| Duration::from_nanos(u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX) / n);
        Self {
            wall: part(self.wall),
            cpu: part(self.cpu),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} (CPU {:.2?})", self.wall, self.cpu)
    }
}

/// CPU time of this process so far.
pub fn cpu_time() -> Duration {
    // Fields 14 and 15 of the whole line; the second, in parentheses, may hold spaces. A tick is 10 ms on every Linux.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(10 * ticks)
}

/// Resident memory of this process, bytes.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// How busy the machine is: processes that want to run, over the last minute, and its cores.
pub fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("load {load} on {cores} cores")
}

/// Only to see that the bench works (`cargo bench -- --test`): sizes may be small.
pub fn is_rehearsal() -> bool {
    std::env::args().any(|argument| argument == "--test")
}
