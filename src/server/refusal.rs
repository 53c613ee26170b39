//! Requests turned away because of their sender: one log line each, and not
//! more than the log can bear.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::info;

use super::error::Rejection;
use crate::request::SourceName;
use crate::signature::SignatureError;
use crate::throttle::Throttle;

/// Lines per reason in each [`SPAN`].
const LINES_MAX: u32 = 10;
const SPAN: Duration = Duration::from_secs(1);

/// Why a sender was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The scheme did not let it through.
    Signature(SignatureError),
    /// It is not in `allow_from`.
    Peer,
}

impl Refusal {
    /// Every reason, as logs and metrics spell them.
    pub(super) const REASONS: [&'static str; 6] = [
        "missing",
        "repeated_header",
        "mismatch",
        "stale",
        "future",
        "peer",
    ];

    /// The refusal behind a rejection, where it is one.
    pub(super) fn of(rejection: &Rejection) -> Option<Self> {
        match rejection {
            Rejection::Signature(error) => Some(Self::Signature(*error)),
            Rejection::Peer => Some(Self::Peer),
            _ => None,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Signature(error) => error.reason(),
            Self::Peer => "peer",
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
            Self::Peer => None,
        }
    }
}

/// Writes refusals to the log, at most ten a second for each reason.
#[derive(Debug)]
pub(super) struct RefusalLog {
    throttles: [Throttle; Refusal::REASONS.len()],
}

impl RefusalLog {
    pub(super) fn new() -> Self {
        Self {
            throttles: Refusal::REASONS.map(|_| Throttle::new(LINES_MAX, SPAN)),
        }
    }

    /// Logs a refusal, or counts it for the next line of the same reason.
    /// `peer` is `None` where the peer could not be made out.
    pub(super) fn note(&self, source: &SourceName, refusal: Refusal, peer: Option<IpAddr>) {
        let Some(suppressed) = self.throttles[refusal.index()].admit(Instant::now()) else {
            return;
        };
        info!(
            source = source.as_str(),
            reason = refusal.reason(),
            peer = peer.map(tracing::field::display),
            skew_seconds = refusal.skew_seconds(),
            suppressed,
            "request refused"
        );
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
        ];
        for (index, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.index(), index);
            assert_eq!(Refusal::REASONS[index], refusal.reason());
        }
    }
}
