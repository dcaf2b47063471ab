//! Instructions of a request in user space, counted by callgrind: the figure that no other program on the machine changes.
//!
//! The contender runs under valgrind with one thread. Its counters are written out before and after the requests; what it does
//! without any is counted as long and taken off.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use authsome_testkit::installed;

use crate::contenders::{Contender, Surroundings, Way, Wrapper, start_under};
use crate::generator::{self, Traffic};
use crate::plan::Plan;
use crate::report::Instructions;
use crate::scenario::Work;

/// valgrind makes everything about fifty times slower.
const PATIENCE: Duration = Duration::from_mins(1);
/// Functions that are listed for each kind of request.
const LISTED: usize = 60;

/// Nothing where valgrind is not installed. Beside the counts, `out` gets a list of the functions that they are made of.
pub(crate) async fn count(around: &Surroundings<'_>, plan: &Plan, out: &Path) -> Vec<Instructions> {
    let Ok(valgrind) = installed::find("valgrind") else {
        println!("load: instructions are not counted: valgrind is not installed");
        return Vec::new();
    };
    let all: &[Work] = &[Work::Get, Work::Post, Work::Cached, Work::BadChecksum, Work::Limited];
    let mut found = Vec::new();
    for (contender, way, works) in [
        (Contender::Bare, None, &all[..2]),
        (Contender::Edge, Some(Way::Lane), all),
        (Contender::EdgeProxy, Some(Way::HttpProxy), all),
    ] {
        println!("load: instructions of {}", contender.name());
        let directory = around.directory.join(format!("callgrind-{}", contender.name()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("out");
        let wrapper = Wrapper {
            program: valgrind.clone(),
            arguments: vec![
                "--tool=callgrind".to_owned(),
                format!("--callgrind-out-file={}", file.display()),
                "-q".to_owned(),
            ],
        };
        let running = start_under(&wrapper, around, way).await;
        let mut counters = Counters {
            pid: running.pid,
            file,
            written: 0,
        };
        for work in works {
            let Traffic::Http { requests, expected } = work.traffic(around.fleet, plan) else {
                unreachable!("all of them are requests");
            };
            // Few enough that all of them can come before anything counts: what is made at the first is not what one more costs.
            let few = &requests[..requests.len().min(plan.instructions / 5)];
            let first: Vec<Vec<u8>> = few.iter().chain(few).cloned().collect();
            let counted: Vec<Vec<u8>> = few.iter().cycle().take(plan.instructions).cloned().collect();
            let address = running.address;
            let (counted, back) = tokio::task::spawn_blocking(move || {
                let counted = counters.of(address, &first, &counted, expected);
                (counted, counters)
            })
            .await
            .unwrap();
            counters = back;
            let name = format!("instructions-{}-{work:?}", contender.name()).to_lowercase();
            fs::create_dir_all(out).unwrap();
            fs::write(
                out.join(format!("{name}.txt")),
                counted.where_they_go(plan.instructions),
            )
            .unwrap();
            fs::copy(&counted.file, out.join(format!("{name}.callgrind"))).unwrap();
            found.push(Instructions {
                contender: contender.name(),
                work: work.name(),
                per_request: counted.per_request,
            });
        }
        running.kill().await;
    }
    found
}

struct Counted {
    per_request: f64,
    /// Of the requests that counted.
    file: PathBuf,
}

impl Counted {
    /// The dearest functions, by what they do themselves and with all that they call.
    fn where_they_go(&self, requests: usize) -> String {
        let mut text = format!("{:.0} instructions a request\n", self.per_request);
        for (title, inclusive) in [("by themselves", "no"), ("with what they call", "yes")] {
            let _ = writeln!(text, "\n{title}");
            let listed = Command::new("callgrind_annotate")
                .args([&format!("--inclusive={inclusive}"), "--auto=no", "--threshold=100"])
                .arg(&self.file)
                .output()
                .unwrap();
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let functions = listed.lines().filter_map(|line| {
                let (count, function) = line.trim_start().split_once(' ')?;
                let count: f64 = count.replace(',', "").parse().ok()?;
                let function = function.split_once("???:").or_else(|| function.split_once(':'))?.1;
                Some((count / requests as f64, function.split(" [").next()?.to_owned()))
            });
            for (count, function) in functions.take(LISTED) {
                let _ = writeln!(text, "{count:9.0}  {function}");
            }
        }
        text
    }
}

struct Counters {
    pid: u32,
    file: PathBuf,
    /// Files so far.
    written: u32,
}

impl Counters {
    fn of(&mut self, address: SocketAddr, first: &[Vec<u8>], counted: &[Vec<u8>], expected: &'static [u16]) -> Counted {
        generator::once(address, first, expected);
        self.since_last();
        let began = Instant::now();
        generator::once(address, counted, expected);
        let (with, file) = self.since_last();
        let took = began.elapsed();
        std::thread::sleep(took);
        let (without, _) = self.since_last();
        Counted {
            per_request: (with as f64 - without as f64) / counted.len() as f64,
            file,
        }
    }

    /// Has the counters written to the next file and set to 0; their sum, and the file.
    fn since_last(&mut self) -> (u64, PathBuf) {
        self.written += 1;
        let asked = Command::new("callgrind_control")
            .args(["--dump", &self.pid.to_string()])
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let file = PathBuf::from(format!("{}.{}", self.file.display(), self.written));
        let began = Instant::now();
        loop {
            if let Some(total) = total(&file) {
                return (total, file);
            }
            assert!(began.elapsed() < PATIENCE, "callgrind wrote no {}", file.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The sum, which is the last line of a file that is complete.
fn total(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .rev()
        .take(3)
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}
