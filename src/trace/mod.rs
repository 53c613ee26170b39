//! Traces: one per event, from its request to the last attempt.
//!
//! Nothing of a trace is kept. Every id is made of what the store keeps
//! anyway, so that a retry days later, in another process, belongs to the same
//! trace as the request did:
//!
//! - the trace is the one that the request's `traceparent` names, else the
//!   event's own id, which is 128 bits long and random enough;
//! - the root span is the second half of the event's id;
//! - an attempt's span is a digest of event, handler and attempt number, which
//!   the dispatcher and a handler find independently of each other.
//!
//! Spans carry names and numbers, never a body, a header field or a secret.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::delivery::{Delivery, Settlement, Verdict};
use crate::event::NewEvent;
use crate::request::SourceName;
use crate::signature::SchemeName;
use crate::store::Inserted;

mod context;
mod export;

pub use context::{Caller, EventTrace, SampleRatio};
pub use export::{Exporting, TraceConfig, TraceError, start};

/// What became of spans.
#[derive(Debug, Clone, Default)]
pub struct TraceMetrics {
    exported: Counter,
    dropped: Counter,
}

impl TraceMetrics {
    /// Makes the series known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "trace_spans_exported",
            "Spans that the collector took",
            self.exported.clone(),
        );
        registry.register(
            "trace_spans_dropped",
            "Spans that the collector did not take, or not fast enough",
            self.dropped.clone(),
        );
    }
}

/// Makes spans and hands them to the exporter, without ever waiting for it.
/// Clones share one exporter.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    ratio: SampleRatio,
    spans: mpsc::Sender<SpanData>,
    scope: InstrumentationScope,
    clock: Arc<dyn Clock>,
    metrics: TraceMetrics,
}

impl Tracer {
    /// Begins the spans of a request or a message that goes into the store now.
    pub fn arrival(&self, event: &NewEvent) -> Box<Arrival> {
        let now = self.0.clock.now();
        Box::new(Arrival {
            tracer: self.clone(),
            caller: Caller::of(&event.head),
            source: event.source.clone(),
            event_type: event.event_type.clone(),
            body_bytes: event.body.len(),
            from_queue: event.verified.scheme() == SchemeName::Mns,
            began_at: now,
            queued_at: now,
        })
    }

    /// The `traceparent` that an attempt passes on.
    pub fn traceparent(&self, delivery: &Delivery) -> String {
        let trace = self.trace_of(delivery);
        trace.traceparent(trace.attempt(delivery))
    }

    /// The span of an attempt that led to `settlement`. One that was never
    /// begun has none. `leaves` says whether it went to another service.
    pub fn attempt(&self, delivery: &Delivery, settlement: &Settlement, leaves: bool) {
        let result = match settlement.verdict {
            Verdict::Succeeded => "succeeded",
            Verdict::RetryAt(_) => "failed",
            Verdict::Dead => "dead",
            Verdict::Stopped => "stopped",
            Verdict::Returned => return,
        };
        let trace = self.trace_of(delivery);
        if !trace.sampled {
            return;
        }
        let status = match &settlement.reason {
            Some(reason) => Status::error(reason.as_str().to_owned()),
            None => Status::Ok,
        };
        let event = &delivery.event;
        self.end(Span {
            trace,
            id: trace.attempt(delivery),
            parent: Some(trace.root),
            parent_is_remote: false,
            kind: if leaves {
                SpanKind::Client
            } else {
                SpanKind::Internal
            },
            name: format!("deliver {}", delivery.handler).into(),
            began_at: settlement.started_at,
            ended_at: settlement.ended_at,
            status,
            attributes: vec![
                KeyValue::new("event_id", event.id.to_string()),
                KeyValue::new("event_type", event.content.event_type.clone()),
                KeyValue::new("source", event.content.source.to_string()),
                KeyValue::new("handler", delivery.handler.to_string()),
                KeyValue::new("attempt", i64::from(delivery.attempt)),
                KeyValue::new("result", result),
            ],
        });
    }

