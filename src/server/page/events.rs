//! The search, and the live tail beside it.

use jiff::Timestamp;
use maud::{Markup, html};

use super::body::visible;
use super::layout::{self, Frame};
use super::subject::Subject;
use super::units;
use crate::delivery::Status;
use crate::escape;
use crate::event::{EventId, MALFORMED, Outcome, ims};
use crate::store::archive::{EventSummary, Found};

/// What was asked for: the parameters that are not empty, as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) parameters: Vec<(String, String)>,
    pub(super) cursor: Option<String>,
}

impl Search {
    /// Takes the parameters of a form: an empty field is one left alone.
    pub(super) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut this = Self::default();
        for (name, value) in pairs {
            let value = value.trim();
            if name == "cursor" {
                this.cursor = Some(value.to_owned());
            } else if !value.is_empty() {
                this.parameters.push((name, value.to_owned()));
            }
        }
        this
    }

    /// What was given for `name`, several values with commas between them.
    pub(super) fn value(&self, name: &str) -> String {
        let values = self.parameters.iter().filter(|(known, _)| known == name);
        values
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The parameters as an address of `path`.
    pub(super) fn address(&self, path: &str) -> String {
        layout::address(path, self.pairs())
    }

    fn older(&self, next: EventId) -> String {
        let next = next.to_string();
        layout::address("/events", self.pairs().chain([("cursor", next.as_str())]))
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn is_everything(&self) -> bool {
        self.parameters.is_empty()
    }
}

/// What the fields of the form offer.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) sources: Vec<String>,
    /// All that ever were.
    pub(super) handlers: Vec<String>,
    pub(super) configured: Vec<String>,
}

/// The whole page. `found` holds the problem where the search cannot be read.
pub(super) fn view(
    frame: &Frame,
    search: &Search,
    choices: &Choices,
    found: &Result<Found, String>,
) -> Markup {
    let live = found.is_ok() && search.cursor.is_none() && search.value("until").is_empty();
    html! {
        div.head {
            h1 { "Events" }
            @if live {
                div.live.end id="tail" data-url=(search.address("/api/tail")) hidden {
                    span.dot aria-hidden="true" {}
                    span.word.small.soft role="status" {}
                    button type="button" aria-pressed="false" { "Pause" }
                }
            }
        }
        (form(search, choices, found.is_ok()))
        @match found {
            Err(problem) => p.notice.bad role="alert" { (layout::prose(&visible(problem))) },
            Ok(found) => (results(frame, search, found)),
        }
    }
}

fn form(search: &Search, choices: &Choices, readable: bool) -> Markup {
    html! {
            section.card aria-label="Search" {
                // Where there is little room, the form is there only while this
                // is open.
                details.filters open[!search.is_everything()] { summary { "Search and filter" } }
                form.inside action="/events" method="get" role="search" {
                    div.fields {
                        label { "Type"
                            input name="type" list="types" value=(search.value("type")) placeholder="e.g. Produce* or a,b" autocomplete="off" spellcheck="false"; }
                        (select("outcome", "Outcome", "any", search, &[Outcome::Succeeded, Outcome::Failed, Outcome::Other].map(Outcome::as_str)))
                        (select("status", "Delivery", "any state", search, &[Status::Pending, Status::Running, Status::Succeeded, Status::Dead].map(Status::as_str)))
                        (select("handler", "Handler", "any", search, &choices.handlers))
                        (select("source", "Source", "any", search, &choices.sources))
                        (text("media_id", "Media id", "", search))
                        (text("job_id", "Job id", "", search))
                        (text("since", "Since", "15m, 2d or a time", search))
                        (text("until", "Until", "1h or a time", search))
                        (text("q", "Text in the body", "", search))
                    }
                    datalist id="types" {
                        @for name in ims::all_types().chain([MALFORMED]) { option value=(name) {} }
                    }
                    div.row {
                        button.main type="submit" { "Search" }
                        @if !search.is_everything() || search.cursor.is_some() {
                            a.button href="/events" { "Clear" }
                            @if readable && !search.is_everything() {
    a.button href=(search.address("/redeliver")) { "Deliver these again …" }
                            a.button href=(search.address("/api/export")) download="events.ndjson" { "Export" }
    }
                        }
                    }
                }
            }
        }
}

fn text(name: &str, label: &str, hint: &str, search: &Search) -> Markup {
    html! { label { (label)
    input name=(name) value=(search.value(name)) placeholder=[(!hint.is_empty()).then_some(hint)]
        autocomplete="off" spellcheck="false" maxlength="256"; } }
}

