//! The writer's connection: taken into use, lost, and opened again.
//!
//! A commit that ends in an I/O error may be on disk all the same. So the rows
//! are asked when the file is open again: which bodies are known, what is
//! unfinished, and which attempts nobody has in hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, ErrorCode};

use super::answer::concerns_one;
use super::open::reopen_writer;
use super::queue::Batch;
use super::roster;
use super::rows::{self, millis};
use super::tally::Effects;
use super::upkeep::file_identity;
use super::window::rebuild;
use super::writer::Writer;

impl Writer {
    /// Takes a connection into use: the hook on its log, the last id, and the
    /// duplicate window from the rows.
    pub fn attach(&mut self, mut connection: Connection) -> rusqlite::Result<()> {
        let pages = Arc::clone(&self.wal_pages);
        #[cfg(test)]
        let shared = Arc::clone(&self.shared);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: i32| {
            pages.store(count.unsigned_abs(), Ordering::Relaxed);
            #[cfg(test)]
            if shared.commit_fault.swap(false, Ordering::AcqRel) {
                let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
                return Err(rusqlite::Error::SqliteFailure(error, None));
            }
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

    /// Gives up a connection whose file is not the one at the path any more.
    pub fn lose_connection(&mut self, problem: String) {
        self.connection = None;
        self.broken = true;
        self.shared.set_health(Some(problem));
    }

    /// Opens the file again after an I/O error closed it.
    pub fn reopen(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_some() {
            return Ok(());
        }
        // Whatever is still open may be another file, or hold an old view of it.
        self.readers.renew();
        self.checkpointer.renew();
        self.shared.index.renew();
        let connection = reopen_writer(&self.lock).map_err(|error| {
            rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
                Some(error.to_string()),
            )
        })?;
        self.attach(connection)
    }

    /// Remembers what a commit of unknown end would have handed over.
    pub fn doubt(&mut self, batch: &Batch, effects: &mut Effects) {
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
}

/// Whether an error leaves open what is on disk: every one of which SQLite does
/// not say for certain that it stored nothing.
pub fn needs_reopening(error: &rusqlite::Error) -> bool {
    let stored_nothing = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
    );
    !stored_nothing && !concerns_one(error)
}
