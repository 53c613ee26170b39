//! What the public listener counts and measures.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::activity::Activity;
use super::refusal::Refusal;

/// Up to the 3 s after which the sender gives up; fine where acks should be.
const ACK_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0,
];

/// Every status that the callback endpoint answers.
const STATUSES: [StatusCode; 10] = [
    StatusCode::OK,
    StatusCode::UNAUTHORIZED,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
];

/// The series of the public listener. Clones share them.
#[derive(Clone)]
pub struct ServerMetrics {
    requests: Family<RequestLabels, Counter>,
    ack_seconds: Family<SourceLabels, Histogram, fn() -> Histogram>,
    refusals: Family<RefusalLabels, Counter>,
    activity: Arc<Activity>,
}

impl ServerMetrics {
    /// Series without any value yet.
    pub fn new() -> Self {
        Self {
            requests: Family::default(),
            ack_seconds: Family::new_with_constructor(|| Histogram::new(ACK_BUCKETS)),
            refusals: Family::default(),
            activity: Arc::default(),
        }
    }

    /// What was answered in each minute of the last day.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// How many requests of a source were turned away because of their sender
    /// since the start.
    pub fn refusals_of(&self, source: &str) -> u64 {
        let of_reason = |reason| {
            let labels = RefusalLabels {
                source: source.to_owned(),
                reason,
            };
            self.refusals
                .get(&labels)
                .map_or(0, |counter| counter.get())
        };
        Refusal::REASONS.into_iter().map(of_reason).sum()
    }

    /// Shows the series in `registry`, which brings the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests answered by the public listener; no source where the path is none's",
            self.requests.clone(),
        );
        registry.register(
            "ack_seconds",
            "From the end of a verified request's head to its answer",
            self.ack_seconds.clone(),
        );
        registry.register(
            "refusals",
            "Requests turned away because of their sender; no source where the path of a signed one is none's",
            self.refusals.clone(),
        );
    }

    /// The series of a configured source, resolved once, so that a request
    /// looks nothing up and zeros are there from the start.
    pub(super) fn of_source(&self, source: &str) -> SourceMetrics {
        let mut metrics = self.of_no_source();
        metrics.requests = self.requests_of(source);
        metrics.ack_seconds = self.ack_seconds.get_or_create_owned(&SourceLabels {
            source: source.to_owned(),
        });
        metrics.refusals = Refusal::REASONS.map(|reason| match reason {
            Refusal::NO_SOURCE => Counter::default(),
            reason => self.refusals_for(source, reason),
        });
        metrics
    }

    /// The series of requests for paths that are no source's. There is
    /// nothing to acknowledge there, and one reason to refuse.
    pub(super) fn of_no_source(&self) -> SourceMetrics {
        SourceMetrics {
            requests: self.requests_of(""),
            ack_seconds: Histogram::new(ACK_BUCKETS),
            refusals: Refusal::REASONS.map(|reason| match reason {
                Refusal::NO_SOURCE => self.refusals_for("", reason),
                _ => Counter::default(),
            }),
        }
    }

    fn refusals_for(&self, source: &str, reason: &'static str) -> Counter {
        self.refusals.get_or_create_owned(&RefusalLabels {
            source: source.to_owned(),
            reason,
        })
    }

    fn requests_of(&self, source: &str) -> [Counter; STATUSES.len()] {
        STATUSES.map(|status| {
            self.requests.get_or_create_owned(&RequestLabels {
                source: source.to_owned(),
                status: status.as_u16(),
            })
        })
    }
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ServerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerMetrics")
    }
}

/// The series of one source.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    requests: [Counter; STATUSES.len()],
    ack_seconds: Histogram,
    refusals: [Counter; Refusal::REASONS.len()],
}

impl SourceMetrics {
    pub(super) fn count_answer(&self, status: StatusCode) {
        let known = STATUSES.iter().position(|known| *known == status);
        if let Some(counter) = known.and_then(|at| self.requests.get(at)) {
            counter.inc();
        }
    }

    pub(super) fn observe_ack(&self, took: Duration) {
        self.ack_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn count_refusal(&self, refusal: Refusal) {
        self.refusals[refusal.index()].inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    source: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    source: String,
    reason: &'static str,
}
