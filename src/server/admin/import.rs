//! Events into this store, out of an export of another one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as AxumBody;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::info;
use utoipa::ToSchema;

use super::AdminState;
use super::input;
use super::query::{Nothing, Query};
use super::views::Problem;
use crate::delivery::{
    Attempt, AttemptResult, HISTORY_FIRST, HISTORY_LAST, Reason, Report, Status,
};
use crate::event::{self, EVENT_TYPE_BYTES_MAX, Event, EventId, ID_BYTES_MAX, NewEvent, Outcome};
use crate::request::{HandlerName, KeptHead, SourceName};
use crate::server::error::Rejection;
use crate::signature::Verified;
use crate::store::{DeliveryHistory, History, StoreError};

/// Imports at the same time: each may hold its body several times over.
const IMPORTS_MAX: usize = 2;
const BYTES_MAX: usize = 8 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(40);
/// Deliveries of one event: twice as many as a configuration has handlers, whose
/// names may change while an event is kept.
const DELIVERIES_MAX: usize = 512;
/// Attempts of one delivery, as many as a history keeps.
const HISTORY_MAX: usize = (HISTORY_FIRST + HISTORY_LAST) as usize;
/// An attempt every second for eleven days: more can only be a mistake, and a
/// count near its end could not be gone on from.
const ATTEMPTS_MAX: u32 = 1_000_000;
/// Notes of one event, and bytes of one of them: more than are ever made here.
const NOTES_MAX: usize = 32;
const NOTE_BYTES_MAX: usize = 1_024;

/// Room for the imports at work.
#[derive(Debug)]
pub(super) struct Places(Semaphore);

