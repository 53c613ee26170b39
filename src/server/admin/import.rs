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
use crate::delivery::{Attempt, AttemptResult, Reason, Report, Status};
use crate::event::{self, EVENT_TYPE_BYTES_MAX, Event, EventId, NewEvent, Outcome};
use crate::request::{HandlerName, KeptHead, SourceName};
use crate::server::error::Rejection;
use crate::signature::Verified;
use crate::store::{DeliveryHistory, History, StoreError};

/// Imports at the same time: each may hold its body several times over.
const IMPORTS_MAX: usize = 2;
const BYTES_MAX: usize = 8 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(40);
/// Deliveries of one event, and attempts of one delivery.
const PARTS_MAX: usize = 1_000;

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
/// with a line that cannot be read changes nothing.
#[utoipa::path(
    post,
    path = "/api/import",
    operation_id = "import_events",
    tag = "events",
    request_body(content = String, content_type = "application/x-ndjson", description = "Lines of an export; at most 8 MiB a request"),
    responses(
        (status = 200, description = "What was done", body = Imported),
        (status = 400, description = "A line cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "An id is there with another body", body = Problem, content_type = "application/problem+json"),
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
    fn history(self) -> Result<History, String> {
        if self.id.0.get_version_num() != 7 {
            return Err("`id` is no UUIDv7".to_owned());
        }
        if !(1..=EVENT_TYPE_BYTES_MAX).contains(&self.r#type.len()) {
            return Err(format!(
                "`type` is not 1 to {EVENT_TYPE_BYTES_MAX} bytes long"
            ));
        }
        let parts = |delivery: &ImportedDelivery| delivery.history.len();
        let most = self.deliveries.iter().map(parts).max().unwrap_or(0);
        if self.deliveries.len().max(most) > PARTS_MAX {
            return Err(format!(
                "more than {PARTS_MAX} deliveries of the event, or attempts of a delivery"
            ));
        }
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
    fn history(self) -> Result<DeliveryHistory, String> {
        Ok(DeliveryHistory {
            handler: HandlerName::new(&self.handler).map_err(|error| error.to_string())?,
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
