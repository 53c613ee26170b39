//! How the deliveries of an event stand, in few words, and the form that sends
//! it again: the first thing that one wants to know and to do.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::{self, Frame};
use super::{attempts, units};
use crate::delivery::Status;
use crate::request::HandlerName;
use crate::store::{DeliveryHistory, History};

/// Deliveries that are told one by one.
const TOLD_MAX: usize = 8;

/// The card. `handlers` are the configured ones.
pub(super) fn card(frame: &Frame, id: &str, history: &History, handlers: &[HandlerName]) -> Markup {
    let open: Vec<&DeliveryHistory> = history
        .deliveries
        .iter()
        .filter(|delivery| delivery.status != Status::Succeeded)
        .collect();
    html! {
        section.card id="again" aria-labelledby="standing" {
            header { h2 id="standing" { "Deliveries" } (verdict(&history.deliveries)) }
            div.inside {
                @if !open.is_empty() {
                    ul.standing {
                        @for delivery in open.iter().take(TOLD_MAX) { (line(frame.now, delivery)) }
                        @if open.len() > TOLD_MAX { li.soft { "and " (open.len() - TOLD_MAX) " more" } }
                    }
                }
                (form(frame, id, history, handlers))
            }
        }
    }
}

fn verdict(deliveries: &[DeliveryHistory]) -> Markup {
    let is = |status| {
        deliveries
            .iter()
            .filter(move |delivery| delivery.status == status)
            .count()
    };
    let (all, delivered) = (deliveries.len(), is(Status::Succeeded));
    let words = format!("{delivered} of {all} delivered");
    match all {
        0 => layout::word("", "·", "no handler wanted this event"),
        _ if delivered == all => layout::word("good", "✓", &words),
        _ if is(Status::Dead) > 0 => layout::word("bad", "✕", &words),
        _ => layout::word("warn", "◷", &words),
    }
}

fn line(now: Timestamp, delivery: &DeliveryHistory) -> Markup {
    let handler = delivery.handler.as_str();
    let reason = delivery.reason.as_ref().map(|reason| {
        let (cause, _) = attempts::cause(reason.as_str());
        layout::short(cause)
    });
    let next = delivery.next_at.filter(|next| *next > now);
    html! {
        li.break {
            a href={ "#to-" (handler) } { (handler) } " "
            (layout::status(delivery.status))
            @if let Some(reason) = reason { " " (reason) }
            @if delivery.status == Status::Pending {
                @if let Some(next) = next { " " span.soft { "next try " (units::age(now, next)) } }
            }
        }
    }
}

fn form(frame: &Frame, id: &str, history: &History, handlers: &[HandlerName]) -> Markup {
    let status = |name: &HandlerName| {
        let mut deliveries = history.deliveries.iter();
        let found = deliveries.find(|delivery| delivery.handler == *name);
        found.map(|delivery| delivery.status)
    };
    html! {
        @if handlers.is_empty() {
            p.soft { "No handler is configured." }
        } @else {
            form.again action={ "/events/" (id) "/redeliver" } method="post" {
                (layout::csrf(frame))
                fieldset.row {
                    legend.unseen { "Deliver again to" }
                    @for name in handlers {
                        @let status = status(name);
                        label.check {
                            // What is done already would be done twice.
                            input type="checkbox" name="handler" value=(name.as_str())
                                checked[status.is_some_and(|status| status != Status::Succeeded)];
                            (name.as_str())
                            @match status {
                                None => span.small.soft { "(was not for it)" },
                                Some(Status::Succeeded) => span.small.soft { "(done: would run twice)" },
                                Some(_) => {},
                            }
                        }
                    }
                }
                button.main type="submit" { "Deliver again" }
            }
            p.small.soft { "A new round begins at once: attempt numbers go on, the age starts anew. What is at work is left alone." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Reason;

    fn delivery(handler: &str, status: Status, reason: Option<&str>) -> DeliveryHistory {
        DeliveryHistory {
            handler: HandlerName::new(handler).unwrap(),
            status,
            attempts: 1,
            failed: 0,
            age_from: None,
            next_at: None,
            reason: reason.map(Reason::new),
            history: Vec::new(),
        }
    }

    #[test]
    fn the_worst_gives_the_colour() {
        let mut deliveries = vec![delivery("audit", Status::Succeeded, None)];
        let said = |deliveries: &[DeliveryHistory]| verdict(deliveries).into_string();
        assert!(said(&deliveries).contains("state good"));
        assert!(said(&deliveries).contains("1 of 1 delivered"));
        deliveries.push(delivery("cms", Status::Pending, None));
        assert!(said(&deliveries).contains("state warn"));
        deliveries.push(delivery("hook", Status::Dead, Some("exit 3")));
        assert!(said(&deliveries).contains("state bad"));
        assert!(said(&deliveries).contains("1 of 3 delivered"));
        let dead = delivery(
            "cms",
            Status::Dead,
            Some("status 500; retry.attempts (4) used up"),
        );
        let line = line(Timestamp::UNIX_EPOCH, &dead).into_string();
        assert!(
            line.contains("status 500") && !line.contains("used up"),
            "{line}"
        );
    }
}
