//! The line: what a verified request goes through until it is on disk.
//!
//! Both ways in, the callback endpoint and the queue poller, prove the sender
//! first and then call [`Ingest::accept`]; nothing else stores an event.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::dispatch::Dispatcher;
use crate::event::{self, NewEvent};
use crate::request::{RequestHead, SourceName};
use crate::signature::{
    Finding, HeadVerdict, OtherSource, RefusedRequest, ReusePolicy, Scheme, SchemeConfig,
    SchemeError, SignatureError, Verified, VerifiedRequest,
};
use crate::store::{Full, Inserted, Receipt, Store, StoreError};
use crate::trace::{Arrival, Tracer};

pub mod last_events;
mod metrics;
mod reuse;

pub use metrics::IngestMetrics;
use metrics::{EventCount, SourceMetrics};
pub use reuse::{Reused, SignatureMemory};

/// Takes verified requests down the line: parse, reserve, store.
pub struct Ingest {
    sources: HashMap<String, Arc<Source>>,
    store: Arc<dyn Store>,
    dispatcher: Arc<Dispatcher>,
    clock: Arc<dyn Clock>,
    metrics: IngestMetrics,
    signatures: SignatureMemory,
    tracer: Option<Tracer>,
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
        let tolerances = sources.iter().filter_map(|source| source.auth.tolerance());
        let signatures = SignatureMemory::new(tolerances.max().unwrap_or(Duration::ZERO));
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
            signatures,
            tracer: None,
        })
    }

    /// The same line, whose events have spans by `tracer`.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Option<Tracer>) -> Self {
        self.tracer = tracer;
        self
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
    /// [`AcceptError`]; nothing was queued then.
    pub fn accept(&self, request: VerifiedRequest) -> Result<Accepted, AcceptError> {
        let mut event = event::parse(request);
        let now = self.clock.now();
        let reused = self.reuse_of(&event, now)?;
        let count = self.metrics.count_of(&event, now, reused.is_some());
        if let Some(reused) = reused {
            // Should the store know the body, it keeps no second event and no
            // note.
            event.notes.insert(0, reused.to_string());
        }
        let arrival = self.tracer.as_ref().map(|tracer| tracer.arrival(&event));
        let wanted = self.dispatcher.reserve(&event);
        let receipt = self.store.insert(event, wanted)?;
        Ok(Accepted {
            receipt,
            count,
            arrival,
        })
    }

    /// Whether the event's signature has been used before, where that is no
    /// try of the sender's own.
    fn reuse_of(&self, event: &NewEvent, now: Timestamp) -> Result<Option<Reused>, AcceptError> {
        let Some(signature) = event.verified.signature() else {
            return Ok(None);
        };
        let refuse = signature.reuse == ReusePolicy::Refuse;
        let memory = &self.signatures;
        let reused = memory.note(signature.id, &event.fingerprint, now, refuse);
        match reused {
            Some(reused) if refuse && reused.is_other_body => {
                self.metrics.count_reuse(&event.source);
                Err(AcceptError::Reused(reused))
            }
            other => Ok(other),
        }
    }
}

/// Why a verified request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Too much waits to be stored.
    #[error(transparent)]
    Full(#[from] Full),
    /// Its signature was used before, and the source does not take that.
    #[error("{0}")]
    Reused(Reused),
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
    arrival: Option<Box<Arrival>>,
}

impl Accepted {
    /// Says when the request began, for its span.
    pub fn began(&mut self, instant: Instant) {
        if let Some(arrival) = &mut self.arrival {
            arrival.began(instant);
        }
    }
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
            if let Some(arrival) = self.arrival.take() {
                arrival.committed(inserted);
            }
        }
        Poll::Ready(answer)
    }
}

/// One configured sender, ready to judge requests.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    path: String,
    scheme: Arc<dyn Scheme>,
    allow_from: Option<Vec<IpNet>>,
    metrics: SourceMetrics,
}

impl Source {
    /// The source of this configuration.
    ///
    /// # Errors
    /// [`SchemeError`] where it could let in everybody or nobody.
    pub fn new(config: &SourceConfig, metrics: &IngestMetrics) -> Result<Self, SchemeError> {
        let allow_from = config
            .allow_from
            .as_ref()
            .map(|nets| nets.iter().map(canonical_net).collect());
        Ok(Self {
            name: config.name.clone(),
            path: config.path.clone(),
            scheme: config.auth.build()?,
            allow_from,
            metrics: SourceMetrics::new(config, metrics),
        })
    }

    /// Its name.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// The path it listens on.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The header that its signatures come in, where its sender signs.
    pub fn signature_header(&self) -> Option<HeaderName> {
        self.scheme.signature_header()
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

    /// The time a request says it was sent at, where its scheme has one and it
    /// says so once. Nothing about it is proved.
    pub fn sent_at(&self, headers: &HeaderMap) -> Option<Timestamp> {
        self.scheme.sent_at(headers)
    }

    /// Takes these keys instead of those that are in force, from `now` on.
    /// Events keep the position that their key had in the list of their time.
    ///
    /// # Errors
    /// [`SchemeError`] where there is no key, or an empty one; those in force
    /// stay then.
    pub fn replace_keys(&self, keys: &[SecretString], now: Timestamp) -> Result<(), SchemeError> {
        if let Some(ring) = self.scheme.key_ring() {
            ring.replace(keys, now)?;
            self.metrics.show_keys(keys.len());
        }
        Ok(())
    }

    /// Says whether the file of its keys cannot be used as it is now.
    pub fn show_keys_unusable(&self, unusable: bool) {
        self.metrics.show_keys_unusable(unusable);
    }

    /// Forgets keys that went out of force long before `now`.
    pub fn forget_retired_keys(&self, now: Timestamp) {
        if let Some(ring) = self.scheme.key_ring() {
            ring.forget_retired(now);
        }
    }

    /// This source as another one sees it, to whom its request may have gone.
    pub fn as_other(&self) -> OtherSource<'_> {
        OtherSource {
            name: &self.name,
            scheme: &*self.scheme,
        }
    }

    /// What may be wrong with a request that the scheme refused. Nothing for
    /// the answering path.
    pub fn diagnose(&self, refused: &RefusedRequest<'_>) -> Vec<Finding> {
        self.scheme.diagnose(refused)
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
    /// The file that its keys were read from, where they came from one.
    pub keys_file: Option<PathBuf>,
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
}
