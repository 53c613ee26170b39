//! An event as a list shows it, read without its body.

use rusqlite::{Connection, OptionalExtension, Result, Row};
use uuid::Uuid;

use super::super::events::{from_json, outcome};
use super::super::rows::{status, timestamp};
use crate::delivery::{Reason, Status};
use crate::event::EventId;
use crate::request::{HandlerName, SourceName};
use crate::store::archive::{DeliverySummary, EventSummary};

/// The event in this row, where there is one. The length of a body is in the
/// row's head, so even that does not read it.
pub fn summary(store: &Connection, row: i64) -> Result<Option<EventSummary>> {
    let found = store
        .prepare_cached(
            "SELECT id, received_at, source, type, event_time, user_id, outcome, media_id, job_id,
                length(body), notes
             FROM events WHERE row = ?1",
        )?
        .query_row([row], read)
        .optional()?;
    let Some(mut summary) = found else {
        return Ok(None);
    };
    let duplicates: Option<i64> = store
        .prepare_cached("SELECT count FROM duplicates WHERE event = ?1")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    summary.duplicates = duplicates.unwrap_or(0).cast_unsigned();
    summary.deliveries = deliveries(store, row)?;
    Ok(Some(summary))
}

fn read(row: &Row<'_>) -> Result<EventSummary> {
    let source: String = row.get(2)?;
    let word: String = row.get(6)?;
    let body_bytes: i64 = row.get(9)?;
    Ok(EventSummary {
        id: EventId(Uuid::from_bytes(row.get(0)?)),
        received_at: timestamp(row.get(1)?),
        source: SourceName::from_store(&source),
        event_type: row.get(3)?,
        event_time: row.get(4)?,
        user_id: row.get(5)?,
        outcome: outcome(&word),
        media_id: row.get(7)?,
        job_id: row.get(8)?,
        duplicates: 0,
        body_bytes: body_bytes.cast_unsigned(),
        notes: from_json(row.get(10)?),
        deliveries: Vec::new(),
    })
}

fn deliveries(store: &Connection, row: i64) -> Result<Vec<DeliverySummary>> {
    store
        .prepare_cached(
            "SELECT handler, status, attempts, due, reason FROM deliveries
             WHERE event = ?1 ORDER BY handler",
        )?
        .query_map([row], |row| {
            let name: String = row.get(0)?;
            let status = status(row.get(1)?);
            let due: Option<i64> = row.get(3)?;
            let reason: Option<String> = row.get(4)?;
            Ok(DeliverySummary {
                handler: HandlerName::from_store(&name),
                status,
                attempts: row.get(2)?,
                next_at: match status {
                    Status::Pending => due.map(timestamp),
                    _ => None,
                },
                reason: reason.map(Reason::new),
            })
        })?
        .collect()
}

/// The body of the event in this row; empty where it is gone.
pub fn body(store: &Connection, row: i64) -> Result<Vec<u8>> {
    let body = store
        .prepare_cached("SELECT body FROM events WHERE row = ?1")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    Ok(body.unwrap_or_default())
}

/// The id of the event in this row, where there is one.
pub fn id_in(store: &Connection, row: i64) -> Result<Option<Uuid>> {
    store
        .prepare_cached("SELECT id FROM events WHERE row = ?1")?
        .query_row([row], |found| found.get(0).map(Uuid::from_bytes))
        .optional()
}
