//! The read model of the pages: what they show, from where the API has it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::body::visible;
use super::chart::{Column, Latency};
use super::events::{Choices, Search};
use super::model::{HandlerRow, Overview, RefusalRow, SourceRow, TypeRow};
use super::refusals::Wanted;
use crate::request::HandlerName;
use crate::server::admin::AdminState;
use crate::server::admin::query::{self, FilterWords, Params};
use crate::server::admin::stats::AckMinute;
use crate::server::error::Rejection;
use crate::store::archive::{EventFilter, Found, Page, Redeliver, Redelivered, Redelivery};

/// A chart has at most about this many columns.
const COLUMNS_MAX: u32 = 72;

/// Refusals on their page.
const REFUSALS_MAX: usize = 200;

/// What the first page shows, of the last `minutes`.
pub(super) async fn overview(state: &AdminState, minutes: u32) -> Result<Overview, Rejection> {
    let stats = state.stats(minutes).await?;
    let mut types: BTreeMap<String, TypeRow> = BTreeMap::new();
    for count in stats.events {
        let row = types.entry(count.r#type).or_default();
        row.add(count.outcome, count.events);
    }
    let mut types: Vec<TypeRow> = types
        .into_iter()
        .map(|(event_type, row)| TypeRow { event_type, ..row })
        .collect();
    types.sort_by_key(|row| std::cmp::Reverse(row.all()));
    let handlers = state
        .handlers()
        .await?
        .into_iter()
        .map(|handler| HandlerRow {
            name: handler.name,
            kind: handler.kind,
            configured: handler.configured,
            paused_at: handler.paused_at.map(|at| at.0),
            pending: handler.pending,
            dead: handler.dead,
            oldest: handler.oldest_pending_at.map(|at| at.0),
            succeeded: handler.succeeded,
            failed: handler.failed,
        });
    let sources = stats.sources.into_iter().map(|source| SourceRow {
        name: source.name.to_string(),
        kind: source.kind,
        last_event_at: source.last_event_at.map(|at| at.0),
        refusals: source.refusals,
        skew_seconds: source.skew_seconds,
        lag_seconds: source.lag_seconds,
    });
    Ok(Overview {
        now: stats.now.0,
        started_at: stats.started_at.0,
        ready: stats.ready,
        reasons: stats.reasons.iter().map(|reason| visible(reason)).collect(),
        minutes,
        columns: columns(&stats.acks, stats.now.0, minutes),
        types,
        handlers: handlers.filter(HandlerRow::is_of_interest).collect(),
        sources: sources.collect(),
        refusals: refusals(state, &Wanted::default()).0,
        size: Some(stats.store),
    })
}

/// The minutes as columns: all of them, those before the start of the process
/// too, so that the axis does not grow while one looks at it.
fn columns(acks: &[AckMinute], now: Timestamp, minutes: u32) -> Vec<Column> {
    let width = minutes.div_ceil(COLUMNS_MAX).max(1);
    let known: BTreeMap<i64, &AckMinute> = acks
        .iter()
        .map(|ack| (minute_of(ack.minute.0), ack))
        .collect();
    let last = minute_of(now);
    // Whole columns since the epoch: they stay where they are at a reload.
    let end = (last / i64::from(width) + 1) * i64::from(width);
    let count = i64::from(minutes.div_ceil(width));
    (0..count)
        .map(|index| {
            let from = end - (count - index) * i64::from(width);
            let within = known
                .range(from..from + i64::from(width))
                .map(|(_, ack)| *ack);
            column(from, width, within)
        })
        .collect()
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

fn column<'a>(from: i64, minutes: u32, acks: impl Iterator<Item = &'a AckMinute>) -> Column {
    let mut column = Column {
        from: Timestamp::from_second(from * 60).unwrap_or_default(),
        minutes,
        ..Column::default()
    };
    for ack in acks {
        column.acked += ack.acked;
        column.refused += ack.refused;
        column.unavailable += ack.unavailable;
        if let (Some(median), Some(high), Some(max)) = (ack.p50_ms, ack.p99_ms, ack.max_ms) {
            // Of several minutes the slowest one is shown: that is the one to
            // look at, and quantiles do not add up.
            let worst = column.latency.get_or_insert_default();
            *worst = Latency {
                median: worst.median.max(median),
                high: worst.high.max(high),
                max: worst.max.max(max),
            };
        }
    }
    column
}

/// What a search means.
///
/// # Errors
/// [`Rejection::BadRequest`], which names what cannot be read.
pub(super) fn filter(search: &Search, now: Timestamp) -> Result<EventFilter, Rejection> {
    let mut words = FilterWords::default();
    for (name, value) in search.pairs() {
        if !words.take(name, value.to_owned())? {
            let names = FilterWords::NAMES.join(", ");
            let problem = format!("is no parameter here; there are {names}");
            return Err(query::bad("search", problem));
        }
    }
    words.filter(now)
}

/// A page of what a search finds; one that takes long is asked for in parts.
pub(super) async fn search(
    state: &AdminState,
    search: &Search,
    limit: u32,
    parts: usize,
) -> Result<Found, Rejection> {
    let filter = filter(search, state.now())?;
    let cursor = search
        .cursor
        .as_deref()
        .map(|text| query::cursor("cursor", text));
    let mut found = Found {
        events: Vec::new(),
        next: cursor.transpose()?,
    };
    for _ in 0..parts {
        let missing = limit.saturating_sub(u32::try_from(found.events.len()).unwrap_or(limit));
        let page = Page {
            limit: missing,
            after: found.next,
        };
        let part = state.archive()?.events(&filter, page).await?;
        found.events.extend(part.events);
        found.next = part.next;
        if found.next.is_none() || found.events.len() >= limit as usize {
            break;
        }
    }
    Ok(found)
}

/// What a redelivery of a search would do.
pub(super) async fn count_again(
    state: &AdminState,
    search: &Search,
    limit: u32,
) -> Result<Redelivered, Rejection> {
    let now = state.now();
    let page = Page { limit, after: None };
    let what = Redeliver {
        events: Redelivery::Matching(Box::new(filter(search, now)?), page),
        handlers: None,
        dry_run: true,
        first_due: now,
        spacing: Duration::ZERO,
    };
    state.redeliver(&what).await
}

/// The configured handlers.
pub(super) fn configured(state: &AdminState) -> Vec<HandlerName> {
    let handlers = state.parts.handlers.iter();
    handlers.map(|handler| handler.name.clone()).collect()
}

/// What the fields of a search offer: handlers that are gone, too.
pub(super) async fn choices(state: &AdminState) -> Result<Choices, Rejection> {
    let handlers = state.handlers().await?;
    let sources = state.parts.sources.iter();
    Ok(Choices {
        sources: sources.map(|source| source.name.to_string()).collect(),
        handlers: handlers.into_iter().map(|handler| handler.name).collect(),
        configured: configured(state).iter().map(ToString::to_string).collect(),
    })
}

/// The last refusals, and how many there were by reason.
pub(super) fn refusals(
    state: &AdminState,
    wanted: &Wanted,
) -> (Vec<RefusalRow>, BTreeMap<String, u64>) {
    let list = &state.parts.refusals;
    let source: Vec<String> = wanted.source.iter().cloned().collect();
    let reason: Vec<String> = wanted.reason.iter().cloned().collect();
    let rows = list.list(REFUSALS_MAX, &source, &reason).into_iter();
    let rows = rows.map(|refusal| RefusalRow {
        at: refusal.at.0,
        source: refusal.source.map(|source| source.to_string()),
        path: refusal.path,
        peer: refusal.peer.map(|peer| peer.to_string()),
        reason: refusal.reason.to_owned(),
        skew_seconds: refusal.skew_seconds,
        diagnosis: refusal.diagnosis,
        count: refusal.count,
    });
    let totals = list.totals().into_iter();
    let totals = totals.map(|(reason, count)| (reason.to_owned(), count));
    (rows.collect(), totals.collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::admin::views::Time;
    use super::*;

    fn ack(minute: i64, acked: u64, high: f64) -> AckMinute {
        AckMinute {
            minute: Time(Timestamp::from_second(minute * 60).unwrap()),
            acked,
            refused: 1,
            unavailable: 0,
            p50_ms: Some(1.0),
            p99_ms: Some(high),
            max_ms: Some(high),
        }
    }

    #[test]
    fn minutes_become_columns_and_none_is_lost() {
        let now = Timestamp::from_second(1_000_000 * 60 + 30).unwrap();
        let acks = [ack(999_999, 3, 20.0), ack(1_000_000, 5, 10.0)];
        let hour = columns(&acks, now, 60);
        assert_eq!(hour.len(), 60);
        assert_eq!(hour[59].acked, 5);
        assert_eq!(hour[58].acked, 3);
        assert_eq!(hour[0].latency, None);
        let day = columns(&acks, now, 1_440);
        assert_eq!(day.len(), 72);
        assert_eq!(day.iter().map(|column| column.acked).sum::<u64>(), 8);
        assert_eq!(day.iter().map(|column| column.refused).sum::<u64>(), 2);
        let worst = day
            .iter()
            .filter_map(|column| column.latency)
            .map(|l| l.high);
        assert_eq!(worst.fold(0.0, f64::max), 20.0);
        assert_eq!(day[0].minutes, 20);
    }
}
