//! The SQL of deliveries and attempts: one function per statement, nothing
//! decided here. Times are UNIX milliseconds.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Result, params};

use super::columns::{self, is_unreadable};
use super::events::load_event;
use super::tally::Effects;
use crate::delivery::{
    Attempt, AttemptResult, Delivery, DeliveryKey, HISTORY_FIRST, HISTORY_LAST, Settlement, Status,
    Verdict, WorkerId,
};
use crate::request::HandlerName;

/// The `due` of what is running: later than any time, so that claims pass it by.
pub const RUNNING: i64 = i64::MAX;

/// Why a delivery waits that has lost count.
const UNCOUNTED: &str = "its count of attempts is none; a redelivery counts anew";

/// How long a delivery waits that cannot be read.
const UNREADABLE_WAIT_MS: i64 = 15 * 60 * 1000;

/// A time as it is stored.
pub fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A stored time. What no clock can have written is taken as the epoch.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The number that stands for a status.
pub fn status_code(status: Status) -> i64 {
    match status {
        Status::Pending => 0,
        Status::Running => 1,
        Status::Succeeded => 2,
        Status::Dead => 3,
    }
}

/// The status that a number stands for.
pub fn status_of(code: i64) -> Status {
    match code {
        0 => Status::Pending,
        1 => Status::Running,
        2 => Status::Succeeded,
        _ => Status::Dead,
    }
}

fn result_code(result: AttemptResult) -> i64 {
    match result {
        AttemptResult::Succeeded => 0,
        AttemptResult::Failed => 1,
        AttemptResult::Stopped => 2,
        AttemptResult::Lost => 3,
    }
}

/// The result that a number stands for.
pub fn attempt_result(code: i64) -> AttemptResult {
    match code {
        0 => AttemptResult::Succeeded,
        1 => AttemptResult::Failed,
        2 => AttemptResult::Stopped,
        _ => AttemptResult::Lost,
    }
}

/// Writes a delivery, born running under `worker` or else pending and due at
/// `now`. Answers whether it is new: a handler never gets a second one.
pub fn insert_delivery(
    tx: &Connection,
    event: i64,
    handler: &HandlerName,
    now: i64,
    worker: Option<WorkerId>,
) -> Result<bool> {
    let (status, attempts, due) = match worker {
        Some(_) => (Status::Running, 1, RUNNING),
        None => (Status::Pending, 0, now),
    };
    let rows = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO deliveries
                (event, handler, status, attempts, failed, lost, worker, due, taken_at)
             VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6, ?7)",
        )?
        .execute(params![
            event,
            handler.as_str(),
            status_code(status),
            attempts,
            worker.map(|w| w.0),
            due,
            worker.map(|_| now),
        ])?;
    Ok(rows == 1)
}

/// Writes what an attempt led to. Answers whether the key still held; nothing
/// is written where it did not.
pub fn record(tx: &Connection, key: &DeliveryKey, settlement: &Settlement) -> Result<bool> {
    let ended_at = millis(settlement.ended_at);
    let (status, due, failed) = match settlement.verdict {
        Verdict::Succeeded => (Status::Succeeded, None, 0),
        Verdict::Dead => (Status::Dead, None, 1),
        Verdict::RetryAt(at) => (Status::Pending, Some(millis(at)), 1),
        Verdict::Stopped => (Status::Pending, Some(ended_at), 0),
        // Never begun: what was known of the attempts before stays known.
        Verdict::Returned => return give_back(tx, key, ended_at),
    };
    let reason = settlement.reason.as_ref().map(|reason| reason.as_str());
    let rows = tx
        .prepare_cached(
            "UPDATE deliveries SET status = ?1, due = ?2, failed = min(failed + ?3, attempts), lost = 0,
                worker = NULL, reason = ?4
             WHERE event = ?5 AND handler = ?6 AND status = 1 AND worker = ?7 AND attempts = ?8",
        )?
        .execute(params![
            status_code(status),
            due,
            failed,
            reason,
            key.row,
            key.handler.as_str(),
            key.worker.0,
            key.attempt,
        ])?;
    if rows == 0 {
        return Ok(false);
    }
    let result = match settlement.verdict {
        Verdict::Succeeded => AttemptResult::Succeeded,
        Verdict::RetryAt(_) | Verdict::Dead => AttemptResult::Failed,
        Verdict::Stopped | Verdict::Returned => AttemptResult::Stopped,
    };
    let report = settlement
        .report
        .0
        .as_ref()
        .map(|report| report.to_string());
    insert_attempt(
        tx,
        (key.row, key.handler.as_str(), key.attempt),
        millis(settlement.started_at),
        Some(ended_at),
        result,
        (reason, report.as_deref()),
    )?;
    Ok(true)
}

