//! New rounds for deliveries, and their end for what nobody waits for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::columns::{ATTEMPTS_MAX, status, text};
use super::rows::{millis, status_code};
use super::tally::Effects;
use super::{SqliteStore, roster};
use crate::delivery::Status;
use crate::event::EventId;
use crate::request::HandlerName;
use crate::store::StoreError;
use crate::store::archive::{Archive, Page, Redeliver, Redelivered, Redelivery};

/// Deliveries changed by one commit: few enough that no ack notices.
const BATCH: u64 = 256;

/// Events asked for at once.
const PAGE: u32 = 256;

/// A call that has worked this long says where to go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a discarded delivery is dead.
const DISCARDED: &str = "discarded";

/// Which deliveries of an event get a new round, and when it begins.
#[derive(Clone)]
struct Rounds {
    handlers: Option<Vec<HandlerName>>,
    /// Only deliveries that stand like this, any of these.
    statuses: Option<Vec<Status>>,
    /// Only deliveries for this handler.
    only: Option<HandlerName>,
    now: Timestamp,
    first_due: Timestamp,
    spacing: Duration,
}

/// What has been done so far.
#[derive(Clone, Copy, Default)]
struct Done {
    events: u64,
    deliveries: u64,
    running: u64,
}

impl Rounds {
    fn of(what: &Redeliver, now: Timestamp) -> Self {
        let (statuses, only) = match &what.events {
            Redelivery::One(_) => (None, None),
            Redelivery::Matching(filter, _) => (filter.statuses.clone(), filter.handler.clone()),
        };
        Self {
            handlers: what.handlers.clone(),
            statuses,
            only,
            now,
            first_due: what.first_due,
            spacing: what.spacing,
        }
    }

    fn concerns(&self, handler: &HandlerName, status: Status) -> bool {
        let named = self.handlers.as_ref();
        let asked = self.statuses.as_ref();
        named.is_none_or(|names| names.contains(handler))
            && self.only.as_ref().is_none_or(|only| only == handler)
            && asked.is_none_or(|statuses| statuses.contains(&status))
    }

    /// The named handlers that may get a delivery which they do not have. A
    /// filter over deliveries asks for such as there are.
    fn new_handlers(&self) -> &[HandlerName] {
        match (&self.handlers, &self.statuses, &self.only) {
            (Some(names), None, None) => names,
            _ => &[],
        }
    }

    /// When the delivery is due that follows on `before` others.
    fn due(&self, before: u64) -> Timestamp {
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let later = self.spacing.saturating_mul(before);
        self.first_due.checked_add(later).unwrap_or(Timestamp::MAX)
    }
}

impl SqliteStore {
    /// What [`Archive::redeliver`] promises.
    pub(super) async fn new_rounds(
        &self,
        what: &Redeliver,
        now: Timestamp,
    ) -> std::result::Result<Redelivered, StoreError> {
        let rounds = Rounds::of(what, now);
        let mut done = Done::default();
        let mut next = None;
        match &what.events {
            Redelivery::One(id) => {
                done = self
                    .rounds_of(vec![*id], &rounds, what.dry_run, done)
                    .await?;
            }
            Redelivery::Matching(filter, page) => {
                let started = Instant::now();
                let mut left = page.limit;
                let mut after = page.after;
                while left > 0 {
                    let page = Page {
                        limit: left.min(PAGE),
                        after,
                    };
                    let found = self.events(filter, page).await?;
                    let ids: Vec<EventId> = found.events.iter().map(|event| event.id).collect();
                    left = left.saturating_sub(ids.len() as u32);
                    done = self.rounds_of(ids, &rounds, what.dry_run, done).await?;
                    (after, next) = (found.next, found.next);
                    if next.is_none() || started.elapsed() > PATIENCE {
                        break;
                    }
                }
            }
        }
        Ok(Redelivered {
            events: done.events,
            deliveries: done.deliveries,
            running: done.running,
            next,
            next_due: rounds.due(done.deliveries),
        })
    }

    /// Opens new rounds for the events with these ids, in their order, a commit
    /// for every few.
    async fn rounds_of(
        &self,
        ids: Vec<EventId>,
        rounds: &Rounds,
        dry_run: bool,
        mut done: Done,
    ) -> std::result::Result<Done, StoreError> {
        let ids = Arc::new(ids);
        let mut at = 0;
        while at < ids.len() {
            let (ids, rounds, before) = (Arc::clone(&ids), rounds.clone(), done);
            let step = move |connection: &Connection, mut effects: Option<&mut Effects>| {
                let mut done = before;
                let mut at = at;
                while at < ids.len() && done.deliveries - before.deliveries < BATCH {
                    let effects = effects.as_deref_mut();
                    round_of_event(connection, ids[at], &rounds, &mut done, effects)?;
                    at += 1;
                }
                Ok((at, done))
            };
            (at, done) = if dry_run {
                self.readers
                    .read(move |connection| step(connection, None))
                    .await?
            } else {
                self.in_commit(move |tx, effects| step(tx, Some(effects)))
                    .await?
            };
        }
        Ok(done)
    }

