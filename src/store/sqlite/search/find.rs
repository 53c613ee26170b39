//! One search: a little work at a time, and no more of it than a page that
//! somebody waits for may cost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::super::tally::Tally;
use super::bound;
use super::candidates::{Candidates, Failure};
use super::index::Entry;
use super::plan::plan;
use super::sieve::{Range, Sieve, select_head};
use crate::event::EventId;
use crate::request::HandlerName;
use crate::store::archive::{EventFilter, EventSummary, Found, Page};

/// How long a search goes on; then it answers what it has.
const BUDGET: Duration = Duration::from_millis(30);

/// Candidates looked at within one read transaction.
const STEP: usize = bound(64, 8);

/// How long one read transaction of a walk goes on: no checkpoint waits longer.
const STEP_TIME: Duration = Duration::from_millis(5);

/// How long the store's log is let start again.
const HOLD_MAX: Duration = Duration::from_millis(10);

/// What a search is given.
pub struct Search<'a> {
    pub store: &'a Connection,
    pub index: Option<&'a Connection>,
    pub filter: &'a EventFilter,
    pub page: Page,
    pub tallies: &'a BTreeMap<HandlerName, Tally>,
    pub hold: &'a AtomicBool,
}

/// What a search has so far.
struct Progress {
    found: Vec<EventSummary>,
    wanted: usize,
    range: Range,
    orphans: Vec<Entry>,
    since: Instant,
}

impl Progress {
    /// Whether it is enough, or too late to go on.
    fn is_over(&self) -> bool {
        self.found.len() >= self.wanted || self.since.elapsed() >= BUDGET
    }
}

impl Search<'_> {
    /// Searches. What comes second are entries of the index that lead nowhere.
    pub fn run(&self) -> Result<(Found, Vec<Entry>), Failure> {
        let limit = self.page.limit.max(1) as usize;
        let mut progress = Progress {
            found: Vec::new(),
            // One more shows whether there is another page.
            wanted: limit + 1,
            range: Range::of(self.filter, &self.page),
            orphans: Vec::new(),
            since: Instant::now(),
        };
        let ended = progress.range.is_empty() || self.fill(&mut progress)?;
        let mut found = Found {
            events: progress.found,
            next: None,
        };
        if found.events.len() > limit {
            found.events.truncate(limit);
            found.next = found.events.last().map(|event| event.id);
        } else if !ended {
            found.next = Some(EventId(progress.range.ceiling));
        }
        Ok((found, progress.orphans))
    }

    /// Answers whether there is nothing older.
    fn fill(&self, progress: &mut Progress) -> Result<bool, Failure> {
        let sieve = Sieve {
            filter: self.filter,
            store: self.store,
        };
        self.give_way();
        let mut plan = {
            let tx = self.store.unchecked_transaction()?;
            let plan = plan(&sieve, self.index, self.tallies, progress.range)?;
            tx.finish()?;
            plan
        };
        if let Candidates::All = plan.candidates {
            return self.walk(&sieve, progress);
        }
        let first = progress.range.ceiling;
        loop {
            let chunk = plan
                .candidates
                .next(self.store, self.index, progress.range)?;
            let complete_to = chunk.complete_to.filter(|end| *end > progress.range.floor);
            let down_to = complete_to.unwrap_or(progress.range.floor);
            let range = progress.range;
            let beside = plan.beside.iter().map(|id| (*id, None));
            let mut ids: Vec<_> = chunk
                .ids
                .into_iter()
                .chain(beside)
                .filter(|(id, _)| range.contains(*id) && *id >= down_to)
                .collect();
            ids.sort_by(|(a, _), (b, _)| b.cmp(a));
            ids.dedup_by_key(|(id, _)| *id);
            if !self.examine(&sieve, progress, &ids)? {
                return Ok(false);
            }
            match complete_to {
                Some(end) => progress.range.ceiling = end,
                None => return Ok(true),
            }
            // A page that ends where it began would lead nowhere.
            if progress.is_over() && progress.range.ceiling < first {
                return Ok(false);
            }
        }
    }

    /// Looks at candidates, newest first. Answers whether it got through.
    fn examine(
        &self,
        sieve: &Sieve<'_>,
        progress: &mut Progress,
        ids: &[(Uuid, Option<Entry>)],
    ) -> Result<bool, Failure> {
        for step in ids.chunks(STEP) {
            self.give_way();
            let tx = self.store.unchecked_transaction()?;
            for (id, entry) in step {
                let mut statement = self.store.prepare_cached(select_head!("WHERE id = ?1"))?;
                let row = statement
                    .query_row([id.as_bytes()], |row| {
                        let number: i64 = row.get(0)?;
                        Ok(sieve.passes(row)?.then_some(number))
                    })
                    .optional()?;
                match row {
                    Some(Some(row)) => progress.found.extend(sieve.take(row)?),
                    Some(None) => {}
                    None => progress.orphans.extend(entry),
                }
                progress.range.ceiling = *id;
                if progress.is_over() {
                    return Ok(false);
                }
            }
            tx.finish()?;
        }
        Ok(true)
    }

    /// Looks at every event, newest first. Answers whether it got through.
    fn walk(&self, sieve: &Sieve<'_>, progress: &mut Progress) -> Result<bool, Failure> {
        loop {
            self.give_way();
            let began = Instant::now();
            let tx = self.store.unchecked_transaction()?;
            let mut statement = self.store.prepare_cached(select_head!(
                "INDEXED BY events_by_id WHERE id >= ?1 AND id < ?2 ORDER BY id DESC"
            ))?;
            let Range { floor, ceiling } = progress.range;
            let mut rows = statement.query(params![floor.as_bytes(), ceiling.as_bytes()])?;
            loop {
                let Some(row) = rows.next()? else {
                    return Ok(true);
                };
                let (number, id): (i64, _) = (row.get(0)?, Uuid::from_bytes(row.get(1)?));
                if sieve.passes(row)? {
                    progress.found.extend(sieve.take(number)?);
                }
                progress.range.ceiling = id;
                if progress.is_over() {
                    return Ok(false);
                }
                if began.elapsed() >= STEP_TIME {
                    break;
                }
            }
            drop(rows);
            drop(statement);
            tx.finish()?;
        }
    }

    /// Reads nothing for a moment where the store's log wants to start again.
    fn give_way(&self) {
        let since = Instant::now();
        while self.hold.load(Ordering::Acquire) && since.elapsed() < HOLD_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
