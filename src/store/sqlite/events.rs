//! The SQL of the events' table: its rows are written once and never changed.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uuid::Uuid;

use super::rows::timestamp;
use crate::event::{Event, EventId, NewEvent, Outcome};
use crate::request::{KeptHead, SourceName};

/// JSON of `list`, or nothing where it is empty.
fn json_list<T: serde::Serialize>(list: &[T]) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    serde_json::to_string(list).ok()
}

/// Writes the event's row.
pub fn insert_event(tx: &Connection, row: i64, id: Uuid, at: i64, event: &NewEvent) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO events (row, id, fingerprint, received_at, source, type, outcome, event_time,
            user_id, media_id, job_id, verified, query, headers, peer, notes, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?
    .execute(params![
        row,
        id.as_bytes(),
        &event.fingerprint,
        at,
        event.source.as_str(),
        event.event_type,
        event.outcome.as_str(),
        event.event_time,
        event.user_id,
        event.media_id,
        event.job_id,
        serde_json::to_string(&event.verified).unwrap_or_default(),
        event.head.query,
        json_list(&event.head.headers),
        event.head.peer.map(|peer| peer.to_string()),
        json_list(&event.notes),
        &event.body[..],
    ])?;
    Ok(())
}

/// The columns that [`read_event`] wants, in its order.
macro_rules! select_event {
    ($condition:literal) => {
        concat!(
            "SELECT row, id, fingerprint, received_at, source, type, outcome, event_time, ",
            "user_id, media_id, job_id, verified, query, headers, peer, notes, body ",
            "FROM events WHERE ",
            $condition
        )
    };
}
pub(in crate::store::sqlite) use select_event;

/// The event of a row that is known to be there.
pub fn load_event(tx: &Connection, row: i64) -> Result<Event> {
    tx.prepare_cached(select_event!("row = ?1"))?
        .query_row([row], read_event)
}

/// The event with this public id.
pub fn find_event(tx: &Connection, id: EventId) -> Result<Option<Event>> {
    tx.prepare_cached(select_event!("id = ?1"))?
        .query_row([id.0.as_bytes()], read_event)
        .optional()
}

/// What a JSON column holds, or nothing where it holds nothing readable.
pub fn from_json<T: serde::de::DeserializeOwned + Default>(text: Option<String>) -> T {
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// The outcome that a word stands for.
pub fn outcome(word: &str) -> Outcome {
    match word {
        "succeeded" => Outcome::Succeeded,
        "failed" => Outcome::Failed,
        _ => Outcome::Other,
    }
}

/// The event of a row that [`select_event`] selects.
pub fn read_event(row: &Row<'_>) -> Result<Event> {
    let verified: String = row.get(11)?;
    let verified = serde_json::from_str(&verified).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(11, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let outcome: String = row.get(6)?;
    let source: String = row.get(4)?;
    let peer: Option<String> = row.get(14)?;
    Ok(Event {
        row: row.get(0)?,
        id: EventId(Uuid::from_bytes(row.get(1)?)),
        received_at: timestamp(row.get(3)?),
        content: NewEvent {
            source: SourceName::from_store(&source),
            event_type: row.get(5)?,
            event_time: row.get(7)?,
            user_id: row.get(8)?,
            outcome: self::outcome(&outcome),
            media_id: row.get(9)?,
            job_id: row.get(10)?,
            verified,
            head: KeptHead {
                query: row.get(12)?,
                headers: from_json(row.get(13)?),
                peer: peer.and_then(|peer| peer.parse().ok()),
            },
            body: row.get::<_, Vec<u8>>(16)?.into(),
            fingerprint: row.get(2)?,
            notes: from_json(row.get(15)?),
        },
    })
}
