//! Events that another store exported, put in with their ids and times.
//!
//! They get row numbers of this store, so rows no longer follow the order of
//! ids; whatever needs the order of time goes by the id.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, params};
use uuid::Uuid;

use super::ids::Ids;
use super::rows::{self, RUNNING, millis, status_code};
use super::tally::Effects;
use super::{SqliteStore, events, roster};
use crate::delivery::Status;
use crate::event::{EventId, Fingerprint, fingerprint};
use crate::store::archive::Imported;
use crate::store::{DeliveryHistory, History, StoreError};

/// Events put in by one commit …
const BATCH: usize = 64;
/// … and bytes of their bodies, where it is more than one event.
const BATCH_BYTES: usize = 1 << 20;

impl SqliteStore {
    /// What [`Archive::import`](crate::store::Archive::import) promises.
    pub(super) async fn take_in(
        &self,
        events: Vec<History>,
    ) -> std::result::Result<Imported, StoreError> {
        let now = self.clock.now();
        for history in &events {
            plausible(history, now).map_err(StoreError::Rejected)?;
        }
        let events: Arc<Vec<History>> = Arc::new(events);
        let mut imported = Imported::default();
        let mut from = 0;
        while from < events.len() {
            let to = from + batch(&events[from..]);
            let all = Arc::clone(&events);
            let put_in = self
                .in_commit(move |tx, effects| put_in(tx, &all[from..to], millis(now), effects))
                .await?
                .map_err(StoreError::Rejected)?;
            imported.added += put_in.added;
            imported.known += put_in.known;
            from = to;
        }
        Ok(imported)
    }
}

/// How many of the first events go into one commit.
fn batch(events: &[History]) -> usize {
    let mut bytes = 0;
    let fits = |history: &&History| {
        bytes += history.event.content.body.len();
        bytes <= BATCH_BYTES
    };
    events.iter().take(BATCH).take_while(fits).count().max(1)
}

/// Ids say when an event was stored, and searches and retention go by that. One
/// of the future would drive all later ids there.
fn plausible(history: &History, now: Timestamp) -> std::result::Result<(), String> {
    let event = &history.event;
    let stored = millis(event.received_at);
    if event.id.0.get_version_num() != 7 || Ids::time(event.id.0) != stored {
        return Err(format!(
            "the id of {} does not say when it was received ({})",
            event.id, event.received_at
        ));
    }
    if stored > millis(now) {
        return Err(format!(
            "{} was received at {}, which is in the future by this machine's clock",
            event.id, event.received_at
        ));
    }
    Ok(())
}

/// Puts in what is not there, or nothing and why.
fn put_in(
    tx: &Connection,
    histories: &[History],
    now: i64,
    effects: &mut Effects,
) -> Result<std::result::Result<Imported, String>> {
    let mut imported = Imported::default();
    let mut fresh: Vec<(&History, Fingerprint)> = Vec::new();
    let mut prints: HashMap<EventId, Fingerprint> = HashMap::new();
    for history in histories {
        let id = history.event.id;
        // What an export says of its body is not believed.
        let print = fingerprint(&history.event.content.body);
        let known = match prints.get(&id) {
            Some(known) => Some(*known),
            None => fingerprint_of(tx, id.0)?,
        };
        match known {
            None => fresh.push((history, print)),
            Some(known) if known == print => imported.known += 1,
            Some(_) => return Ok(Err(format!("{id} is here already, with another body"))),
        }
        prints.insert(id, print);
    }
    for (history, print) in fresh {
        put_in_one(tx, history, print, now, effects)?;
        imported.added += 1;
    }
    Ok(Ok(imported))
}

fn fingerprint_of(tx: &Connection, id: Uuid) -> Result<Option<Fingerprint>> {
    tx.prepare_cached("SELECT fingerprint FROM events INDEXED BY events_by_id WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
}

fn put_in_one(
    tx: &Connection,
    history: &History,
    print: Fingerprint,
    now: i64,
    effects: &mut Effects,
) -> Result<()> {
    let row = effects.next_row();
    let mut content = history.event.content.clone();
    content.fingerprint = print;
    let at = millis(history.event.received_at);
    events::insert_event(tx, row, history.event.id.0, at, &content)?;
    effects.wrote();
    effects.remember(print, row, at);
    if history.duplicates > 0 {
        let count = i64::try_from(history.duplicates).unwrap_or(i64::MAX);
        tx.prepare_cached("INSERT INTO duplicates (event, count) VALUES (?1, ?2)")?
            .execute([row, count])?;
    }
    for delivery in &history.deliveries {
        put_in_delivery(tx, row, delivery, now, effects)?;
    }
    Ok(())
}

/// What was running was so elsewhere: it is due here.
fn put_in_delivery(
    tx: &Connection,
    row: i64,
    delivery: &DeliveryHistory,
    now: i64,
    effects: &mut Effects,
) -> Result<()> {
    let handler = &delivery.handler;
    let status = match delivery.status {
        Status::Running => Status::Pending,
        other => other,
    };
    let due = match (status, delivery.next_at) {
        (Status::Pending, Some(at)) => Some(millis(at).min(RUNNING - 1)),
        (Status::Pending, None) => Some(now),
        _ => None,
    };
    roster::introduce(tx, handler, now)?;
    let written = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO deliveries
                (event, handler, status, attempts, failed, lost, due, age_from, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8)",
        )?
        .execute(params![
            row,
            handler.as_str(),
            status_code(status),
            delivery.attempts,
            delivery.failed,
            due,
            delivery.age_from.map(millis),
            delivery.reason.as_ref().map(|reason| reason.as_str()),
        ])?;
    if written == 0 {
        // The same handler twice: the first one counts.
        return Ok(());
    }
    match status {
        Status::Pending => {
            effects.count(handler, 1, 0);
            effects.due();
        }
        Status::Dead => effects.count(handler, 0, 1),
        Status::Running | Status::Succeeded => {}
    }
    for attempt in &delivery.history {
        rows::import_attempt(tx, row, handler, attempt)?;
    }
    Ok(())
}
