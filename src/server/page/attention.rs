//! What somebody should look at now, the worst first.

use std::time::Duration;

use maud::{Markup, html};

use super::model::Overview;
use super::{layout, units};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Events are at risk, or given up.
    Bad,
    /// Something is not as it should be.
    Warn,
}

/// One thing that needs attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matter {
    pub(super) level: Level,
    pub(super) text: String,
    /// Where to look.
    pub(super) link: Option<String>,
}

/// Answers slower than this come near to what the sender waits, in milliseconds.
const SLOW_MS: f64 = 1_000.0;
/// Deliveries that wait longer than this wait for something.
const OLD: Duration = Duration::from_mins(15);
/// So many failures without one success are no chance.
const FAILURES_MIN: u64 = 5;
/// Free space that is little, in bytes.
const DISK_LITTLE: u64 = 1 << 30;
/// Only what happened lately needs attention now.
const LATELY_MINUTES: u32 = 15;

/// All of it, the worst first.
pub(super) fn matters(overview: &Overview) -> Vec<Matter> {
    let mut matters = Vec::new();
    for reason in &overview.reasons {
        let lead = if overview.ready { "" } else { "Not ready: " };
        matters.push(matter(Level::Bad, format!("{lead}{reason}"), None));
    }
    line(overview, &mut matters);
    handlers(overview, &mut matters);
    sources(overview, &mut matters);
    if let Some(size) = overview
        .size
        .filter(|size| size.disk_free_bytes < DISK_LITTLE)
    {
        let free = units::bytes(size.disk_free_bytes);
        matters.push(matter(
            Level::Bad,
            format!("The disk of the store has {free} left"),
            None,
        ));
    }
    matters.sort_by_key(|matter| matter.level);
    matters
}

fn matter(level: Level, text: String, link: Option<String>) -> Matter {
    Matter { level, text, link }
}

/// What senders see.
fn line(overview: &Overview, matters: &mut Vec<Matter>) {
    let mut minutes = 0;
    let lately = overview.columns.iter().rev().take_while(|column| {
        minutes += column.minutes;
        minutes <= LATELY_MINUTES.max(column.minutes)
    });
    let lately: Vec<_> = lately.collect();
    let unavailable: u64 = lately.iter().map(|column| column.unavailable).sum();
    if unavailable > 0 {
        let times = units::counted(unavailable, "callback was", "callbacks were");
        matters.push(matter(
            Level::Bad,
            format!("{times} answered 503 lately: the sender gives up after three tries"),
            None,
        ));
    }
    let slowest = lately
        .iter()
        .filter_map(|column| column.latency)
        .map(|latency| latency.high);
    let slowest = slowest.fold(0.0, f64::max);
    if slowest > SLOW_MS {
        let took = units::millis(slowest);
        matters.push(matter(
            Level::Bad,
            format!("One answer in a hundred took {took} or more; the sender waits 3 s"),
            None,
        ));
    }
}

fn handlers(overview: &Overview, matters: &mut Vec<Matter>) {
    for handler in &overview.handlers {
        let name = &handler.name;
        let search = |status| {
            Some(layout::address(
                "/events",
                [("status", status), ("handler", name.as_str())],
            ))
        };
        if handler.dead > 0 {
            let dead = units::counted(handler.dead, "delivery", "deliveries");
            matters.push(matter(
                Level::Bad,
                format!("{name}: {dead} given up"),
                search("dead"),
            ));
        }
        if handler.failed >= FAILURES_MIN && handler.succeeded == 0 {
            let text = format!(
                "{name}: none of {} attempts since the start succeeded",
                units::count(handler.failed)
            );
            matters.push(matter(Level::Warn, text, search("pending")));
        }
        let waits = units::counted(handler.pending, "delivery waits", "deliveries wait");
        let old = handler
            .oldest
            .map(|oldest| units::between(oldest, overview.now))
            .filter(|age| *age > OLD);
        if !handler.configured && handler.pending > 0 {
            let text = format!("{name} is no longer configured, and {waits} for it");
            matters.push(matter(Level::Warn, text, search("pending")));
        } else if let Some(since) = handler.paused_at {
            let age = units::age(overview.now, since);
            matters.push(matter(
                Level::Warn,
                format!("{name} was paused {age}; {waits}"),
                search("pending"),
            ));
        } else if let Some(old) = old.filter(|_| handler.pending > 0) {
            let text = format!("{name}: {waits}, the oldest for {}", units::span(old));
            matters.push(matter(Level::Warn, text, search("pending")));
        }
    }
}

