//! Which list of candidates is the narrowest for a filter.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, Result, params};
use uuid::Uuid;

use super::super::tally::Tally;
use super::bound;
use super::candidates::{Candidates, Failure, Rows};
use super::file::last_row;
use super::fill::{Key, OTHER_TYPES};
use super::sieve::{Range, Sieve, select_head};
use super::summary::id_in;
use crate::delivery::Status;
use crate::request::HandlerName;
use crate::store::archive::EventFilter;

/// Rows that the index does not know yet and that are looked at one by one.
/// Where there are more, the index is not asked.
const FRESH_MAX: i64 = bound(8192, 24) as i64;

/// Deliveries that are listed at once, whatever their order.
const LISTED_MAX: u64 = bound(2048, 4) as u64;

/// Unfinished deliveries whose rows are put in order for one search.
const OPEN_MAX: u64 = bound(65_536, 40) as u64;

/// Strays that are looked at one by one.
const STRAYS_MAX: usize = bound(10_000, 32);

/// Kinds whose lists are merged.
const KINDS_MERGED_MAX: usize = bound(256, 12);

/// How a search goes about it.
#[derive(Debug)]
pub struct Plan {
    pub candidates: Candidates,
    /// Matching events that the candidates leave out, newest first.
    pub beside: Vec<Uuid>,
}

impl Plan {
    /// Walks through every event.
    fn walk() -> Self {
        Self {
            candidates: Candidates::All,
            beside: Vec::new(),
        }
    }
}

/// Which deliveries are asked for, where those are few among all.
struct Deliveries {
    dead: Vec<String>,
    open: Vec<String>,
    pending: bool,
    running: bool,
    dead_count: u64,
    open_count: u64,
}

impl Deliveries {
    /// `None` where the filter asks for no status, or for what is nothing special.
    fn of(filter: &EventFilter, tallies: &BTreeMap<HandlerName, Tally>) -> Option<Self> {
        let statuses = filter.statuses.as_ref()?;
        if statuses.contains(&Status::Succeeded) {
            return None;
        }
        let (pending, running) = (
            statuses.contains(&Status::Pending),
            statuses.contains(&Status::Running),
        );
        let mut wanted = Self {
            dead: Vec::new(),
            open: Vec::new(),
            pending,
            running,
            dead_count: 0,
            open_count: 0,
        };
        for (name, tally) in tallies {
            if filter.handler.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            if statuses.contains(&Status::Dead) {
                wanted.dead.push(name.as_str().to_owned());
                wanted.dead_count += tally.dead.max(0).cast_unsigned();
            }
            if pending || running {
                wanted.open.push(name.as_str().to_owned());
                wanted.open_count += tally.unfinished.max(0).cast_unsigned();
            }
        }
        Some(wanted)
    }

    fn count(&self) -> u64 {
        self.dead_count + self.open_count
    }

    /// The rows of the unfinished ones, in no order.
    fn open_rows(&self, store: &Connection) -> Result<Vec<i64>> {
        let mut statement = store.prepare_cached(
            "SELECT event FROM deliveries INDEXED BY deliveries_open
             WHERE handler = ?1 AND due >= ?2 AND due <= ?3",
        )?;
        let running = super::super::rows::RUNNING;
        let from = if self.pending { i64::MIN } else { running };
        let to = if self.running { running } else { running - 1 };
        let mut rows = Vec::new();
        for handler in &self.open {
            let found = statement.query_map(params![handler, from, to], |row| row.get(0))?;
            rows.extend(found.collect::<Result<Vec<i64>>>()?);
        }
        Ok(rows)
    }

    /// The rows of the dead ones, in no order.
    fn dead_rows(&self, store: &Connection) -> Result<Vec<i64>> {
        let mut statement = store.prepare_cached(
            "SELECT event FROM deliveries INDEXED BY deliveries_dead
             WHERE status = 3 AND handler = ?1",
        )?;
        let mut rows = Vec::new();
        for handler in &self.dead {
            let found = statement.query_map([handler], |row| row.get(0))?;
            rows.extend(found.collect::<Result<Vec<i64>>>()?);
        }
        Ok(rows)
    }

    /// All of them, newest first.
    fn listed(&self, store: &Connection) -> Result<Vec<Uuid>> {
        let mut rows = self.open_rows(store)?;
        rows.extend(self.dead_rows(store)?);
        let ids = rows
            .into_iter()
            .filter_map(|row| id_in(store, row).transpose());
        let mut ids = ids.collect::<Result<Vec<_>>>()?;
        newest_first(&mut ids);
        Ok(ids)
    }
}

fn newest_first<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.dedup();
}

/// Looks for the narrowest list.
pub fn plan(
    sieve: &Sieve<'_>,
    index: Option<&Connection>,
    tallies: &BTreeMap<HandlerName, Tally>,
    range: Range,
) -> std::result::Result<Plan, Failure> {
    let filter = sieve.filter;
    let deliveries = Deliveries::of(filter, tallies);
    let has_key = filter.media_id.is_some() || filter.job_id.is_some();
    if let Some(deliveries) = &deliveries
        && !has_key
        && deliveries.count() <= LISTED_MAX
    {
        return Ok(Plan {
            candidates: Candidates::Listed(deliveries.listed(sieve.store)?),
            beside: Vec::new(),
        });
    }
    let Some(index) = index else {
        return Ok(Plan::walk());
    };
    let last = last_row(index).map_err(Failure::Index)?;
    if newest_row(sieve.store)? - last > FRESH_MAX {
        return Ok(Plan::walk());
    }
    let candidates = match key_of(filter) {
        Some(hash) => Candidates::Key {
            hash,
            segments: segments(index).map_err(Failure::Index)?,
        },
        None => {
            let kinds = kinds(sieve, index).map_err(Failure::Index)?;
            let narrower = |deliveries: &&Deliveries| {
                kinds
                    .as_ref()
                    .is_none_or(|(_, events)| deliveries.count() < *events)
            };
            let rows = match deliveries.as_ref().filter(narrower) {
                Some(deliveries) => rows(sieve, index, deliveries, last, range)?,
                None => None,
            };
            match (rows, kinds) {
                (Some(rows), _) => Candidates::Rows(rows),
                (None, Some((kinds, _))) => Candidates::Kinds(kinds),
                (None, None) => return Ok(Plan::walk()),
            }
        }
    };
    let mut beside = fresh(sieve, last, range)?;
    if let Candidates::Rows(rows) = &candidates {
        beside.extend(&rows.strays);
    }
    newest_first(&mut beside);
    Ok(Plan { candidates, beside })
}

