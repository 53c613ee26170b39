//! What a commit changes outside the database, and the backlog's counts that
//! follow from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use rusqlite::Connection;

use super::search::Removed;
use crate::event::Fingerprint;
use crate::request::HandlerName;

/// What a batch changes outside the database, once it is committed.
#[derive(Debug, Default)]
pub struct Effects {
    /// Unfinished and dead deliveries, by handler.
    pub tally: HashMap<HandlerName, (i64, i64)>,
    /// The oldest event that got a delivery after its birth.
    pub reopened: Option<i64>,
    /// Deliveries that were taken for hand-over: event, handler, attempt.
    pub taken: Vec<(i64, HandlerName, u32)>,
    /// Events that were removed.
    pub removed: Vec<Removed>,
    /// Whether a delivery is pending and due now.
    pub due: bool,
    /// Whether anything was written that needs a commit.
    pub dirty: bool,
    /// The highest row number so far.
    pub last_row: i64,
    /// Bodies that came in beside the line: fingerprint, row, time.
    pub remembered: Vec<(Fingerprint, i64, i64)>,
}

impl Effects {
    /// Counts deliveries of `handler`.
    pub fn count(&mut self, handler: &HandlerName, unfinished: i64, dead: i64) {
        match self.tally.get_mut(handler) {
            Some(entry) => {
                entry.0 += unfinished;
                entry.1 += dead;
            }
            None => {
                self.tally.insert(handler.clone(), (unfinished, dead));
            }
        }
    }

    /// Notes that the event of this row, which is not new, owes a delivery more.
    pub fn reopened(&mut self, row: i64) {
        self.due = true;
        self.reopened = Some(self.reopened.map_or(row, |oldest| oldest.min(row)));
    }

    /// Notes that an attempt is on its way to whoever claimed it.
    pub fn took(&mut self, row: i64, handler: &HandlerName, attempt: u32) {
        self.dirty = true;
        self.taken.push((row, handler.clone(), attempt));
    }

    /// Notes that a job wrote something.
    pub fn wrote(&mut self) {
        self.dirty = true;
    }

    /// The number of the next row, for what is put in beside the line.
    pub fn next_row(&mut self) -> i64 {
        self.last_row += 1;
        self.last_row
    }

    /// Notes that a body is there which the window should know, if it is young
    /// enough.
    pub fn remember(&mut self, fingerprint: Fingerprint, row: i64, at: i64) {
        self.remembered.push((fingerprint, row, at));
    }

    /// Wakes whoever claims, after the commit.
    pub fn due(&mut self) {
        self.due = true;
    }
}

/// Counted in memory, since counting rows at every scrape would be a query.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub unfinished: i64,
    pub dead: i64,
    /// How often an event that was stored before got a delivery: what a reader
    /// saw of the oldest one only counts where this has not changed meanwhile.
    pub reopened: u64,
    /// No event before this row has an unfinished delivery of the handler.
    pub settled_before: i64,
}

/// The backlog of every handler.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<BTreeMap<HandlerName, Tally>>);

impl Tallies {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<HandlerName, Tally>> {
        self.0.lock().expect("plain arithmetic cannot panic")
    }

    /// The counts as they are now.
    pub fn snapshot(&self) -> BTreeMap<HandlerName, Tally> {
        self.lock().clone()
    }

    /// Adds what a commit changed.
    pub fn apply(&self, effects: &Effects) {
        if effects.tally.is_empty() {
            return;
        }
        let mut tallies = self.lock();
        for (handler, (unfinished, dead)) in &effects.tally {
            let tally = match tallies.get_mut(handler) {
                Some(tally) => tally,
                None => tallies.entry(handler.clone()).or_default(),
            };
            tally.unfinished += unfinished;
            tally.dead += dead;
            if let Some(row) = effects.reopened {
                tally.reopened += 1;
                tally.settled_before = tally.settled_before.min(row);
            }
        }
    }

    /// Remembers that no event before `row` has an unfinished delivery of
    /// `handler`, as a reader found after it had `seen` the tally.
    pub fn settle(&self, handler: &HandlerName, seen: Tally, row: i64) {
        if let Some(tally) = self.lock().get_mut(handler)
            && tally.reopened == seen.reopened
        {
            tally.settled_before = tally.settled_before.max(row);
        }
    }

    /// Counts afresh from the rows, where it is not known what was committed.
    pub fn recount(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut counted = count_backlog(connection)?;
        let mut tallies = self.lock();
        for (handler, old) in tallies.iter() {
            counted.entry(handler.clone()).or_default().reopened = old.reopened + 1;
        }
        *tallies = counted;
        Ok(())
    }
}

/// Reads the backlog's counts from the partial indexes.
fn count_backlog(connection: &Connection) -> rusqlite::Result<BTreeMap<HandlerName, Tally>> {
    let mut tally: BTreeMap<HandlerName, Tally> = BTreeMap::new();
    let mut count = |sql: &str, dead: bool| -> rusqlite::Result<()> {
        let mut statement = connection.prepare(sql)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let name: String = row.get(0)?;
            let entry = tally.entry(HandlerName::from_store(&name)).or_default();
            if dead {
                entry.dead = row.get(1)?;
            } else {
                entry.unfinished = row.get(1)?;
            }
        }
        Ok(())
    };
    count(
        "SELECT handler, count(*) FROM deliveries WHERE due IS NOT NULL GROUP BY handler",
        false,
    )?;
    count(
        "SELECT handler, count(*) FROM deliveries WHERE status = 3 GROUP BY handler",
        true,
    )?;
    Ok(tally)
}