fn sources(overview: &Overview, matters: &mut Vec<Matter>) {
    for source in overview.sources.iter().filter(|source| source.refusals > 0) {
        if source.last_event_at.is_none() {
            let name = &source.name;
            let refused = units::counted(source.refusals, "request was", "requests were");
            let text = format!(
                "{name}: {refused} refused and no event ever came: is it set up alike on both sides?"
            );
            let link = Some(layout::address("/refusals", [("source", name.as_str())]));
            matters.push(matter(Level::Warn, text, link));
        }
    }
}

/// The banner.
pub(super) fn banner(matters: &[Matter]) -> Markup {
    let Some(worst) = matters.first() else {
        return html! {
            section.attention.good id="attention" { h2 { span aria-hidden="true" { "✓" } "All is well" } }
        };
    };
    let class = |level| match level {
        Level::Bad => "bad",
        Level::Warn => "warn",
    };
    html! {
        section class={ "attention " (class(worst.level)) } id="attention" aria-labelledby="needs" {
            h2 id="needs" { span aria-hidden="true" { "!" } "Needs attention" }
            ul {
                @for matter in matters {
                    li {
                        span class={ "mark " (class(matter.level)) } aria-hidden="true" {
                            @if matter.level == Level::Bad { "✕" } @else { "!" }
                        }
                        span.break { (matter.text)
                            @if let Some(link) = &matter.link { " " a href=(link) { "Show" span.unseen { ": " (matter.text) } } } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chart::{Column, Latency};
    use super::super::model::{HandlerRow, SourceRow};
    use super::*;

    fn calm() -> Overview {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let column = Column {
            from: now,
            minutes: 1,
            acked: 10,
            ..Column::default()
        };
        Overview {
            now,
            ready: true,
            columns: vec![column; 60],
            handlers: vec![HandlerRow {
                name: "cms".into(),
                configured: true,
                ..HandlerRow::default()
            }],
            sources: vec![SourceRow {
                name: "default".into(),
                last_event_at: Some(now),
                refusals: 3,
                ..SourceRow::default()
            }],
            ..Overview::default()
        }
    }

    fn said(overview: &Overview) -> Vec<(Level, String)> {
        let matters = matters(overview).into_iter();
        matters.map(|matter| (matter.level, matter.text)).collect()
    }

    #[test]
    fn what_is_well_is_not_shouted_about() {
        assert_eq!(said(&calm()), []);
        assert!(banner(&[]).into_string().contains("All is well"));
    }

    #[test]
    fn what_happened_lately_counts_and_what_is_long_ago_does_not() {
        let mut long_ago = calm();
        long_ago.columns[10].unavailable = 5;
        assert_eq!(said(&long_ago), []);
        let mut lately = calm();
        lately.columns[58].unavailable = 5;
        lately.columns[59].latency = Some(Latency {
            median: 1.0,
            high: 1_500.0,
            max: 2_000.0,
        });
        let said = said(&lately);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].1.starts_with("5 callbacks were answered 503"),
            "{said:?}"
        );
        assert!(said[1].1.contains("1.50 s"), "{said:?}");
    }

    #[test]
    fn handlers_and_sources_are_named_the_worst_first() {
        let mut overview = calm();
        let now = overview.now;
        overview.sources[0].last_event_at = None;
        overview.handlers.push(HandlerRow {
            name: "gone".into(),
            pending: 2,
            ..HandlerRow::default()
        });
        overview.handlers.push(HandlerRow {
            name: "held".into(),
            configured: true,
            paused_at: Some(now),
            dead: 1,
            ..HandlerRow::default()
        });
        overview.handlers[0].pending = 1;
        overview.handlers[0].oldest = Some(now - jiff::SignedDuration::from_mins(20));
        let said = said(&overview);
        assert_eq!(said[0], (Level::Bad, "held: 1 delivery given up".into()));
        assert_eq!(said.len(), 5, "{said:?}");
        assert!(said[1..].iter().all(|(level, _)| *level == Level::Warn));
        let page = banner(&matters(&overview)).into_string();
        assert!(page.contains("status=dead&amp;handler=held"), "{page}");
    }
}
