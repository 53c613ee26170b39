//! What is done to a store from outside of the service: a look for damage, a
//! copy of a running one, and a smaller file. They run in a process of their
//! own, beside a service or without one.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::open::{self, BUSY};
use super::readable;
use super::upkeep::wal_path;
use crate::store::OpenError;

mod backup;
mod check;
mod compact;
mod glance;

pub use backup::backup;
pub use check::{Findings, check};
pub use compact::{Compacted, compact};
pub use glance::{Glance, glance};

/// How far a step has come, for whoever waits. `total` is 0 where it is not
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// How much of it is done …
    pub done: u64,
    /// … of this much.
    pub total: u64,
}

/// Is told how far it has come.
pub type Watch<'w> = &'w mut dyn FnMut(Step);

/// Work on a store that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The store, or the place for its copy, cannot be used as it is.
    #[error("{0}")]
    Unusable(String),
    /// It failed, and may work another time.
    #[error("{0}")]
    Failed(String),
}

impl From<OpenError> for ToolError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoRoom { .. } => Self::Failed(error.to_string()),
            OpenError::Unusable { .. } => Self::Unusable(error.to_string()),
        }
    }
}

/// Says of an engine's error what it was that failed.
fn failed(what: &str, path: &Path) -> impl Fn(rusqlite::Error) -> ToolError {
    let what = format!("{}: {what}", path.display());
    move |error| ToolError::Failed(format!("{what}: {}", readable(&error)))
}

/// The same for the system's errors.
fn io_failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> ToolError {
    let what = format!("{}: {what}", path.display());
    move |error| ToolError::Failed(format!("{what}: {error}"))
}

/// The path with more at its end.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Opens a store to read it, whether or not a service has it.
fn open_to_read(path: &Path) -> Result<Connection, ToolError> {
    if !path.exists() {
        return Err(ToolError::Unusable(format!(
            "{}: there is no store yet; `serve` makes it, or set `store.path` to where it is",
            path.display()
        )));
    }
    let failed = failed("it cannot be opened", path);
    // One that only reads leaves the log behind that it had to make; one that
    // could write takes it away, but would copy what stands in it.
    let log = std::fs::metadata(wal_path(path)).map_or(0, |log| log.len());
    let access = match log {
        0 => OpenFlags::SQLITE_OPEN_READ_WRITE,
        _ => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(&failed)?;
    connection.busy_timeout(BUSY * 5).map_err(&failed)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(&failed)?;
    Ok(connection)
}

/// Refuses what is no store of this program, or one of a newer release.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), ToolError> {
    match open::check_owner(connection, path) {
        Ok(()) => Ok(()),
        Err(open::Refusal::Open(refusal)) => Err(refusal.into()),
        Err(open::Refusal::Sqlite(error)) => Err(failed("it cannot be read", path)(error)),
    }
}

/// Has the entry of a folder reach the disk.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

/// A count of bytes for people.
fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
