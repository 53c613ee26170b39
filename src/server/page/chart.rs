//! The charts, drawn on the server.
//!
//! Each part is drawn in a colour of its own that nobody sees: the style sheet
//! gives every one its real colour, light or dark, by the attribute that the
//! drawing carries. So a chart holds no style, as the policy of the page
//! demands, and is a picture that needs no script.

use std::fmt::Write as _;
use std::ops::Range;

use jiff::Timestamp;
use maud::{Markup, PreEscaped, html};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::units;
use crate::event::Outcome;

/// Colours that the style sheet replaces.
const ACKED: RGBColor = RGBColor(0, 0, 0x01);
const REFUSED: RGBColor = RGBColor(0, 0, 0x02);
const UNAVAILABLE: RGBColor = RGBColor(0, 0, 0x03);
const GOOD: RGBColor = RGBColor(0, 0, 0x04);
const BAD: RGBColor = RGBColor(0, 0, 0x05);
const CALM: RGBColor = RGBColor(0, 0, 0x06);
const MAX: RGBColor = RGBColor(0, 0, 0x07);
const MEDIAN: RGBColor = RGBColor(0, 0, 0x11);
const HIGH: RGBColor = RGBColor(0, 0, 0x12);
const BUDGET: RGBColor = RGBColor(0, 0, 0x13);
const GRID: RGBColor = RGBColor(0, 0, 0x21);
const AXIS: RGBColor = RGBColor(0, 0, 0x22);
const TEXT: RGBColor = RGBColor(0, 0, 0x31);

/// Each chart is drawn for a wide screen and for a narrow one: scaled, its
/// letters would be too small or too large.
const SIZES: [(&str, u32, u32); 2] = [("wide", 620, 210), ("narrow", 350, 190)];

/// The backend draws letters a fifth smaller than it is told.
const FONT_PIXELS: u32 = 14;

/// What IMS waits for an answer, in milliseconds.
pub(super) const BUDGET_MS: f64 = 3_000.0;

/// The latencies that a chart can show, in milliseconds.
const LATENCY_MS: Range<f64> = 0.1..10_000.0;

/// One or more minutes of callbacks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Column {
    /// When it begins.
    pub(super) from: Timestamp,
    /// How many minutes it holds.
    pub(super) minutes: u32,
    pub(super) acked: u64,
    pub(super) refused: u64,
    pub(super) unavailable: u64,
    /// Latencies of the acks, in milliseconds; `None` where there was none.
    pub(super) latency: Option<Latency>,
}

/// How long acks took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Latency {
    pub(super) median: f64,
    pub(super) high: f64,
    pub(super) max: f64,
}

/// A drawing that failed has no chart; the table beside it has the numbers.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Callbacks in each column, by what they were answered.
pub(super) fn acks(columns: &[Column]) -> Markup {
    let most = columns.iter().map(|c| c.acked + c.refused + c.unavailable);
    let most = most.max().unwrap_or(0).max(4);
    let titles: Vec<String> = columns.iter().map(ack_words).collect();
    both(
        "Callbacks, by minute and answer",
        columns,
        &titles,
        |root| {
            let mut chart = frame(root)
                .build_cartesian_2d(0.0..bound(columns.len()), 0.0..as_f64(most) * 1.08)?;
            mesh(&mut chart, columns, &|value| short(*value))?;
            for (index, column) in columns.iter().enumerate() {
                let mut base = 0.0;
                let parts = [
                    (column.acked, ACKED),
                    (column.refused, REFUSED),
                    (column.unavailable, UNAVAILABLE),
                ];
                for (count, colour) in parts.into_iter().filter(|(count, _)| *count > 0) {
                    let top = base + as_f64(count);
                    let at = bound(index);
                    let corners = [(at + 0.12, base), (at + 0.88, top)];
                    chart.draw_series([Rectangle::new(corners, colour.filled())])?;
                    base = top;
                }
            }
            Ok(chart.plotting_area().get_pixel_range())
        },
    )
}