fn select<T: AsRef<str>>(
    name: &str,
    label: &str,
    any: &str,
    search: &Search,
    options: &[T],
) -> Markup {
    let chosen = search.value(name);
    let listed = options.iter().any(|option| option.as_ref() == chosen);
    html! { label { (label)
        select name=(name) {
            option value="" { (any) }
            @for option in options {
                option value=(option.as_ref()) selected[option.as_ref() == chosen] { (option.as_ref()) }
            }
            // A list of several, or a name that is no longer configured.
            @if !chosen.is_empty() && !listed { option value=(chosen) selected { (layout::short(&chosen)) } }
        }
    } }
}

fn results(frame: &Frame, search: &Search, found: &Found) -> Markup {
    let nothing = found.events.is_empty();
    html! {
        section.card aria-label="Results" {
            table.events.fold id="table" hidden[nothing] {
                thead { tr { th { "Received" } th { "Event" } th { "Outcome" } th { "Media and job" } th { "Source" } th { "Deliveries" } } }
                tbody id="rows" {
                    @for event in &found.events { (row(frame.now, event)) }
                }
            }
            @if nothing {
                p.empty id="nothing" { (nothing_words(frame, search, found)) }
            }
            @if let Some(next) = found.next {
                div.inside { div.row {
                    @if search.cursor.is_some() { a.button href=(search.address("/events")) { "Newest" } }
                    a.button href=(search.older(next)) rel="next" { @if nothing { "Search on" } @else { "Older" } }
                } }
            } @else if search.cursor.is_some() {
                div.inside { div.row {
                    a.button href=(search.address("/events")) { "Newest" }
                    span.small.soft { "That was the oldest." }
                } }
            }
            (pattern())
        }
    }
}

fn nothing_words(frame: &Frame, search: &Search, found: &Found) -> String {
    if let Some(next) = found.next {
        let back =
            time_of(next).map_or_else(String::new, |at| format!(" back to {}", units::stamp(at)));
        format!("Nothing so far: searched{back}.")
    } else if search.is_everything() {
        "No event has come yet. Send one: ims-receiver send http://…/ims/callback --key-file …"
            .to_owned()
    } else {
        // After a redelivery that is what was wanted.
        match &frame.notice {
            Some(notice) if notice.good => "None is left that is like that.",
            _ => "No event is like that.",
        }
        .to_owned()
    }
}

/// When an event came, by its id.
fn time_of(id: EventId) -> Option<Timestamp> {
    let (seconds, nanoseconds) = id.0.get_timestamp()?.to_unix();
    let nanoseconds = i32::try_from(nanoseconds).ok()?;
    Timestamp::new(i64::try_from(seconds).ok()?, nanoseconds).ok()
}

fn row(now: Timestamp, event: &EventSummary) -> Markup {
    let id = event.id.to_string();
    html! {
        tr id={ "e-" (id) } {
            td.nowrap.small { (layout::ago(now, event.received_at)) }
            td.full.break { a.type href={ "/events/" (id) } { (layout::short(&event.event_type)) }
                (beside(event)) }
            td { (layout::outcome(event.outcome)) }
            td.full { (ids(event)) }
            td.small { (event.source.as_str()) }
            td.full { (layout::deliveries(now, &event.deliveries)) }
        }
    }
}

/// What is odd about an event, in few words.
fn beside(event: &EventSummary) -> Markup {
    let notes = visible(&event.notes.join("\n"));
    html! {
        @if event.duplicates > 0 { " " span.small.soft.nowrap title="the same body, counted and delivered once" { @if event.duplicates == 1 { "came once more" } @else { "came " (units::count(event.duplicates)) " more times" } } }
        @if !event.notes.is_empty() { " " span.small.soft.nowrap title=(notes) { (units::counted(event.notes.len() as u64, "note", "notes")) } }
    }
}

/// The ids that lead to the other events of the same media or job.
pub(super) fn ids(event: &EventSummary) -> Markup {
    html! {
        @if event.media_id.is_some() || event.job_id.is_some() {
            dl.ids.over {
                @if let Some(media) = &event.media_id { dt { "media" } dd { (Subject::Media.link(media)) } }
                @if let Some(job) = &event.job_id { dt { "job" } dd { (Subject::Job.link(job)) } }
            }
        }
    }
}

/// The row that the live tail fills.
fn pattern() -> Markup {
    html! {
        template id="row-pattern" data-obeyed=(escape::obeyed_class()) {
            tr {
                td.nowrap.small { time data-age {} }
                td.full.break { a.type {} " " span.small.soft.nowrap data-slot="notes" {} }
                td { span data-outcome {} }
                td.full { dl.ids.over {
                    div.pair data-with { dt { "media" } dd { a data-slot="media" {} } }
                    div.pair data-with { dt { "job" } dd { a data-slot="job" {} } }
                } }
                td.small data-slot="source" {}
                td.full { div.states {} }
            }
        }
    }
}
