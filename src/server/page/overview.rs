//! The first page: is all well, and if not, where to look.

use maud::{Markup, html};

use super::attention;
use super::chart::{self, Column};
use super::layout::{self, Frame};
use super::model::{HandlerRow, Overview, SourceRow, TypeRow};
use super::units;

/// How far back the page can look, in minutes.
pub(super) const SPANS: [(u32, &str); 3] = [(60, "1 h"), (360, "6 h"), (1_440, "24 h")];

/// Types beyond this many are counted together.
const TYPES_MAX: usize = 12;

/// The whole page.
pub(super) fn view(frame: &Frame, overview: &Overview) -> Markup {
    html! {
        div.head {
            h1 { "Overview" }
            nav.segments.end aria-label="Time span" {
                @for (minutes, name) in SPANS {
                    a href={ "/?minutes=" (minutes) } aria-current=[(minutes == overview.minutes).then_some("true")] { (name) }
                }
            }
        }
        (attention::banner(&attention::matters(overview)))
        (tiles(overview))
        div.two id="charts" { (ack_chart(overview)) (latency_chart(overview)) }
        (handlers(frame, overview))
        div.two id="below" { (types(overview)) div.stack { (sources(overview)) (store(overview)) } }
    }
}

fn sum(overview: &Overview, of: fn(&Column) -> u64) -> u64 {
    overview.columns.iter().map(of).sum()
}

fn tiles(overview: &Overview) -> Markup {
    let acked = sum(overview, |column| column.acked);
    let refused = sum(overview, |column| column.refused);
    let unavailable = sum(overview, |column| column.unavailable);
    let slowest = overview.columns.iter().filter_map(|column| column.latency);
    let slowest = slowest
        .map(|latency| latency.high)
        .fold(None, |most: Option<f64>, one| {
            Some(most.map_or(one, |most| most.max(one)))
        });
    let pending: u64 = overview
        .handlers
        .iter()
        .map(|handler| handler.pending)
        .sum();
    let dead: u64 = overview.handlers.iter().map(|handler| handler.dead).sum();
    let oldest = overview
        .handlers
        .iter()
        .filter_map(|handler| handler.oldest)
        .min();
    html! {
        dl.tiles id="tiles" {
            (tile("Acknowledged", &units::count(acked), &per_minute(acked, overview.minutes), ""))
            (tile("Slowest minute, p99", &slowest.map_or("–".to_owned(), units::millis), "IMS waits 3 s", bad(slowest.is_some_and(|ms| ms > 1_000.0))))
            (tile("Answered 503", &units::count(unavailable), if unavailable > 0 { "IMS tries twice more, then drops them" } else { "none turned away" }, bad(unavailable > 0)))
            (tile("Refused", &units::count(refused), "not proved to be IMS", ""))
            (tile("Unfinished deliveries", &units::count(pending), &oldest.map_or("nothing waits".to_owned(), |at| format!("oldest event {}", units::age(overview.now, at))), ""))
            (tile("Given up", &units::count(dead), "until delivered again", bad(dead > 0)))
        }
    }
}

fn bad(is: bool) -> &'static str {
    if is { "bad" } else { "" }
}

fn tile(name: &str, figure: &str, beside: &str, class: &str) -> Markup {
    html! { div class={ "tile " (class) } { dt { (name) } dd.figure { (figure) } dd.beside { (beside) } } }
}

fn per_minute(count: u64, minutes: u32) -> String {
    let tenths = count * 10 / u64::from(minutes.max(1));
    format!("{}.{} a minute", units::count(tenths / 10), tenths % 10)
}

fn ack_chart(overview: &Overview) -> Markup {
    html! {
        section.card aria-labelledby="acks" {
            header { h2 id="acks" { "Callbacks" } span.small.soft.end { (step(overview)) } }
            div.inside {
                (chart::acks(&overview.columns))
                div.legend {
                    span { i.acked {} "acknowledged" }
                    span { i.refused {} "refused" }
                    span { i.unavailable {} "answered 503" }
                }
            }
            (numbers(overview, "acks-numbers", &["Acknowledged", "Refused", "503"], |column| {
                Some([units::count(column.acked), units::count(column.refused), units::count(column.unavailable)])
            }))
        }
    }
}

