//! An event and what became of it, as `GET /api/events/{id}` shows it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::delivery::{Attempt, AttemptResult, Reason, Report, Status};
use crate::event::{EventId, Outcome, json};
use crate::request::{HandlerName, SourceName};
use crate::signature::Verified;
use crate::store::{DeliveryHistory, History};

/// The whole answer. The order of the fields is the order of the keys.
#[derive(Debug, Serialize)]
pub(super) struct HistoryView<'h> {
    id: EventId,
    source: &'h SourceName,
    r#type: &'h str,
    event_time: Option<&'h str>,
    user_id: Option<&'h str>,
    outcome: Outcome,
    media_id: Option<&'h str>,
    job_id: Option<&'h str>,
    received_at: Time,
    duplicates: u64,
    verified: &'h Verified,
    query: Option<&'h str>,
    headers: BTreeMap<&'h str, &'h str>,
    notes: &'h [String],
    /// The body as the JSON that was sent, numbers and keys untouched …
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'h RawValue>,
    /// … or in Base64, where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    deliveries: Vec<DeliveryView<'h>>,
}

impl<'h> HistoryView<'h> {
    pub(super) fn new(history: &'h History) -> Self {
        let event = &history.event;
        let content = &event.content;
        let headers = content.head.headers.iter();
        let body = json::checked(&content.body)
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        Self {
            id: event.id,
            source: &content.source,
            r#type: &content.event_type,
            event_time: content.event_time.as_deref(),
            user_id: content.user_id.as_deref(),
            outcome: content.outcome,
            media_id: content.media_id.as_deref(),
            job_id: content.job_id.as_deref(),
            received_at: Time(event.received_at),
            duplicates: history.duplicates,
            verified: &content.verified,
            query: content.head.query.as_deref(),
            headers: headers.map(|(name, value)| (&**name, &**value)).collect(),
            notes: &content.notes,
            body,
            body_base64: body.is_none().then(|| BASE64.encode(&content.body)),
            deliveries: history.deliveries.iter().map(DeliveryView::new).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct DeliveryView<'h> {
    handler: &'h HandlerName,
    status: Status,
    attempts: u32,
    next_at: Option<Time>,
    reason: Option<&'h Reason>,
    history: Vec<AttemptView<'h>>,
}

impl<'h> DeliveryView<'h> {
    fn new(delivery: &'h DeliveryHistory) -> Self {
        Self {
            handler: &delivery.handler,
            status: delivery.status,
            attempts: delivery.attempts,
            next_at: delivery.next_at.map(Time),
            reason: delivery.reason.as_ref(),
            history: delivery.history.iter().map(AttemptView::new).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct AttemptView<'h> {
    attempt: u32,
    started_at: Time,
    ended_at: Option<Time>,
    result: AttemptResult,
    reason: Option<&'h Reason>,
    report: &'h Report,
}

impl<'h> AttemptView<'h> {
    fn new(attempt: &'h Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            started_at: Time(attempt.started_at),
            ended_at: attempt.ended_at.map(Time),
            result: attempt.result,
            reason: attempt.reason.as_ref(),
            report: &attempt.report,
        }
    }
}

/// RFC 3339, UTC, with milliseconds and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}
