//! What is past its retention, and its removal.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uuid::{Builder, Uuid};

use super::columns::text;
use super::rows::millis;
use super::search::Removed;
use super::tally::Effects;
use crate::event::EventId;
use crate::request::HandlerName;
use crate::store::Purge;

/// Events that one search looks at.
const LOOKED_AT_MAX: u32 = 10_000;

/// Rows that may go, and where to go on looking.
pub struct PastRetention {
    /// Rows of events that are past their retention.
    pub rows: Vec<i64>,
    /// The last event looked at, where there may be more behind it.
    pub cursor: Option<EventId>,
}

/// Looks for events past their retention, from `cursor` on, in the narrow
/// index by id, which grows with time.
pub fn past_retention(
    connection: &Connection,
    purge: Purge,
    cursor: Option<EventId>,
    limit: u32,
) -> Result<PastRetention> {
    let before = millis(purge.finished_before.max(purge.dead_before)).max(0);
    let before = Builder::from_unix_timestamp_millis(before.cast_unsigned(), &[0; 10]).into_uuid();
    let mut statement = connection.prepare_cached(
        "SELECT id, row FROM events INDEXED BY events_by_id
         WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3",
    )?;
    let after = cursor.map_or(Uuid::nil(), |cursor| cursor.0);
    let mut found = statement.query(params![after.as_bytes(), before.as_bytes(), LOOKED_AT_MAX])?;
    let mut looked_at = 0;
    let mut past = PastRetention {
        rows: Vec::new(),
        cursor: None,
    };
    while let Some(row) = found.next()? {
        let id = EventId(Uuid::from_bytes(row.get(0)?));
        let number: i64 = row.get(1)?;
        looked_at += 1;
        if is_past_retention(connection, number, purge)? {
            past.rows.push(number);
        }
        if looked_at == LOOKED_AT_MAX || past.rows.len() >= limit as usize {
            past.cursor = Some(id);
            break;
        }
    }
    Ok(past)
}

/// Whether the event of this row may go: nothing of it is unfinished, and it
/// is older than what finished or dead ones are kept for.
fn is_past_retention(connection: &Connection, row: i64, purge: Purge) -> Result<bool> {
    let received_at: Option<i64> = connection
        .prepare_cached("SELECT received_at FROM events WHERE row = ?1")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    let Some(received_at) = received_at else {
        return Ok(false);
    };
    let (unfinished, dead): (bool, bool) = connection
        .prepare_cached(
            "SELECT coalesce(max(due IS NOT NULL), 0), coalesce(max(status = 3), 0)
             FROM deliveries WHERE event = ?1",
        )?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let before = if dead {
        purge.dead_before
    } else {
        purge.finished_before
    };
    Ok(!unfinished && received_at < millis(before))
}

/// Removes the events of `rows` that are still past their retention.
pub fn remove(tx: &Connection, rows: &[i64], purge: Purge, effects: &mut Effects) -> Result<u32> {
    let mut removed = 0;
    for &row in rows {
        if !is_past_retention(tx, row, purge)? {
            continue;
        }
        let dead: Vec<String> = tx
            .prepare_cached("SELECT handler FROM deliveries WHERE event = ?1 AND status = 3")?
            .query_map([row], |found| Ok(text(found, 0)?.unwrap_or_default()))?
            .collect::<Result<_>>()?;
        for name in dead {
            effects.count(&HandlerName::from_store(&name), 0, -1);
        }
        effects.removed.extend(as_indexed(tx, row)?);
        for sql in [
            "DELETE FROM attempts WHERE event = ?1",
            "DELETE FROM deliveries WHERE event = ?1",
            "DELETE FROM duplicates WHERE event = ?1",
            "DELETE FROM events WHERE row = ?1",
        ] {
            tx.prepare_cached(sql)?.execute([row])?;
        }
        effects.wrote();
        removed += 1;
    }
    Ok(removed)
}

/// What the search index knows of the event in this row.
fn as_indexed(tx: &Connection, row: i64) -> Result<Option<Removed>> {
    tx.prepare_cached(
        "SELECT row, id, source, type, outcome, media_id, job_id FROM events WHERE row = ?1",
    )?
    .query_row([row], |row| {
        Ok(Removed {
            row: row.get(0)?,
            id: Uuid::from_bytes(row.get(1)?),
            source: text(row, 2)?.unwrap_or_default(),
            event_type: text(row, 3)?.unwrap_or_default(),
            outcome: text(row, 4)?.unwrap_or_default(),
            media_id: text(row, 5)?,
            job_id: text(row, 6)?,
        })
    })
    .optional()
}