fn latency_chart(overview: &Overview) -> Markup {
    html! {
        section.card aria-labelledby="latency" {
            header { h2 id="latency" { "Time to the answer" } span.small.soft.end { "logarithmic" } }
            div.inside {
                (chart::latency(&overview.columns))
                div.legend {
                    span { i.line.median {} "p50" }
                    span { i.line.high {} "p99" }
                    span { i.max {} "max" }
                    span { i.line.budget {} "3 s, what IMS waits" }
                }
            }
            (numbers(overview, "latency-numbers", &["p50", "p99", "max"], |column| {
                column.latency.map(|l| [l.median, l.high, l.max].map(units::millis))
            }))
        }
    }
}

/// The numbers behind a chart, the newest first.
fn numbers(
    overview: &Overview,
    id: &str,
    names: &[&str; 3],
    of: impl Fn(&Column) -> Option<[String; 3]>,
) -> Markup {
    let rows = overview
        .columns
        .iter()
        .rev()
        .filter(|c| c.acked + c.refused + c.unavailable > 0);
    html! {
        details id=(id) {
            summary { "As numbers" }
            table {
                thead { tr { th { "From" } @for name in names { th.number { (name) } } } }
                tbody {
                    @for column in rows {
                        @if let Some(values) = of(column) {
                            tr { td { (units::clock(column.from)) } @for value in values { td.number { (value) } } }
                        }
                    }
                }
            }
        }
    }
}

fn step(overview: &Overview) -> String {
    match overview.columns.first().map_or(1, |column| column.minutes) {
        1 => "by minute".to_owned(),
        minutes => format!("by {minutes} minutes"),
    }
}

fn handlers(frame: &Frame, overview: &Overview) -> Markup {
    html! {
        section.card id="handlers" aria-labelledby="handlers-name" {
            header { h2 id="handlers-name" { "Handlers" }
                span.small.soft.end { "success since the start " (layout::ago(overview.now, overview.started_at)) } }
            @if overview.handlers.is_empty() {
                p.empty { "No handler is configured: events are stored, and nothing is done with them." }
            } @else {
                table.fold {
                    thead { tr {
                        th { "Handler" } th { "State" } th.number { "Unfinished" } th { "Oldest" }
                        th.number { "Given up" } th.number { "Success rate" } th { span.unseen { "Actions" } }
                    } }
                    tbody { @for handler in &overview.handlers { (handler_row(frame, overview, handler)) } }
                }
            }
        }
    }
}

fn handler_row(frame: &Frame, overview: &Overview, handler: &HandlerRow) -> Markup {
    let search = |status: &str| {
        layout::address(
            "/events",
            [("status", status), ("handler", handler.name.as_str())],
        )
    };
    let attempts = handler.succeeded + handler.failed;
    html! {
        tr id={ "handler-" (handler.name) } {
            td { strong { (handler.name) } @if let Some(kind) = &handler.kind { " " span.small.soft { (kind) } } }
            td {
                @if !handler.configured { (layout::word("warn", "!", "not configured")) }
                @else if handler.paused_at.is_some() { (layout::paused()) }
                @else if handler.is_failing() { (layout::word("", "▸", "at work")) }
                @else { (layout::word("good", "✓", "at work")) }
            }
            td.number data-label="Unfinished" { @if handler.pending > 0 { a href=(search("pending,running")) { (units::count(handler.pending)) } } @else { "0" } }
            td data-label="Oldest" { @match handler.oldest { Some(at) => (layout::ago(overview.now, at)), None => span.soft { "–" } } }
            td.number data-label="Given up" { @if handler.dead > 0 { a href=(search("dead")) { (units::count(handler.dead)) } } @else { "0" } }
            td.number data-label="Success" { span title={ (units::count(handler.succeeded)) " of " (units::count(attempts)) " attempts" } { (units::percent(handler.succeeded, attempts)) } }
            td.end { (handler_action(frame, handler)) }
        }
    }
}

fn handler_action(frame: &Frame, handler: &HandlerRow) -> Markup {
    let (verb, word, class) = match (handler.configured, handler.paused_at) {
        (true, Some(_)) => ("resume", "Resume", "main"),
        (true, None) => ("pause", "Pause", ""),
        (false, _) if handler.pending > 0 => ("discard", "Discard …", "bad"),
        (false, _) => return html! {},
    };
    let name = &handler.name;
    html! {
        @if verb == "discard" {
            a.button href={ "/handlers/" (name) "/discard" } { (word) span.unseen { " what waits for " (name) } }
        } @else {
            form.inline action={ "/handlers/" (name) "/" (verb) } method="post" {
                (layout::csrf(frame))
                button type="submit" class=(class) { (word) span.unseen { " " (name) } }
            }
        }
    }
}