impl Default for Places {
    fn default() -> Self {
        Self(Semaphore::new(IMPORTS_MAX))
    }
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
struct Imported {
    /// Events that are new here.
    added: u64,
    /// Events that were here already, and were left as they are.
    known: u64,
}

/// Puts events back that `/api/export` wrote, here or elsewhere. What is
/// there already stays as it is, so that an import can be repeated. A request
/// with a line that cannot be read, or an event that cannot be put in, changes
/// nothing.
#[utoipa::path(
    post,
    path = "/api/import",
    operation_id = "import_events",
    tag = "events",
    request_body(content = String, content_type = "application/x-ndjson", description = "Lines of an export; at most 8 MiB a request"),
    responses(
        (status = 200, description = "What was done", body = Imported),
        (status = 400, description = "A line cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "An id is there with another body, or there would be too many handlers", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn import(
    State(state): State<Arc<AdminState>>,
    _: Query<Nothing>,
    body: AxumBody,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    let place = state.imports.0.try_acquire();
    let _place =
        place.map_err(|_| Rejection::Busy("as many imports run as can: try again later"))?;
    let body = input::read(body, BYTES_MAX, DEADLINE).await?;
    let events = spawn_blocking(move || read_lines(&body)).await;
    let events = events.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let events = events.map_err(Rejection::BadRequest)?;
    let imported = match state.archive()?.import(events).await {
        Err(StoreError::Rejected(problem)) => return Err(Rejection::Conflict(problem)),
        other => other?,
    };
    let (added, known) = (imported.added, imported.known);
    info!(added, known, "events were imported");
    Ok(axum::Json(Imported { added, known }))
}

fn read_lines(body: &[u8]) -> Result<Vec<History>, String> {
    let mut events = Vec::new();
    for (at, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let read = serde_json::from_slice::<ImportedEvent>(line)
            .map_err(|error| error.to_string())
            .and_then(ImportedEvent::history);
        match read {
            Ok(history) => events.push(history),
            Err(problem) => return Err(format!("line {}: {problem}", at + 1)),
        }
    }
    Ok(events)
}

/// A line of an export. `body` is left alone: `body_base64` is always there,
/// and is the body byte for byte.
#[derive(Debug, Deserialize)]
struct ImportedEvent {
    id: EventId,
    source: String,
    r#type: String,
    event_time: Option<String>,
    user_id: Option<String>,
    outcome: Outcome,
    media_id: Option<String>,
    job_id: Option<String>,
    received_at: Timestamp,
    duplicates: u32,
    verified: Verified,
    query: Option<String>,
    headers: BTreeMap<String, String>,
    peer: Option<IpAddr>,
    notes: Vec<String>,
    body_base64: String,
    deliveries: Vec<ImportedDelivery>,
}

#[derive(Debug, Deserialize)]
struct ImportedDelivery {
    handler: String,
    status: Status,
    attempts: u32,
    next_at: Option<Timestamp>,
    reason: Option<String>,
    #[serde(default)]
    failed: u32,
    age_from: Option<Timestamp>,
    history: Vec<ImportedAttempt>,
}

#[derive(Debug, Deserialize)]
struct ImportedAttempt {
    attempt: u32,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    result: AttemptResult,
    reason: Option<String>,
    report: Report,
}

impl ImportedEvent {
    /// Leaves out what is too long to be an id, with the note that a callback
    /// gets. An earlier release took it; the body has it still.
    fn drop_long_ids(&mut self) {
        for (name, id) in [
            ("EventTime", &mut self.event_time),
            ("UserId", &mut self.user_id),
            ("MediaId", &mut self.media_id),
            ("JobId", &mut self.job_id),
        ] {
            if let Some(long) = id.take_if(|id| id.len() > ID_BYTES_MAX) {
                self.notes.push(event::too_long(name, long.len()));
            }
        }
    }

    fn history(mut self) -> Result<History, String> {
        if self.id.0.get_version_num() != 7 {
            return Err("`id` is no UUIDv7".to_owned());
        }
        if !(1..=EVENT_TYPE_BYTES_MAX).contains(&self.r#type.len()) {
            return Err(format!(
                "`type` is not 1 to {EVENT_TYPE_BYTES_MAX} bytes long"
            ));
        }
        if self.deliveries.len() > DELIVERIES_MAX {
            return Err(format!("`deliveries` are more than {DELIVERIES_MAX}"));
        }
        let too_long = |note: &String| note.len() > NOTE_BYTES_MAX;
        if self.notes.len() > NOTES_MAX || self.notes.iter().any(too_long) {
            return Err(format!(
                "`notes` are more than {NOTES_MAX}, or longer than {NOTE_BYTES_MAX} bytes"
            ));
        }
        self.drop_long_ids();
        let body = BASE64.decode(&self.body_base64);
        let body = Bytes::from(body.map_err(|error| format!("`body_base64`: {error}"))?);
        let deliveries = self.deliveries.into_iter();
        let deliveries: Result<Vec<_>, _> = deliveries.map(ImportedDelivery::history).collect();
        let mut deliveries = deliveries?;
        deliveries.sort_by(|one, other| one.handler.cmp(&other.handler));
        if deliveries.is_sorted_by(|one, other| one.handler < other.handler) {
            let event = Event {
                id: self.id,
                row: 0,
                received_at: self.received_at,
                content: NewEvent {
                    source: SourceName::new(&self.source).map_err(|error| error.to_string())?,
                    event_type: self.r#type,
                    event_time: self.event_time,
                    user_id: self.user_id,
                    outcome: self.outcome,
                    media_id: self.media_id,
                    job_id: self.job_id,
                    verified: self.verified,
                    head: KeptHead {
                        query: self.query,
                        headers: self.headers.into_iter().collect(),
                        peer: self.peer,
                    },
                    fingerprint: event::fingerprint(&body),
                    body,
                    notes: self.notes,
                },
            };
            Ok(History {
                event,
                duplicates: self.duplicates.into(),
                deliveries,
            })
        } else {
            Err("two deliveries are for the same handler".to_owned())
        }
    }
}

impl ImportedDelivery {
    /// Refuses counts that no store exports.
    fn check(&self) -> Result<(), String> {
        let Self {
            attempts, failed, ..
        } = *self;
        if attempts > ATTEMPTS_MAX {
            return Err(format!(
                "`attempts` is {attempts}, more than {ATTEMPTS_MAX}"
            ));
        }
        if failed > attempts {
            return Err(format!("`failed` is {failed}, more than `attempts`"));
        }
        if self.history.len() > HISTORY_MAX {
            return Err(format!("`history` has more than {HISTORY_MAX} attempts"));
        }
        let mut last = 0;
        for ImportedAttempt { attempt, .. } in &self.history {
            if *attempt <= last || *attempt > attempts {
                return Err(format!(
                    "`attempt` {attempt} of `history` stands after {last}; they grow from 1 up to `attempts` ({attempts})"
                ));
            }
            last = *attempt;
        }
        Ok(())
    }

    fn history(self) -> Result<DeliveryHistory, String> {
        let handler = HandlerName::new(&self.handler).map_err(|error| error.to_string())?;
        self.check()
            .map_err(|problem| format!("the delivery for {handler}: {problem}"))?;
        Ok(DeliveryHistory {
            handler,
            status: self.status,
            attempts: self.attempts,
            next_at: self.next_at,
            reason: self.reason.map(Reason::new),
            failed: self.failed,
            age_from: self.age_from,
            history: self
                .history
                .into_iter()
                .map(ImportedAttempt::attempt)
                .collect(),
        })
    }
}

impl ImportedAttempt {
    fn attempt(self) -> Attempt {
        Attempt {
            attempt: self.attempt,
            started_at: self.started_at,
            ended_at: self.ended_at,
            result: self.result,
            reason: self.reason.map(Reason::new),
            report: self.report,
        }
    }
}
