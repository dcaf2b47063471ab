//! The command line.

use std::path::PathBuf;

use crate::plan::{Part, Plan};

const HELP: &str = "\
The load suite: CPU, throughput, latency and memory of the edge beside a bare Pingora, nginx and HAProxy.

Usage: cargo bench --bench load -- [OPTIONS]

  --quick            two minutes and a half instead of half an hour
  --test             seconds: does everything work? The figures mean nothing
  --only PART,…      parts to run: requests, latency, streams, soak, curves, instructions (needs valgrind)
  --rounds N         rounds of each measurement
  --seconds S        length of one measurement
  --rate N           requests a second for the latencies, instead of 40 % of what the bare Pingora can do
  --threads N        threads and cores of each contender
  --out DIR          where the report goes; target/bench/PLAN by default
  --help             this text

AUTHSOME_BENCH_EDGE=PATH measures that binary of the edge instead of the one built with the suite.";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) plan: Plan,
    pub(crate) threads: usize,
    pub(crate) out: PathBuf,
    /// `cargo bench NAME` names another bench.
    pub(crate) elsewhere: bool,
}

/// An error is what is to be shown.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut plan = Plan::full();
    let mut changes: Vec<(String, String)> = Vec::new();
    let mut filters = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo itself says.
            "--bench" => {}
            "--quick" => plan = Plan::quick(),
            "--test" => plan = Plan::rehearsal(),
            "--only" | "--rounds" | "--seconds" | "--rate" | "--threads" | "--out" => {
                let value = arguments
                    .next()
                    .ok_or_else(|| format!("{argument} wants a value\n\n{HELP}"))?;
                changes.push((argument, value));
            }
            "--help" | "-h" => return Err(HELP.to_owned()),
            other if other.starts_with('-') => return Err(format!("there is no option {other}\n\n{HELP}")),
            filter => filters.push(filter.to_owned()),
        }
    }
    let mut options = Options {
        out: target().join("bench").join(plan.name),
        plan,
        threads: 1,
        elsewhere: !filters.is_empty() && !filters.iter().any(|filter| "load".contains(filter.as_str())),
    };
    for (option, value) in changes {
        let number = || {
            value
                .parse::<f64>()
                .ok()
                .filter(|n| *n > 0.0)
                .ok_or_else(|| format!("{option} {value}: not a number"))
        };
        match option.as_str() {
            "--only" => {
                options.plan.parts = value
                    .split(',')
                    .map(|name| Part::named(name).ok_or_else(|| format!("there is no part {name}\n\n{HELP}")))
                    .collect::<Result<_, _>>()?;
            }
            "--rounds" => options.plan.rounds = whole(number()?),
            "--seconds" => options.plan.window = std::time::Duration::from_secs_f64(number()?),
            "--rate" => options.plan.rate = Some(number()?),
            "--threads" => options.threads = whole(number()?),
            _ => options.out = PathBuf::from(value),
        }
    }
    Ok(options)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "greater than 0, and what a person writes here is small"
)]
fn whole(number: f64) -> usize {
    (number as usize).max(1)
}

/// Where cargo builds: this executable lies in `PROFILE/deps` there.
fn target() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    executable.ancestors().nth(3).unwrap().to_owned()
}
