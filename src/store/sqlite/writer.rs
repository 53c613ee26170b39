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

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use uuid::Uuid;

use super::checkpoint::Checkpointer;
use super::events;
use super::ids::Ids;
use super::open::{StoreLock, reopen_writer};
use super::queue::{Batch, Insert, Placed, Record};
use super::reader::Readers;
use super::roster;
use super::rows::{self, millis, timestamp};
use super::tally::Effects;
use super::upkeep::file_identity;
use super::window::{Window, rebuild};
use super::{Shared, readable};
use crate::delivery::{Delivery, Verdict};
use crate::event::{Event, EventId, Fingerprint};
use crate::request::HandlerName;
use crate::store::{Inserted, StoreConfig, StoreError, Wanted};

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
    uncertain: Vec<(i64, HandlerName, u32)>,
    readers: Arc<Readers>,
    /// The last field, so that it is released when the connections are closed.
    lock: StoreLock,
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
            checkpointer: Checkpointer::spawn(config.path.clone()),
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

    /// Takes a connection into use: the hook on its log, the last id, and the
    /// duplicate window from the rows.
    fn attach(&mut self, mut connection: Connection) -> rusqlite::Result<()> {
        let pages = Arc::clone(&self.wal_pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: i32| {
            pages.store(count.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        self.wal_pages.store(0, Ordering::Relaxed);
        self.ids.resume(&connection)?;
        let now = millis(self.config.clock.now());
        roster::keep_worker(&connection, self.shared.worker, now)?;
        self.disown(&connection, now)?;
        self.shared.tallies.recount(&connection)?;
        let now = now.max(self.ids.last_ms());
        self.window = rebuild(&connection, &self.config, now)?;
        self.identity = file_identity(&self.config.path);
        self.connection = Some(connection);
        Ok(())
    }

    /// Has deliveries due again that a commit may have left running although it
    /// was reported as failed.
    fn disown(&mut self, connection: &Connection, now: i64) -> rusqlite::Result<()> {
        if self.uncertain.is_empty() {
            return Ok(());
        }
        let tx = connection.unchecked_transaction()?;
        for (row, handler, attempt) in &self.uncertain {
            rows::disown(
                &tx,
                (*row, handler.as_str(), *attempt),
                self.shared.worker,
                now,
            )?;
        }
        tx.commit()?;
        self.uncertain.clear();
        self.shared.due.notify_one();
        Ok(())
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

    /// Remembers what a commit of unknown end would have handed over.
    fn doubt(&mut self, batch: &Batch, effects: &mut Effects) {
        self.uncertain.append(&mut effects.taken);
        for insert in &batch.inserts {
            let Some(placed) = insert.placed.filter(|placed| !placed.duplicate) else {
                continue;
            };
            let handed = insert.wanted.iter().filter(|wanted| wanted.slot.is_some());
            self.uncertain
                .extend(handed.map(|wanted| (placed.row, wanted.handler.clone(), 1)));
        }
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
        for job in &mut batch.jobs {
            job.run(tx, effects)?;
        }
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

    /// Tells everybody, after the commit: the window, the handlers, and then
    /// those who wait for an answer.
    fn publish(&mut self, batch: Batch, effects: Effects) {
        self.shared.tallies.apply(&effects);
        for insert in batch.inserts {
            let placed = insert.placed.expect("the transaction placed every insert");
            if placed.duplicate {
                *self.duplicates.entry(placed.row).or_default() += 1;
                // A duplicate is handed to nobody: its places are free again
                // before it is answered.
                drop(insert.wanted);
            } else {
                self.window
                    .push(insert.event.fingerprint, placed.row, placed.at);
                self.hand_over(insert.event, insert.wanted, placed);
            }
            // A sender that hung up does not wait any more.
            let _ = insert.reply.send(Ok(Inserted {
                id: EventId(placed.id),
                duplicate: placed.duplicate,
            }));
        }
        for record in batch.records {
            let result = if record.held {
                Ok(())
            } else {
                Err(StoreError::NotOurs)
            };
            let _ = record.reply.send(result);
        }
        for job in batch.jobs {
            job.finish(Ok(()));
        }
        if effects.due {
            self.shared.due.notify_one();
        }
    }

    fn hand_over(&self, event: crate::event::NewEvent, wanted: Vec<Wanted>, placed: Placed) {
        if wanted.iter().all(|wanted| wanted.slot.is_none()) {
            return;
        }
        let received_at = timestamp(placed.at);
        let event = Arc::new(Event {
            id: EventId(placed.id),
            row: placed.row,
            received_at,
            content: event,
        });
        for Wanted { handler, slot } in wanted {
            let Some(slot) = slot else { continue };
            slot.fill(Delivery {
                event: Arc::clone(&event),
                handler,
                worker: self.shared.worker,
                attempt: 1,
                failed: 0,
                age_from: received_at,
            });
        }
    }

    fn fail(&mut self, batch: Batch, error: &rusqlite::Error) {
        self.config.metrics.errors.inc();
        let message = readable(error);
        let error = if concerns_one(error) {
            tracing::warn!(error = message, "one item could not be stored");
            StoreError::Rejected(message)
        } else {
            if !self.broken {
                tracing::error!(
                    error = message,
                    "the store does not commit; callbacks get 503 until it does"
                );
            }
            self.broken = true;
            self.shared.set_health(Some(message.clone()));
            StoreError::Unavailable(message)
        };
        for Insert { wanted, reply, .. } in batch.inserts {
            // The places are free again before anybody hears of the failure.
            drop(wanted);
            let _ = reply.send(Err(error.clone()));
        }
        for record in batch.records {
            let _ = record.reply.send(Err(error.clone()));
        }
        for job in batch.jobs {
            job.finish(Err(error.clone()));
        }
    }

    /// Gives up a connection whose file is not the one at the path any more.
    pub fn lose_connection(&mut self, problem: String) {
        self.connection = None;
        self.broken = true;
        self.shared.set_health(Some(problem));
    }

    /// Opens the file again after an I/O error closed it.
    fn reopen(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_some() {
            return Ok(());
        }
        // Whatever is still open may be another file, or hold an old view of it.
        self.readers.renew();
        self.checkpointer.renew();
        let connection = reopen_writer(&self.lock).map_err(|error| {
            rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
                Some(error.to_string()),
            )
        })?;
        self.attach(connection)
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

/// Whether an error concerns one item of a batch and not the store.
fn concerns_one(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
        _ => true,
    }
}

fn needs_reopening(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(failure, _) if matches!(
            failure.code,
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
        )
    )
}
