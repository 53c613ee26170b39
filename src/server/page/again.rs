//! Delivering many events again: first the count, then the button.

use maud::{Markup, html};

use super::body::visible;
use super::events::{Choices, Search};
use super::layout::{self, Frame};
use super::units;
use crate::store::archive::Redelivered;

/// Events that one form sends again at the most.
pub(super) const LIMIT_MAX: u32 = 10_000;
const LIMIT: u32 = 1_000;
/// Deliveries that are due in a second.
pub(super) const RATE: u32 = 50;
pub(super) const RATE_MAX: u32 = 1_000;

/// What would be done; `counted` is a dry run over the first [`LIMIT_MAX`].
pub(super) fn view(
    frame: &Frame,
    search: &Search,
    choices: &Choices,
    counted: &Result<Redelivered, String>,
) -> Markup {
    html! {
        div {
            p.crumb { a href=(search.address("/events")) { "Events" } " / " span.soft { "Deliver again" } }
            h1 { "Deliver again" }
        }
        section.card {
            dl.facts.inside {
                @for (name, value) in search.pairs() { dt { (layout::short(name)) } dd.mono { (layout::short(value)) } }
            }
        }
        @match counted {
            Err(problem) => p.notice.bad role="alert" { (layout::prose(&visible(problem))) },
            Ok(counted) => (form(frame, search, choices, counted)),
        }
    }
}

fn form(frame: &Frame, search: &Search, choices: &Choices, counted: &Redelivered) -> Markup {
    let more = counted.next.is_some();
    html! {
        section.card aria-labelledby="count" {
            header { h2 id="count" {
                (units::counted(counted.deliveries, "delivery", "deliveries")) " of "
                (units::counted(counted.events, "event", "events"))
                @if more { ", and more beyond" }
            } }
            @if counted.running > 0 {
                p.inside.small.soft { (units::counted(counted.running, "delivery is", "deliveries are")) " at work and left alone." }
            }
            form.inside action="/redeliver" method="post" {
                (layout::csrf(frame))
                @for (name, value) in search.pairs() { input type="hidden" name=(name) value=(value); }
                (recipients(search, choices))
                div.fields {
                    label { "Events at the most" input type="number" name="limit" min="1" max=(LIMIT_MAX) value=(LIMIT) required; }
                    label { "Deliveries a second" input type="number" name="rate" min="1" max=(RATE_MAX) value=(RATE) required; }
                }
                div.row {
                    button.main type="submit" disabled[counted.deliveries == 0 && choices.configured.is_empty()] { "Deliver again" }
                    a.button href=(search.address("/events")) { "Cancel" }
                }
            }
        }
    }
}

/// Who gets it: a search over the deliveries of one handler has decided that.
fn recipients(search: &Search, choices: &Choices) -> Markup {
    let (handler, status) = (search.value("handler"), search.value("status"));
    html! {
        @if handler.is_empty() {
            fieldset {
                legend {
                    "To which handlers; with none ticked, to all "
                    @if status.is_empty() { "that had the event" } @else { "whose delivery is " (layout::short(&status)) }
                }
                div.row { @for name in &choices.configured {
                    label.check { input type="checkbox" name="to" value=(name); (name) }
                } }
            }
        } @else {
            p.small.soft { "Only to " strong { (layout::short(&handler)) } ", as the search says." }
        }
    }
}

/// Asks before what waits for a handler is given up.
pub(super) fn discard(frame: &Frame, handler: &str, waiting: u64) -> Markup {
    html! {
        div { p.crumb { a href="/" { "Overview" } " / " span.soft { (handler) } } h1 { "Give up what waits for " (handler) } }
        section.card {
            form.inside action={ "/handlers/" (handler) "/discard" } method="post" {
                (layout::csrf(frame))
                p { (units::counted(waiting, "delivery waits", "deliveries wait")) " for a handler that is no longer configured. "
                    "They will be dead, with the reason " code { "discarded" } "; the events stay." }
                div.row { button.bad type="submit" { "Give them up" } a.button href="/" { "Cancel" } }
            }
        }
    }
}
