//! The line: what a verified request goes through until it is on disk.
//!
//! Both ways in, the callback endpoint and the queue poller, prove the sender
//! first and then call [`Ingest::accept`]; nothing else stores an event.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};

use ipnet::IpNet;
use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock::Clock;
use crate::dispatch::Dispatcher;
use crate::event::{self, MALFORMED, NewEvent};
use crate::request::{RequestHead, SourceName};
use crate::signature::{
    HeadVerdict, Scheme, SchemeConfig, SchemeError, SignatureError, Verified, VerifiedRequest,
};
use crate::store::{Full, Inserted, Receipt, Store, StoreError};

/// Takes verified requests down the line: parse, reserve, store.
pub struct Ingest {
    sources: HashMap<String, Arc<Source>>,
    store: Arc<dyn Store>,
    dispatcher: Arc<Dispatcher>,
    clock: Arc<dyn Clock>,
    metrics: IngestMetrics,
}

impl Ingest {
    /// The line for `sources`, which do not share a path.
    ///
    /// # Errors
    /// [`SchemeError`] where a source could let in everybody or nobody.
    pub fn new(
        sources: &[SourceConfig],
        store: Arc<dyn Store>,
        dispatcher: Arc<Dispatcher>,
        clock: Arc<dyn Clock>,
        metrics: IngestMetrics,
    ) -> Result<Self, SchemeError> {
        let sources = sources
            .iter()
            .map(|config| {
                let source = Source::new(config, &metrics)?;
                Ok((config.path.clone(), Arc::new(source)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sources,
            store,
            dispatcher,
            clock,
            metrics,
        })
    }

    /// The HTTP sources with their paths.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Arc<Source>)> {
        self.sources
            .iter()
            .map(|(path, source)| (path.as_str(), source))
    }

    /// Where "now" comes from, for everybody who judges a request.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Whether the store commits.
    ///
    /// # Errors
    /// Why it does not, for people.
    pub fn store_health(&self) -> Result<(), String> {
        self.store.health()
    }

    /// Parses the request, reserves the handlers' places, and queues the event.
    ///
    /// All of that happens at once and without waiting, so that nothing lies
    /// between the last byte of a body and the store's queue. The answer
    /// resolves after the commit; dropping it undoes nothing, but the event is
    /// then missing in the metrics.
    ///
    /// # Errors
    /// [`Full`] when too much is waiting already; nothing was queued then.
    pub fn accept(&self, request: VerifiedRequest) -> Result<Accepted, Full> {
        let event = event::parse(request);
        let count = self.metrics.count_of(&event, self.clock.now());
        let wanted = self.dispatcher.reserve(&event);
        let receipt = self.store.insert(event, wanted)?;
        Ok(Accepted { receipt, count })
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// An event in the store's queue. Resolves after the commit, and counts then.
#[derive(Debug)]
pub struct Accepted {
    receipt: Receipt,
    count: EventCount,
}

impl Future for Accepted {
    type Output = Result<Inserted, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receipt).poll(cx)).unwrap_or_else(|_| {
            let reason = "it ended before it answered".to_owned();
            Err(StoreError::Unavailable(reason))
        });
        if let Ok(inserted) = &answer {
            self.count.add(inserted);
        }
        Poll::Ready(answer)
    }
}

/// One configured sender, ready to judge requests.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    scheme: Arc<dyn Scheme>,
    allow_from: Option<Vec<IpNet>>,
    metrics: SourceMetrics,
}

impl Source {
    fn new(config: &SourceConfig, metrics: &IngestMetrics) -> Result<Self, SchemeError> {
        let allow_from = config
            .allow_from
            .as_ref()
            .map(|nets| nets.iter().map(canonical_net).collect());
        Ok(Self {
            name: config.name.clone(),
            scheme: config.auth.build()?,
            allow_from,
            metrics: SourceMetrics::new(config, metrics),
        })
    }

    /// Its name.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Whether `peer` may send at all. A peer that could not be made out may
    /// not, once `allow_from` is set.
    pub fn admits(&self, peer: Option<IpAddr>) -> bool {
        match &self.allow_from {
            None => true,
            Some(nets) => peer.is_some_and(|peer| {
                let peer = peer.to_canonical();
                nets.iter().any(|net| net.contains(&peer))
            }),
        }
    }

