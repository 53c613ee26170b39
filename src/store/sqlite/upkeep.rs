//! What the writer does once a second and between two commits.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::open::BUSY;
use super::queue::{Batch, Job};
use super::readable;
use super::rows::millis;
use super::tally::Effects;
use super::writer::Writer;
use crate::store::StoreError;
use crate::store::archive::StoreSize;

impl Writer {
    pub fn tick(&mut self) {
        self.watch_file();
        self.window
            .expire(millis(self.config.clock.now()).max(self.ids.last_ms()));
        self.flush_duplicates();
        if self.broken {
            self.write(Batch {
                jobs: vec![Box::new(Probe)],
                ..Batch::default()
            });
        }
        self.gauges();
    }

    /// SQLite goes on writing into a file that was removed or replaced, where
    /// nobody would find what it wrote.
    fn watch_file(&mut self) {
        let wal_expected = self.wal_pages.load(Ordering::Relaxed) > 0;
        let gone = self.connection.is_some()
            && (file_identity(&self.config.path) != self.identity
                || (wal_expected && !wal_path(&self.config.path).exists()));
        if !gone {
            return;
        }
        // The log belongs to the file that was at the path: all of it goes there
        // first, or the file that is there now would be read through it.
        if !self.empty_wal() {
            tracing::error!("the store's file was removed or replaced, and is still in use");
            return;
        }
        tracing::error!(
            path = %self.config.path.display(),
            "the store's file was removed or replaced under the running service; going on with what is there"
        );
        self.lose_connection("its file was removed or replaced".into());
    }

    /// Copies the whole log into the database; answers whether it is empty now.
    fn empty_wal(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                    row.get::<_, i64>(0)
                })
                .is_ok_and(|busy| busy == 0)
        })
    }

    /// Adds the duplicates counted since the last time to their side table.
    pub fn flush_duplicates(&mut self) {
        if self.duplicates.is_empty() {
            return;
        }
        let Some(connection) = &self.connection else {
            return;
        };
        let counts = &self.duplicates;
        let result = connection.unchecked_transaction().and_then(|tx| {
            for (row, count) in counts {
                tx.prepare_cached(
                    "INSERT INTO duplicates (event, count)
                     SELECT row, ?2 FROM events WHERE row = ?1
                     ON CONFLICT (event) DO UPDATE SET count = count + excluded.count",
                )?
                .execute(params![row, count.cast_signed()])?;
            }
            tx.commit()
        });
        match result {
            Ok(()) => self.duplicates.clear(),
            Err(error) => {
                self.config.metrics.errors.inc();
                tracing::warn!(error = readable(&error), "duplicates are counted later");
                // The counts are a courtesy; memory is not given for them.
                if self.duplicates.len() > 100_000 {
                    self.duplicates.clear();
                }
            }
        }
    }

    /// Copies what the checkpointer left and starts the log from its beginning,
    /// between two commits. Does nothing while a reader stands in the way.
    pub fn restart_wal(&mut self) {
        let Some(connection) = &self.connection else {
            self.checkpointer.restart_tried(true);
            return;
        };
        // Whoever waits for a commit must not wait for a reader.
        let restarted = connection.busy_timeout(Duration::ZERO).and_then(|()| {
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
                row.get::<_, i64>(0)
            })
        });
        if let Err(error) = connection.busy_timeout(BUSY) {
            tracing::debug!(error = readable(&error), "no time limit could be set");
        }
        self.checkpointer.restart_tried(matches!(restarted, Ok(0)));
        match restarted {
            Ok(busy) => tracing::debug!(busy, "the write-ahead log starts again"),
            Err(error) => tracing::debug!(error = readable(&error), "the log goes on"),
        }
    }

    pub fn gauges(&self) {
        let metrics = &self.config.metrics;
        let path = &self.config.path;
        metrics.store_bytes.set(file_bytes(path).cast_signed());
        metrics
            .wal_bytes
            .set(file_bytes(&wal_path(path)).cast_signed());
        if let Some(free) = disk_free(path) {
            metrics.disk_free_bytes.set(free.cast_signed());
        }
        if let Some(Ok(used)) = self.connection.as_ref().map(used_bytes) {
            metrics.used_bytes.set(used.cast_signed());
        }
        let reach = self.window.reach(millis(self.config.clock.now()));
        metrics
            .dedup_window_seconds
            .set(reach.as_secs().cast_signed());
    }
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// What is free for us on the disk of `path`.
pub fn disk_free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The pages in use. The file keeps the others, and they are used again.
pub fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?).max(0).cast_unsigned())
}

/// How large the store at `path` is, which `connection` has open.
pub fn size(connection: &Connection, path: &Path) -> rusqlite::Result<StoreSize> {
    Ok(StoreSize {
        file_bytes: file_bytes(path),
        used_bytes: used_bytes(connection)?,
        wal_bytes: file_bytes(&wal_path(path)),
        disk_free_bytes: disk_free(path).unwrap_or(0),
    })
}

/// The log beside the store at `path`.
pub fn wal_path(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

/// Which file a path leads to: device and number.
pub fn file_identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// What a probe writes: enough that, where it fits, events do too.
const PROBE_BYTES: u32 = 64 * 1024;

/// A small commit that shows whether commits work.
struct Probe;

impl Job for Probe {
    fn run(&mut self, tx: &Connection, effects: &mut Effects) -> rusqlite::Result<()> {
        effects.wrote();
        tx.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES ('probe', zeroblob(?1))",
            [PROBE_BYTES],
        )?;
        Ok(())
    }

    fn finish(self: Box<Self>, _: Result<(), StoreError>) {}
}
