//! What goes out, and what is behind: handlers and queues.

use std::collections::BTreeMap;

use super::{Finding, State, finding};
use crate::cli::admin::answers::HandlerRow;
use crate::cli::admin::screen;
use crate::cli::admin::when;
use crate::cli::doctor::facts::{Api, Facts};
use crate::cli::doctor::metrics::samples;
use crate::server::thresholds::{FAILURES_MIN, PENDING_MAX, QUEUE_LAG_SECONDS_MAX};

/// How the handlers keep up.
pub(super) fn handlers(facts: &Facts, api: &Api) -> Vec<Finding> {
    const PART: &str = "handlers";
    let mut findings = Vec::new();
    for handler in &api.handlers {
        let before = findings.len();
        findings.extend(dead(handler, api));
        findings.extend(waiting(handler, facts));
        if findings.len() == before {
            findings.extend(failing(handler));
        }
        if findings.len() == before {
            let pending = screen::number(handler.pending);
            let text = format!("{}: {pending} pending, none dead", handler.name);
            findings.push(finding(PART, State::Good, text));
        }
    }
    if api.handlers.is_empty() {
        findings.push(finding(
            PART,
            State::Note,
            "none is configured: events are stored and nothing is done",
        ));
    }
    findings
}

/// Dead deliveries of a handler, with their reasons.
fn dead(handler: &HandlerRow, api: &Api) -> Option<Finding> {
    if handler.dead == 0 {
        return None;
    }
    let name = &handler.name;
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    let deliveries = api.dead.iter().flat_map(|event| &event.deliveries);
    let own = deliveries.filter(|row| row.status == "dead" && row.handler == *name);
    for row in own {
        *reasons
            .entry(row.reason.as_deref().unwrap_or("no reason kept"))
            .or_default() += 1;
    }
    let mut reasons: Vec<(&str, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let listed: Vec<String> = reasons
        .iter()
        .take(5)
        .map(|(reason, count)| format!("{} \u{d7} {reason}", screen::number(*count)))
        .collect();
    let why = match listed.is_empty() {
        true => String::new(),
        false => format!(": {}", listed.join("; ")),
    };
    let dead = screen::count(handler.dead, "dead delivery", "dead deliveries");
    let text = format!("{name}: {dead}{why}");
    Some(finding("handlers", State::Broken, text).advice(match handler.configured {
        true => format!(
            "Mend what {name} fails at{why}. Then send again: ims-receiver events redeliver --handler {name} --status dead"
        ),
        false => format!(
            "{name} is not configured any more and has {dead}: configure it again and redeliver, or leave them to store.retention_dead."
        ),
    }))
}

/// A handler of which nothing works, before anything is dead or old.
fn failing(handler: &HandlerRow) -> Option<Finding> {
    if handler.failed < FAILURES_MIN || handler.succeeded > 0 {
        return None;
    }
    let (name, failed) = (&handler.name, screen::number(handler.failed));
    let text = format!("{name}: none of {failed} attempts since the start succeeded");
    Some(finding("handlers", State::Look, text).advice(format!(
        "See what {name} fails at: ims-receiver events list --handler {name} --status pending,running"
    )))
}

/// What waits for a handler, and why.
fn waiting(handler: &HandlerRow, facts: &Facts) -> Option<Finding> {
    const PART: &str = "handlers";
    let name = &handler.name;
    let pending = screen::count(handler.pending, "delivery waits", "deliveries wait");
    let oldest = handler
        .oldest_pending_at
        .map(|at| when::relative(at, facts.now));
    let since = oldest.map_or_else(String::new, |ago| format!(", the oldest since {ago}"));
    if let Some(paused) = handler.paused_at {
        let ago = when::relative(paused, facts.now);
        let text = format!("{name}: paused {ago}, {pending}{since}");
        return Some(finding(PART, State::Look, text).advice(format!(
            "Let {name} go on when its destination is ready: ims-receiver handlers resume {name}"
        )));
    }
    if handler.pending == 0 {
        return None;
    }
    if !handler.configured {
        let text = format!("{name}: not configured any more, {pending}{since}");
        return Some(finding(PART, State::Look, text).advice(format!(
            "Configure {name} again, or give up what waits for it: ims-receiver handlers discard {name}"
        )));
    }
    let age = facts.now.duration_since(handler.oldest_pending_at?);
    if !age.is_positive() || age.unsigned_abs() <= PENDING_MAX {
        return None;
    }
    let text = format!("{name}: {pending}{since}");
    Some(finding(PART, State::Broken, text).advice(format!(
        "See what {name} fails at, or whether it is too slow: ims-receiver events list --handler {name} --status pending,running"
    )))
}

/// How far behind the queues are.
pub(super) fn queues(api: &Api) -> Vec<Finding> {
    const PART: &str = "queues";
    samples(&api.metrics, "ims_receiver_queue_lag_seconds", "source")
        .into_iter()
        .map(|(source, lag)| {
            let text = format!("{source}: {lag:.0} s behind");
            if lag <= QUEUE_LAG_SECONDS_MAX {
                return finding(PART, State::Good, text);
            }
            finding(PART, State::Broken, text).advice(format!(
                "See why the queue of {source} is not kept up with: more pollers, a slow store, or a queue that was full before the start."
            ))
        })
        .collect()
}