    /// Judges a head by the source's scheme, at the time `now`.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn check_head(
        &self,
        head: &RequestHead<'_>,
        now: Timestamp,
    ) -> Result<HeadVerdict, SignatureError> {
        self.scheme.check_head(head, now)
    }

    /// Counts a request whose sender was proved.
    pub fn count_authentic(&self, verified: &Verified) {
        self.metrics.count_authentic(verified);
    }
}

/// One configured HTTP source.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name.
    pub name: SourceName,
    /// The path it listens on, compared byte for byte.
    pub path: String,
    /// How its sender proves who it is.
    pub auth: SchemeConfig,
    /// Who may send at all; `None` means everybody.
    pub allow_from: Option<Vec<IpNet>>,
}

/// An IPv4-mapped network as the IPv4 network it means, any other unchanged,
/// so that `::ffff:10.0.0.0/104` and `10.0.0.0/8` are the same.
pub fn canonical_net(net: &IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_BITS => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - MAPPED_BITS).unwrap_or(*net),
            None => *net,
        },
        _ => *net,
    }
}

/// What the line counts and measures. Clones share their series.
#[derive(Debug, Clone, Default)]
pub struct IngestMetrics {
    events: Family<EventLabels, Counter>,
    duplicates: Family<SourceLabels, Counter>,
    authentic: Family<KeyLabels, Counter>,
    skew: Family<SourceLabels, Gauge>,
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
            "last_event_timestamp_seconds",
            "When the last event was stored, in UNIX seconds",
            self.last_event.clone(),
        );
    }

    /// Prepares what will be counted when `event` is on disk.
    fn count_of(&self, event: &NewEvent, now: Timestamp) -> EventCount {
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
struct EventCount {
    events: Counter,
    duplicates: Counter,
    last_event: Gauge<f64, AtomicU64>,
    now: Timestamp,
}

impl EventCount {
    fn add(&self, inserted: &Inserted) {
        if inserted.duplicate {
            self.duplicates.inc();
        } else {
            self.events.inc();
            self.last_event.set(self.now.as_duration().as_secs_f64());
        }
    }
}

/// A source's series, resolved once at start.
#[derive(Debug)]
struct SourceMetrics {
    /// By position; further positions appear when a key file grows.
    keys: Vec<Counter>,
    skew: Gauge,
}

impl SourceMetrics {
    fn new(config: &SourceConfig, metrics: &IngestMetrics) -> Self {
        let keys = match &config.auth {
            SchemeConfig::Ims(ims) => ims.keys.len(),
            SchemeConfig::None => 0,
        };
        let labels = SourceLabels {
            source: Label(config.name.clone()),
        };
        // Asked for so that a counter of zero is there from the start.
        drop(metrics.duplicates.get_or_create(&labels));
        let key = |position| {
            metrics.authentic.get_or_create_owned(&KeyLabels {
                source: labels.source.clone(),
                key: position,
            })
        };
        Self {
            keys: (1..=u32::try_from(keys).unwrap_or(u32::MAX))
                .map(key)
                .collect(),
            skew: metrics.skew.get_or_create_owned(&labels),
        }
    }

    fn count_authentic(&self, verified: &Verified) {
        let key = verified.key().and_then(|key| key.checked_sub(1));
        if let Some(counter) = key.and_then(|at| self.keys.get(at as usize)) {
            counter.inc();
        }
        if let Some(skew) = verified.skew_seconds() {
            self.skew.set(skew);
        }
    }
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
    fn ipv4_mapped_networks_equal_ipv4() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(
            canonical_net(&net("::ffff:10.0.0.0/104")),
            net("10.0.0.0/8")
        );
        assert_eq!(canonical_net(&net("::/0")), net("::/0"));
        assert_eq!(canonical_net(&net("fd00::/8")), net("fd00::/8"));
    }

    #[test]
    fn only_known_types_become_labels() {
        assert_eq!(type_label("ProduceMediaComplete"), "ProduceMediaComplete");
        assert_eq!(type_label(MALFORMED), "malformed");
        assert_eq!(type_label("Evil\"Type"), "other");
    }
}
