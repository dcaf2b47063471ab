//! Charts as SVG: stacked bars, and lines over an axis in powers of ten.

use std::fmt::Write;

use super::html::escaped;

const WIDTH: f64 = 760.0;
const COLOURS: [&str; 6] = ["#3b6fd4", "#a9c1ee", "#d9783b", "#3c9d6b", "#8b5fbf", "#767d8a"];

/// One bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) parts: Vec<(&'static str, f64)>,
    pub(super) note: String,
}

/// One line.
pub(super) struct Line {
    pub(super) label: String,
    /// Along the axis, and up.
    pub(super) points: Vec<(f64, f64)>,
}

/// Below each other, all to the same scale.
pub(super) fn bars(bars: &[Bar]) -> String {
    const LEFT: f64 = 140.0;
    const RIGHT: f64 = 130.0;
    const STEP: f64 = 26.0;
    let whole = |bar: &Bar| bar.parts.iter().map(|(_, value)| value).sum::<f64>();
    let most = bars.iter().map(whole).fold(f64::MIN_POSITIVE, f64::max);
    let height = STEP * bars.len() as f64 + 22.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=img font-size=12>");
    for (n, bar) in bars.iter().enumerate() {
        let y = STEP * n as f64;
        let _ = write!(svg, "<text x=0 y={}>{}</text>", y + 16.0, escaped(&bar.label));
        let mut x = LEFT;
        for ((_, value), colour) in bar.parts.iter().zip(COLOURS) {
            let width = value / most * (WIDTH - LEFT - RIGHT);
            let _ = write!(
                svg,
                "<rect x={x:.1} y={:.1} width={width:.1} height={:.1} fill=\"{colour}\"/>",
                y + 4.0,
                STEP - 8.0
            );
            x += width;
        }
        let _ = write!(
            svg,
            "<text x={:.1} y={}>{}</text>",
            x + 6.0,
            y + 16.0,
            escaped(&bar.note)
        );
    }
    let mut x = LEFT;
    for ((name, _), colour) in bars
        .iter()
        .flat_map(|bar| bar.parts.iter())
        .zip(COLOURS)
        .take(bars.first().map_or(0, |bar| bar.parts.len()))
    {
        let _ = write!(
            svg,
            "<rect x={x} y={} width=10 height=10 fill=\"{colour}\"/><text x={} y={}>{name}</text>",
            height - 14.0,
            x + 14.0,
            height - 5.0
        );
        x += 80.0;
    }
    svg.push_str("</svg>");
    svg
}

/// Both axes in powers of ten; an axis of one place has it in the middle.
pub(super) fn lines(axis: &str, unit: &str, lines: &[Line]) -> String {
    const HEIGHT: f64 = 320.0;
    const LEFT: f64 = 64.0;
    const BOTTOM: f64 = 40.0;
    const TOP: f64 = 24.0;
    let along = Scale::over(
        lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(x, _)| x.max(1.0))),
        LEFT,
        WIDTH - 20.0,
    );
    let up = Scale::over(
        lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y)),
        HEIGHT - BOTTOM,
        TOP,
    );
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img font-size=12>");
    for (value, at) in along.marks() {
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"#8884\"/><text x={at:.1} y={:.1} text-anchor=middle>{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            short(value)
        );
    }
    for (value, at) in up.marks() {
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#8884\"/><text x={:.1} y={:.1} text-anchor=end>{}</text>",
            WIDTH - 20.0,
            LEFT - 6.0,
            at + 4.0,
            short(value)
        );
    }
    let _ = write!(
        svg,
        "<text x={} y={} text-anchor=middle>{}</text><text x=0 y=12>{}</text>",
        WIDTH / 2.0,
        HEIGHT - 6.0,
        escaped(axis),
        escaped(unit)
    );
    for (n, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let mut path = String::new();
        for (at, (x, y)) in line.points.iter().enumerate() {
            let (x, y) = (along.place(x.max(1.0)), up.place(*y));
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
            let _ = write!(svg, "<circle cx={x:.1} cy={y:.1} r=3 fill=\"{colour}\"/>");
        }
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=none stroke=\"{colour}\" stroke-width=2 />"
        );
        let _ = write!(
            svg,
            "<text x={} y=12 style=\"fill:{colour}\">{}</text>",
            LEFT + 40.0 + 150.0 * n as f64,
            escaped(&line.label)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Powers of ten on a stretch of the picture.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (least, most) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        let (least, most) = if least > most { (1.0, 10.0) } else { (least, most) };
        Self {
            least: least.log10().floor(),
            most: most.log10().ceil().max(least.log10().floor() + 1.0),
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.least) / (self.most - self.least);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn marks(&self) -> impl Iterator<Item = (f64, f64)> {
        let powers =
            std::iter::successors(Some(self.least), |power| Some(power + 1.0)).take_while(|power| *power <= self.most);
        powers
            .map(|power| 10_f64.powf(power))
            .map(|value| (value, self.place(value)))
    }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => format!("{value}"),
    }
}
