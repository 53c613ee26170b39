//! One event: what came, what became of it, and what can be done.

use jiff::Timestamp;
use maud::{Markup, html};

use super::body::{self, Shown, visible};
use super::layout::{self, Frame};
use super::subject::Subject;
use super::{attempts, standing, units};
use crate::event::Outcome;
use crate::request::HandlerName;
use crate::signature::{SchemeName, Verified};
use crate::store::History;

/// The whole page. `handlers` are the configured ones.
pub(super) fn view(frame: &Frame, history: &History, handlers: &[HandlerName]) -> Markup {
    let event = &history.event;
    let content = &event.content;
    let id = event.id.to_string();
    html! {
        div {
            p.crumb { a href="/events" { "Events" } " / " span.mono.soft { (id) } }
            div.head {
                h1 { (layout::short(&content.event_type)) }
                (said(content.verified.scheme(), content.outcome))
                div.row.end {
                    a.button href={ "/api/events/" (id) "/body" } download={ (id) ".json" } { "Raw body" }
                    a.button href={ "/api/events/" (id) } { "As JSON" }
                }
            }
        }
        (standing::card(frame, &id, history, handlers))
        div.wide-narrow {
            div.stack {
                (facts(frame.now, history))
                (body_card(history))
            }
            div.stack id="became" {
                (received(frame.now, history))
                @for delivery in &history.deliveries { (attempts::card(frame.now, delivery)) }
            }
        }
    }
}

/// The sender's word about its job, which is not ours about the deliveries.
fn said(scheme: SchemeName, outcome: Outcome) -> Markup {
    let who = match scheme {
        SchemeName::Ims | SchemeName::Mns => "IMS says",
        SchemeName::HmacSha256 | SchemeName::None => "The sender says",
    };
    html! { span.said { span.small.soft { (who) } " " (layout::outcome(outcome)) } }
}

fn facts(now: Timestamp, history: &History) -> Markup {
    let event = &history.event;
    let content = &event.content;
    html! {
        section.card aria-labelledby="facts" {
            header { h2 id="facts" { "Event" } }
            dl.facts.inside {
                @if let Some(media) = &content.media_id {
                    dt { "Media" } dd.mono { (Subject::Media.link(media)) }
                }
                @if let Some(job) = &content.job_id {
                    dt { "Job" } dd.mono { (Subject::Job.link(job)) }
                }
                @if let Some(time) = &content.event_time {
                    dt { "Happened" } dd { (layout::short(time))
                        @if let Ok(at) = time.parse::<Timestamp>() { " " span.soft { "(" (layout::ago(now, at)) ")" } }
                    }
                }
                dt { "Received" } dd { (layout::moment(now, event.received_at)) }
                dt { "Source" } dd { a href=(layout::address("/events", [("source", content.source.as_str())])) { (content.source.as_str()) } }
                @if let Some(user) = &content.user_id { dt { "Account" } dd.mono { (layout::short(user)) } }
                dt { "Size" } dd { (units::bytes(content.body.len() as u64)) }
            }
            @if !content.notes.is_empty() {
                div.inside {
                    @for note in &content.notes {
                        p.small { (layout::word("warn", "!", "note")) " " span.break { (visible(note)) } }
                    }
                }
            }
            @if !content.head.headers.is_empty() || content.head.query.is_some() {
                details id="request" {
                    summary { "Request" }
                    dl.facts.inside.small {
                        @if let Some(query) = &content.head.query { dt { "Query" } dd.mono { (visible(query)) } }
                        @for (name, value) in &content.head.headers {
                            dt { (visible(name)) } dd.mono { (visible(value)) }
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
