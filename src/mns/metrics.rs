//! What the pollers count and measure, per source.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::request::SourceName;

type SourceLabel = [(&'static str, String); 1];
type ResultLabels = [(&'static str, String); 2];
type Seconds = Gauge<f64, AtomicU64>;

/// The series of all queues. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct QueueMetrics {
    messages: Family<ResultLabels, Counter>,
    polls: Family<ResultLabels, Counter>,
    delete_failures: Family<SourceLabel, Counter>,
    too_often: Family<SourceLabel, Counter>,
    lag: Family<SourceLabel, Seconds>,
}

/// The series of one queue, resolved once.
#[derive(Debug)]
pub(super) struct OfQueue {
    /// Stored as new events.
    pub stored: Counter,
    /// Known already.
    pub duplicate: Counter,
    /// Not what their MD5 says, or without body or handle.
    pub corrupt: Counter,
    /// Not stored, and left to come back.
    pub left: Counter,
    /// Polls that brought messages.
    pub full: Counter,
    /// Polls that brought none after the whole wait.
    pub empty: Counter,
    /// Polls that brought none at once.
    pub early: Counter,
    /// Polls that were one too many.
    pub throttled: Counter,
    /// Polls that MNS refused.
    pub refused: Counter,
    /// Polls without an answer of MNS.
    pub failed: Counter,
    /// Messages that were stored and not deleted.
    pub delete_failures: Counter,
    /// Messages received more often than `max_receives`.
    pub too_often: Counter,
    /// From the sending of the last message to its receipt.
    pub lag: Seconds,
}

impl QueueMetrics {
    pub(super) fn of(&self, source: &SourceName) -> OfQueue {
        let result = |family: &Family<ResultLabels, Counter>, result: &str| {
            family.get_or_create_owned(&[
                ("source", source.to_string()),
                ("result", result.to_owned()),
            ])
        };
        let label = [("source", source.to_string())];
        let (messages, polls) = (&self.messages, &self.polls);
        OfQueue {
            stored: result(messages, "stored"),
            duplicate: result(messages, "duplicate"),
            corrupt: result(messages, "corrupt"),
            left: result(messages, "left"),
            full: result(polls, "messages"),
            empty: result(polls, "empty"),
            early: result(polls, "empty_early"),
            throttled: result(polls, "throttled"),
            refused: result(polls, "refused"),
            failed: result(polls, "failed"),
            delete_failures: self.delete_failures.get_or_create_owned(&label),
            too_often: self.too_often.get_or_create_owned(&label),
            lag: self.lag.get_or_create_owned(&label),
        }
    }

    /// How far behind the queue of a source was at its last batch; `None` for
    /// what is no queue.
    pub fn lag_seconds(&self, source: &SourceName) -> Option<f64> {
        let label = [("source", source.to_string())];
        Some(self.lag.get(&label)?.get())
    }

    /// Makes the series known to `registry`, which brings the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "queue_messages",
            "Messages received, by result: stored, duplicate, corrupt (another MD5, no body or no handle), left (not stored, they come again)",
            self.messages.clone(),
        );
        registry.register(
            "queue_polls",
            "Polls, by result: messages, empty, empty_early, throttled, refused, failed",
            self.polls.clone(),
        );
        registry.register(
            "queue_delete_failures",
            "Messages that were stored and not deleted; they come again as duplicates",
            self.delete_failures.clone(),
        );
        registry.register(
            "queue_received_too_often",
            "Messages received more often than max_receives",
            self.too_often.clone(),
        );
        registry.register(
            "queue_lag_seconds",
            "From the sending of the oldest message of the last batch to its receipt",
            self.lag.clone(),
        );
    }
}
