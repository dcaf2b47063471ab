//! What a run found: as a table to read, as JSON to compare, as a page to look at.

mod chart;
mod html;
mod table;

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::measure::{Percentiles, Sample};
use crate::scenario::Target;

/// Everything that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) conditions: Conditions,
    pub(crate) scenarios: Vec<Table>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) soak: Vec<SoakPoint>,
    pub(crate) curves: Vec<Curve>,
    pub(crate) instructions: Vec<Instructions>,
}

/// Where and how it was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conditions {
    pub(crate) plan: &'static str,
    pub(crate) profile: String,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) cores: String,
    pub(crate) pinned: bool,
    /// Before and after: what else the machine did.
    pub(crate) load: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) window_seconds: f64,
    pub(crate) connections: usize,
    pub(crate) keys: usize,
    pub(crate) applications: usize,
    pub(crate) edge_binary: String,
    pub(crate) missing: Vec<String>,
}

/// One scenario.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// One contender in it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) contender: &'static str,
    pub(crate) does: &'static str,
    /// Whether it is the bare Pingora's for the ratios.
    pub(crate) baseline: bool,
    pub(crate) rounds: Vec<Sample>,
    /// Medians over the rounds.
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) cpu_us: f64,
    pub(crate) lowest_cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) busy: f64,
    pub(crate) resident: u64,
    /// CPU in units of the bare Pingora's in the same round: the median over rounds.
    pub(crate) ratio: f64,
    /// The lowest of its rounds in units of the lowest of the bare Pingora's.
    pub(crate) ratio_of_lowest: f64,
    /// Requests a second in units of the bare Pingora's: the median over rounds.
    pub(crate) ratio_of_throughput: f64,
    pub(crate) target: Option<Target>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Latency {
    pub(crate) contender: &'static str,
    /// The round with the median p99.
    pub(crate) median: Percentiles,
    pub(crate) rounds: Vec<Percentiles>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SoakPoint {
    pub(crate) contender: &'static str,
    pub(crate) phase: String,
    pub(crate) requests: u64,
    pub(crate) connections: usize,
    pub(crate) resident: u64,
}

/// One figure as something grows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) axis: &'static str,
    pub(crate) points: Vec<Point>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    pub(crate) contender: &'static str,
    pub(crate) at: usize,
    pub(crate) sample: Sample,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Instructions {
    pub(crate) contender: &'static str,
    /// The kind of request.
    pub(crate) work: &'static str,
    pub(crate) per_request: f64,
}

impl Table {
    /// As it stands in the report.
    pub(crate) fn text(&self) -> String {
        table::of_scenario(self)
    }
}

impl Row {
    /// From the same rounds of a contender and of the bare Pingora.
    pub(crate) fn new(
        (contender, does): (&'static str, &'static str),
        rounds: Vec<Sample>,
        against: &[Sample],
        baseline: bool,
        target: Option<Target>,
    ) -> Self {
        let of = |what: fn(&Sample) -> f64| median(rounds.iter().map(what).collect());
        let lowest = |samples: &[Sample]| samples.iter().map(Sample::cpu_us).fold(f64::INFINITY, f64::min);
        Self {
            contender,
            does,
            baseline,
            user_us: of(|sample| sample.user_us),
            system_us: of(|sample| sample.system_us),
            cpu_us: of(Sample::cpu_us),
            lowest_cpu_us: lowest(&rounds),
            per_second: of(|sample| sample.per_second),
            bytes_per_second: of(|sample| sample.bytes_per_second),
            busy: of(|sample| sample.busy),
            resident: rounds.last().map_or(0, |sample| sample.resident),
            ratio_of_throughput: median(
                rounds
                    .iter()
                    .zip(against)
                    .map(|(own, bare)| own.per_second / bare.per_second)
                    .collect(),
            ),
            ratio: median(
                rounds
                    .iter()
                    .zip(against)
                    .map(|(own, bare)| own.cpu_us() / bare.cpu_us())
                    .collect(),
            ),
            ratio_of_lowest: lowest(&rounds) / lowest(against),
            target,
            rounds,
        }
    }
}

/// Whether what was hoped for is there, in words.
pub(crate) struct Verdict {
    pub(crate) reached: bool,
    pub(crate) wanted: String,
}

impl Row {
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        Some(match self.target? {
            Target::Cpu(most) => Verdict {
                reached: self.ratio <= most,
                wanted: format!("CPU ≤ {most:.2} × bare"),
            },
            Target::Throughput(least) => Verdict {
                reached: self.ratio_of_throughput >= least,
                wanted: format!("throughput {:.2} ≥ {least:.2} × bare", self.ratio_of_throughput),
            },
        })
    }
}

impl Latency {
    pub(crate) fn new(contender: &'static str, mut rounds: Vec<Percentiles>) -> Self {
        rounds.sort_by(|a, b| a.p99.total_cmp(&b.p99));
        Self {
            contender,
            median: rounds[rounds.len() / 2],
            rounds,
        }
    }
}

/// The middle one; the mean of the two in the middle of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl Report {
    /// For whoever started the run.
    pub(crate) fn text(&self) -> String {
        table::of(self)
    }

    /// `report.json` and `report.html`.
    pub(crate) fn write(&self, directory: &Path) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        fs::write(directory.join("report.html"), html::of(self))
    }
}
