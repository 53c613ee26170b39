//! One event: what came, what became of it, and what can be done.

use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use super::body::{self, Shown};
use super::layout::{self, Frame};
use super::units;
use crate::delivery::{Attempt, Reason, Status};
use crate::request::HandlerName;
use crate::signature::{SchemeName, Verified};
use crate::store::{DeliveryHistory, History};

/// Of each text of a report.
const REPORT_BYTES_MAX: usize = 4 * 1024;

/// The whole page. `handlers` are the configured ones.
pub(super) fn view(frame: &Frame, history: &History, handlers: &[HandlerName]) -> Markup {
    let event = &history.event;
    let content = &event.content;
    let id = event.id.to_string();
    html! {
        div {
            p.crumb { a href="/events" { "Events" } " / " span.mono.soft { (id) } }
            div.head {
                h1 { (body::visible(&content.event_type)) }
                (layout::outcome(content.outcome))
                div.row.end {
                    a.button href={ "/api/events/" (id) "/body" } download={ (id) ".json" } { "Raw body" }
                    a.button href={ "/api/events/" (id) } { "As JSON" }
                }
            }
        }
        div.wide-narrow {
            div.stack {
                (facts(frame.now, history))
                (body_card(history))
            }
            div.stack {
            div.stack id="became" {
                (received(frame.now, history))
                @for delivery in &history.deliveries { (delivery_card(frame.now, delivery)) }
                @if history.deliveries.is_empty() {
                    section.card { p.empty { "No handler wanted this event." } }
                }
                }
                (redeliver(frame, &id, history, handlers))
            }
        }
    }
}

fn facts(now: Timestamp, history: &History) -> Markup {
    let event = &history.event;
    let content = &event.content;
    html! {
        section.card aria-labelledby="facts" {
            header { h2 id="facts" { "Event" } }
            dl.facts.inside {
                @if let Some(media) = &content.media_id {
                    dt { "Media" } dd.mono { a href={ "/media/" (layout::encoded(media)) } { (media) } }
                }
                @if let Some(job) = &content.job_id {
                    dt { "Job" } dd.mono { a href={ "/job/" (layout::encoded(job)) } { (job) } }
                }
                @if let Some(time) = &content.event_time {
                    dt { "Happened" } dd { (time)
                        @if let Ok(at) = time.parse::<Timestamp>() { " " span.soft { "(" (layout::ago(now, at)) ")" } }
                    }
                }
                dt { "Received" } dd { (layout::moment(now, event.received_at)) }
                dt { "Source" } dd { a href=(layout::address("/events", [("source", content.source.as_str())])) { (content.source.as_str()) } }
                @if let Some(user) = &content.user_id { dt { "Account" } dd.mono { (user) } }
                dt { "Size" } dd { (units::bytes(content.body.len() as u64)) }
            }
            @if !content.notes.is_empty() {
                div.inside {
                    @for note in &content.notes {
                        p.small { (layout::word("warn", "!", "note")) " " span.break { (body::visible(note)) } }
                    }
                }
            }
            @if !content.head.headers.is_empty() || content.head.query.is_some() {
                details id="request" {
                    summary { "Request" }
                    dl.facts.inside.small {
                        @if let Some(query) = &content.head.query { dt { "Query" } dd.mono { (body::visible(query)) } }
                        @for (name, value) in &content.head.headers {
                            dt { (name) } dd.mono { (body::visible(value)) }
                        }
                    }
                }
            }
        }
    }
}

fn body_card(history: &History) -> Markup {
    let content = &history.event.content;
    let shown = Shown::read(&content.event_type, &content.body);
    html! {
        section.card aria-labelledby="body" {
            header {
                h2 id="body" { "Body" }
                @if shown.is_some() { span.small.soft.end { "Point at a dotted name for its meaning" } }
                @else { span.small.soft.end { "Not JSON that can be shown as such" } }
            }
            @match &shown {
                Some(shown) => (shown.markup()),
                None => (body::plain(&content.body)),
            }
            @if let Some(fields) = body::fields(&content.event_type) {
                details id="fields" {
                    summary { "All fields of " (content.event_type) }
                    div.inside { (fields) }
                }
            }
        }
    }
}

/// How it came in: received, proved, repeated.
fn received(now: Timestamp, history: &History) -> Markup {
    let event = &history.event;
    let content = &event.content;
    let (class, verified) = verified(&content.verified);
    html! {
        section.card aria-labelledby="arrival" {
            header { h2 id="arrival" { "Arrival" } }
            ol.way.inside {
                li class=(class) {
                    div.when { strong { "Verified" } }
                    p.small.soft { (verified) }
                    @if let Some(peer) = content.head.peer { p.small.soft { "From " span.mono { (peer) } } }
                }
                li.good {
                    div.when { strong { "Stored and acknowledged" } span.small { (layout::moment(now, event.received_at)) } }
                    p.small.soft { "By source " (content.source.as_str()) "; the 200 was sent after the commit." }
                }
                @if history.duplicates > 0 {
                    li {
                        div.when { strong { "Came again" } span.small { (units::counted(history.duplicates, "time", "times")) } }
                        p.small.soft { "The same body, byte for byte: counted here, delivered once." }
                    }
                }
            }
        }
    }
}

