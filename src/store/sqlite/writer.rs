//! The one thread that writes: takes what waits, commits once, answers all.
//!
//! An error inside a batch leaves the transaction open (a constraint, a type)
//! or SQLite has rolled it back on its own (a full disk); which of the two is
//! asked, never assumed. The first kind concerns one item: the batch is rolled
//! back and its items are committed one by one, so that one bad item fails
//! alone. The second kind concerns all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::Shared;
use super::answer::concerns_one;
use super::checkpoint::Checkpointer;
use super::connection::needs_reopening;
use super::events;
use super::ids::Ids;
use super::open::StoreLock;
use super::queue::{Batch, Insert, Placed, Record};
use super::reader::Readers;
use super::rows::{self, millis};
use super::search::Indexer;
use super::tally::Effects;
use super::window::Window;
use crate::delivery::Verdict;
use crate::event::Fingerprint;
use crate::request::HandlerName;
use crate::store::{StoreConfig, Wanted};

/// How often what is only in memory is written, gauges are read, and a broken
/// store is probed.
const TICK: Duration = Duration::from_secs(1);

/// The writer's own state; lives on its thread.
pub struct Writer {
    pub config: StoreConfig,
    pub shared: Arc<Shared>,
    /// `None` after an I/O error, until the file could be opened again.
    pub connection: Option<Connection>,
    pub window: Window,
    /// Bodies of the open batch, which are not in the window yet.
    pub fresh: HashMap<Fingerprint, Placed>,
    pub duplicates: HashMap<i64, u64>,
    pub ids: Ids,
    pub wal_pages: Arc<AtomicU32>,
    pub checkpointer: Checkpointer,
    pub broken: bool,
    /// Which file the connection has open.
    pub identity: Option<(u64, u64)>,
    /// Attempts of commits that failed in a way that leaves open whether they
    /// are on disk; nobody has them in hand.
    pub uncertain: Vec<(i64, HandlerName, u32)>,
    pub readers: Arc<Readers>,
    pub indexer: Indexer,
    /// The last field, so that it is released when the connections are closed.
    pub lock: StoreLock,
}

impl Writer {
    /// A writer over a fresh connection.
    pub fn new(
        config: StoreConfig,
        lock: StoreLock,
        connection: Connection,
        shared: Arc<Shared>,
        readers: Arc<Readers>,
    ) -> rusqlite::Result<Self> {
        let wal_pages = Arc::new(AtomicU32::new(0));
        let mut writer = Self {
            checkpointer: Checkpointer::spawn(config.path.clone(), Arc::clone(&shared.index.hold)),
            indexer: Indexer::spawn(Arc::clone(&shared.index)),
            // `attach` puts the real one in its place.
            window: Window::new(config.dedup_window, 1, 0),
            config,
            shared,
            connection: None,
            fresh: HashMap::new(),
            duplicates: HashMap::new(),
            ids: Ids::default(),
            wal_pages,
            broken: false,
            identity: None,
            uncertain: Vec::new(),
            readers,
            lock,
        };
        writer.attach(connection)?;
        writer.gauges();
        Ok(writer)
    }

    /// Writes until the queue is closed and empty.
    pub fn run(mut self) {
        let mut tick = Instant::now() + TICK;
        while let Some(batch) = self.shared.queue.take(tick) {
            if batch.len() > 0 {
                self.write(batch);
            }
            if self.checkpointer.wants_restart() {
                self.restart_wal();
            }
            if Instant::now() >= tick {
                self.tick();
                tick = Instant::now() + TICK;
            }
        }
        self.flush_duplicates();
        self.checkpointer.stop();
        self.indexer.stop();
    }

    pub fn write(&mut self, mut batch: Batch) {
        self.fresh.clear();
        let size = batch.len();
        match self.commit(&mut batch) {
            Ok(effects) => {
                // Known duplicates are answered without a commit, which proves nothing.
                if self.broken && effects.dirty {
                    self.broken = false;
                    self.shared.set_health(None);
                    tracing::info!("the store commits again");
                }
                self.publish(batch, effects);
            }
            Err(error) if size > 1 && concerns_one(&error) => {
                let (first, second) = batch.halve();
                self.write(first);
                self.write(second);
            }
            Err(error) => self.fail(batch, &error),
        }
    }

