//! Events that another store exported, put in with their ids and times.
//!
//! They get row numbers of this store, so rows no longer follow the order of
//! ids; whatever needs the order of time goes by the id.

use std::collections::{BTreeSet, HashMap};
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
/// … bytes of their bodies …
const BATCH_BYTES: usize = 1 << 20;
/// … and rows of their deliveries and attempts, where it is more than one event.
const BATCH_ROWS: usize = 1_000;

/// Names of handlers that imports may bring a store to: several times as many as
/// a configuration can have, and few enough to list, since a name stays.
const HANDLERS_MAX: usize = 1_000;

/// An event to put in.
struct Candidate {
    history: History,
    /// What tells its body from others. What an export says of it is not
    /// believed.
    print: Fingerprint,
}

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
        // All of them before the first commit, so that a refusal changes nothing.
        let judge = move |connection: &Connection| {
            let all: Vec<Candidate> = events.into_iter().map(Candidate::new).collect();
            Ok(sift(connection, &all)?.map(drop).map(|()| Arc::new(all)))
        };
        let all = self.readers.read(judge).await?;
        let all = all.map_err(StoreError::Rejected)?;
        let mut imported = Imported::default();
        let mut from = 0;
        while from < all.len() {
            let to = from + batch(&all[from..]);
            let part = Arc::clone(&all);
            let put_in = self
                .in_commit(move |tx, effects| put_in(tx, &part[from..to], millis(now), effects))
                .await?
                // Another import, or the line, was there first.
                .map_err(|why| match imported.added {
                    0 => StoreError::Rejected(why),
                    added => StoreError::Rejected(format!("{why}; {added} were added before it")),
                })?;
            imported.added += put_in.added;
            imported.known += put_in.known;
            from = to;
        }
        Ok(imported)
    }
}

impl Candidate {
    fn new(history: History) -> Self {
        let print = fingerprint(&history.event.content.body);
        Self { history, print }
    }

    fn rows(&self) -> usize {
        let deliveries = self.history.deliveries.iter();
        deliveries.map(|delivery| 1 + delivery.history.len()).sum()
    }
}

/// How many of the first events go into one commit.
fn batch(events: &[Candidate]) -> usize {
    let mut bytes = 0;
    let mut rows = 0;
    let fits = |one: &&Candidate| {
        bytes += one.history.event.content.body.len();
        rows += one.rows();
        bytes <= BATCH_BYTES && rows <= BATCH_ROWS
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
    events: &[Candidate],
    now: i64,
    effects: &mut Effects,
) -> Result<std::result::Result<Imported, String>> {
    let fresh = match sift(tx, events)? {
        Ok(fresh) => fresh,
        Err(why) => return Ok(Err(why)),
    };
    for one in &fresh {
        put_in_one(tx, one, now, effects)?;
    }
    Ok(Ok(Imported {
        added: fresh.len() as u64,
        known: (events.len() - fresh.len()) as u64,
    }))
}

/// The events that are not there, or why they cannot come in.
fn sift<'e>(
    connection: &Connection,
    events: &'e [Candidate],
) -> Result<std::result::Result<Vec<&'e Candidate>, String>> {
    let mut fresh = Vec::new();
    let mut prints: HashMap<EventId, Fingerprint> = HashMap::new();
    for one in events {
        let id = one.history.event.id;
        let known = match prints.get(&id) {
            Some(known) => Some(*known),
            None => fingerprint_of(connection, id.0)?,
        };
        match known {
            None => fresh.push(one),
            Some(known) if known == one.print => {}
            Some(_) => return Ok(Err(format!("{id} is here already, with another body"))),
        }
        prints.insert(id, one.print);
    }
    Ok(match too_many_handlers(connection, &fresh)? {
        Some(why) => Err(why),
        None => Ok(fresh),
    })
}

/// Why the handlers that these events name are more than the store takes.
fn too_many_handlers(connection: &Connection, events: &[&Candidate]) -> Result<Option<String>> {
    let deliveries = events.iter().flat_map(|one| &one.history.deliveries);
    let named: BTreeSet<&str> = deliveries.map(|one| one.handler.as_str()).collect();
    let mut is_known = connection.prepare_cached("SELECT 1 FROM handlers WHERE name = ?1")?;
    let mut new = 0;
    for name in named {
        new += i64::from(!is_known.exists([name])?);
    }
    if new == 0 {
        return Ok(None);
    }
    let known: i64 = connection
        .prepare_cached("SELECT count(*) FROM handlers")?
        .query_row([], |row| row.get(0))?;
    Ok((known + new > HANDLERS_MAX as i64).then(|| {
        format!(
            "the deliveries are for {new} handlers that are new here, and with the {known} that \
             are known these are more than the {HANDLERS_MAX} that imports may bring a store to"
        )
    }))
}

fn fingerprint_of(tx: &Connection, id: Uuid) -> Result<Option<Fingerprint>> {
    tx.prepare_cached("SELECT fingerprint FROM events INDEXED BY events_by_id WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
}

fn put_in_one(
    tx: &Connection,
    Candidate { history, print }: &Candidate,
    now: i64,
    effects: &mut Effects,
) -> Result<()> {
    let row = effects.next_row();
    let mut content = history.event.content.clone();
    content.fingerprint = *print;
    let at = millis(history.event.received_at);
    events::insert_event(tx, row, history.event.id.0, at, &content)?;
    effects.wrote();
    effects.remember(*print, row, at);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::store::conformance::{event, name};

    fn candidate(deliveries: usize, attempts: usize) -> Candidate {
        let attempt = crate::delivery::Attempt {
            attempt: 1,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: None,
            result: crate::delivery::AttemptResult::Failed,
            reason: None,
            report: crate::delivery::Report::default(),
        };
        let delivery = |n| DeliveryHistory {
            handler: name(&format!("h{n}")),
            status: Status::Pending,
            attempts: 1,
            failed: 0,
            age_from: None,
            next_at: None,
            reason: None,
            history: vec![attempt.clone(); attempts],
        };
        Candidate::new(History {
            event: Event {
                id: EventId(Uuid::nil()),
                row: 0,
                received_at: Timestamp::UNIX_EPOCH,
                content: event("one", "{}"),
            },
            duplicates: 0,
            deliveries: (0..deliveries).map(delivery).collect(),
        })
    }

    #[test]
    fn a_commit_is_bounded_by_all_that_it_writes() {
        let many = |deliveries, attempts| {
            let events: Vec<Candidate> =
                (0..100).map(|_| candidate(deliveries, attempts)).collect();
            batch(&events)
        };
        assert_eq!(many(1, 1), BATCH);
        assert_eq!(many(100, 0), 10);
        assert_eq!(many(10, 9), 10);
        // One event is never divided.
        assert_eq!(many(512, 25), 1);
    }
}