/// Has an attempt that was never begun due again, as if it had not been taken.
/// Answers whether the key still held.
fn give_back(tx: &Connection, key: &DeliveryKey, now: i64) -> Result<bool> {
    disown(
        tx,
        (key.row, key.handler.as_str(), key.attempt),
        key.worker,
        now,
    )
}

/// Gives the number of an attempt back that reached nobody. Answers whether the
/// delivery was still in that attempt.
pub fn disown(
    tx: &Connection,
    (event, handler, attempt): (i64, &str, u32),
    worker: WorkerId,
    now: i64,
) -> Result<bool> {
    let rows = tx
        .prepare_cached(
            "UPDATE deliveries SET status = 0, due = ?1, attempts = attempts - 1, worker = NULL
             WHERE event = ?2 AND handler = ?3 AND status = 1 AND worker = ?4 AND attempts = ?5",
        )?
        .execute(params![now, event, handler, worker.0, attempt])?;
    Ok(rows == 1)
}

/// Adds to the history and forgets what its bounds say: the first few and the
/// last few attempts stay.
fn insert_attempt(
    tx: &Connection,
    (event, handler, attempt): (i64, &str, u32),
    started_at: i64,
    ended_at: Option<i64>,
    result: AttemptResult,
    (reason, report): (Option<&str>, Option<&str>),
) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO attempts
            (event, handler, attempt, started_at, ended_at, result, reason, report)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        event,
        handler,
        attempt,
        started_at,
        ended_at,
        result_code(result),
        reason,
        report
    ])?;
    if attempt > HISTORY_FIRST + HISTORY_LAST {
        tx.prepare_cached(
            "DELETE FROM attempts
             WHERE event = ?1 AND handler = ?2 AND attempt > ?3 AND attempt <= ?4",
        )?
        .execute(params![
            event,
            handler,
            HISTORY_FIRST,
            attempt - HISTORY_LAST
        ])?;
    }
    Ok(())
}

/// Writes an attempt that another store kept.
pub fn import_attempt(
    tx: &Connection,
    event: i64,
    handler: &HandlerName,
    attempt: &Attempt,
) -> Result<()> {
    let report = attempt.report.0.as_ref().map(|report| report.to_string());
    let reason = attempt.reason.as_ref().map(|reason| reason.as_str());
    insert_attempt(
        tx,
        (event, handler.as_str(), attempt.attempt),
        millis(attempt.started_at),
        attempt.ended_at.map(millis),
        attempt.result,
        (reason, report.as_deref()),
    )
}

/// Takes at most `free` deliveries of `handler` that are due, oldest due
/// first. `returned_at` is when the handler's name last came back.
pub fn claim(
    tx: &Connection,
    handler: &HandlerName,
    free: u32,
    worker: WorkerId,
    now: i64,
    returned_at: Option<i64>,
    effects: &mut Effects,
) -> Result<Vec<Delivery>> {
    let due: Vec<(i64, Option<u32>, u32, Option<i64>)> = tx
        .prepare_cached(
            "SELECT event, attempts, failed, age_from FROM deliveries
             WHERE handler = ?1 AND due <= ?2 ORDER BY due LIMIT ?3",
        )?
        .query_map(params![handler.as_str(), now, free], |row| {
            let attempts = columns::attempts(row, 1)?;
            let failed = columns::count(row, 2)?;
            Ok((row.get(0)?, attempts, failed, columns::number(row, 3)?))
        })?
        .collect::<Result<_>>()?;
    let mut deliveries = Vec::with_capacity(due.len());
    for (row, attempts, failed, redelivered_at) in due {
        let Some(attempts) = attempts else {
            put_off(tx, row, handler, now, &UNCOUNTED, UNCOUNTED)?;
            effects.wrote();
            continue;
        };
        let event = match load_event(tx, row) {
            Ok(event) => event,
            // Written by a release that knew more, or damaged: it must not keep
            // the others from being claimed.
            Err(error) if is_unreadable(&error) => {
                put_off(tx, row, handler, now, &error, "its event cannot be read")?;
                effects.wrote();
                continue;
            }
            Err(error) => return Err(error),
        };
        tx.prepare_cached(
            "UPDATE deliveries SET status = 1, attempts = attempts + 1, worker = ?1, due = ?2,
                taken_at = ?3
             WHERE event = ?4 AND handler = ?5",
        )?
        .execute(params![worker.0, RUNNING, now, row, handler.as_str()])?;
        let age_from = [redelivered_at, returned_at]
            .into_iter()
            .flatten()
            .map(timestamp)
            .fold(event.received_at, Timestamp::max);
        deliveries.push(Delivery {
            event: Arc::new(event),
            handler: handler.clone(),
            worker,
            attempt: attempts + 1,
            // No more than there were, whatever an earlier release let in.
            failed: failed.min(attempts),
            age_from,
        });
    }
    Ok(deliveries)
}

