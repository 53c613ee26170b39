//! Requests turned away because of their sender: one log line each, and not
//! more than the log can bear; and a list of the last ones, with what may be
//! wrong with them.
//!
//! The answering path pays for a counter, a look at two clocks and, a few times
//! a second for each peer, a copy of the head. All the rest is done by a thread
//! of its own, which is nicer than those that answer.

use std::hash::{BuildHasher, Hash as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;

use super::error::Rejection;
use crate::ingest::{Reused, Source};
use crate::signature::SignatureError;
use crate::throttle::Throttle;
use diagnostician::Diagnostician;
pub(super) use sighting::{Origin, Sighting, peer_findings, signature_findings};

mod diagnostician;
mod list;
mod no_source;
mod sighting;

pub(super) use list::ENTRIES_MAX;
pub use list::{RefusalView, Refusals};

/// Lines per reason in each [`SPAN`].
const LINES_MAX: u32 = 10;
const SPAN: Duration = Duration::from_secs(1);

/// Refusals of one peer, source and reason that are looked at in each
/// [`SPAN`].
const LOOKS_MAX: u32 = 10;

/// Peers are told apart by their hash: one that floods the listener takes no
/// look away from another, unless they share a gate.
const GATES: usize = 256;

/// Why a sender was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The scheme did not let it through.
    Signature(SignatureError),
    /// It is not in `allow_from`.
    Peer,
    /// Its signature was used before, for another body.
    Reused(Reused),
    /// It is signed, and its path is no source's.
    NoSource,
}

impl Refusal {
    /// Every reason, as logs and metrics spell them.
    pub(super) const REASONS: [&'static str; 8] = [
        "missing",
        "repeated_header",
        "mismatch",
        "stale",
        "future",
        "peer",
        "reused",
        Self::NO_SOURCE,
    ];

    /// The reason that is the only one without a source.
    pub(super) const NO_SOURCE: &'static str = "no_source";

    /// The refusal behind a rejection, where it is one.
    pub(super) fn of(rejection: &Rejection) -> Option<Self> {
        match rejection {
            Rejection::Signature(error) => Some(Self::Signature(*error)),
            Rejection::Peer => Some(Self::Peer),
            Rejection::Reused(reused) => Some(Self::Reused(*reused)),
            _ => None,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Signature(error) => error.reason(),
            Self::Peer => "peer",
            Self::Reused(_) => "reused",
            Self::NoSource => Self::NO_SOURCE,
        }
    }

    /// The reason's position in [`Refusal::REASONS`].
    pub(super) fn index(self) -> usize {
        let reason = self.reason();
        Self::REASONS
            .iter()
            .position(|known| *known == reason)
            .unwrap_or_default()
    }

    fn skew_seconds(self) -> Option<i64> {
        match self {
            Self::Signature(error) => error.skew_seconds(),
            Self::Peer | Self::Reused(_) | Self::NoSource => None,
        }
    }
}

/// Writes refusals to the log, at most ten a second for each reason, and has
/// them looked at.
#[derive(Debug)]
pub(super) struct RefusalLog {
    throttles: [Throttle; Refusal::REASONS.len()],
    gates: Vec<Throttle>,
    hasher: RandomState,
    list: Arc<Refusals>,
    diagnostician: Diagnostician,
}

impl RefusalLog {
    /// Refusals of these sources go to the log and to `list`.
    pub(super) fn new(
        list: Arc<Refusals>,
        sources: Vec<Arc<Source>>,
        proxies: super::TrustedProxies,
    ) -> Self {
        Self {
            throttles: Refusal::REASONS.map(|_| Throttle::new(LINES_MAX, SPAN)),
            gates: std::iter::repeat_with(|| Throttle::new(LOOKS_MAX, SPAN))
                .take(GATES)
                .collect(),
            hasher: RandomState::new(),
            diagnostician: Diagnostician::start(Arc::clone(&list), sources, proxies),
            list,
        }
    }

    /// Logs a refusal, or counts it for the next line of the same reason.
    /// `source` is `None` where the path is no source's, `peer` where the peer could not be made out. `sighting` copies
    /// what there is of the request; it is asked for only where somebody has
    /// time to look at it.
    pub(super) fn note(
        &self,
        source: Option<&Source>,
        refusal: Refusal,
        peer: Option<IpAddr>,
        sighting: impl FnOnce() -> Sighting,
    ) {
        self.list.count(refusal);
        let now = Instant::now();
        if self.diagnostician.has_time() && self.gate(source, refusal, peer).admit(now).is_some() {
            self.diagnostician.look_at(sighting());
        }
        let Some(suppressed) = self.throttles[refusal.index()].admit(now) else {
            return;
        };
        info!(
            source = source.map(|source| source.name().as_str()),
            reason = refusal.reason(),
            peer = peer.map(tracing::field::display),
            skew_seconds = refusal.skew_seconds(),
            suppressed,
            "request refused"
        );
    }

    fn gate(&self, source: Option<&Source>, refusal: Refusal, peer: Option<IpAddr>) -> &Throttle {
        let mut hasher = self.hasher.build_hasher();
        source.map(Source::name).hash(&mut hasher);
        refusal.index().hash(&mut hasher);
        match peer {
            // Whoever has one address of a network has all of them.
            Some(IpAddr::V6(v6)) => v6.octets()[..8].hash(&mut hasher),
            other => other.hash(&mut hasher),
        }
        let bits = hasher.finish();
        &self.gates[(bits % GATES as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place() {
        let refusals = [
            Refusal::Signature(SignatureError::Missing),
            Refusal::Signature(SignatureError::RepeatedHeader),
            Refusal::Signature(SignatureError::Mismatch),
            Refusal::Signature(SignatureError::Stale { skew_seconds: 400 }),
            Refusal::Signature(SignatureError::Future { skew_seconds: -400 }),
            Refusal::Peer,
            Refusal::Reused(Reused {
                ago: SPAN,
                is_other_body: true,
            }),
            Refusal::NoSource,
        ];
        for (index, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.index(), index);
            assert_eq!(Refusal::REASONS[index], refusal.reason());
        }
    }
}
