//! The reading side: a few connections on blocking threads, each used for one
//! short read at a time, so that no checkpoint waits for long.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, Result, params};
use tokio::sync::Semaphore;

use super::columns::{count, is_unreadable, number, status, tell_left_out, text};
use super::events::find_event;
use super::open::open_reader;
use super::rows::{attempt_result, timestamp};
use super::search::{body, summary};
use super::{queue, readable};
use crate::delivery::{Attempt, Reason, Report};
use crate::event::EventId;
use crate::request::HandlerName;
use crate::store::archive::{Tail, TailPosition};
use crate::store::{DeliveryHistory, History, StoreError};

/// Bytes of bodies that one look at the tail gives.
const TAIL_BYTES_MAX: usize = 16 << 20;

/// Events beside those it gives that one look at the tail counts exactly.
const TAIL_COUNTED_MAX: i64 = 100_000;

/// Reads at the same time.
const READERS_MAX: usize = 4;

/// Connections that nobody uses just now.
#[derive(Default)]
struct Idle {
    /// Counts the times that the file was opened afresh.
    generation: u64,
    connections: Vec<Connection>,
}

/// The pool of readers.
pub struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

impl Readers {
    /// A pool over the file at `path`; connections are opened as they are needed.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            places: Arc::new(Semaphore::new(READERS_MAX)),
            idle: Arc::default(),
        }
    }

    /// Runs `read` on a reader, inside one read transaction.
    pub async fn read<T, F>(&self, read: F) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return Err(queue::closed());
        };
        let idle = Arc::clone(&self.idle);
        let path = self.path.clone();
        let result = tokio::task::spawn_blocking(move || {
            let _place = place;
            let (generation, pooled) = {
                let mut idle = idle.lock().expect("a plain pop cannot panic");
                (idle.generation, idle.connections.pop())
            };
            let connection = match pooled {
                Some(connection) => connection,
                None => open_reader(&path)?,
            };
            let tx = connection.unchecked_transaction()?;
            let value = read(&tx)?;
            tx.finish()?;
            let mut idle = idle.lock().expect("a plain push cannot panic");
            if idle.generation == generation {
                idle.connections.push(connection);
            }
            Ok(value)
        })
        .await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error: rusqlite::Error = error;
                tracing::warn!(error = readable(&error), "the store could not be read");
                Err(StoreError::Unavailable(readable(&error)))
            }
            Err(error) => Err(StoreError::Unavailable(format!("a read ended: {error}"))),
        }
    }

    /// Has every connection opened afresh, because the file may not be the one
    /// it was. One that is at work is closed when it is done.
    pub fn renew(&self) {
        let mut idle = self.idle.lock().expect("a plain clear cannot panic");
        idle.generation += 1;
        idle.connections.clear();
    }

    /// Waits for the reads at work, lets no other in, and closes all.
    pub async fn close(&self) {
        let all = self.places.acquire_many(READERS_MAX as u32).await;
        self.places.close();
        self.renew();
        drop(all);
    }
}

/// The event with its deliveries and their attempts, or why it cannot be read
/// while others can.
pub fn history_of(
    connection: &Connection,
    id: EventId,
) -> Result<std::result::Result<Option<History>, StoreError>> {
    match history(connection, id) {
        Err(error) if is_unreadable(&error) => {
            let error = readable(&error);
            tracing::error!(
                %id,
                error,
                "an event cannot be read; `ims-receiver store check` says more"
            );
            Ok(Err(StoreError::Rejected(error)))
        }
        read => read.map(Ok),
    }
}

fn history(connection: &Connection, id: EventId) -> Result<Option<History>> {
    let Some(event) = find_event(connection, id)? else {
        return Ok(None);
    };
    let duplicates = connection
        .prepare_cached("SELECT count FROM duplicates WHERE event = ?1")?
        .query_row([event.row], |row| number(row, 0))
        .optional()?
        .flatten()
        .unwrap_or(0);
    let mut deliveries = connection
        .prepare_cached(
            "SELECT handler, status, attempts, due, reason, failed, age_from FROM deliveries
             WHERE event = ?1 ORDER BY handler",
        )?
        .query_map([event.row], |row| {
            let name = text(row, 0)?.unwrap_or_default();
            let status = status(row, 1)?;
            let due = number(row, 3)?;
            Ok(DeliveryHistory {
                handler: HandlerName::from_store(&name),
                status,
                attempts: count(row, 2)?,
                failed: count(row, 5)?,
                age_from: number(row, 6)?.map(timestamp),
                next_at: match status {
                    crate::delivery::Status::Pending => due.map(timestamp),
                    _ => None,
                },
                reason: text(row, 4)?.map(Reason::new),
                history: Vec::new(),
            })
        })?
        .collect::<Result<Vec<_>>>()?;
    for delivery in &mut deliveries {
        delivery.history = attempts(connection, event.row, delivery.handler.as_str())?;
    }
    Ok(Some(History {
        event,
        duplicates: duplicates.max(0).cast_unsigned(),
        deliveries,
    }))
}

