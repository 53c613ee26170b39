//! What the line counts and measures.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::SourceConfig;
use crate::event::{self, MALFORMED, NewEvent};
use crate::request::SourceName;
use crate::signature::Verified;
use crate::store::Inserted;

/// What the line counts and measures. Clones share their series.
#[derive(Debug, Clone, Default)]
pub struct IngestMetrics {
    events: Family<EventLabels, Counter>,
    duplicates: Family<SourceLabels, Counter>,
    reuses: Family<SourceLabels, Counter>,
    authentic: Family<KeyLabels, Counter>,
    skew: Family<SourceLabels, Gauge>,
    keys_unusable: Family<SourceLabels, Gauge>,
    last_event: Family<SourceLabels, Gauge<f64, AtomicU64>>,
}

impl IngestMetrics {
    /// Shows the series in `registry`, which brings the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "events",
            "Events stored, by type and the sender's word about the job",
            self.events.clone(),
        );
        registry.register(
            "duplicates",
            "Bodies that came again within the duplicate window",
            self.duplicates.clone(),
        );
        registry.register(
            "signature_reuse",
            "New bodies under a signature that was used before, long after the sender's own tries",
            self.reuses.clone(),
        );
        registry.register(
            "authentic",
            "Requests whose sender was proved, by the key's position in the list",
            self.authentic.clone(),
        );
        registry.register(
            "timestamp_skew_seconds",
            "Our clock minus the sender's, of the last authentic request",
            self.skew.clone(),
        );
        registry.register(
            "keys_unusable",
            "1 while the file of a source's keys cannot be read again, so that the old ones are used",
            self.keys_unusable.clone(),
        );
        registry.register(
            "last_event_timestamp_seconds",
            "When the last event was stored, in UNIX seconds",
            self.last_event.clone(),
        );
    }

    /// When the last event of a source was stored, where that was in this
    /// process.
    pub fn last_event(&self, source: &SourceName) -> Option<Timestamp> {
        let labels = SourceLabels {
            source: Label(source.clone()),
        };
        let seconds = self.last_event.get(&labels)?.get();
        let at = Timestamp::from_millisecond((seconds * 1_000.0) as i64).ok();
        at.filter(|at| *at > Timestamp::UNIX_EPOCH)
    }

    /// Our clock minus the sender's, of a source's last authentic request.
    pub fn skew_seconds(&self, source: &SourceName) -> Option<i64> {
        let labels = SourceLabels {
            source: Label(source.clone()),
        };
        Some(self.skew.get(&labels)?.get())
    }

    /// Counts a body that was refused because of its signature's earlier use.
    pub(super) fn count_reuse(&self, source: &SourceName) {
        let source = Label(source.clone());
        self.reuses
            .get_or_create_owned(&SourceLabels { source })
            .inc();
    }

    /// Shows when a source's last event was stored before this start, so that
    /// its silence is seen across restarts. One that was stored since holds.
    pub fn show_last_event(&self, source: &SourceName, at: Timestamp) {
        let source = Label(source.clone());
        let gauge = self
            .last_event
            .get_or_create_owned(&SourceLabels { source });
        if gauge.get() == 0.0 {
            gauge.set(at.as_duration().as_secs_f64());
        }
    }

    /// Prepares what will be counted when `event` is on disk.
    pub(super) fn count_of(&self, event: &NewEvent, now: Timestamp, reused: bool) -> EventCount {
        let source = SourceLabels {
            source: Label(event.source.clone()),
        };
        EventCount {
            events: self.events.get_or_create_owned(&EventLabels {
                source: source.source.clone(),
                r#type: type_label(&event.event_type),
                outcome: event.outcome.as_str(),
            }),
            duplicates: self.duplicates.get_or_create_owned(&source),
            last_event: self.last_event.get_or_create_owned(&source),
            reuses: reused.then(|| self.reuses.get_or_create_owned(&source)),
            now,
        }
    }
}

