//! One delivery of an event, attempt by attempt.

use std::ops::Range;

use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use super::body::visible;
use super::layout;
use super::units;
use crate::delivery::{Attempt, AttemptResult, Reason, Status};
use crate::store::DeliveryHistory;

/// Of each text of a report.
const REPORT_BYTES_MAX: usize = 4 * 1024;

/// The card of one delivery.
pub(super) fn card(now: Timestamp, delivery: &DeliveryHistory) -> Markup {
    let handler = delivery.handler.as_str();
    let history = &delivery.history;
    html! {
        section.card aria-labelledby={ "to-" (handler) } {
            header {
                h2 id={ "to-" (handler) } { "To " (handler) }
                (layout::status(delivery.status))
                span.small.soft.end { (units::counted(u64::from(delivery.attempts), "attempt", "attempts")) }
            }
            ol.way.inside {
                @for alike in runs(history) {
                    (step(now, delivery, alike.start))
                    @let rest = alike.start + 1..alike.end;
                    @if !rest.is_empty() {
                        li.bad {
                            details id={ "alike-" (handler) "-" (history[rest.start].attempt) } {
                                summary { (alike_words(now, &history[rest.clone()])) }
                                ol.way { @for index in rest { (step(now, delivery, index)) } }
                            }
                        }
                    }
                }
                (last_step(now, delivery))
            }
        }
    }
}

