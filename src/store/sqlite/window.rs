//! The duplicate window: which bodies were stored lately, in memory.
//!
//! A ring of entries in the order of their arrival, with a hash table of
//! positions over it. Both have their full capacity from the start, so that no
//! insert ever waits for a table to grow, and touch memory only as they fill:
//! a million entries take about 34 MiB.

use std::time::Duration;

use hashbrown::HashTable;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::ids::Ids;
use crate::event::Fingerprint;
use crate::store::StoreConfig;

/// Ages are counted in steps of this many milliseconds, to keep entries small.
const STEP_MS: i64 = 100;

/// One remembered body. Numbers are kept as bytes so that an entry needs no
/// padding.
#[derive(Debug, Clone, Copy)]
struct Entry {
    fingerprint: Fingerprint,
    /// The lowest five bytes of the row: a million million events.
    row: [u8; 5],
    /// When it was stored, in steps since the window's base.
    at: [u8; 4],
}

impl Entry {
    fn row(&self) -> i64 {
        let [a, b, c, d, e] = self.row;
        i64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }
}

fn row_bytes(row: i64) -> [u8; 5] {
    let [a, b, c, d, e, ..] = row.to_le_bytes();
    [a, b, c, d, e]
}

/// The bodies of the last `span`, at most `capacity` of them.
#[derive(Debug)]
pub struct Window {
    ring: Vec<Entry>,
    /// Position of the oldest entry once the ring is full.
    oldest: usize,
    len: usize,
    capacity: usize,
    table: HashTable<u32>,
    span_steps: u32,
    base_ms: i64,
}

/// A SHA-256 is as good a hash as any: its first eight bytes are the table's.
fn hash(fingerprint: &Fingerprint) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *fingerprint;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Window {
    /// An empty window. `now_ms` is the time to count from; entries older than
    /// `span` before it are never added.
    pub fn new(span: Duration, capacity: u32, now_ms: i64) -> Self {
        let capacity = capacity.max(1) as usize;
        let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4);
        Self {
            ring: Vec::with_capacity(capacity),
            oldest: 0,
            len: 0,
            capacity,
            table: HashTable::with_capacity(capacity),
            span_steps: u32::try_from(span_ms / STEP_MS).unwrap_or(u32::MAX / 2),
            base_ms: now_ms.saturating_sub(span_ms),
        }
    }

    /// The row of the event that first brought this body, if that was within
    /// the window.
    pub fn find(&self, fingerprint: &Fingerprint, now_ms: i64) -> Option<i64> {
        let position = self.table.find(hash(fingerprint), |&at| {
            self.ring[at as usize].fingerprint == *fingerprint
        })?;
        let entry = &self.ring[*position as usize];
        (self.age(entry, now_ms) <= self.span_steps).then(|| entry.row())
    }

    /// Remembers a body that was committed. What is too old goes, and so does
    /// the oldest where there is no room.
    pub fn push(&mut self, fingerprint: Fingerprint, row: i64, at_ms: i64) {
        self.expire(at_ms);
        if self.len == self.capacity {
            self.pop();
        }
        // An older entry of the same body (past the window, or one whose row
        // was imported again) must not hide the new one.
        self.forget(&fingerprint);
        let entry = Entry {
            fingerprint,
            row: row_bytes(row),
            at: self.step(at_ms).to_le_bytes(),
        };
        let position = (self.oldest + self.len) % self.capacity;
        if position == self.ring.len() {
            self.ring.push(entry);
        } else {
            self.ring[position] = entry;
        }
        self.len += 1;
        let ring = &self.ring;
        self.table
            .insert_unique(hash(&fingerprint), position as u32, |&at| {
                hash(&ring[at as usize].fingerprint)
            });
    }

    /// Remembers a body that came in with an older event, unless it is too old
    /// or known already. It goes with its neighbours, or before them by its age.
    pub fn recall(&mut self, fingerprint: Fingerprint, row: i64, at_ms: i64, now_ms: i64) {
        let span_ms = i64::from(self.span_steps) * STEP_MS;
        if now_ms - at_ms <= span_ms && self.find(&fingerprint, now_ms).is_none() {
            self.push(fingerprint, row, at_ms);
        }
    }

    /// Drops what is older than the window.
    pub fn expire(&mut self, now_ms: i64) {
        while self.len > 0 && self.age(&self.ring[self.oldest], now_ms) > self.span_steps {
            self.pop();
        }
        // Steps are small numbers; a clock that was set right after a start in
        // 1970 would leave all of them behind.
        if self.len == 0 {
            self.base_ms = now_ms.saturating_sub(i64::from(self.span_steps) * STEP_MS);
        }
    }

    /// How far back duplicates are known: the whole span, or the age of the
    /// oldest entry where their number is the limit.
    pub fn reach(&self, now_ms: i64) -> Duration {
        let steps = if self.len == self.capacity {
            self.age(&self.ring[self.oldest], now_ms)
                .min(self.span_steps)
        } else {
            self.span_steps
        };
        Duration::from_millis(u64::from(steps) * STEP_MS as u64)
    }

    fn step(&self, at_ms: i64) -> u32 {
        u32::try_from((at_ms - self.base_ms).max(0) / STEP_MS).unwrap_or(u32::MAX)
    }

    fn age(&self, entry: &Entry, now_ms: i64) -> u32 {
        self.step(now_ms)
            .saturating_sub(u32::from_le_bytes(entry.at))
    }

    fn pop(&mut self) {
        let position = self.oldest as u32;
        let fingerprint = self.ring[self.oldest].fingerprint;
        if let Ok(entry) = self
            .table
            .find_entry(hash(&fingerprint), |&at| at == position)
        {
            entry.remove();
        }
        self.oldest = (self.oldest + 1) % self.capacity;
        self.len -= 1;
    }

    fn forget(&mut self, fingerprint: &Fingerprint) {
        let ring = &self.ring;
        if let Ok(entry) = self.table.find_entry(hash(fingerprint), |&at| {
            ring[at as usize].fingerprint == *fingerprint
        }) {
            entry.remove();
        }
    }
}