    /// Everything of the batch in one transaction.
    fn commit(&mut self, batch: &mut Batch) -> rusqlite::Result<Effects> {
        self.reopen()?;
        let connection = self.connection.take().expect("it was just opened");
        let started = Instant::now();
        let mut effects = Effects::default();
        let result = self.transact(&connection, batch, &mut effects);
        if result.is_err() && !connection.is_autocommit() {
            // Whatever this says, the next BEGIN tells whether it worked.
            let _ = connection.execute_batch("ROLLBACK");
        }
        match &result {
            // The file may be gone or its cache wrong: look at it afresh, and
            // learn from the rows what was committed after all.
            Err(error) if needs_reopening(error) => self.doubt(batch, &mut effects),
            _ => self.connection = Some(connection),
        }
        result?;
        if effects.dirty {
            let metrics = &self.config.metrics;
            metrics
                .commit_seconds
                .observe(started.elapsed().as_secs_f64());
            metrics.batch_size.observe(batch.len() as f64);
            if self.wal_pages.load(Ordering::Relaxed) >= Checkpointer::PAGES {
                self.checkpointer.wake();
            }
        }
        Ok(effects)
    }

    fn transact(
        &mut self,
        tx: &Connection,
        batch: &mut Batch,
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        let changes = tx.total_changes();
        tx.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let now = millis(self.config.clock.now());
        for insert in &mut batch.inserts {
            self.insert(tx, insert, now, effects)?;
        }
        for record in &mut batch.records {
            write_record(tx, record, effects)?;
        }
        effects.last_row = self.ids.last_row();
        for job in &mut batch.jobs {
            job.run(tx, effects)?;
        }
        self.ids.go_on_after(effects.last_row);
        debug_assert!(
            effects.dirty || tx.total_changes() == changes,
            "whatever writes says so"
        );
        // A batch of nothing but known duplicates leaves the disk alone.
        let end = if effects.dirty { "COMMIT" } else { "ROLLBACK" };
        tx.prepare_cached(end)?.execute([])?;
        Ok(())
    }

    fn insert(
        &mut self,
        tx: &Connection,
        insert: &mut Insert,
        now: i64,
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        let fingerprint = insert.event.fingerprint;
        let first = match self.fresh.get(&fingerprint) {
            Some(first) => Some((first.row, first.id)),
            None => match self.window.find(&fingerprint, now.max(self.ids.last_ms())) {
                Some(row) => id_of(tx, row)?.map(|id| (row, id)),
                None => None,
            },
        };
        if let Some((row, id)) = first {
            insert.placed = Some(Placed {
                row,
                id,
                at: now,
                duplicate: true,
            });
            return owe_again(tx, row, now, &insert.wanted, effects);
        }
        let (id, at) = self.ids.next(now);
        let row = self.ids.next_row();
        events::insert_event(tx, row, id, at, &insert.event)?;
        effects.dirty = true;
        for wanted in &insert.wanted {
            let worker = wanted.slot.as_ref().map(|_| self.shared.worker);
            rows::insert_delivery(tx, row, &wanted.handler, now, worker)?;
            effects.count(&wanted.handler, 1, 0);
            if worker.is_none() {
                effects.due();
            }
        }
        let placed = Placed {
            row,
            id,
            at,
            duplicate: false,
        };
        insert.placed = Some(placed);
        self.fresh.insert(fingerprint, placed);
        Ok(())
    }
}

fn write_record(
    tx: &Connection,
    record: &mut Record,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    record.held = rows::record(tx, &record.key, &record.settlement)?;
    if record.held {
        effects.dirty = true;
        match record.settlement.verdict {
            Verdict::Succeeded => effects.count(&record.key.handler, -1, 0),
            Verdict::Dead => effects.count(&record.key.handler, -1, 1),
            Verdict::RetryAt(at) if at > record.settlement.ended_at => {}
            Verdict::RetryAt(_) | Verdict::Stopped | Verdict::Returned => effects.due(),
        }
    }
    Ok(())
}

/// A duplicate, perhaps from another source: its handlers get what the event
/// does not owe them yet.
fn owe_again(
    tx: &Connection,
    row: i64,
    now: i64,
    wanted: &[Wanted],
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    for wanted in wanted {
        if rows::insert_delivery(tx, row, &wanted.handler, now, None)? {
            effects.dirty = true;
            effects.count(&wanted.handler, 1, 0);
            effects.reopened(row);
        }
    }
    Ok(())
}

/// The id of the event in this row. Where the clock ran back over a removal the
/// window may know a row that is gone; its body is new then.
fn id_of(tx: &Connection, row: i64) -> rusqlite::Result<Option<Uuid>> {
    tx.prepare_cached("SELECT id FROM events WHERE row = ?1")?
        .query_row([row], |row| row.get(0).map(Uuid::from_bytes))
        .optional()
}