fn attempts(connection: &Connection, event: i64, handler: &str) -> Result<Vec<Attempt>> {
    connection
        .prepare_cached(
            "SELECT attempt, started_at, ended_at, result, reason, report FROM attempts
             WHERE event = ?1 AND handler = ?2 ORDER BY attempt",
        )?
        .query_map(params![event, handler], |row| {
            let report = text(row, 5)?;
            Ok(Attempt {
                attempt: count(row, 0)?,
                started_at: timestamp(number(row, 1)?.unwrap_or(0)),
                ended_at: number(row, 2)?.map(timestamp),
                result: attempt_result(number(row, 3)?.unwrap_or(i64::MAX)),
                reason: text(row, 4)?.map(Reason::new),
                report: Report(report.and_then(|report| serde_json::from_str(&report).ok())),
            })
        })?
        .collect()
}

/// Where no more than this many deliveries of a handler are unfinished, all of
/// them are looked at.
const FEW: i64 = 1000;

/// The first event with an unfinished delivery of `handler`, and when the
/// oldest was received, which after an import may be another one. `unfinished`
/// is their number, and none is before the row `from`.
pub fn oldest(
    connection: &Connection,
    handler: &HandlerName,
    unfinished: i64,
    from: i64,
) -> Result<Option<(i64, i64)>> {
    if unfinished > FEW {
        return first(connection, handler, from);
    }
    let (row, at) = connection
        .prepare_cached(
            "SELECT min(d.event), min(e.received_at)
             FROM deliveries AS d INDEXED BY deliveries_open
             JOIN events AS e ON e.row = d.event
             WHERE d.handler = ?1 AND d.due IS NOT NULL",
        )?
        .query_row([handler.as_str()], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
    Ok(row.zip(at))
}

/// The first event from `from` on with an unfinished delivery of `handler`,
/// and when it was received. Walks along the primary key: where it stopped the
/// next search goes on, so that all of them together read each row once.
fn first(connection: &Connection, handler: &HandlerName, from: i64) -> Result<Option<(i64, i64)>> {
    connection
        .prepare_cached(
            "SELECT d.event, e.received_at FROM deliveries AS d NOT INDEXED
             JOIN events AS e ON e.row = d.event
             WHERE d.event >= ?1 AND d.handler = ?2 AND d.due IS NOT NULL
             ORDER BY d.event LIMIT 1",
        )?
        .query_row(params![from, handler.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

/// What was stored after `position`, at most `limit` events and so many bytes,
/// the newest.
pub fn tail(connection: &Connection, position: Option<TailPosition>, limit: u32) -> Result<Tail> {
    let newest: i64 = connection
        .prepare_cached("SELECT coalesce(max(row), 0) FROM events")?
        .query_row([], |row| row.get(0))?;
    let mut tail = Tail {
        events: Vec::new(),
        position: TailPosition(newest),
        skipped: 0,
    };
    let Some(TailPosition(from)) = position else {
        return Ok(tail);
    };
    let rows: Vec<(i64, i64)> = connection
        .prepare_cached(
            "SELECT row, length(body) FROM events WHERE row > ?1 ORDER BY row DESC LIMIT ?2",
        )?
        .query_map([from, i64::from(limit)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_>>()?;
    let mut bytes = 0;
    let mut oldest = newest + 1;
    for (row, length) in rows {
        bytes += usize::try_from(length).unwrap_or(usize::MAX / 2);
        if bytes > TAIL_BYTES_MAX {
            break;
        }
        let read = || -> Result<_> {
            let summary = summary(connection, row)?;
            Ok(summary.zip(Some(body(connection, row)?)))
        };
        match read() {
            Ok(found) => (tail.events).extend(found.map(|(event, body)| (event, body.into()))),
            Err(error) if is_unreadable(&error) => tell_left_out(row, &error),
            Err(error) => return Err(error),
        }
        oldest = row;
    }
    tail.events.reverse();
    // Numbers that were given to events that could not be stored are missing
    // between the rows, so they are counted; not for ever, though.
    let left_out: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM events WHERE row > ?1 AND row < ?2 LIMIT ?3)",
        )?
        .query_row([from, oldest, TAIL_COUNTED_MAX], |row| row.get(0))?;
    let left_out = if left_out == TAIL_COUNTED_MAX {
        oldest - from - 1
    } else {
        left_out
    };
    tail.skipped = left_out.cast_unsigned();
    Ok(tail)
}
