//! What somebody should look at now, the worst first.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};

use super::body::visible;
use super::model::{Overview, RefusalRow};
use super::{layout, units};
use crate::server::admin::stats::SizeView;
use crate::server::thresholds::{
    ACK_MS_MAX, ACK_P99_MS_MAX, ANSWERS_MINUTES, DISK_FREE_CRITICAL, FAILURES_MIN, PENDING_MAX,
    QUEUE_LAG_SECONDS_MAX, REFUSALS_AGE_MAX, RefusalWeight, SKEW_SECONDS_MAX, weight_of_refusal,
};

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
    refusals(overview, &mut matters);
    matters.extend(overview.size.as_ref().and_then(disk));
    matters.sort_by_key(|matter| matter.level);
    matters
}

fn matter(level: Level, text: String, link: Option<String>) -> Matter {
    Matter { level, text, link }
}

fn disk(size: &SizeView) -> Option<Matter> {
    let free = size.disk_free_bytes;
    let text = match free {
        free if free < DISK_FREE_CRITICAL => {
            "on a full disk every callback is answered 503".to_owned()
        }
        free if free < size.disk_free_min_bytes => format!(
            "less than store.disk_free_min ({}), so finished events are removed early",
            units::bytes(size.disk_free_min_bytes)
        ),
        _ => return None,
    };
    let free = units::bytes(free);
    let text = format!("The disk of the store has {free} left: {text}");
    Some(matter(Level::Bad, text, None))
}

/// What senders see.
fn line(overview: &Overview, matters: &mut Vec<Matter>) {
    let mut minutes = 0;
    let lately = overview.columns.iter().rev().take_while(|column| {
        minutes += column.minutes;
        minutes <= ANSWERS_MINUTES.max(column.minutes)
    });
    let lately: Vec<_> = lately.collect();
    let unavailable: u64 = lately.iter().map(|column| column.unavailable).sum();
    if unavailable > 0 {
        let times = units::counted(unavailable, "callback was", "callbacks were");
        matters.push(matter(
            Level::Bad,
            format!("{times} answered 503 in the last hour: the sender gives up after three tries"),
            None,
        ));
    }
    let latencies = || lately.iter().filter_map(|column| column.latency);
    let high = latencies().fold(0.0, |most: f64, one| most.max(one.high));
    let slowest = latencies().fold(0.0, |most: f64, one| most.max(one.max));
    if high > ACK_P99_MS_MAX {
        let took = units::millis(high);
        let text = format!("One answer in a hundred took {took} or more; the sender waits 3 s");
        matters.push(matter(Level::Bad, text, None));
    } else if slowest > ACK_MS_MAX {
        let took = units::millis(slowest);
        let text = format!("The slowest answer of the last hour took {took}; the sender waits 3 s");
        matters.push(matter(Level::Warn, text, None));
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
            .filter(|age| *age > PENDING_MAX);
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
            matters.push(matter(Level::Bad, text, search("pending")));
        }
    }
}

fn sources(overview: &Overview, matters: &mut Vec<Matter>) {
    for source in &overview.sources {
        let name = &source.name;
        let skew = source.skew_seconds.unwrap_or_default();
        if skew.unsigned_abs() as f64 > SKEW_SECONDS_MAX {
            let apart = units::span(Duration::from_secs(skew.unsigned_abs()));
            let side = if skew < 0 { "behind" } else { "ahead of" };
            let text = format!(
                "Our clock is {apart} {side} the sender's, by the last request of {name}: past the source's tolerance every callback is refused"
            );
            matters.push(matter(Level::Bad, text, None));
        }
        let lag = source.lag_seconds.unwrap_or_default();
        if lag > QUEUE_LAG_SECONDS_MAX {
            let behind = units::span(Duration::try_from_secs_f64(lag).unwrap_or_default());
            let text = format!("{name}: the queue is {behind} behind");
            matters.push(matter(Level::Bad, text, None));
        }
        let listed = |refusal: &RefusalRow| refusal.source.as_ref() == Some(name);
        if source.refusals > 0
            && source.last_event_at.is_none()
            && !overview.refusals.iter().any(listed)
        {
            let refused = units::counted(source.refusals, "request was", "requests were");
            let text = format!(
                "{name}: {refused} refused and no event ever came: is it set up alike on both sides?"
            );
            let link = Some(layout::address("/refusals", [("source", name.as_str())]));
            matters.push(matter(Level::Warn, text, link));
        }
    }
}

