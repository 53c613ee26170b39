//! Fills the index: reads the store's new rows, writes their entries, and
//! takes away those of events that are gone.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Result, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::columns::{number, text};
use super::bound;
use super::file::{self, segment_of};
use super::index::{Entry, Removed};

/// Rows of one batch. Searches wait while its pages are written, and a stop
/// waits for its end; but each batch writes nearly every page of the newest
/// segment, so that small ones cost the acks beside them their processor.
const BATCH_ROWS: u32 = bound(8192, 16) as u32;

/// Combinations of source, type and outcome that get a number of their own.
/// The types that come after these share one per source and outcome.
const KINDS_MAX: usize = bound(4096, 24);

/// The type that stands for all the others; no event has it.
pub const OTHER_TYPES: &str = "";

const MINUTE_MS: i64 = 60_000;

/// How long counts per minute are kept: a week.
const MINUTES_KEPT: i64 = 7 * 24 * 60;

/// Which of an event's ids a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Media,
    Job,
}

impl Key {
    /// What stands for `value` in the index. Collisions only cost a look at an
    /// event that is not the right one.
    pub fn hash(self, value: &str) -> i64 {
        let field: &[u8] = match self {
            Self::Media => b"media\0",
            Self::Job => b"job\0",
        };
        let digest = Sha256::new()
            .chain_update(field)
            .chain_update(value)
            .finalize();
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(digest);
        i64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What the index keeps of one row.
struct Line {
    row: i64,
    id: Uuid,
    received_at: i64,
    kind: (String, String, String),
    media_id: Option<String>,
    job_id: Option<String>,
}

/// The writing side of an index. After an error it has to be opened afresh.
pub struct Filler {
    file: Connection,
    kinds: HashMap<(String, String, String), i64>,
    last: i64,
    newest: Uuid,
}

impl Filler {
    /// Over an index that proved itself, or an empty one.
    pub fn new(file: Connection) -> Result<Self> {
        let kinds = file
            .prepare("SELECT source, type, outcome, kind FROM kinds")?
            .query_map([], |row| {
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?))
            })?
            .collect::<Result<_>>()?;
        let newest: Option<[u8; 16]> = file::meta(&file, "newest")?;
        Ok(Self {
            kinds,
            last: file::last_row(&file)?,
            newest: newest.map_or(Uuid::nil(), Uuid::from_bytes),
            file,
        })
    }

    /// How many of the store's rows are not in the index yet, at most.
    pub fn behind(&self, store: &Connection) -> Result<i64> {
        let last: i64 = store
            .prepare_cached("SELECT coalesce(max(row), 0) FROM events")?
            .query_row([], |row| row.get(0))?;
        Ok(last - self.last)
    }

    /// Takes the next rows in; answers whether there are more.
    pub fn fill(&mut self, store: &Connection, now: i64) -> Result<bool> {
        let lines = self.read(store)?;
        let Some(last) = lines.last() else {
            return Ok(false);
        };
        let last = last.row;
        let tx = Transaction::begin(&self.file)?;
        let mut newest = self.newest;
        let mut by_kind = Vec::with_capacity(lines.len());
        let mut by_key = Vec::with_capacity(lines.len() * 2);
        let mut minutes: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        let kept_from = now / MINUTE_MS - MINUTES_KEPT;
        for line in &lines {
            let kind = number_of(&self.file, &mut self.kinds, &line.kind)?;
            by_kind.push((kind, line.id));
            let hashes = hashes_of(line.media_id.as_deref(), line.job_id.as_deref());
            by_key.extend(hashes.map(|hash| (segment_of(line.row), hash, line.id)));
            if line.id > newest {
                newest = line.id;
            } else {
                insert_stray(&self.file, line.id)?;
            }
            let minute = line.received_at.div_euclid(MINUTE_MS);
            if minute >= kept_from {
                *minutes.entry((minute, kind)).or_default() += 1;
            }
        }
        write_kinds(&self.file, by_kind)?;
        write_keys(&self.file, by_key)?;
        write_minutes(&self.file, &minutes, kept_from)?;
        write_marks(&self.file, &lines)?;
        file::put(&self.file, "newest", newest.as_bytes())?;
        tx.commit()?;
        self.newest = newest;
        self.last = last;
        Ok(lines.len() == BATCH_ROWS as usize)
    }