fn key_of(filter: &EventFilter) -> Option<i64> {
    let media = filter.media_id.as_deref().map(|id| Key::Media.hash(id));
    media.or_else(|| filter.job_id.as_deref().map(|id| Key::Job.hash(id)))
}

fn newest_row(store: &Connection) -> Result<i64> {
    store
        .prepare_cached("SELECT coalesce(max(row), 0) FROM events")?
        .query_row([], |row| row.get(0))
}

/// The segments with keys, newest first.
fn segments(index: &Connection) -> Result<Vec<i64>> {
    let end =
        |sql| -> Result<Option<i64>> { index.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    let first = end("SELECT min(segment) FROM by_key")?;
    let last = end("SELECT max(segment) FROM by_key")?;
    Ok(match (first, last) {
        (Some(first), Some(last)) => (first..=last).rev().collect(),
        _ => Vec::new(),
    })
}

/// The kinds that match, with the number of their events; `None` where they
/// are most of all events, or too many to be merged.
fn kinds(sieve: &Sieve<'_>, index: &Connection) -> Result<Option<(Vec<i64>, u64)>> {
    let filter = sieve.filter;
    if filter.types.is_none() && filter.sources.is_none() && filter.outcomes.is_none() {
        return Ok(None);
    }
    let (mut kinds, mut matching, mut all) = (Vec::new(), 0, 0);
    let mut statement =
        index.prepare_cached("SELECT kind, source, type, outcome, events FROM kinds")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let events: i64 = row.get(4)?;
        let (source, event_type, outcome) = (
            row.get_ref(1)?.as_str()?,
            row.get_ref(2)?.as_str()?,
            row.get_ref(3)?.as_str()?,
        );
        all += events;
        if event_type == OTHER_TYPES || sieve.kind_passes(source, event_type, outcome) {
            kinds.push(row.get(0)?);
            matching += events;
        }
    }
    let narrow = kinds.len() <= KINDS_MERGED_MAX && matching <= all / 2;
    Ok(narrow.then_some((kinds, matching.max(0).cast_unsigned())))
}

/// The rows of these deliveries in the order of their ids, where that order is
/// to be had.
fn rows(
    sieve: &Sieve<'_>,
    index: &Connection,
    deliveries: &Deliveries,
    last: i64,
    range: Range,
) -> std::result::Result<Option<Rows>, Failure> {
    if deliveries.open_count > OPEN_MAX {
        return Ok(None);
    }
    let strays = strays(index).map_err(Failure::Index)?;
    if strays.len() > STRAYS_MAX {
        return Ok(None);
    }
    let Some(below) = row_below(sieve.store, &strays, last, range.ceiling)? else {
        return Ok(None);
    };
    let mut open = deliveries.open_rows(sieve.store)?;
    newest_first(&mut open);
    Ok(Some(Rows {
        dead: deliveries.dead.clone(),
        open,
        strays,
        below,
    }))
}

fn strays(index: &Connection) -> Result<HashSet<Uuid>> {
    index
        .prepare_cached("SELECT id FROM strays LIMIT ?1")?
        .query_map([STRAYS_MAX as i64 + 1], |row| {
            row.get(0).map(Uuid::from_bytes)
        })?
        .collect()
}

/// The row before which the events with ids below `ceiling` are, as far as they
/// are no strays and the index knows them.
fn row_below(
    store: &Connection,
    strays: &HashSet<Uuid>,
    last: i64,
    ceiling: Uuid,
) -> Result<Option<i64>> {
    let mut statement = store.prepare_cached(
        "SELECT row, id FROM events INDEXED BY events_by_id
         WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let looked_at_max = strays.len() as i64 + FRESH_MAX + 2;
    let mut found = statement.query(params![ceiling.as_bytes(), looked_at_max])?;
    let mut looked_at = 0;
    while let Some(event) = found.next()? {
        let (row, id): (i64, _) = (event.get(0)?, Uuid::from_bytes(event.get(1)?));
        if row <= last && !strays.contains(&id) {
            return Ok(Some(row + 1));
        }
        looked_at += 1;
    }
    // None of them is there at all, or there are more new ones than there were.
    Ok((looked_at < looked_at_max).then_some(0))
}

/// The events that the index does not know yet, as far as they may match.
fn fresh(sieve: &Sieve<'_>, last: i64, range: Range) -> Result<Vec<Uuid>> {
    let mut statement = sieve
        .store
        .prepare_cached(select_head!("WHERE row > ?1 ORDER BY row LIMIT ?2"))?;
    // More may have come since they were counted; those are newer than this search.
    let mut found = statement.query([last, FRESH_MAX * 2])?;
    let mut ids = Vec::new();
    while let Some(row) = found.next()? {
        let id = Uuid::from_bytes(row.get(1)?);
        if range.contains(id) && sieve.passes_head(row)? {
            ids.push(id);
        }
    }
    Ok(ids)
}