/// Sources that refused and accepted nothing since, and what was signed for no
/// source's path.
fn refusals(overview: &Overview, matters: &mut Vec<Matter>) {
    type Kind<'a> = (Option<&'a str>, &'a str);
    let mut kinds: BTreeMap<Kind<'_>, (u64, &RefusalRow)> = BTreeMap::new();
    for refusal in &overview.refusals {
        if units::between(refusal.at, overview.now) > REFUSALS_AGE_MAX {
            continue;
        }
        let kind = (refusal.source.as_deref(), refusal.reason.as_str());
        let (count, last) = kinds.entry(kind).or_insert((0, refusal));
        *count += refusal.count;
        if refusal.at > last.at {
            *last = refusal;
        }
    }
    for ((source, reason), (count, last)) in kinds {
        let row = overview
            .sources
            .iter()
            .find(|row| Some(row.name.as_str()) == source);
        let accepted = row.and_then(|row| row.last_event_at);
        if accepted.is_some_and(|event| event > last.at) {
            continue;
        }
        let level = match weight_of_refusal(reason) {
            RefusalWeight::Bad => Level::Bad,
            RefusalWeight::Look => Level::Warn,
        };
        let probably = match last.diagnosis.as_slice() {
            [] => String::new(),
            all => format!(": {}", visible(&all.join("; "))),
        };
        let text = format!(
            "{}: {} refused as {reason}, the last {}{probably}",
            source.unwrap_or("no source"),
            units::count(count),
            units::age(overview.now, last.at)
        );
        let source = source.map(|source| ("source", source));
        let filter = source.into_iter().chain([("reason", reason)]);
        matters.push(matter(
            level,
            text,
            Some(layout::address("/refusals", filter)),
        ));
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
        // An overview of more than the hour that counts.
        long_ago.columns.extend(calm().columns);
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
        let bad: Vec<&str> = said
            .iter()
            .filter(|(level, _)| *level == Level::Bad)
            .map(|(_, text)| text.as_str())
            .collect();
        let waits = "cms: 1 delivery waits, the oldest for 20 min";
        assert_eq!(bad, [waits, "held: 1 delivery given up"]);
        assert_eq!(said.len(), 5, "{said:?}");
        assert_eq!(said[4].0, Level::Warn, "the worst first");
        let page = banner(&matters(&overview)).into_string();
        assert!(page.contains("status=dead&amp;handler=held"), "{page}");
    }

    #[test]
    fn what_doctor_calls_bad_is_not_called_well_here() {
        let only = |change: &dyn Fn(&mut Overview), level: Level, words: &str| {
            let mut overview = calm();
            change(&mut overview);
            let said = said(&overview);
            assert_eq!(said.len(), 1, "{said:?}");
            assert_eq!(said[0].0, level, "{said:?}");
            assert!(said[0].1.contains(words), "no {words} in {said:?}");
        };
        let size = |free| SizeView {
            file_bytes: 1,
            used_bytes: 1,
            wal_bytes: 0,
            disk_free_bytes: free,
            disk_free_min_bytes: 5 << 30,
        };
        let little = |overview: &mut Overview| overview.size = Some(size(4 << 30));
        only(&little, Level::Bad, "less than store.disk_free_min (5");
        let none = |overview: &mut Overview| overview.size = Some(size(1 << 20));
        only(&none, Level::Bad, "answered 503");
        let skew = |overview: &mut Overview| overview.sources[0].skew_seconds = Some(-240);
        only(&skew, Level::Bad, "behind the sender's");
        let lag = |overview: &mut Overview| overview.sources[0].lag_seconds = Some(4000.0);
        only(&lag, Level::Bad, "the queue is");
        let slow = |overview: &mut Overview| {
            overview.columns[59].latency = Some(Latency {
                median: 1.0,
                high: 20.0,
                max: 2_900.0,
            });
        };
        only(&slow, Level::Warn, "the sender waits 3 s");

        let refusal = |overview: &Overview, source: Option<&str>, reason: &str| RefusalRow {
            at: overview.now,
            source: source.map(str::to_owned),
            path: "/ims/callback/".to_owned(),
            reason: reason.to_owned(),
            diagnosis: vec!["it is \u{202e}another key".to_owned()],
            count: 7,
            ..RefusalRow::default()
        };
        let refused = |overview: &mut Overview| {
            let earlier = overview.now - jiff::SignedDuration::from_mins(5);
            overview.sources[0].last_event_at = Some(earlier);
            overview.refusals = vec![refusal(overview, Some("default"), "mismatch")];
        };
        only(&refused, Level::Bad, "default: 7 refused as mismatch");
        let unsigned = |overview: &mut Overview| {
            overview.sources[0].last_event_at = None;
            overview.refusals = vec![refusal(overview, Some("default"), "missing")];
        };
        only(&unsigned, Level::Warn, "default: 7 refused as missing");
        let lost = |overview: &mut Overview| {
            overview.refusals = vec![refusal(overview, None, "no_source")];
        };
        only(&lost, Level::Warn, "no source: 7 refused as no_source");
        let mut mended = calm();
        let earlier = mended.now - jiff::SignedDuration::from_mins(5);
        mended.refusals = vec![RefusalRow {
            at: earlier,
            ..refusal(&mended, Some("default"), "mismatch")
        }];
        assert_eq!(said(&mended), [], "events came since");
    }
}
