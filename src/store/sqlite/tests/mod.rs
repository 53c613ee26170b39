//! The contract's suite over SQLite, and what only SQLite can do wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{SqliteStore, StoreLock};
use crate::clock::Clock;
use crate::store::conformance::{DEADLINE, Engine, SetClock, WINDOW, suite};
use crate::store::{OpenError, Opened, Store, StoreConfig, StoreMetrics};

mod broken;
mod opening;
mod running;
mod searching;
mod spoilt;

/// A database in a folder of its own.
struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }
}

impl Engine for Sqlite {
    fn open(&self, clock: Arc<dyn Clock>, entries_max: u32) -> Opened {
        let path = self.0.path().join("events.db");
        both_sides(open_when_free(&path, clock, entries_max).unwrap())
    }

    fn lose_power(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let folder = loop {
            let folder = TempDir::new().unwrap();
            // By another process: closing a descriptor in this one would take
            // the locks of SQLite away.
            let copied = Command::new("cp")
                .arg("-R")
                .arg(self.0.path().join("."))
                .arg(folder.path())
                .status()
                .unwrap();
            if copied.success() {
                break folder;
            }
            // The index's journal may have gone while it was listed.
            assert!(Instant::now() < deadline, "the store cannot be copied");
        };
        // The index of the log does not survive a start of the machine.
        let _ = std::fs::remove_file(folder.path().join("events.db-shm"));
        self.0 = folder;
    }
}

suite!(super::tests::Sqlite::new());

fn both_sides(store: SqliteStore) -> Opened {
    let store = Arc::new(store);
    Opened {
        archive: Arc::clone(&store) as _,
        store,
    }
}

fn config(path: &Path, clock: Arc<dyn Clock>, entries_max: u32) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        dedup_window: WINDOW,
        dedup_entries_max: entries_max,
        clock,
        metrics: StoreMetrics::default(),
    }
}

/// Opens the store once nobody else has it any more.
fn open_when_free(
    path: &Path,
    clock: Arc<dyn Clock>,
    entries_max: u32,
) -> Result<SqliteStore, OpenError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match StoreLock::take(path) {
            Ok(lock) => return SqliteStore::open(config(path, clock, entries_max), lock),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Opens the store at `path` with a clock that stands still.
fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    let lock = StoreLock::take(path)?;
    SqliteStore::open(config(path, SetClock::new(), 1000), lock)
}

/// A second look at the file, as by a person with `sqlite3`.
fn by_hand(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}
