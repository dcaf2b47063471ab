//! Instructions of a request in user space, counted by callgrind: the figure that no other program on the machine changes.
//!
//! The contender runs under valgrind with one thread. Its counters are written out before and after the requests; what it does
//! without any is counted as long and taken off.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use authsome_testkit::installed;

use crate::contenders::{Contender, Surroundings, Way, Wrapper, start_under};
use crate::generator;
use crate::plan::Plan;
use crate::report::Instructions;
use crate::scenario;

/// What runs before anything counts: connections, first uses.
const WARM_UP: usize = 300;
/// valgrind makes everything about fifty times slower.
const PATIENCE: Duration = Duration::from_mins(1);

/// Nothing where valgrind is not installed.
pub(crate) async fn count(around: &Surroundings<'_>, plan: &Plan) -> Vec<Instructions> {
    let Ok(valgrind) = installed::find("valgrind") else {
        println!("load: instructions are not counted: valgrind is not installed");
        return Vec::new();
    };
    let mut found = Vec::new();
    for (contender, way) in [
        (Contender::Bare, None),
        (Contender::Edge, Some(Way::Lane)),
        (Contender::EdgeProxy, Some(Way::HttpProxy)),
    ] {
        println!("load: instructions of {}", contender.name());
        let directory = around.directory.join(format!("callgrind-{}", contender.name()));
        std::fs::create_dir_all(&directory).unwrap();
        let out = directory.join("out");
        let wrapper = Wrapper {
            program: valgrind.clone(),
            arguments: vec![
                "--tool=callgrind".to_owned(),
                format!("--callgrind-out-file={}", out.display()),
                "-q".to_owned(),
            ],
        };
        let running = start_under(&wrapper, around, way).await;
        let request = |key| scenario::get(key, "users", key.key.expose());
        let all: Vec<Vec<u8>> = around
            .fleet
            .keys
            .iter()
            .cycle()
            .take(WARM_UP + plan.instructions)
            .map(request)
            .collect();
        let (first, counted) = all.split_at(WARM_UP);
        let counters = Counters { pid: running.pid, out };
        let (address, counted) = (running.address, counted.to_vec());
        let first = first.to_vec();
        let per_request = tokio::task::spawn_blocking(move || {
            generator::once(address, &first, &[200]);
            counters.since_last(1);
            let began = Instant::now();
            generator::once(address, &counted, &[200]);
            let with = counters.since_last(2);
            let took = began.elapsed();
            std::thread::sleep(took);
            let without = counters.since_last(3);
            (with as f64 - without as f64) / counted.len() as f64
        })
        .await
        .unwrap();
        found.push(Instructions {
            contender: contender.name(),
            per_request,
        });
        running.kill().await;
    }
    found
}

struct Counters {
    pid: u32,
    out: PathBuf,
}

impl Counters {
    /// Has the counters written to the n-th file and set to 0; returns their sum.
    fn since_last(&self, n: u32) -> u64 {
        let asked = Command::new("callgrind_control")
            .args(["--dump", &self.pid.to_string()])
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let file = PathBuf::from(format!("{}.{n}", self.out.display()));
        let began = Instant::now();
        loop {
            if let Some(total) = total(&file) {
                return total;
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