fn verified(verified: &Verified) -> (&'static str, String) {
    let key = verified
        .key()
        .map_or_else(String::new, |key| format!(", key {key} of the list"));
    match verified.scheme() {
        SchemeName::Ims => {
            let url = verified.url().map_or_else(
                || ", over the request's own address".to_owned(),
                |url| format!(", callback URL {url} of the list"),
            );
            ("good", format!("By the signature of IMS{key}{url}"))
        }
        SchemeName::HmacSha256 => ("good", format!("By HMAC-SHA256 over the body{key}")),
        SchemeName::Mns => (
            "good",
            "It came out of the queue, which lets nobody else in".to_owned(),
        ),
        SchemeName::None => (
            "warn",
            "Not at all: this source lets everybody in".to_owned(),
        ),
    }
}

fn delivery_card(now: Timestamp, delivery: &DeliveryHistory) -> Markup {
    let handler = delivery.handler.as_str();
    html! {
        section.card aria-labelledby={ "to-" (handler) } {
            header {
                h2 id={ "to-" (handler) } { "To " (handler) }
                (layout::status(delivery.status))
                span.small.soft.end { (units::counted(u64::from(delivery.attempts), "attempt", "attempts")) }
            }
            ol.way.inside {
                @for (index, attempt) in delivery.history.iter().enumerate() {
                    @let before = index.checked_sub(1).and_then(|before| delivery.history.get(before));
                    (attempt_step(now, attempt, before))
                }
                (last_step(now, delivery))
            }
        }
    }
}

fn attempt_step(now: Timestamp, attempt: &Attempt, before: Option<&Attempt>) -> Markup {
    use crate::delivery::AttemptResult as R;
    let class = match attempt.result {
        R::Succeeded => "good",
        R::Failed => "bad",
        R::Lost => "warn",
        R::Stopped => "",
    };
    let expected = before.map_or(1, |before| before.attempt + 1);
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
            @if let Some(reason) = &attempt.reason { p.break { (body::visible(reason.as_str())) } }
            @if let Some(report) = &attempt.report.0 { (report_view(report, attempt.reason.as_ref().map_or("", Reason::as_str))) }
        }
    }
}

/// What a handler kept: a small object; texts in full, the rest as words.
fn report_view(report: &Value, reason: &str) -> Markup {
    let Value::Object(members) = report else {
        return excerpt("report", &report.to_string());
    };
    let short = members.iter().filter(|(_, value)| !value.is_string());
    let words: Vec<String> = short
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    html! {
        @if !words.is_empty() && words.join(", ") != reason { p.small.soft.break { (words.join(", ")) } }
        @for (name, value) in members {
            @if let Some(text) = value.as_str().filter(|text| !text.is_empty()) { (excerpt(name, text)) }
        }
    }
}

fn excerpt(name: &str, text: &str) -> Markup {
    let kept = &text[..text.floor_char_boundary(REPORT_BYTES_MAX)];
    html! {
        div {
            p.small.soft { (name) }
            pre.excerpt tabindex="0" { (body::visible(kept)) @if kept.len() < text.len() { "…" } }
        }
    }
}

fn last_step(now: Timestamp, delivery: &DeliveryHistory) -> Markup {
    let reason = delivery
        .reason
        .as_ref()
        .map(|reason| body::visible(reason.as_str()));
    match delivery.status {
        Status::Succeeded => html! {},
        Status::Running => html! {
            li.busy { div.when { strong { "At work" } span.small { "attempt " (delivery.attempts) } } }
        },
        Status::Dead => html! {
            li.bad {
                div.when { strong { "Given up" } }
                @if let Some(reason) = reason { p.break { (reason) } }
            }
        },
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
                    @if let Some(reason) = reason { p.small.break { (reason) } }
                }
            }
        },
    }
}

fn redeliver(frame: &Frame, id: &str, history: &History, handlers: &[HandlerName]) -> Markup {
    let has = |name: &HandlerName| {
        history
            .deliveries
            .iter()
            .find(|delivery| delivery.handler == *name)
    };
    html! {
        section.card aria-labelledby="again" {
            header { h2 id="again" { "Deliver again" } }
            @if handlers.is_empty() {
                p.empty { "No handler is configured." }
            } @else {
                form.inside action={ "/events/" (id) "/redeliver" } method="post" {
                    (layout::csrf(frame))
                    fieldset.row {
                        legend.unseen { "Handlers" }
                        @for name in handlers {
                            @let delivery = has(name);
                            label.check {
                                input type="checkbox" name="handler" value=(name.as_str())
                                    checked[delivery.is_some()];
                                (name.as_str())
                                @if delivery.is_none() { span.small.soft { "(was not for it)" } }
                            }
                        }
                    }
                    div { button.main type="submit" { "Deliver again" } }
                    p.small.soft { "A new round begins at once: attempt numbers go on, the age starts anew. What is at work is left alone." }
                }
            }
        }
    }
}
