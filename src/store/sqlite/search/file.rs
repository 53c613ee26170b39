//! The index's file: opened where it proves to be the index of this store, made
//! anew where it does not.
//!
//! Nothing is ever synced while it is in use, so that no ack waits for the disk
//! because of it. What a process wrote survives that process; after a start of
//! the machine only a file that was closed in good order is believed.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Result, params};

use super::bound;

/// The version of the schema.
const VERSION: i64 = 1;

/// `PRAGMA application_id` of our indexes: "IMSs".
const APPLICATION_ID: i32 = 0x494d_5373;

/// How long one side waits for the other: the writer for a few statements of
/// the searches, a search for the pages of one batch.
const BUSY: Duration = Duration::from_secs(2);

/// Rows of one segment, as a power of two.
const SEGMENT_BITS: u32 = bound(16, 4) as u32;

/// The segment that a row is in.
pub fn segment_of(row: i64) -> i64 {
    row >> SEGMENT_BITS
}

/// The file, with why it had to be made where it was not simply missing.
pub struct Opened {
    pub connection: Connection,
    pub because: Option<String>,
}

/// Opens the index at `path` for writing, or makes it where it is missing,
/// damaged, of another version or of another store.
pub fn open(path: &Path, store: &Connection) -> Result<Opened> {
    let mut because = None;
    if path.exists() {
        match open_existing(path, store) {
            Ok(Ok(connection)) => {
                return Ok(Opened {
                    connection,
                    because: None,
                });
            }
            Ok(Err(reason)) => because = Some(reason.to_owned()),
            Err(error) if is_damage(&error) => {
                because = Some(format!("it is damaged: {}", super::super::readable(&error)));
            }
            Err(error) => return Err(error),
        }
        remove(path);
    }
    Ok(Opened {
        connection: make(path)?,
        because,
    })
}

/// Removes the file. One that cannot be removed shows when it is made anew.
pub fn remove(path: &Path) {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let _ = std::fs::remove_file(journal);
    let _ = std::fs::remove_file(path);
}

/// Whether an error says that the file cannot be believed.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        ),
        // A column of another type, a table without its row.
        _ => true,
    }
}

fn open_existing(
    path: &Path,
    store: &Connection,
) -> Result<std::result::Result<Connection, &'static str>> {
    let connection = connect(path, OpenFlags::empty())?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID || version != VERSION {
        return Ok(Err("it is of another version"));
    }
    set_up(&connection)?;
    let clean: bool = meta(&connection, "clean")?.unwrap_or(false);
    let boot: Option<String> = meta(&connection, "boot")?;
    if !clean && (boot.is_none() || boot != self::boot()) {
        return Ok(Err("the machine stopped while it was in use"));
    }
    if !belongs(&connection, store)? {
        return Ok(Err("it is not of this store"));
    }
    take_into_use(&connection)?;
    Ok(Ok(connection))
}

/// Whether every mark that the store still has is its own, the last one above
/// all: without that, rows may have been given to other events.
fn belongs(connection: &Connection, store: &Connection) -> Result<bool> {
    let mut statement = connection.prepare("SELECT row, id FROM marks ORDER BY segment DESC")?;
    let mut marks = statement.query([])?;
    let mut last = true;
    while let Some(mark) = marks.next()? {
        let (row, id): (i64, [u8; 16]) = (mark.get(0)?, mark.get(1)?);
        let there: Option<[u8; 16]> = store
            .prepare_cached("SELECT id FROM events WHERE row = ?1")?
            .query_row([row], |row| row.get(0))
            .optional()?;
        match there {
            Some(there) if there == id => {}
            None if !last => {}
            _ => return Ok(false),
        }
        last = false;
    }
    Ok(true)
}

fn make(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    set_up(&connection)?;
    let tx = connection.unchecked_transaction()?;
    tx.execute_batch(include_str!("schema.sql"))?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()?;
    take_into_use(&connection)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | flags,
    )?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<()> {
    // A rollback journal: with a write-ahead log, searches without pause would
    // keep it from ever starting again.
    connection.pragma_update(None, "journal_mode", "truncate")?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // Holds what a batch changes: the newest segment, and the end of each kind.
    connection.pragma_update(None, "cache_size", -8192)?;
    // A batch is written at its commit and no earlier: searches wait meanwhile.
    connection.pragma_update(None, "cache_spill", "off")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Says, and sees to it on the disk, that what is there may be half written
/// from now on.
fn take_into_use(connection: &Connection) -> Result<()> {
    put(connection, "boot", boot().unwrap_or_default())?;
    connection.pragma_update(None, "synchronous", "full")?;
    put(connection, "clean", false)?;
    connection.pragma_update(None, "synchronous", "off")
}

/// Closes the file so that it is believed after a start of the machine, too.
pub fn close(connection: Connection) -> Result<()> {
    connection.pragma_update(None, "synchronous", "full")?;
    put(&connection, "clean", true)?;
    // Takes the empty journal away.
    connection.pragma_update(None, "journal_mode", "delete")?;
    connection.close().map_err(|(_, error)| error)
}

/// The start of the machine, where the system names it.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// What `meta` holds under a name.
pub fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<Option<T>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Has `meta` hold a value under a name.
pub fn put(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}

/// The last row that the index knows; 0 where it knows none.
pub fn last_row(connection: &Connection) -> Result<i64> {
    let last = connection
        .prepare_cached("SELECT row FROM marks ORDER BY segment DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// A connection of a search.
pub fn open_reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::empty())?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
