//! An event and what became of it, as `GET /api/events/{id}` shows it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::views::Time;
use crate::delivery::{Attempt, AttemptResult, Reason, Report, Status};
use crate::event::{EventId, Outcome, json};
use crate::request::{HandlerName, SourceName};
use crate::signature::Verified;
use crate::store::{DeliveryHistory, History};

/// An event and what became of it. The order of the fields is the order of the
/// keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventHistory)]
pub(super) struct HistoryView<'h> {
    /// Its public id, a UUIDv7.
    #[schema(value_type = String, format = "uuid")]
    id: EventId,
    /// The source it came in by.
    #[schema(value_type = String)]
    source: &'h SourceName,
    /// Its type; `malformed` where the body is no JSON object with one.
    r#type: &'h str,
    /// `EventTime`, the text as sent.
    #[schema(required)]
    event_time: Option<&'h str>,
    /// `UserId` as text.
    #[schema(required)]
    user_id: Option<&'h str>,
    /// The sender's word about the job.
    outcome: Outcome,
    /// Its media id.
    #[schema(required)]
    media_id: Option<&'h str>,
    /// Its job id.
    #[schema(required)]
    job_id: Option<&'h str>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    received_at: Time,
    /// How often the same body came again.
    duplicates: u64,
    /// What was proved about the sender: the scheme, and the positions of the
    /// key and of the URL that matched, counted from 1.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    verified: &'h Verified,
    /// The query of the request.
    #[schema(required)]
    query: Option<&'h str>,
    /// Selected header fields of the request, names in lower case.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    headers: BTreeMap<&'h str, &'h str>,
    /// The address it came from; null where it came by a queue.
    #[schema(value_type = Option<String>, required)]
    peer: Option<IpAddr>,
    /// What was odd about it.
    notes: &'h [String],
    /// The body as the JSON that was sent, numbers and keys untouched …
    #[schema(value_type = serde_json::Value)]
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'h RawValue>,
    /// … or in Base64, where it is none. Always there in an export.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// Its deliveries, by handler.
    deliveries: Vec<DeliveryView<'h>>,
}

impl<'h> HistoryView<'h> {
    /// The event as an export writes it, from which it can be put back whole.
    pub(super) fn exported(history: &'h History) -> Self {
        let mut view = Self::new(history);
        view.body_base64
            .get_or_insert_with(|| BASE64.encode(&history.event.content.body));
        for (view, delivery) in view.deliveries.iter_mut().zip(&history.deliveries) {
            view.failed = Some(delivery.failed);
            view.age_from = delivery.age_from.map(Time);
        }
        view
    }

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
            peer: content.head.peer,
            notes: &content.notes,
            body,
            body_base64: body.is_none().then(|| BASE64.encode(&content.body)),
            deliveries: history.deliveries.iter().map(DeliveryView::new).collect(),
        }
    }
}

/// A delivery and its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryView<'h> {
    /// The handler.
    #[schema(value_type = String)]
    handler: &'h HandlerName,
    /// Where it stands.
    status: Status,
    /// The highest attempt number so far.
    attempts: u32,
    /// When it is tried next, where it is `pending`.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_at: Option<Time>,
    /// Why it is not `succeeded`, where there is a reason.
    #[schema(value_type = Option<String>, required)]
    reason: Option<&'h Reason>,
    /// In an export only: how many attempts of this round have failed.
    #[schema(value_type = u32)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u32>,
    /// In an export only: from when on its age counts, where that is not the
    /// event's arrival.
    #[schema(value_type = String, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    age_from: Option<Time>,
    /// The first 5 and the last 20 attempts.
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
            failed: None,
            age_from: None,
            history: delivery.history.iter().map(AttemptView::new).collect(),
        }
    }
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptView<'h> {
    /// Its number, counted from 1.
    attempt: u32,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Time,
    /// When it ended, where that is known.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    ended_at: Option<Time>,
    /// How it ended.
    result: AttemptResult,
    /// Why it failed.
    #[schema(value_type = Option<String>, required)]
    reason: Option<&'h Reason>,
    /// What the handler kept of it: `status`, `body`; or `exit`, `stdout`,
    /// `stderr`.
    #[schema(value_type = Option<std::collections::HashMap<String, serde_json::Value>>, required)]
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
