//! The report as one page that needs nothing else: no scripts, no fonts, no network.

use std::fmt::Write;

use super::chart::{Bar, Line, bars, lines};
use super::{Curve, Report, Row, Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.2rem .5rem;border-bottom:1px solid #e3e7ee}th:first-child,td:first-child{text-align:left}\
small{color:#667085}.reached{color:#16703c}.missed{color:#b42318}svg{width:100%;height:auto;margin:.8rem 0}\
@media(prefers-color-scheme:dark){body{background:#12161c;color:#e6e9ef}th,td{border-color:#2c3440}svg text{fill:#e6e9ef}}";

/// The whole page.
pub(super) fn of(report: &Report) -> String {
    let mut page = String::new();
    let conditions = &report.conditions;
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Load suite</title><style>{STYLE}</style><h1>Load suite</h1>\
         <p>{}, Linux {}; cores {}{}; profile <code>{}</code>; {} rounds of {} s, {} connections, {} keys of {} applications; \
         load of the machine {}. Edge: {}.</p>\
         <p><small>CPU is the kernel's accounting of all processes of a contender. × bare is the CPU in units of the bare \
         Pingora's in the same round, the median over the rounds. Latencies are those of an open loop at a fixed rate, counted \
         from when a request was due.</small></p>",
        escaped(&conditions.processor),
        escaped(&conditions.kernel),
        escaped(&conditions.cores),
        if conditions.pinned { "" } else { ", not pinned" },
        escaped(&conditions.profile),
        conditions.rounds,
        conditions.window_seconds,
        conditions.connections,
        conditions.keys,
        conditions.applications,
        escaped(&conditions.load.join(" → ")),
        escaped(&conditions.edge_binary),
    );
    if !conditions.missing.is_empty() {
        let _ = write!(
            page,
            "<p>Not measured: {}.</p>",
            escaped(&conditions.missing.join(", "))
        );
    }
    for table in &report.scenarios {
        scenario(&mut page, table);
    }
    latencies(&mut page, report);
    soak(&mut page, report);
    for curve in &report.curves {
        self::curve(&mut page, curve);
    }
    for counted in &report.instructions {
        let _ = write!(
            page,
            "<p>Instructions for each request, user space: {}, {}: {:.0}</p>",
            escaped(counted.contender),
            escaped(counted.work),
            counted.per_request
        );
    }
    page.push_str("</html>\n");
    page
}

fn scenario(page: &mut String, table: &Table) {
    let _ = write!(page, "<h2>{}</h2>", escaped(table.title));
    let bar: Vec<Bar> = table
        .rows
        .iter()
        .map(|row| Bar {
            label: row.contender.to_owned(),
            parts: vec![("user", row.user_us), ("system", row.system_us)],
            note: format!("{:.1} µs · {:.2} ×", row.cpu_us, row.ratio),
        })
        .collect();
    page.push_str(&bars(&bar));
    page.push_str(
        "<table><tr><th><th>CPU µs<th>user<th>system<th>lowest<th>× bare<th>req/s<th>MB/s<th>RSS MiB<th>hoped for</tr>",
    );
    for row in &table.rows {
        let _ = write!(
            page,
            "<tr><td>{}<br><small>{}</small><td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.2}<td>{:.0}<td>{:.1}<td>{:.1}<td>{}</tr>",
            escaped(row.contender),
            escaped(row.does),
            row.cpu_us,
            row.user_us,
            row.system_us,
            row.lowest_cpu_us,
            row.ratio,
            row.per_second,
            row.bytes_per_second / 1e6,
            row.resident as f64 / f64::from(1 << 20),
            verdict(row),
        );
    }
    page.push_str("</table>");
}

fn verdict(row: &Row) -> String {
    row.verdict().map_or_else(String::new, |verdict| {
        let class = if verdict.reached { "reached" } else { "missed" };
        format!("<span class={class}>{}</span>", escaped(&verdict.wanted))
    })
}

fn latencies(page: &mut String, report: &Report) {
    let Some(first) = report.latencies.first() else {
        return;
    };
    let _ = write!(
        page,
        "<h2>Latency at {:.0} requests a second</h2>\
         <table><tr><th>ms<th>p50<th>p90<th>p99<th>p99.9<th>max<th>answered/s</tr>",
        first.median.rate
    );
    for latency in &report.latencies {
        let at = &latency.median;
        let _ = write!(
            page,
            "<tr><td>{}<td>{:.3}<td>{:.3}<td>{:.3}<td>{:.3}<td>{:.3}<td>{:.0}</tr>",
            escaped(latency.contender),
            at.p50,
            at.p90,
            at.p99,
            at.p999,
            at.max,
            at.achieved
        );
    }
    page.push_str("</table>");
}

fn soak(page: &mut String, report: &Report) {
    if report.soak.is_empty() {
        return;
    }
    page.push_str("<h2>Memory</h2><table><tr><th><th>phase<th>requests<th>connections<th>RSS MiB</tr>");
    for point in &report.soak {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.1}</tr>",
            escaped(point.contender),
            escaped(&point.phase),
            point.requests,
            point.connections,
            point.resident as f64 / f64::from(1 << 20)
        );
    }
    page.push_str("</table>");
}

fn curve(page: &mut String, curve: &Curve) {
    let _ = write!(page, "<h2>{}</h2>", escaped(curve.name));
    let mut contenders: Vec<&str> = curve.points.iter().map(|point| point.contender).collect();
    contenders.dedup();
    contenders.sort_unstable();
    contenders.dedup();
    let line: Vec<Line> = contenders
        .iter()
        .map(|contender| Line {
            label: (*contender).to_owned(),
            points: curve
                .points
                .iter()
                .filter(|point| point.contender == *contender)
                .map(|point| (point.at as f64, point.sample.cpu_us()))
                .collect(),
        })
        .collect();
    page.push_str(&lines(curve.axis, "CPU µs", &line));
    let _ = write!(
        page,
        "<table><tr><th>{}<th><th>CPU µs<th>user<th>system<th>req/s<th>MB/s<th>RSS MiB</tr>",
        escaped(curve.axis)
    );
    for point in &curve.points {
        let sample = &point.sample;
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.0}<td>{:.1}<td>{:.1}</tr>",
            point.at,
            escaped(point.contender),
            sample.cpu_us(),
            sample.user_us,
            sample.system_us,
            sample.per_second,
            sample.bytes_per_second / 1e6,
            sample.resident as f64 / f64::from(1 << 20)
        );
    }
    page.push_str("</table>");
}

/// What may not stand in a page as it is.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