    /// What [`Archive::discard`] promises.
    pub(super) async fn give_up(
        &self,
        handler: &HandlerName,
    ) -> std::result::Result<u64, StoreError> {
        let mut discarded = 0;
        loop {
            let name = handler.clone();
            let step = self
                .in_commit(move |tx, effects| discard(tx, &name, effects))
                .await?;
            discarded += step;
            if step < BATCH {
                return Ok(discarded);
            }
        }
    }
}

/// Opens the rounds of one event; without `effects` they are only counted.
fn round_of_event(
    connection: &Connection,
    id: EventId,
    rounds: &Rounds,
    done: &mut Done,
    mut effects: Option<&mut Effects>,
) -> Result<()> {
    let event: Option<i64> = connection
        .prepare_cached("SELECT row FROM events WHERE id = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    // It may have been removed since it was found.
    let Some(event) = event else { return Ok(()) };
    let deliveries: Vec<(HandlerName, Status)> = connection
        .prepare_cached("SELECT handler, status FROM deliveries WHERE event = ?1 ORDER BY handler")?
        .query_map([event], |row| {
            let name = text(row, 0)?.unwrap_or_default();
            Ok((HandlerName::from_store(&name), status(row, 1)?))
        })?
        .collect::<Result<_>>()?;
    let before = done.deliveries;
    for (handler, status) in &deliveries {
        if !rounds.concerns(handler, *status) {
            continue;
        }
        if *status == Status::Running {
            done.running += 1;
            continue;
        }
        if let Some(effects) = effects.as_deref_mut() {
            let due = rounds.due(done.deliveries);
            begin_round(connection, event, handler, due.max(rounds.now), due)?;
            let unfinished = i64::from(status.is_final());
            let dead = i64::from(*status == Status::Dead);
            effects.count(handler, unfinished, -dead);
            effects.reopened(event);
            effects.wrote();
        }
        done.deliveries += 1;
    }
    for handler in rounds.new_handlers() {
        if deliveries.iter().any(|(known, _)| known == handler) {
            continue;
        }
        if let Some(effects) = effects.as_deref_mut() {
            let due = rounds.due(done.deliveries);
            roster::introduce(connection, handler, millis(rounds.now))?;
            super::rows::insert_delivery(connection, event, handler, millis(due), None)?;
            begin_round(connection, event, handler, due.max(rounds.now), due)?;
            effects.count(handler, 1, 0);
            effects.reopened(event);
            effects.wrote();
        }
        done.deliveries += 1;
    }
    done.events += u64::from(done.deliveries > before);
    Ok(())
}

/// Has a delivery due at `due` as if it had never been tried, but for its
/// history and the numbers of its attempts. The reason goes: it is that of the
/// round before, which the history tells. A count that is none, from which no
/// attempt could go on, is taken from the history.
fn begin_round(
    tx: &Connection,
    event: i64,
    handler: &HandlerName,
    age_from: Timestamp,
    due: Timestamp,
) -> Result<()> {
    tx.prepare_cached(
        "UPDATE deliveries SET status = 0, failed = 0, lost = 0, worker = NULL, due = ?1,
            age_from = ?2, reason = NULL,
            attempts = CASE WHEN typeof(attempts) = 'integer' AND attempts BETWEEN 0 AND ?5
                THEN attempts
                ELSE (SELECT coalesce(max(attempt), 0) FROM attempts
                      WHERE event = ?3 AND handler = ?4 AND attempt BETWEEN 1 AND ?5) END
         WHERE event = ?3 AND handler = ?4",
    )?
    .execute(params![
        millis(due),
        millis(age_from),
        event,
        handler.as_str(),
        ATTEMPTS_MAX
    ])?;
    Ok(())
}

/// Gives up some of what is pending for `handler`; answers how many.
fn discard(tx: &Connection, handler: &HandlerName, effects: &mut Effects) -> Result<u64> {
    let pending: Vec<i64> = tx
        .prepare_cached(
            "SELECT event FROM deliveries
             WHERE handler = ?1 AND due IS NOT NULL AND status = ?2 LIMIT ?3",
        )?
        .query_map(
            params![
                handler.as_str(),
                status_code(Status::Pending),
                BATCH.cast_signed()
            ],
            |row| row.get(0),
        )?
        .collect::<Result<_>>()?;
    for event in &pending {
        tx.prepare_cached(
            "UPDATE deliveries SET status = ?1, due = NULL, worker = NULL, reason = ?2
             WHERE event = ?3 AND handler = ?4",
        )?
        .execute(params![
            status_code(Status::Dead),
            DISCARDED,
            event,
            handler.as_str()
        ])?;
    }
    let discarded = pending.len() as i64;
    if discarded > 0 {
        effects.count(handler, -discarded, discarded);
        effects.wrote();
    }
    Ok(discarded.cast_unsigned())
}
