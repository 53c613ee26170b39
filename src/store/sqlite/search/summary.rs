//! An event as a list shows it, read without its body.

use rusqlite::{Connection, OptionalExtension, Result, Row};
use uuid::Uuid;

use super::super::columns::{count, cut_text, number, status, text};
use super::super::events::{from_json, outcome};
use super::super::rows::timestamp;
use crate::delivery::{Reason, Status};
use crate::event::{EventId, ID_BYTES_MAX};
use crate::request::{HandlerName, SourceName};
use crate::store::archive::{DeliverySummary, EventSummary};

/// The event in this row, where there is one. The length of a body is in the
/// row's head, so even that does not read it. Longer ids than are taken today
/// may be there from earlier releases; they are cut.
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
    let duplicates = store
        .prepare_cached("SELECT count FROM duplicates WHERE event = ?1")?
        .query_row([row], |row| number(row, 0))
        .optional()?;
    let duplicates = duplicates.flatten().unwrap_or(0).max(0);
    summary.duplicates = duplicates.cast_unsigned();
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
        event_time: cut_text(row, 4, ID_BYTES_MAX)?,
        user_id: cut_text(row, 5, ID_BYTES_MAX)?,
        outcome: outcome(&word),
        media_id: cut_text(row, 7, ID_BYTES_MAX)?,
        job_id: cut_text(row, 8, ID_BYTES_MAX)?,
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
            let name = text(row, 0)?.unwrap_or_default();
            let status = status(row, 1)?;
            let due = number(row, 3)?;
            Ok(DeliverySummary {
                handler: HandlerName::from_store(&name),
                status,
                attempts: count(row, 2)?,
                next_at: match status {
                    Status::Pending => due.map(timestamp),
                    _ => None,
                },
                reason: text(row, 4)?.map(Reason::new),
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
