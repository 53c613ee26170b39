//! What the admin listener counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::server::auth::Denied;

type ReasonLabel = [(&'static str, &'static str); 1];

/// The series of the admin listener. Clones share them.
#[derive(Debug, Clone)]
pub struct AdminMetrics {
    denied: Family<ReasonLabel, Counter>,
    viewers: Gauge,
    skipped: Counter,
}

impl AdminMetrics {
    /// Zeros.
    pub fn new() -> Self {
        let denied = Family::<ReasonLabel, Counter>::default();
        for (_, reason) in Denied::REASONS {
            // Asked for so that a counter of zero is there from the start.
            drop(denied.get_or_create(&[("reason", reason)]));
        }
        Self {
            denied,
            viewers: Gauge::default(),
            skipped: Counter::default(),
        }
    }

    /// Shows the series in `registry`, which brings the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "admin_denied",
            "Requests that the admin listener did not let in",
            self.denied.clone(),
        );
        registry.register(
            "tail_viewers",
            "Who watches the live tail",
            self.viewers.clone(),
        );
        registry.register(
            "tail_skipped",
            "Events that a viewer of the live tail was not shown, because it or the tail could not keep up",
            self.skipped.clone(),
        );
    }

    pub(super) fn count_denied(&self, denied: Denied) {
        let known = Denied::REASONS.iter().find(|(known, _)| *known == denied);
        if let Some((_, reason)) = known {
            self.denied.get_or_create(&[("reason", reason)]).inc();
        }
    }

    pub(super) fn set_viewers(&self, viewers: usize) {
        self.viewers.set(i64::try_from(viewers).unwrap_or(i64::MAX));
    }

    pub(super) fn count_skipped(&self, events: u64) {
        self.skipped.inc_by(events);
    }
}

impl Default for AdminMetrics {
    fn default() -> Self {
        Self::new()
    }
}
