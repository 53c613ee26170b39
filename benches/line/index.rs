//! How far the search index of a store has come, seen from beside the service.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rusqlite::{Connection, OpenFlags};

/// How long the index may take for all of a store.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The file of the index.
pub fn path(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push("-search");
    path.into()
}

/// Opens a store or its index, to be read only.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

/// The last row that the index knows.
pub fn indexed_row(store: &Path) -> i64 {
    let sql = "SELECT coalesce(max(row), 0) FROM marks";
    let row = open(&path(store)).and_then(|index| index.query_row(sql, [], |row| row.get(0)));
    row.unwrap_or(0)
}

/// The last row of the store.
pub fn last_row(store: &Path) -> anyhow::Result<i64> {
    let sql = "SELECT coalesce(max(row), 0) FROM events";
    Ok(open(store)?.query_row(sql, [], |row| row.get(0))?)
}

/// Waits until the index knows every row, and says how long that took.
pub fn complete(store: &Path) -> anyhow::Result<Duration> {
    let since = Instant::now();
    while indexed_row(store) < last_row(store)? {
        ensure!(since.elapsed() < PATIENCE, "the index never was complete");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(since.elapsed())
}