    /// The next rows after the last one known. The columns stand before the
    /// body, so none of it is read.
    fn read(&self, store: &Connection) -> Result<Vec<Line>> {
        store
            .prepare_cached(
                "SELECT row, id, received_at, source, type, outcome, media_id, job_id
                 FROM events WHERE row > ?1 ORDER BY row LIMIT ?2",
            )?
            .query_map(params![self.last, BATCH_ROWS], |row| {
                Ok(Line {
                    row: row.get(0)?,
                    id: Uuid::from_bytes(row.get(1)?),
                    received_at: number(row, 2)?.unwrap_or(0),
                    kind: (
                        text(row, 3)?.unwrap_or_default(),
                        text(row, 4)?.unwrap_or_default(),
                        text(row, 5)?.unwrap_or_default(),
                    ),
                    media_id: text(row, 6)?,
                    job_id: text(row, 7)?,
                })
            })?
            .collect()
    }

    /// Takes the entries of removed events away, and those that a search found
    /// to lead nowhere, unless the event is there after all: it may have been
    /// put back meanwhile.
    pub fn forget(&self, store: &Connection, removed: &[Removed], orphans: &[Entry]) -> Result<()> {
        let mut gone: Vec<Entry> = Vec::new();
        for event in removed {
            gone.extend(self.entries_of(event)?);
        }
        gone.extend(orphans);
        let tx = Transaction::begin(&self.file)?;
        for entry in gone {
            if !is_stored(store, entry.id())? {
                delete(&self.file, entry)?;
            }
        }
        tx.commit()
    }

    fn entries_of(&self, event: &Removed) -> Result<Vec<Entry>> {
        let id = event.id;
        let kind = (
            event.source.clone(),
            event.event_type.clone(),
            event.outcome.clone(),
        );
        let other = (kind.0.clone(), OTHER_TYPES.to_owned(), kind.2.clone());
        let kind = self.kinds.get(&kind).or_else(|| self.kinds.get(&other));
        let mut entries = vec![Entry::Stray { id }];
        entries.extend(kind.map(|&kind| Entry::Kind { kind, id }));
        let segment = segment_of(event.row);
        let hashes = hashes_of(event.media_id.as_deref(), event.job_id.as_deref());
        entries.extend(hashes.map(|hash| Entry::Key { segment, hash, id }));
        Ok(entries)
    }

    /// Closes the file in good order.
    pub fn close(self) -> Result<()> {
        file::close(self.file)
    }
}

fn is_stored(store: &Connection, id: Uuid) -> Result<bool> {
    store
        .prepare_cached("SELECT 1 FROM events WHERE id = ?1")?
        .exists([id.as_bytes()])
}

/// A transaction that is rolled back unless it is committed.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(file: &'a Connection) -> Result<Self> {
        file.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(file))
    }

    fn commit(self) -> Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // Whoever sees the error opens the file afresh.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

/// The hash of each id that the event has.
fn hashes_of(media_id: Option<&str>, job_id: Option<&str>) -> impl Iterator<Item = i64> + use<> {
    let media = media_id.map(|id| Key::Media.hash(id));
    let job = job_id.map(|id| Key::Job.hash(id));
    media.into_iter().chain(job)
}

/// The number of a combination, a new one where it is new.
fn number_of(
    file: &Connection,
    kinds: &mut HashMap<(String, String, String), i64>,
    kind: &(String, String, String),
) -> Result<i64> {
    if let Some(number) = kinds.get(kind) {
        return Ok(*number);
    }
    let (source, event_type, outcome) = kind;
    if kinds.len() >= KINDS_MAX && event_type != OTHER_TYPES {
        let other = (source.clone(), OTHER_TYPES.to_owned(), outcome.clone());
        return number_of(file, kinds, &other);
    }
    file.prepare_cached(
        "INSERT INTO kinds (source, type, outcome, events) VALUES (?1, ?2, ?3, 0)",
    )?
    .execute([source, event_type, outcome])?;
    let number = file.last_insert_rowid();
    kinds.insert(kind.clone(), number);
    Ok(number)
}