/// How long the answers took, against what IMS waits.
pub(super) fn latency(columns: &[Column]) -> Markup {
    let titles: Vec<String> = columns.iter().map(latency_words).collect();
    both("Time to the answer, by minute", columns, &titles, |root| {
        let mut chart =
            frame(root).build_cartesian_2d(0.0..bound(columns.len()), LATENCY_MS.log_scale())?;
        mesh(&mut chart, columns, &|value| round_millis(*value))?;
        let whole = [(0.0, BUDGET_MS), (bound(columns.len()), BUDGET_MS)];
        chart.draw_series(LineSeries::new(whole, &BUDGET))?;
        let points = |of: fn(&Latency) -> f64| {
            let at = |(index, column): (usize, &Column)| {
                let value = column.latency.as_ref().map(of)?;
                let value = value.clamp(LATENCY_MS.start, LATENCY_MS.end);
                Some((bound(index) + 0.5, value))
            };
            columns.iter().enumerate().map(at).collect::<Vec<_>>()
        };
        for at in points(|latency| latency.max).into_iter().flatten() {
            chart.draw_series([Circle::new(at, 2, MAX.filled())])?;
        }
        for (points, colour) in [
            (points(|latency| latency.high), HIGH),
            (points(|latency| latency.median), MEDIAN),
        ] {
            // A minute without an ack has no latency: the line stops there.
            for run in points.split(Option::is_none) {
                let run: Vec<_> = run.iter().flatten().copied().collect();
                match run[..] {
                    [] => {}
                    [(x, y)] => {
                        let short = [(x - 0.4, y), (x + 0.4, y)];
                        chart.draw_series(LineSeries::new(short, &colour))?;
                    }
                    _ => {
                        chart.draw_series(LineSeries::new(run, &colour))?;
                    }
                }
            }
        }
        Ok(chart.plotting_area().get_pixel_range())
    })
}

/// One event on the axis of a job or media.
#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub(super) at: Timestamp,
    pub(super) lane: String,
    pub(super) outcome: Outcome,
}

/// Lanes beyond this many share the last one.
const LANES_MAX: usize = 12;

/// An axis has the whole width of its page.
const AXIS_WIDTHS: [(&str, u32); 2] = [("wide", 1_200), ("narrow", 350)];
/// Events closer together than this, in seconds, are drawn on an axis this long.
const AXIS_SECONDS_MIN: f64 = 0.05;

/// Events on one axis of time, one lane for each type.
pub(super) fn axis(dots: &[Dot]) -> Markup {
    let Some(axis) = Axis::of(dots) else {
        return html! {};
    };
    let height = 54 + 24 * u32::try_from(axis.lanes.len()).unwrap_or(1);
    let mut out = String::new();
    for (class, width) in AXIS_WIDTHS {
        let mut svg = String::new();
        let labels = if class == "wide" { 6 } else { 3 };
        let drawn = axis.draw(dots, labels, &mut svg, (width, height));
        if drawn.is_ok() {
            out.push_str(&labelled(&svg, class, "Events on one axis of time", ""));
        }
    }
    html! { figure.chart { (PreEscaped(out)) } }
}

/// The frame of an axis: its time and its lanes.
struct Axis<'d> {
    first: Timestamp,
    /// From the first event to the last, in seconds.
    whole: f64,
    lanes: Vec<&'d str>,
}

impl<'d> Axis<'d> {
    fn of(dots: &'d [Dot]) -> Option<Self> {
        let first = dots.iter().map(|dot| dot.at).min()?;
        let last = dots.iter().map(|dot| dot.at).max()?;
        let mut lanes: Vec<&str> = Vec::new();
        for dot in dots {
            if !lanes.contains(&dot.lane.as_str()) && lanes.len() < LANES_MAX {
                lanes.push(&dot.lane);
            }
        }
        Some(Self {
            first,
            whole: units::between(first, last)
                .as_secs_f64()
                .max(AXIS_SECONDS_MIN),
            lanes,
        })
    }

    /// How high a lane is; the first is on top.
    fn height(&self, lane: usize) -> f64 {
        bound(self.lanes.len() - 1 - lane)
    }

    fn place(&self, dot: &Dot) -> (f64, f64) {
        let lane = self.lanes.iter().position(|lane| *lane == dot.lane);
        let lane = lane.unwrap_or(self.lanes.len() - 1);
        let seconds = units::between(self.first, dot.at).as_secs_f64();
        (seconds, self.height(lane))
    }

    fn draw(&self, dots: &[Dot], labels: usize, svg: &mut String, size: (u32, u32)) -> Drawn {
        let margin = self.whole * 0.04;
        let (left, right) = (-margin, self.whole + margin);
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_left(26)
            .margin_right(26)
            .x_label_area_size(24)
            .build_cartesian_2d(left..right, -0.6..bound(self.lanes.len()) - 0.2)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .x_labels(labels)
            .x_label_formatter(&|value| axis_label(self.first, *value, self.whole))
            .label_style(("sans-serif", FONT_PIXELS, &TEXT))
            .draw()?;
        for (index, lane) in self.lanes.iter().enumerate() {
            let height = self.height(index);
            chart.draw_series(LineSeries::new([(left, height), (right, height)], &GRID))?;
            let style = ("sans-serif", FONT_PIXELS, &TEXT).into_text_style(&root);
            let name = Text::new((*lane).to_owned(), (left, height + 0.48), style);
            chart.draw_series([name])?;
        }
        for dot in dots {
            let colour = match dot.outcome {
                Outcome::Succeeded => GOOD,
                Outcome::Failed => BAD,
                Outcome::Other => CALM,
            };
            chart.draw_series([Circle::new(self.place(dot), 5, colour.filled())])?;
        }
        root.present()?;
        Ok(())
    }
}