    fn trace_of(&self, delivery: &Delivery) -> EventTrace {
        let event = &delivery.event;
        EventTrace::of(event.id, Caller::of(&event.content.head), self.0.ratio)
    }

    /// Hands a span over, where there is room for it.
    fn end(&self, span: Span) {
        let flags = TraceFlags::SAMPLED;
        let none = TraceState::NONE;
        let data = SpanData {
            span_context: SpanContext::new(span.trace.trace, span.id, flags, false, none),
            parent_span_id: span.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: span.parent_is_remote,
            span_kind: span.kind,
            name: span.name,
            start_time: system_time(span.began_at),
            end_time: system_time(span.ended_at.max(span.began_at)),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.status,
            instrumentation_scope: self.0.scope.clone(),
        };
        if self.0.spans.try_send(data).is_err() {
            self.0.metrics.dropped.inc();
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("ratio", &self.0.ratio)
            .finish_non_exhaustive()
    }
}

/// What is said of a span when it ends.
struct Span {
    trace: EventTrace,
    id: SpanId,
    parent: Option<SpanId>,
    parent_is_remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
    began_at: Timestamp,
    ended_at: Timestamp,
    status: Status,
    attributes: Vec<KeyValue>,
}

/// The same instant for OpenTelemetry, which knows none before 1970.
fn system_time(at: Timestamp) -> SystemTime {
    let since = Duration::try_from(at.as_duration()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + since
}

/// A request or a message on its way into the store. It gets its ids when the
/// store has given the event one.
#[derive(Debug)]
pub struct Arrival {
    tracer: Tracer,
    caller: Option<Caller>,
    source: SourceName,
    event_type: String,
    body_bytes: usize,
    from_queue: bool,
    began_at: Timestamp,
    queued_at: Timestamp,
}

impl Arrival {
    /// Says that the request began earlier, at `instant`.
    pub fn began(&mut self, instant: Instant) {
        let ago = instant.elapsed();
        self.began_at = self.queued_at.checked_sub(ago).unwrap_or(self.queued_at);
    }

    /// The root span and the span of the commit. A copy of a known body has
    /// spans of its own in the trace of the first one, below its root, unless
    /// its request brought another trace along.
    pub fn committed(self, inserted: &Inserted) {
        let trace = EventTrace::of(inserted.id, self.caller, self.tracer.0.ratio);
        if !trace.sampled {
            return;
        }
        let now = self.tracer.0.clock.now();
        let (id, parent) = if inserted.duplicate {
            let below = self.caller.is_none().then_some(trace.root);
            (context::random_span(), trace.caller.or(below))
        } else {
            (trace.root, trace.caller)
        };
        let event_id = KeyValue::new("event_id", inserted.id.to_string());
        let (kind, what) = if self.from_queue {
            (SpanKind::Consumer, "message")
        } else {
            (SpanKind::Server, "callback")
        };
        self.tracer.end(Span {
            trace,
            id,
            parent,
            parent_is_remote: trace.caller.is_some(),
            kind,
            name: format!("{what} {}", self.source).into(),
            began_at: self.began_at,
            ended_at: now,
            status: Status::Ok,
            attributes: vec![
                event_id.clone(),
                KeyValue::new("event_type", self.event_type),
                KeyValue::new("source", self.source.to_string()),
                KeyValue::new("duplicate", inserted.duplicate),
                KeyValue::new(
                    "body_bytes",
                    i64::try_from(self.body_bytes).unwrap_or(i64::MAX),
                ),
            ],
        });
        self.tracer.end(Span {
            trace,
            id: context::random_span(),
            parent: Some(id),
            parent_is_remote: false,
            kind: SpanKind::Internal,
            name: "store".into(),
            began_at: self.queued_at,
            ended_at: now,
            status: Status::Ok,
            attributes: vec![event_id],
        });
    }
}
