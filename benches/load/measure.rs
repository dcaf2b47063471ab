//! One measurement: a contender under a closed loop for a while, or at a fixed rate.

use std::time::Duration;

use serde::Serialize;

use crate::accounting;
use crate::contenders::Running;
use crate::cores::Cores;
use crate::generator::{self, Closed, Latencies, Traffic};
use crate::plan::Plan;

/// What one window of a closed loop showed.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    /// Requests (or messages) answered in the window.
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    /// Bytes of requests and of the bodies of answers a second.
    pub(crate) bytes_per_second: f64,
    /// CPU of the contender for each, microseconds.
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// Share of the contender's cores that it used; well below 1 it was not the bottleneck.
    pub(crate) busy: f64,
    /// Resident bytes at the end.
    pub(crate) resident: u64,
}

impl Sample {
    pub(crate) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// Percentiles of the latency at a fixed rate, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Percentiles {
    pub(crate) rate: f64,
    pub(crate) achieved: f64,
    pub(crate) unanswered: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// As fast as it goes.
pub(crate) fn flat_out(cores: &Cores, running: &Running, traffic: &Traffic, connections: usize, plan: &Plan) -> Sample {
    let load = Closed::start(cores, running.address, traffic, connections);
    std::thread::sleep(plan.warm_up);
    let (from, cpu) = (load.progress(), accounting::cpu(running.pid));
    let mut to = from;
    // A window in which nothing was finished says nothing: a large body may take longer than a short one.
    while to.done == from.done {
        std::thread::sleep(plan.window);
        to = load.progress();
    }
    let cpu = accounting::cpu(running.pid).since(cpu);
    let resident = accounting::resident(running.pid);
    load.stop();
    let seconds = to.at.duration_since(from.at).as_secs_f64();
    let done = to.done - from.done;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / done as f64;
    Sample {
        requests: done,
        per_second: done as f64 / seconds,
        bytes_per_second: (to.bytes - from.bytes) as f64 / seconds,
        user_us: each(cpu.user),
        system_us: each(cpu.system),
        busy: (cpu.user + cpu.system).as_secs_f64() / seconds / cores.contender.len() as f64,
        resident,
    }
}

/// At so many requests a second.
pub(crate) fn at_rate(cores: &Cores, running: &Running, traffic: &Traffic, rate: f64, plan: &Plan) -> Percentiles {
    let Latencies {
        histogram,
        achieved,
        unanswered,
    } = generator::open(
        cores,
        running.address,
        traffic,
        plan.connections,
        rate,
        plan.latency_window,
    );
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
    Percentiles {
        rate,
        achieved,
        unanswered,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1e6,
    }
}
