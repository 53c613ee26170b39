//! The frame around every page, and the small pieces that many of them show.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::assets;
use super::body::visible;
use super::units;
use crate::delivery::{AttemptResult, Status};
use crate::event::Outcome;
use crate::store::archive::DeliverySummary;

/// What stays as it is in a part of a path or a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The places of the bar on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Events,
    Refusals,
    /// Below none of them.
    Elsewhere,
}

/// What every page knows.
#[derive(Debug)]
pub(super) struct Frame {
    /// When the page was made.
    pub(super) now: Timestamp,
    /// What every form of this reader carries.
    pub(super) csrf: String,
    /// Whether there is a session to leave.
    pub(super) signed_in: bool,
    /// What a form that was sent just now did.
    pub(super) notice: Option<Notice>,
    /// Parts of the page that a script may read again, by their id.
    pub(super) refresh: &'static str,
}

/// What a form did, for the page that comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) good: bool,
}

/// A whole page.
pub(super) fn page(frame: &Frame, place: Place, title: &str, inside: &Markup) -> Markup {
    let refresh = (!frame.refresh.is_empty()).then_some(frame.refresh);
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body data-now=(units::rfc3339(frame.now)) data-refresh=[refresh] {
                a.skip href="#main" { "Skip to the content" }
                header.bar { div {
                    a.brand href="/" { (logo()) "ims-receiver" }
                    nav aria-label="Pages" { ul {
                        (place_link("/", "Overview", place == Place::Overview))
                        (place_link("/events", "Events", place == Place::Events))
                        (place_link("/refusals", "Refusals", place == Place::Refusals))
                    } }
                    form.find action="/find" method="get" role="search" {
                        input type="search" name="id" required maxlength="256" autocomplete="off"
                            aria-label="Find an event, media or job by its id"
                            placeholder="Event, media or job id";
                        button type="submit" { "Find" }
                    }
                    @if frame.signed_in {
                        form.leave action="/logout" method="post" {
                            (csrf(frame))
                            button.plain type="submit" { "Sign out" }
                        }
                    }
                } }
                main id="main" tabindex="-1" {
                    @if let Some(notice) = &frame.notice {
                        p.notice.bad[!notice.good] role="status" { (notice.text) }
                    }
                    (inside)
                }
                footer {
                    span { "ims-receiver " (env!("CARGO_PKG_VERSION")) }
                    span { "Times are UTC; this page is of " (units::stamp(frame.now)) }
                    a href="/openapi.json" { "API" }
                }
            }
        }
    }
}

/// The page in front of the others.
pub(super) fn door(title: &str, inside: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body { main.door { div.card { (inside) } } }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            title { (title) " · ims-receiver" }
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="robots" content="noindex";
            link rel="icon" href=(assets::ICON.path());
            link rel="stylesheet" href=(assets::SHEET.path());
            script src=(assets::SCRIPT.path()) defer {}
        }
    }
}

/// The mark of the program: what comes in, and goes on.
pub(super) fn logo() -> Markup {
    html! {
        svg width="20" height="20" viewBox="0 0 20 20" fill="none" stroke="currentColor"
            stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" {
            path d="M10 2v9m-3.5-3.5L10 11l3.5-3.5" {}
            path d="M3 11v4a3 3 0 0 0 3 3h8a3 3 0 0 0 3-3v-4" {}
        }
    }
}

fn place_link(href: &str, name: &str, here: bool) -> Markup {
    html! { li { a href=(href) aria-current=[here.then_some("page")] { (name) } } }
}

/// What a form has to carry so that it is taken.
pub(super) fn csrf(frame: &Frame) -> Markup {
    html! { input type="hidden" name="csrf" value=(frame.csrf); }
}

/// A moment as its distance, which a script keeps right; the whole time is one
/// hover away.
pub(super) fn ago(now: Timestamp, at: Timestamp) -> Markup {
    html! {
        time datetime=(units::rfc3339(at)) title=(units::stamp(at)) data-age { (units::age(now, at)) }
    }
}

