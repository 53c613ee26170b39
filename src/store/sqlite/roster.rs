//! Who is there: workers and handlers across starts.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::delivery::WorkerId;
use crate::request::HandlerName;

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
/// ones are back, and what waits for those that are away.
#[expect(
    clippy::type_complexity,
    reason = "two lists for one caller, which takes them apart at once"
)]
pub fn enrol(
    tx: &Connection,
    names: &[HandlerName],
    now: i64,
) -> rusqlite::Result<(HashMap<HandlerName, i64>, Vec<(HandlerName, u64)>)> {
    for name in names {
        tx.execute(
            "INSERT INTO handlers (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET
                returned_at = CASE WHEN removed_at IS NULL THEN returned_at ELSE ?2 END,
                removed_at = NULL",
            params![name.as_str(), now],
        )?;
    }
    let known: Vec<(String, Option<i64>)> = tx
        .prepare("SELECT name, returned_at FROM handlers")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut returned = HashMap::new();
    let mut left = Vec::new();
    for (name, returned_at) in known {
        let name = HandlerName::from_store(&name);
        if names.contains(&name) {
            returned.extend(returned_at.map(|at| (name, at)));
            continue;
        }
        tx.execute(
            "UPDATE handlers SET removed_at = ?2 WHERE name = ?1 AND removed_at IS NULL",
            params![name.as_str(), now],
        )?;
        let waiting: i64 = tx.query_row(
            "SELECT count(*) FROM deliveries WHERE handler = ?1 AND due IS NOT NULL",
            [name.as_str()],
            |row| row.get(0),
        )?;
        if waiting > 0 {
            left.push((name, waiting.cast_unsigned()));
        }
    }
    Ok((returned, left))
}