fn types(overview: &Overview) -> Markup {
    let most = overview.types.first().map_or(1, TypeRow::all).max(1);
    let rest: u64 = overview
        .types
        .iter()
        .skip(TYPES_MAX)
        .map(TypeRow::all)
        .sum();
    html! {
        section.card aria-labelledby="types-name" {
            header { h2 id="types-name" { "Events by type and outcome" } }
            @if overview.types.is_empty() {
                p.empty { "No event came in this time." }
            } @else {
                table {
                    thead { tr { th { "Type" } th.number title="succeeded" { "✓" span.unseen { " succeeded" } } th.number title="failed" { "✕" span.unseen { " failed" } } th.number title="other" { "·" span.unseen { " other" } } } }
                    tbody {
                        @for row in overview.types.iter().take(TYPES_MAX) {
                            tr {
                                td { a.break href=(layout::address("/events", [("type", row.event_type.as_str())])) { (layout::short(&row.event_type)) } (bars(row, most)) }
                                td.number { (units::count(row.succeeded)) }
                                td.number { @if row.failed > 0 { a href=(layout::address("/events", [("type", row.event_type.as_str()), ("outcome", "failed")])) { (units::count(row.failed)) } } @else { "0" } }
                                td.number { (units::count(row.other)) }
                            }
                        }
                        @if rest > 0 { tr { td.soft { "Other types" } td.number colspan="3" { (units::count(rest)) } } }
                    }
                }
            }
        }
    }
}

/// A row's share of the most frequent type, by outcome.
fn bars(row: &TypeRow, most: u64) -> Markup {
    // In thousandths of the width.
    let part = |count: u64| count.saturating_mul(1_000) / most;
    let (good, bad, calm) = (part(row.succeeded), part(row.failed), part(row.other));
    html! {
        svg.bars viewBox="0 0 1000 8" preserveAspectRatio="none" aria-hidden="true" {
            rect.good x="0" y="1" width=(good) height="5" {}
            rect.bad x=(good) y="1" width=(bad) height="5" {}
            rect.calm x=(good + bad) y="1" width=(calm) height="5" {}
        }
    }
}

fn sources(overview: &Overview) -> Markup {
    html! {
        section.card aria-labelledby="sources-name" {
            header { h2 id="sources-name" { "Sources" } }
            @if overview.sources.is_empty() { p.empty { "No source is configured." } }
            @else {
                table {
                    thead { tr { th { "Source" } th { "Last event" } th.number { "Refusals" } } }
                    tbody { @for source in &overview.sources { (source_row(overview, source)) } }
                }
            }
        }
    }
}

fn source_row(overview: &Overview, source: &SourceRow) -> Markup {
    html! {
        tr {
            td { a href=(layout::address("/events", [("source", source.name.as_str())])) { (source.name) } " " span.small.soft { (source.kind) } }
            td { @match source.last_event_at { Some(at) => (layout::ago(overview.now, at)), None => span.soft { "none yet" } } }
            td.number { @if source.refusals > 0 { a href=(layout::address("/refusals", [("source", source.name.as_str())])) { (units::count(source.refusals)) } } @else { "0" } }
        }
    }
}

fn store(overview: &Overview) -> Markup {
    html! {
        section.card aria-labelledby="store-name" {
            header { h2 id="store-name" { "Store and service" } }
            dl.facts.inside {
                @if let Some(size) = overview.size {
                    dt { "In use" } dd { (units::bytes(size.used_bytes)) }
                    dt { "Database file" } dd { (units::bytes(size.file_bytes)) }
                    dt { "Write-ahead log" } dd { (units::bytes(size.wal_bytes)) }
                    dt { "Free on its disk" } dd { (units::bytes(size.disk_free_bytes)) }
                }
                dt { "Running since" } dd { (layout::moment(overview.now, overview.started_at)) }
                dt { "State" } dd { @if overview.ready { (layout::word("good", "✓", "ready")) } @else { (layout::word("bad", "✕", "not ready")) } }
            }
        }
    }
}