/// The label of an event type: only names that the program knows, so that no
/// sender creates a series.
fn type_label(event_type: &str) -> &'static str {
    if event_type == MALFORMED {
        return MALFORMED;
    }
    event::ims::known_type(event_type).unwrap_or("other")
}

/// What will be counted when an event is on disk.
#[derive(Debug)]
pub(super) struct EventCount {
    events: Counter,
    duplicates: Counter,
    last_event: Gauge<f64, AtomicU64>,
    /// Where its signature was used before.
    reuses: Option<Counter>,
    now: Timestamp,
}

impl EventCount {
    pub(super) fn add(&self, inserted: &Inserted) {
        if inserted.duplicate {
            self.duplicates.inc();
        } else {
            self.events.inc();
            if let Some(reuses) = &self.reuses {
                reuses.inc();
            }
            self.last_event.set(self.now.as_duration().as_secs_f64());
        }
    }
}

/// A source's series.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    source: Label,
    /// Of the keys of the start, by position, resolved once.
    keys: Vec<Counter>,
    /// Of all keys, those that a longer list brought later among them.
    authentic: Family<KeyLabels, Counter>,
    /// Shown with the first authentic request: until then nobody knows.
    skew: OnceLock<Gauge>,
    skews: Family<SourceLabels, Gauge>,
    /// Where its keys stand in a file.
    keys_unusable: Option<Gauge>,
}

impl SourceMetrics {
    pub(super) fn new(config: &SourceConfig, metrics: &IngestMetrics) -> Self {
        let keys = config.auth.keys().len();
        let labels = SourceLabels {
            source: Label(config.name.clone()),
        };
        // Asked for so that a counter of zero is there from the start.
        drop(metrics.duplicates.get_or_create(&labels));
        drop(metrics.reuses.get_or_create(&labels));
        let mut this = Self {
            source: labels.source.clone(),
            keys: Vec::new(),
            authentic: metrics.authentic.clone(),
            skew: OnceLock::new(),
            skews: metrics.skew.clone(),
            keys_unusable: config
                .keys_file
                .as_ref()
                .map(|_| metrics.keys_unusable.get_or_create_owned(&labels)),
        };
        this.keys = positions(keys).map(|key| this.of_key(key)).collect();
        this
    }

    fn of_key(&self, key: u32) -> Counter {
        let source = self.source.clone();
        let labels = KeyLabels { source, key };
        self.authentic.get_or_create_owned(&labels)
    }

    /// Shows a counter for each of so many keys, at zero where it is new.
    pub(super) fn show_keys(&self, keys: usize) {
        positions(keys).for_each(|key| drop(self.of_key(key)));
    }

    pub(super) fn count_authentic(&self, verified: &Verified) {
        if let Some(key) = verified.key() {
            let resolved = key.checked_sub(1).and_then(|at| self.keys.get(at as usize));
            match resolved {
                Some(counter) => counter.inc(),
                None => self.of_key(key).inc(),
            };
        }
        if let Some(skew) = verified.skew_seconds() {
            self.skew.get_or_init(|| self.first_skew()).set(skew);
        }
    }

    fn first_skew(&self) -> Gauge {
        let source = self.source.clone();
        self.skews.get_or_create_owned(&SourceLabels { source })
    }

    pub(super) fn show_keys_unusable(&self, unusable: bool) {
        if let Some(gauge) = &self.keys_unusable {
            gauge.set(i64::from(unusable));
        }
    }
}

/// The positions of so many keys in their list.
fn positions(keys: usize) -> impl Iterator<Item = u32> {
    1..=u32::try_from(keys).unwrap_or(u32::MAX)
}

/// A source's name as the value of a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Label(SourceName);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    source: Label,
    r#type: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    source: Label,
    key: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_types_become_labels() {
        assert_eq!(type_label("ProduceMediaComplete"), "ProduceMediaComplete");
        assert_eq!(type_label(MALFORMED), "malformed");
        assert_eq!(type_label("Evil\"Type"), "other");
    }
}