/// Reads the window back from the index, which holds id, fingerprint and row.
pub fn rebuild(
    connection: &Connection,
    config: &StoreConfig,
    now: i64,
) -> rusqlite::Result<Window> {
    let mut window = Window::new(config.dedup_window, config.dedup_entries_max, now);
    let span = i64::try_from(config.dedup_window.as_millis()).unwrap_or(i64::MAX / 4);
    let oldest = Ids::floor(now.saturating_sub(span));
    // By the order of ids: imported events have new rows and old ids.
    let from: Option<[u8; 16]> = connection
        .prepare(
            "SELECT id FROM events INDEXED BY events_by_id
             WHERE id >= ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(
            params![oldest.as_bytes(), config.dedup_entries_max - 1],
            |row| row.get(0),
        )
        .optional()?;
    let from = from.unwrap_or_else(|| oldest.into_bytes());
    let mut statement = connection.prepare(
        "SELECT id, fingerprint, row FROM events INDEXED BY events_by_id
         WHERE id >= ?1 ORDER BY id",
    )?;
    let mut found = statement.query([from])?;
    while let Some(row) = found.next()? {
        let id = Uuid::from_bytes(row.get(0)?);
        window.push(row.get(1)?, row.get(2)?, Ids::time(id));
    }
    drop(found);
    drop(statement);
    // Those pages were read once and are not asked for again.
    connection.execute_batch("PRAGMA shrink_memory")?;
    Ok(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(n: u32) -> Fingerprint {
        let mut fingerprint = [7; 16];
        fingerprint[..4].copy_from_slice(&n.to_le_bytes());
        fingerprint
    }

    #[test]
    fn an_entry_is_as_small_as_the_memory_figure_says() {
        assert_eq!(size_of::<Entry>(), 25);
    }

    #[test]
    fn finds_what_was_pushed_until_it_is_too_old() {
        let mut window = Window::new(Duration::from_secs(10), 100, 1_000_000);
        window.push(print(1), 11, 1_000_000);
        assert_eq!(window.find(&print(1), 1_000_000), Some(11));
        assert_eq!(window.find(&print(1), 1_009_900), Some(11));
        assert_eq!(window.find(&print(2), 1_000_000), None);
        assert_eq!(window.find(&print(1), 1_010_200), None);
    }

    #[test]
    fn rows_keep_all_their_digits() {
        let mut window = Window::new(Duration::from_secs(10), 100, 0);
        let row = 0x00f1_2345_6789;
        window.push(print(1), row, 0);
        assert_eq!(window.find(&print(1), 0), Some(row));
    }

    #[test]
    fn the_oldest_goes_where_there_is_no_room() {
        let mut window = Window::new(Duration::from_secs(3600), 3, 0);
        for n in 0..10 {
            window.push(print(n), i64::from(n), i64::from(n) * 1000);
            assert!(window.len <= 3 && window.table.len() == window.len);
        }
        assert_eq!(window.find(&print(6), 9_000), None);
        assert_eq!(window.find(&print(7), 9_000), Some(7));
        assert_eq!(window.find(&print(9), 9_000), Some(9));
        assert_eq!(window.reach(9_000), Duration::from_secs(2));
    }

    #[test]
    fn a_body_that_returns_after_the_window_is_found_at_its_new_row() {
        let mut window = Window::new(Duration::from_secs(1), 10, 0);
        window.push(print(1), 1, 0);
        window.push(print(2), 2, 500);
        window.push(print(1), 3, 5_000);
        assert_eq!(window.find(&print(1), 5_000), Some(3));
        assert_eq!(window.find(&print(2), 5_000), None);
        assert_eq!(window.len, 1);
    }

    #[test]
    fn ten_rounds_through_the_ring_lose_nothing_within_it() {
        let mut window = Window::new(Duration::from_secs(3600), 1000, 0);
        for n in 0..10_000u32 {
            window.push(print(n), i64::from(n), 0);
        }
        for n in 0..10_000u32 {
            let expected = (n >= 9_000).then_some(i64::from(n));
            assert_eq!(window.find(&print(n), 0), expected);
        }
    }
}