fn axis_label(first: Timestamp, seconds: f64, whole: f64) -> String {
    let moved = jiff::SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|offset| first.checked_add(offset).ok());
    let form = match whole {
        whole if whole < 10.0 => "%H:%M:%S%.3f",
        whole if whole < 3_600.0 => "%H:%M:%S",
        whole if whole < 86_400.0 => "%H:%M",
        _ => "%m-%d %H:%M",
    };
    moved.map_or_else(String::new, |at| at.strftime(form).to_string())
}

type Root<'s> = DrawingArea<SVGBackend<'s>, plotters::coord::Shift>;
type Pixels = (Range<i32>, Range<i32>);

/// The chart in both sizes, with a place to point at for each column.
fn both(
    label: &str,
    columns: &[Column],
    titles: &[String],
    draw: impl Fn(&Root<'_>) -> Result<Pixels, Box<dyn std::error::Error>>,
) -> Markup {
    let mut out = String::new();
    for (class, width, height) in SIZES {
        let mut svg = String::new();
        let pixels = {
            let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
            draw(&root).and_then(|pixels| {
                root.present()?;
                Ok(pixels)
            })
        };
        if let Ok(pixels) = pixels {
            let hits = hits(&pixels, columns.len(), titles);
            out.push_str(&labelled(&svg, class, label, &hits));
        }
    }
    html! { figure.chart { (PreEscaped(out)) } }
}

fn hits((x, y): &Pixels, columns: usize, titles: &[String]) -> String {
    let width = f64::from(x.end - x.start) / bound(columns.max(1));
    let mut out = String::new();
    for (index, title) in titles.iter().enumerate() {
        let left = f64::from(x.start) + width * bound(index);
        let title = html! { title { (title) } }.into_string();
        let _ = write!(
            out,
            r#"<rect class="hit" x="{left:.1}" y="{}" width="{width:.1}" height="{}">{title}</rect>"#,
            y.start,
            y.end - y.start
        );
    }
    out
}

/// The drawing as a picture with a name, and `more` on top of it.
fn labelled(svg: &str, class: &str, label: &str, more: &str) -> String {
    let open = format!(r#"<svg class="{class}" role="img" aria-label="{label}" "#);
    let svg = svg.replacen("<svg ", &open, 1);
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    format!("{}{more}</svg>", &svg[..end])
}

fn frame<'a, 's>(root: &'a Root<'s>) -> ChartBuilder<'a, 's, SVGBackend<'s>> {
    let mut builder = ChartBuilder::on(root);
    builder
        .margin_top(6)
        .margin_right(6)
        .x_label_area_size(22)
        .y_label_area_size(46);
    builder
}

type Chart<'a, 's, Y> =
    ChartContext<'a, SVGBackend<'s>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

fn mesh<Y>(
    chart: &mut Chart<'_, '_, Y>,
    columns: &[Column],
    y_label: &dyn Fn(&f64) -> String,
) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64> + AsRangedCoord,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|value| column_label(columns, *value))
        .y_label_formatter(y_label)
        .label_style(("sans-serif", FONT_PIXELS, &TEXT))
        .draw()?;
    Ok(())
}

fn column_label(columns: &[Column], value: f64) -> String {
    let mut index = 0;
    while index + 1 < columns.len() && bound(index) + 0.5 < value {
        index += 1;
    }
    columns
        .get(index)
        .map_or_else(String::new, |column| units::clock(column.from))
}

fn ack_words(column: &Column) -> String {
    format!(
        "{}: {} acked, {} refused, {} answered 503",
        when(column),
        units::count(column.acked),
        units::count(column.refused),
        units::count(column.unavailable)
    )
}

fn latency_words(column: &Column) -> String {
    match &column.latency {
        None => format!("{}: no ack", when(column)),
        Some(latency) => format!(
            "{}: p50 {}, p99 {}, max {}",
            when(column),
            units::millis(latency.median),
            units::millis(latency.high),
            units::millis(latency.max)
        ),
    }
}

fn when(column: &Column) -> String {
    match column.minutes {
        1 => units::clock(column.from),
        minutes => format!("{} and {} min", units::clock(column.from), minutes),
    }
}

/// A large number in few letters.
fn short(value: f64) -> String {
    match value {
        value if value >= 1_000_000.0 => format!("{:.1}M", value / 1_000_000.0),
        value if value >= 10_000.0 => format!("{:.0}k", value / 1_000.0),
        value if value >= 1_000.0 => format!("{:.1}k", value / 1_000.0),
        value if value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

fn round_millis(value: f64) -> String {
    match value {
        value if value < 0.95 => format!("{value:.1} ms"),
        value if value < 950.0 => format!("{value:.0} ms"),
        value => format!("{:.0} s", value / 1_000.0),
    }
}

fn as_f64(count: u64) -> f64 {
    // No chart tells 2^32 from more.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn bound(index: usize) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(u32::MAX))
}
