//! All events of one media or one job, on one axis of time.

use std::collections::BTreeSet;

use jiff::Timestamp;
use maud::{Markup, html};

use super::chart::{self, Dot};
use super::layout::{self, Frame};
use super::units;
use crate::store::archive::{EventFilter, EventSummary};

/// Longer ids have no page.
const LINKED_BYTES_MAX: usize = 1024;

/// What an id of IMS has: longer ones may be cut where there is little room,
/// and are one hover away.
const ID_BYTES: usize = 32;

/// What the events have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Media,
    Job,
}

impl Subject {
    fn noun(self) -> &'static str {
        match self {
            Self::Media => "Media",
            Self::Job => "Job",
        }
    }

    /// Its page.
    pub(super) fn address(self, id: &str) -> String {
        let path = match self {
            Self::Media => "/media/",
            Self::Job => "/job/",
        };
        format!("{path}{}", layout::encoded(id))
    }

    /// An id as a link to its page. One that is longer than a browser or a
    /// proxy takes in an address is only named.
    pub(super) fn link(self, id: &str) -> Markup {
        let shown = layout::short(id);
        html! {
            @if id.len() <= LINKED_BYTES_MAX { a href=(self.address(id)) title=[(shown.len() > ID_BYTES).then_some(&shown)] { (shown) } }
            @else { span title="too long for a page of its own" { (shown) } }
        }
    }

    /// The search for its events.
    pub(super) fn filter(self, id: &str) -> EventFilter {
        let id = Some(id.to_owned());
        match self {
            Self::Media => EventFilter {
                media_id: id,
                ..EventFilter::default()
            },
            Self::Job => EventFilter {
                job_id: id,
                ..EventFilter::default()
            },
        }
    }

    /// The parameter of a search that asks for it.
    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::Media => "media_id",
            Self::Job => "job_id",
        }
    }
}

/// The whole page. `events` are newest first; `more` says that older ones are
/// not among them.
pub(super) fn view(
    frame: &Frame,
    subject: Subject,
    id: &str,
    events: &[EventSummary],
    more: bool,
) -> Markup {
    let dots: Vec<Dot> = events
        .iter()
        .rev()
        .map(|event| Dot {
            at: event.received_at,
            lane: layout::short(&event.event_type),
            outcome: event.outcome,
        })
        .collect();
    html! {
        div {
            p.crumb { a href="/events" { "Events" } " / " span.soft { (subject.noun()) } }
            div.head {
                h1 { (subject.noun()) " " span.mono { (layout::short(id)) } }
                div.row.end {
                    a.button href=(layout::address("/events", [(subject.parameter(), id)])) { "As a search" }
                }
            }
        }
        @if events.is_empty() {
            section.card { p.empty { "No event names this " (subject.noun().to_lowercase()) ". It is compared whole, letter by letter." } }
        } @else {
            (related(subject, events))
            // One event is on no axis.
            @if events.len() > 1 {
                section.card aria-labelledby="axis" {
                    header { h2 id="axis" { "On one axis" }
                        span.small.soft.end { (summary(events, more)) } }
                    div.inside { (chart::axis(&dots)) }
                }
            }
            (steps(frame.now, events))
            @if more {
                p.empty { "Older events are left out; " a href=(layout::address("/events", [(subject.parameter(), id)])) { "the search" } " has them." }
            }
        }
    }
}

fn summary(events: &[EventSummary], more: bool) -> String {
    let first = events.last().map(|event| event.received_at);
    let last = events.first().map(|event| event.received_at);
    let events = units::counted(events.len() as u64, "event", "events");
    let more = if more { " and more" } else { "" };
    match first.zip(last) {
        Some((first, last)) if first < last => {
            format!(
                "{events}{more} within {}",
                units::span(units::between(first, last))
            )
        }
        _ => format!("{events}{more}"),
    }
}

/// The jobs of a media, or the media of a job.
fn related(subject: Subject, events: &[EventSummary]) -> Markup {
    const LINKS_MAX: usize = 12;
    let (noun, other, ids): (_, _, BTreeSet<&str>) = match subject {
        Subject::Media => (
            "Jobs",
            Subject::Job,
            events.iter().filter_map(|e| e.job_id.as_deref()).collect(),
        ),
        Subject::Job => (
            "Media",
            Subject::Media,
            events
                .iter()
                .filter_map(|e| e.media_id.as_deref())
                .collect(),
        ),
    };
    html! {
        @if !ids.is_empty() {
            p.row.small { span.soft { (noun) }
                @for id in ids.iter().take(LINKS_MAX) { span.mono.break { (other.link(id)) } }
                @if ids.len() > LINKS_MAX { span.soft { "and " (ids.len() - LINKS_MAX) " more" } }
            }
        }
    }
}

fn steps(now: Timestamp, events: &[EventSummary]) -> Markup {
    let mut before: Option<Timestamp> = None;
    html! {
        section.card aria-label="Events, oldest first" {
            ol.way.inside {
                @for event in events.iter().rev() {
                    @let gap = before.replace(event.received_at).map(|before| units::between(before, event.received_at));
                    li class=(look(event)) {
                        div.when {
                            strong.break { a href={ "/events/" (event.id) } { (layout::short(&event.event_type)) } }
                            (layout::outcome(event.outcome))
                            (layout::deliveries(now, &event.deliveries))
                        }
                        p.small.soft {
                            (layout::moment(now, event.received_at))
                            @if let Some(gap) = gap { ", " (units::span(gap)) " after the one before" }
                            @if event.duplicates > 0 { ", came again " (units::counted(event.duplicates, "time", "times")) }
                        }
                    }
                }
            }
        }
    }
}

fn look(event: &EventSummary) -> &'static str {
    match event.outcome {
        crate::event::Outcome::Succeeded => "good",
        crate::event::Outcome::Failed => "bad",
        crate::event::Outcome::Other => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_id_is_shown_by_its_beginning_and_never_twice_whole() {
        let long = "x".repeat(1_000);
        let link = Subject::Media.link(&long).into_string();
        assert_eq!(link.matches(&long).count(), 1, "{link}");
        assert!(link.contains("…"), "{link}");
        // No address takes this one.
        let huge = Subject::Job.link(&"x".repeat(500_000)).into_string();
        assert!(huge.len() < 512 && !huge.contains("href"), "{huge}");
        let usual = Subject::Job.link("job\u{202e}-1").into_string();
        assert_eq!(usual, r#"<a href="/job/job%E2%80%AE-1">job\u{202e}-1</a>"#);
    }
}
