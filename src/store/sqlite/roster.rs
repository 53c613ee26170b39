//! Who is there: workers and handlers across starts.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::timestamp;
use crate::delivery::WorkerId;
use crate::request::HandlerName;
use crate::store::Enrolled;

/// Registers this start as a worker.
pub fn register_worker(connection: &Connection, now: i64) -> rusqlite::Result<WorkerId> {
    connection.execute("INSERT INTO workers (started_at) VALUES (?1)", [now])?;
    let worker = WorkerId(connection.last_insert_rowid());
    // A start every minute for years must not leave a row each.
    connection.execute("DELETE FROM workers WHERE id < ?1 - 1000", [worker.0])?;
    Ok(worker)
}

/// Makes sure that a file opened afresh knows this worker, so that no later
/// start gets its number and takes its rows for its own.
pub fn keep_worker(connection: &Connection, worker: WorkerId, now: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO workers (id, started_at) VALUES (?1, ?2)",
        params![worker.0, now],
    )?;
    Ok(())
}

/// Marks who is configured and who is not; answers since when the returned
/// ones are back, what waits for those that are away, and who is held back.
pub fn enrol(
    tx: &Connection,
    names: &[HandlerName],
    now: i64,
) -> rusqlite::Result<(HashMap<HandlerName, i64>, Enrolled)> {
    for name in names {
        tx.execute(
            "INSERT INTO handlers (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET
                returned_at = CASE WHEN removed_at IS NULL THEN returned_at ELSE ?2 END,
                removed_at = NULL",
            params![name.as_str(), now],
        )?;
    }
    let mut returned = HashMap::new();
    let mut enrolled = Enrolled::default();
    for known in known(tx)? {
        if names.contains(&known.name) {
            let paused = known
                .paused_at
                .map(|at| (known.name.clone(), timestamp(at)));
            enrolled.paused.extend(paused);
            returned.extend(known.returned_at.map(|at| (known.name, at)));
            continue;
        }
        tx.execute(
            "UPDATE handlers SET removed_at = ?2 WHERE name = ?1 AND removed_at IS NULL",
            params![known.name.as_str(), now],
        )?;
        let waiting: i64 = tx.query_row(
            "SELECT count(*) FROM deliveries WHERE handler = ?1 AND due IS NOT NULL",
            [known.name.as_str()],
            |row| row.get(0),
        )?;
        if waiting > 0 {
            enrolled.left.push((known.name, waiting.cast_unsigned()));
        }
    }
    Ok((returned, enrolled))
}

/// A handler's row.
pub struct Known {
    pub name: HandlerName,
    pub removed_at: Option<i64>,
    pub returned_at: Option<i64>,
    pub paused_at: Option<i64>,
}

/// Every handler that was ever configured, by name.
pub fn known(connection: &Connection) -> rusqlite::Result<Vec<Known>> {
    connection
        .prepare("SELECT name, removed_at, returned_at, paused_at FROM handlers ORDER BY name")?
        .query_map([], |row| {
            let name: String = row.get(0)?;
            Ok(Known {
                name: HandlerName::from_store(&name),
                removed_at: row.get(1)?,
                returned_at: row.get(2)?,
                paused_at: row.get(3)?,
            })
        })?
        .collect()
}

/// Holds a handler back, or no longer; what waits counts its age from the
/// resume on, as after a return. Answers whether that changed anything, or
/// nothing where there is no such handler.
pub fn set_paused(
    tx: &Connection,
    name: &HandlerName,
    paused: bool,
    now: i64,
) -> rusqlite::Result<Option<bool>> {
    let stands: Option<bool> = tx
        .query_row(
            "SELECT paused_at IS NOT NULL FROM handlers WHERE name = ?1",
            [name.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    let change = match (stands, paused) {
        (None, _) => return Ok(None),
        (Some(stands), _) if stands == paused => return Ok(Some(false)),
        (_, true) => "UPDATE handlers SET paused_at = ?2 WHERE name = ?1",
        (_, false) => "UPDATE handlers SET paused_at = NULL, returned_at = ?2 WHERE name = ?1",
    };
    tx.execute(change, params![name.as_str(), now])?;
    Ok(Some(true))
}

/// Makes sure that a handler is known from which nothing was ever heard here,
/// so that what an import brought for it can be seen and given up.
pub fn introduce(tx: &Connection, name: &HandlerName, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO handlers (name, removed_at) VALUES (?1, ?2)")?
        .execute(params![name.as_str(), now])?;
    Ok(())
}