fn insert_stray(file: &Connection, id: Uuid) -> Result<()> {
    file.prepare_cached("INSERT OR IGNORE INTO strays (id) VALUES (?1)")?
        .execute([id.as_bytes()])?;
    Ok(())
}

/// In the order of the tree, which makes it several times cheaper.
fn write_kinds(file: &Connection, mut entries: Vec<(i64, Uuid)>) -> Result<()> {
    entries.sort_unstable();
    let mut added: BTreeMap<i64, i64> = BTreeMap::new();
    let mut insert =
        file.prepare_cached("INSERT OR IGNORE INTO by_kind (kind, id) VALUES (?1, ?2)")?;
    for (kind, id) in entries {
        *added.entry(kind).or_default() += insert.execute(params![kind, id.as_bytes()])? as i64;
    }
    let mut count = file.prepare_cached("UPDATE kinds SET events = events + ?2 WHERE kind = ?1")?;
    for (kind, events) in added {
        count.execute([kind, events])?;
    }
    Ok(())
}

fn write_keys(file: &Connection, mut entries: Vec<(i64, i64, Uuid)>) -> Result<()> {
    entries.sort_unstable();
    let mut insert = file
        .prepare_cached("INSERT OR IGNORE INTO by_key (segment, hash, id) VALUES (?1, ?2, ?3)")?;
    for (segment, hash, id) in entries {
        insert.execute(params![segment, hash, id.as_bytes()])?;
    }
    Ok(())
}

fn write_minutes(
    file: &Connection,
    minutes: &BTreeMap<(i64, i64), i64>,
    kept_from: i64,
) -> Result<()> {
    let mut add = file.prepare_cached(
        "INSERT INTO minutes (minute, kind, events) VALUES (?1, ?2, ?3)
         ON CONFLICT (minute, kind) DO UPDATE SET events = events + excluded.events",
    )?;
    for ((minute, kind), events) in minutes {
        add.execute([minute, kind, events])?;
    }
    file.prepare_cached("DELETE FROM minutes WHERE minute < ?1")?
        .execute([kept_from])?;
    Ok(())
}

fn write_marks(file: &Connection, lines: &[Line]) -> Result<()> {
    for (index, line) in lines.iter().enumerate() {
        let next = lines.get(index + 1).map(|next| segment_of(next.row));
        if next != Some(segment_of(line.row)) {
            file.prepare_cached(
                "INSERT OR REPLACE INTO marks (segment, row, id) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![segment_of(line.row), line.row, line.id.as_bytes()])?;
        }
    }
    Ok(())
}

fn delete(file: &Connection, entry: Entry) -> Result<()> {
    match entry {
        Entry::Kind { kind, id } => {
            let gone = file
                .prepare_cached("DELETE FROM by_kind WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind, id.as_bytes()])?;
            file.prepare_cached("UPDATE kinds SET events = events - ?2 WHERE kind = ?1")?
                .execute(params![kind, gone as i64])?;
        }
        Entry::Key { segment, hash, id } => {
            file.prepare_cached("DELETE FROM by_key WHERE segment = ?1 AND hash = ?2 AND id = ?3")?
                .execute(params![segment, hash, id.as_bytes()])?;
        }
        Entry::Stray { id } => {
            file.prepare_cached("DELETE FROM strays WHERE id = ?1")?
                .execute([id.as_bytes()])?;
        }
    }
    Ok(())
}

/// Events of one minute and one kind.
#[derive(Debug)]
pub struct Count {
    pub minute: i64,
    pub source: String,
    pub event_type: String,
    pub outcome: String,
    pub events: i64,
}

/// The counts per minute from the minute of `since` on.
pub fn minutes(file: &Connection, since: i64) -> Result<Vec<Count>> {
    file.prepare_cached(
        "SELECT minute, source, type, outcome, minutes.events FROM minutes JOIN kinds USING (kind)
         WHERE minute >= ?1 ORDER BY minute, source, type, outcome",
    )?
    .query_map([since.div_euclid(MINUTE_MS)], |row| {
        Ok(Count {
            minute: row.get::<_, i64>(0)? * MINUTE_MS,
            source: row.get(1)?,
            event_type: row.get(2)?,
            outcome: row.get(3)?,
            events: row.get(4)?,
        })
    })?
    .collect()
}