/// Attempts that follow each other and failed alike are one run.
fn runs(history: &[Attempt]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for index in 0..history.len() {
        match runs.last_mut() {
            Some(run) if alike(&history[run.start], &history[index], index - run.start) => {
                run.end = index + 1;
            }
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

fn alike(first: &Attempt, other: &Attempt, distance: usize) -> bool {
    fn why(attempt: &Attempt) -> &str {
        attempt
            .reason
            .as_ref()
            .map_or("", |reason| cause(reason.as_str()).0)
    }
    let follows = u32::try_from(distance)
        .is_ok_and(|distance| first.attempt.saturating_add(distance) == other.attempt);
    follows
        && first.result == AttemptResult::Failed
        && other.result == AttemptResult::Failed
        && why(first) == why(other)
        && first.report == other.report
}

fn alike_words(now: Timestamp, attempts: &[Attempt]) -> Markup {
    let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else {
        return html! {};
    };
    html! {
        @if attempts.len() == 1 { "Attempt " (first.attempt) }
        @else { "Attempts " (first.attempt) "–" (last.attempt) }
        ", same reason; "
        @if attempts.len() > 1 { "the last " }
        (layout::ago(now, last.started_at))
    }
}

/// A reason as what went wrong, and what followed from it: that it was the last
/// attempt.
pub(super) fn cause(reason: &str) -> (&str, Option<&str>) {
    match reason.rsplit_once("; ") {
        Some((cause, end))
            if end.starts_with("retry.attempts (") || end == "older than retry.max_age" =>
        {
            (cause, Some(end))
        }
        _ => (reason, None),
    }
}

fn step(now: Timestamp, delivery: &DeliveryHistory, index: usize) -> Markup {
    use AttemptResult as R;
    let history = &delivery.history;
    let attempt = &history[index];
    let before = index.checked_sub(1).map(|before| &history[before]);
    let class = match attempt.result {
        R::Succeeded => "good",
        R::Failed => "bad",
        R::Lost => "warn",
        R::Stopped => "",
    };
    let expected = before.map_or(1, |before| before.attempt.saturating_add(1));
    let reason = attempt.reason.as_ref().map(Reason::as_str);
    // Of the last one it stands at the end, where it was given up.
    let is_end = delivery.status == Status::Dead && index + 1 == history.len();
    let told = reason.map(|reason| if is_end { cause(reason).0 } else { reason });
    html! {
        @if attempt.attempt > expected {
            li { p.gap {
                @if attempt.attempt == expected + 1 { "Attempt " (expected) " is not kept" }
                @else { "Attempts " (expected) " to " (attempt.attempt - 1) " are not kept" }
            } }
        }
        li class=(class) {
            div.when {
                strong { "Attempt " (attempt.attempt) }
                (layout::result(attempt.result))
                @if let Some(ended) = attempt.ended_at {
                    span.small { "took " (units::span(units::between(attempt.started_at, ended))) }
                }
            }
            p.small.soft {
                (layout::moment(now, attempt.started_at))
                @if let Some(before) = before {
                    ", " (units::span(units::between(before.started_at, attempt.started_at))) " after the one before"
                }
            }
            @if let Some(told) = told { p.break { (visible(told)) } }
            @if let Some(report) = &attempt.report.0 { (report_view(report, reason.unwrap_or_default())) }
        }
    }
}

/// What a handler kept: a small object; texts in full, the rest as words where
/// the reason does not say them already.
fn report_view(report: &Value, reason: &str) -> Markup {
    let Value::Object(members) = report else {
        return excerpt("report", &report.to_string());
    };
    let short = members.iter().filter(|(_, value)| !value.is_string());
    let words: Vec<String> = short
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let words = words.join(", ");
    html! {
        @if !words.is_empty() && words != cause(reason).0 { p.small.soft.break { (layout::shortened(&words, REPORT_BYTES_MAX)) } }
        @for (name, value) in members {
            @if let Some(text) = value.as_str().filter(|text| !text.is_empty()) { (excerpt(name, text)) }
        }
    }
}

fn excerpt(name: &str, text: &str) -> Markup {
    html! {
        div {
            p.small.soft { (layout::short(name)) }
            pre.excerpt tabindex="0" { (layout::shortened(text, REPORT_BYTES_MAX)) }
        }
    }
}

fn last_step(now: Timestamp, delivery: &DeliveryHistory) -> Markup {
    let reason = delivery.reason.as_ref().map(Reason::as_str);
    match delivery.status {
        Status::Succeeded => html! {},
        Status::Running => html! {
            li.busy { div.when { strong { "At work" } span.small { "attempt " (delivery.attempts) } } }
        },
        Status::Dead => {
            let last = delivery
                .history
                .last()
                .and_then(|last| last.reason.as_ref());
            let why = match reason {
                Some(reason) if last.map(Reason::as_str) == Some(reason) => {
                    let end = cause(reason).1;
                    Some(end.unwrap_or("trying again would not help"))
                }
                other => other,
            };
            html! {
                li.bad {
                    div.when { strong { "Given up" } }
                    @if let Some(why) = why { p.break { (visible(why)) } }
                }
            }
        }
        Status::Pending => html! {
            li.warn {
                div.when {
                    strong { @if delivery.attempts == 0 { "Waits" } @else { "Next try" } }
                    @match delivery.next_at.filter(|next| *next > now) {
                        Some(next) => span.small { (layout::moment(now, next)) },
                        None => span.small { "as soon as the handler has a place" },
                    }
                }
                @if delivery.attempts == 0 {
                    @if let Some(reason) = reason { p.small.break { (visible(reason)) } }
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::delivery::Report;
    use crate::request::HandlerName;

    fn failed(attempt: u32, reason: &str) -> Attempt {
        Attempt {
            attempt,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: None,
            result: AttemptResult::Failed,
            reason: Some(Reason::new(reason)),
            report: Report(Some(json!({"status": 500, "body": "down"}))),
        }
    }

    fn dead(history: Vec<Attempt>) -> DeliveryHistory {
        DeliveryHistory {
            handler: HandlerName::new("cms").unwrap(),
            status: Status::Dead,
            attempts: history.last().map_or(0, |last| last.attempt),
            failed: 0,
            age_from: None,
            next_at: None,
            reason: history.last().and_then(|last| last.reason.clone()),
            history,
        }
    }

    #[test]
    fn failures_that_are_alike_are_folded_and_told_once() {
        let last = "status 500; retry.attempts (7) used up";
        let mut history: Vec<_> = (1..=6).map(|n| failed(n, "status 500")).collect();
        history.push(failed(7, last));
        let page = card(Timestamp::UNIX_EPOCH, &dead(history.clone())).into_string();
        assert!(page.contains("Attempts 2–7, same reason"), "{page}");
        assert_eq!(page.matches("<details").count(), 1, "{page}");
        // Once for each attempt: neither its report nor the end says it again.
        assert_eq!(page.matches("status 500").count(), 7, "{page}");
        assert_eq!(
            page.matches("retry.attempts (7) used up").count(),
            1,
            "{page}"
        );
        // What differs, and what has a hole before it, stands by itself.
        history[3].report = Report(None);
        history[6].attempt = 9;
        assert_eq!(runs(&history), [0..3, 3..4, 4..6, 6..7]);
    }

    #[test]
    fn an_end_without_further_attempts_says_so() {
        let page = card(Timestamp::UNIX_EPOCH, &dead(vec![failed(1, "status 410")])).into_string();
        assert_eq!(page.matches("status 410").count(), 1, "{page}");
        assert!(page.contains("trying again would not help"), "{page}");
        let mut discarded = dead(vec![failed(1, "status 500")]);
        discarded.reason = Some(Reason::new("discarded"));
        let page = card(Timestamp::UNIX_EPOCH, &discarded).into_string();
        assert!(page.contains("discarded"), "{page}");
    }
}