/// A moment in full, with its distance.
pub(super) fn moment(now: Timestamp, at: Timestamp) -> Markup {
    html! {
        time datetime=(units::rfc3339(at)) { (units::stamp(at)) }
        " " span.soft { "(" (ago(now, at)) ")" }
    }
}

/// How a state is marked: by its class, a sign and a word.
fn mark(class: &str, sign: &str, word: &str) -> Markup {
    html! { span class={ "state " (class) } { span aria-hidden="true" { (sign) } " " (word) } }
}

/// The sender's word about the job.
pub(super) fn outcome(outcome: Outcome) -> Markup {
    match outcome {
        Outcome::Succeeded => mark("good", "✓", "succeeded"),
        Outcome::Failed => mark("bad", "✕", "failed"),
        Outcome::Other => mark("", "·", "other"),
    }
}

/// Class and sign of a delivery's state.
pub(super) fn status_look(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Pending => ("warn", "◷"),
        Status::Running => ("busy", "▸"),
        Status::Succeeded => ("good", "✓"),
        Status::Dead => ("bad", "✕"),
    }
}

/// Where a delivery stands.
pub(super) fn status(status: Status) -> Markup {
    let (class, sign) = status_look(status);
    mark(class, sign, status.as_str())
}

/// How an attempt ended.
pub(super) fn result(result: AttemptResult) -> Markup {
    match result {
        AttemptResult::Succeeded => mark("good", "✓", "succeeded"),
        AttemptResult::Failed => mark("bad", "✕", "failed"),
        AttemptResult::Stopped => mark("", "◼", "stopped"),
        AttemptResult::Lost => mark("warn", "?", "lost"),
    }
}

/// A handler that is held back.
pub(super) fn paused() -> Markup {
    mark("warn", "❙❙", "paused")
}

/// Any other state, in a word.
pub(super) fn word(class: &str, sign: &str, text: &str) -> Markup {
    mark(class, sign, text)
}

/// The deliveries of an event, one mark a handler.
pub(super) fn deliveries(now: Timestamp, deliveries: &[DeliverySummary]) -> Markup {
    html! {
        div.states {
            @for delivery in deliveries {
                @let (class, sign) = status_look(delivery.status);
                span class={ "state " (class) } title=(delivery_words(now, delivery)) {
                    span aria-hidden="true" { (sign) } " " (delivery.handler.as_str())
                    span.unseen { ": " (delivery.status.as_str()) }
                    @if delivery.attempts > 1 { " " span.times { "×" (delivery.attempts) } }
                }
            }
        }
    }
}

fn delivery_words(now: Timestamp, delivery: &DeliverySummary) -> String {
    let mut words = format!(
        "{}, {}",
        delivery.status.as_str(),
        units::counted(u64::from(delivery.attempts), "attempt", "attempts")
    );
    if let Some(reason) = &delivery.reason {
        words.push_str(": ");
        words.push_str(&visible(reason.as_str()));
    }
    if let Some(next) = delivery.next_at.filter(|next| *next > now) {
        words.push_str("; next ");
        words.push_str(&units::age(now, next));
    }
    words
}

/// The beginning of an id or another word of the sender, as it may be shown:
/// what is longer is no help to people.
pub(super) fn short(text: &str) -> String {
    const BYTES_MAX: usize = 128;
    shortened(text, BYTES_MAX)
}

/// The first `bytes_max` bytes of a text, as they may be shown.
pub(super) fn shortened(text: &str, bytes_max: usize) -> String {
    let kept = &text[..text.floor_char_boundary(bytes_max)];
    let mut shown = visible(kept);
    if kept.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A part of a path or a query, with everything encoded that means something.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// `path` with these parameters.
pub(super) fn address<'p>(
    path: &str,
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> String {
    let mut out = path.to_owned();
    for (index, (name, value)) in parameters.into_iter().enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        out.push_str(&encoded(name));
        out.push('=');
        out.push_str(&encoded(value));
    }
    out
}

/// Prose of the catalogue: its Markdown knows code and links, no more.
pub(super) fn prose(docs: &str) -> Markup {
    let text = docs.split_whitespace().collect::<Vec<_>>().join(" ");
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
