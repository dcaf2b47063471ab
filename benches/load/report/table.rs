//! The report as text, for a terminal.

use std::fmt::Write;

use super::{Report, Row, Table};

/// All of it.
pub(super) fn of(report: &Report) -> String {
    let mut text = String::new();
    let conditions = &report.conditions;
    let _ = writeln!(
        text,
        "\n{} · {} rounds of {} s, {} connections, {} keys of {} applications · profile {} · cores {}{} · load {}",
        conditions.processor,
        conditions.rounds,
        conditions.window_seconds,
        conditions.connections,
        conditions.keys,
        conditions.applications,
        conditions.profile,
        conditions.cores,
        if conditions.pinned { "" } else { " (not pinned)" },
        conditions.load.join(" → "),
    );
    let _ = writeln!(text, "edge: {}", conditions.edge_binary);
    if !conditions.missing.is_empty() {
        let _ = writeln!(text, "not measured: {}", conditions.missing.join(", "));
    }
    for table in &report.scenarios {
        scenario(&mut text, table);
    }
    latencies(&mut text, report);
    soak(&mut text, report);
    curves(&mut text, report);
    if !report.instructions.is_empty() {
        let _ = writeln!(text, "\nInstructions for each request, user space");
    }
    for counted in &report.instructions {
        let _ = writeln!(
            text,
            "{:<17} {:<9} {:>8.0}",
            counted.contender, counted.work, counted.per_request
        );
    }
    text
}

/// One scenario.
pub(super) fn of_scenario(table: &Table) -> String {
    let mut text = String::new();
    scenario(&mut text, table);
    text
}

fn scenario(text: &mut String, table: &Table) {
    let _ = writeln!(
        text,
        "\n{}\n{:<17} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>10} {:>9} {:>6} {:>8}",
        table.title, "", "CPU µs", "user", "system", "lowest", "× bare", "lowest ×", "req/s", "MB/s", "busy", "RSS MiB"
    );
    for row in &table.rows {
        let _ = writeln!(
            text,
            "{:<17} {:>8.1} {:>7.1} {:>7.1} {:>8.1} {:>8.2} {:>8.2} {:>10.0} {:>9.1} {:>6.2} {:>8.1}{}",
            if row.baseline && table.rows.iter().any(|other| other.target.is_some() && !other.baseline) {
                format!("{} *", row.contender)
            } else {
                row.contender.to_owned()
            },
            row.cpu_us,
            row.user_us,
            row.system_us,
            row.lowest_cpu_us,
            row.ratio,
            row.ratio_of_lowest,
            row.per_second,
            row.bytes_per_second / 1e6,
            row.busy,
            row.resident as f64 / f64::from(1 << 20),
            verdict(row),
        );
    }
}

/// Against what is hoped for.
fn verdict(row: &Row) -> String {
    row.verdict().map_or_else(String::new, |verdict| {
        let word = if verdict.reached { "reached" } else { "missed" };
        format!("  {}: {word}", verdict.wanted)
    })
}

fn latencies(text: &mut String, report: &Report) {
    let Some(first) = report.latencies.first() else {
        return;
    };
    let _ = writeln!(
        text,
        "\nLatency at {:.0} requests a second (open loop, from when a request was due), ms\n{:<17} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10}",
        first.median.rate, "", "p50", "p90", "p99", "p99.9", "max", "answered/s"
    );
    for latency in &report.latencies {
        let at = &latency.median;
        let _ = writeln!(
            text,
            "{:<17} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>10.0}{}",
            latency.contender,
            at.p50,
            at.p90,
            at.p99,
            at.p999,
            at.max,
            at.achieved,
            if at.unanswered > 0 {
                format!("  {} unanswered", at.unanswered)
            } else {
                String::new()
            },
        );
    }
}

fn soak(text: &mut String, report: &Report) {
    if report.soak.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nMemory");
    for point in &report.soak {
        let _ = writeln!(
            text,
            "{:<17} {:>9} requests {:>6} connections {:>8.1} MiB  {}",
            point.contender,
            point.requests,
            point.connections,
            point.resident as f64 / f64::from(1 << 20),
            point.phase
        );
    }
}

fn curves(text: &mut String, report: &Report) {
    for curve in &report.curves {
        let _ = writeln!(
            text,
            "\n{}\n{:>12} {:<17} {:>8} {:>7} {:>7} {:>10} {:>9} {:>8}",
            curve.name, curve.axis, "", "CPU µs", "user", "system", "req/s", "MB/s", "RSS MiB"
        );
        for point in &curve.points {
            let sample = &point.sample;
            let _ = writeln!(
                text,
                "{:>12} {:<17} {:>8.1} {:>7.1} {:>7.1} {:>10.0} {:>9.1} {:>8.1}",
                point.at,
                point.contender,
                sample.cpu_us(),
                sample.user_us,
                sample.system_us,
                sample.per_second,
                sample.bytes_per_second / 1e6,
                sample.resident as f64 / f64::from(1 << 20),
            );
        }
    }
}
