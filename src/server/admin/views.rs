//! How events and deliveries look in lists and streams.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::query::WORD_BYTES_MAX;
use crate::delivery::{Reason, Status};
use crate::event::{EventId, Outcome};
use crate::request::{HandlerName, SourceName};
use crate::store::archive::{DeliverySummary, EventSummary};

/// RFC 3339, UTC, with milliseconds and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Time(pub(in crate::server) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// One word of a filter.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Word(pub(super) String);

impl ToSchema for Word {}

// The macro says nothing of lengths where a field has no name.
impl PartialSchema for Word {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(WORD_BYTES_MAX))
            .into()
    }
}

/// An event as a list shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(in crate::server) struct EventView<'e> {
    /// Its public id, a UUIDv7.
    #[schema(value_type = String, format = "uuid")]
    id: EventId,
    /// The source it came in by.
    #[schema(value_type = String)]
    source: &'e SourceName,
    /// Its type; `malformed` where the body is no JSON object with one.
    r#type: &'e str,
    /// `EventTime`, the text as sent.
    #[schema(required)]
    event_time: Option<&'e str>,
    /// `UserId` as text.
    #[schema(required)]
    user_id: Option<&'e str>,
    /// The sender's word about the job.
    outcome: Outcome,
    /// Its media id.
    #[schema(required)]
    media_id: Option<&'e str>,
    /// Its job id.
    #[schema(required)]
    job_id: Option<&'e str>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    received_at: Time,
    /// How often the same body came again.
    duplicates: u64,
    /// The size of its body.
    body_bytes: u64,
    /// What was odd about it.
    notes: &'e [String],
    /// Its deliveries, by handler.
    deliveries: Vec<DeliveryView<'e>>,
}

impl<'e> EventView<'e> {
    pub(in crate::server) fn new(event: &'e EventSummary) -> Self {
        Self {
            id: event.id,
            source: &event.source,
            r#type: &event.event_type,
            event_time: event.event_time.as_deref(),
            user_id: event.user_id.as_deref(),
            outcome: event.outcome,
            media_id: event.media_id.as_deref(),
            job_id: event.job_id.as_deref(),
            received_at: Time(event.received_at),
            duplicates: event.duplicates,
            body_bytes: event.body_bytes,
            notes: &event.notes,
            deliveries: event.deliveries.iter().map(DeliveryView::new).collect(),
        }
    }
}

/// A delivery as a list shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliverySummary)]
struct DeliveryView<'e> {
    /// The handler.
    #[schema(value_type = String)]
    handler: &'e HandlerName,
    /// Where it stands.
    status: Status,
    /// The highest attempt number so far.
    attempts: u32,
    /// When it is tried next, where it is `pending`.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_at: Option<Time>,
    /// Why it is not `succeeded`, where there is a reason.
    #[schema(value_type = Option<String>, required)]
    reason: Option<&'e Reason>,
}

impl<'e> DeliveryView<'e> {
    fn new(delivery: &'e DeliverySummary) -> Self {
        Self {
            handler: &delivery.handler,
            status: delivery.status,
            attempts: delivery.attempts,
            next_at: delivery.next_at.map(Time),
            reason: delivery.reason.as_ref(),
        }
    }
}

/// RFC 9457 problem details: why a request was not answered with what it asked
/// for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status says what it is.
    r#type: &'static str,
    /// The status's own phrase.
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What to put right, where the asker can.
    detail: Option<String>,
}
