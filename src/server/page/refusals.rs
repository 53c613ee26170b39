//! What was turned away, and why.

use std::collections::BTreeMap;

use jiff::Timestamp;
use maud::{Markup, html};

use super::body::visible;
use super::layout::{self, Frame};
use super::model::RefusalRow;
use super::units;

/// What the page was asked to show.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) source: Option<String>,
    pub(super) reason: Option<String>,
}

/// The whole page. `totals` counts since the start of the process, by reason.
pub(super) fn view(
    frame: &Frame,
    wanted: &Wanted,
    rows: &[RefusalRow],
    totals: &BTreeMap<String, u64>,
) -> Markup {
    let all: u64 = totals.values().sum();
    html! {
        div.head { h1 { "Refusals" }
            span.small.soft.end { (units::counted(all, "request", "requests")) " refused since the start" } }
        nav.states aria-label="Reasons" id="totals" {
            (reason_link(wanted, None, all))
            @for (reason, count) in totals.iter().filter(|(_, count)| **count > 0) { (reason_link(wanted, Some(reason), *count)) }
        }
        @if let Some(source) = &wanted.source {
            p.row.small { span { "Only of source " strong { (layout::short(source)) } } a href=(address(None, wanted.reason.as_deref())) { "Show all sources" } }
        }
        section.card id="refused" aria-label="Refusals, newest first" {
            @if rows.is_empty() {
                p.empty { "Nothing was refused. When IMS cannot prove itself, what is wrong stands here." }
            } @else {
                ol.way.inside { @for row in rows { (step(frame.now, row)) } }
            }
        }
        p.small.soft { "The last refusals are kept in memory, alike ones as one; the metrics have all of them. Keys, signatures and queries are never kept." }
    }
}

fn address(source: Option<&str>, reason: Option<&str>) -> String {
    let source = source.map(|source| ("source", source));
    let reason = reason.map(|reason| ("reason", reason));
    layout::address("/refusals", source.into_iter().chain(reason))
}

fn reason_link(wanted: &Wanted, reason: Option<&str>, count: u64) -> Markup {
    let here = wanted.reason.as_deref() == reason;
    let class = if here { "state busy" } else { "state" };
    html! {
        a class=(class) href=(address(wanted.source.as_deref(), reason)) aria-current=[here.then_some("true")] {
            (reason.unwrap_or("all")) " " span.times { (units::count(count)) }
        }
    }
}

fn step(now: Timestamp, row: &RefusalRow) -> Markup {
    html! {
        li.bad {
            div.when {
                (layout::word("bad", "✕", &row.reason))
                @if row.count > 1 { strong { "×" (units::count(row.count)) } }
                span.small { (layout::moment(now, row.at)) }
            }
            p.small.soft.break {
                @if let Some(source) = &row.source {
                    "To source " a href=(address(Some(source), None)) { (source) } " at "
                } @else { "To no source, at " }
                 span.mono { (visible(&row.path)) }
                @if let Some(peer) = &row.peer { ", from " span.mono { (peer) } }
                @if let Some(skew) = row.skew_seconds { ", " (skew_words(skew)) }
            }
            @if !row.diagnosis.is_empty() {
                ul { @for line in &row.diagnosis { li.break { span.soft aria-hidden="true" { "→ " } (visible(line)) } } }
            }
        }
    }
}

fn skew_words(seconds: i64) -> String {
    let span = units::span(std::time::Duration::from_secs(seconds.unsigned_abs()));
    if seconds < 0 {
        format!("its clock is {span} ahead of ours")
    } else {
        format!("its clock is {span} behind ours")
    }
}
