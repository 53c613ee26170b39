//! What can be told about a store at once, without reading through it.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::{ToolError, failed, open_to_read, refuse_foreign};
use crate::store::archive::StoreSize;
use crate::store::sqlite::rows::timestamp;
use crate::store::sqlite::upkeep::size;

/// What a glance at a store shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// How large it is.
    pub size: StoreSize,
    /// When its newest event was received.
    pub newest: Option<Timestamp>,
    /// Deliveries that are not finished, by handler.
    pub pending: BTreeMap<String, u64>,
    /// Deliveries that were given up, by handler.
    pub dead: BTreeMap<String, u64>,
}

/// Looks at the store at `path`, which a service may have open; nothing is
/// changed.
///
/// # Errors
/// [`ToolError`] where there is none, it cannot be opened or read, or is none
/// that this release knows.
pub fn glance(path: &Path) -> Result<Glance, ToolError> {
    let connection = open_to_read(path)?;
    refuse_foreign(&connection, path)?;
    read(&connection, path).map_err(failed("it cannot be read", path))
}

fn read(connection: &Connection, path: &Path) -> rusqlite::Result<Glance> {
    let newest = "SELECT received_at FROM events ORDER BY id DESC LIMIT 1";
    let newest = connection
        .query_row(newest, [], |row| row.get(0))
        .optional()?;
    Ok(Glance {
        size: size(connection, path)?,
        newest: newest.map(timestamp),
        pending: counted(connection, "due IS NOT NULL")?,
        dead: counted(connection, "status = 3")?,
    })
}

/// Deliveries by handler, out of the small index that `these` names.
fn counted(connection: &Connection, these: &str) -> rusqlite::Result<BTreeMap<String, u64>> {
    let sql = format!("SELECT handler, count(*) FROM deliveries WHERE {these} GROUP BY handler");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        let count: i64 = row.get(1)?;
        Ok((row.get(0)?, count.max(0).cast_unsigned()))
    })?;
    rows.collect()
}