/// Has a delivery that cannot be read wait for a program that can, or for
/// somebody who mends it.
fn put_off(
    tx: &Connection,
    row: i64,
    handler: &HandlerName,
    now: i64,
    error: &dyn Display,
    reason: &str,
) -> Result<()> {
    tracing::error!(
        row,
        handler = handler.as_str(),
        %error,
        "a delivery cannot be read and waits; `ims-receiver store check` says more"
    );
    tx.prepare_cached(
        "UPDATE deliveries SET due = ?1, reason = ?2 WHERE event = ?3 AND handler = ?4",
    )?
    .execute(params![
        now + UNREADABLE_WAIT_MS,
        reason,
        row,
        handler.as_str()
    ])?;
    Ok(())
}

/// When the next delivery of `handler` is due.
pub fn next_due(tx: &Connection, handler: &HandlerName) -> Result<Option<i64>> {
    tx.prepare_cached("SELECT min(due) FROM deliveries WHERE handler = ?1 AND due < ?2")?
        .query_row(params![handler.as_str(), RUNNING], |row| row.get(0))
}

/// The handlers with something unfinished: walks from name to name along the
/// index, whatever it holds for each of them.
pub fn names_with_open(tx: &Connection) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut next = tx.prepare_cached(
        "SELECT min(handler) FROM deliveries WHERE due IS NOT NULL AND handler > ?1",
    )?;
    loop {
        let after = names.last().map_or("", String::as_str);
        match next.query_row([after], |row| row.get(0))? {
            Some(name) => names.push(name),
            None => return Ok(names),
        }
    }
}

/// Closes what other workers left running of `handler` as lost and makes it
/// due again: at once, or after `backoff` where it was lost twice in a row.
pub fn take_over(
    tx: &Connection,
    handler: &str,
    worker: WorkerId,
    now: i64,
    backoff: Duration,
) -> Result<u64> {
    let left: Vec<(i64, Option<u32>, u32, i64)> = tx
        .prepare_cached(
            "SELECT event, attempts, lost, coalesce(taken_at, ?1) FROM deliveries
             WHERE handler = ?2 AND due = ?3 AND status = 1 AND worker <> ?4",
        )?
        .query_map(params![now, handler, RUNNING, worker.0], |row| {
            let attempts = columns::attempts(row, 1)?;
            let lost = columns::count(row, 2)?;
            let taken_at = columns::number(row, 3)?.unwrap_or(now);
            Ok((row.get(0)?, attempts, lost, taken_at))
        })?
        .collect::<Result<_>>()?;
    let backoff = i64::try_from(backoff.as_millis()).unwrap_or(i64::MAX / 4);
    for (event, attempt, lost, taken_at) in &left {
        let due = if *lost >= 1 { now + backoff } else { now };
        let reason = "lost with the process";
        tx.prepare_cached(
            "UPDATE deliveries SET status = 0, due = ?1, lost = min(lost + 1, ?5), worker = NULL,
                reason = ?2
             WHERE event = ?3 AND handler = ?4",
        )?
        .execute(params![due, reason, event, handler, u32::MAX])?;
        // One that has lost count is put off when it is claimed.
        let Some(attempt) = attempt else { continue };
        insert_attempt(
            tx,
            (*event, handler, *attempt),
            *taken_at,
            None,
            AttemptResult::Lost,
            (Some(reason), None),
        )?;
    }
    Ok(left.len() as u64)
}
