//! What the overview and the refusals show, read from the same places as the
//! API reads.

use jiff::Timestamp;

use super::chart::Column;
use crate::event::Outcome;
use crate::server::admin::stats::SizeView;

/// The state of the whole service.
#[derive(Debug, Clone, Default)]
pub(super) struct Overview {
    pub(super) now: Timestamp,
    pub(super) started_at: Timestamp,
    pub(super) ready: bool,
    /// Why it is not, and what is wrong with single sources.
    pub(super) reasons: Vec<String>,
    /// How far back this looks.
    pub(super) minutes: u32,
    pub(super) columns: Vec<Column>,
    pub(super) types: Vec<TypeRow>,
    pub(super) handlers: Vec<HandlerRow>,
    pub(super) sources: Vec<SourceRow>,
    /// What was turned away lately.
    pub(super) refusals: Vec<RefusalRow>,
    pub(super) size: Option<SizeView>,
}

/// Events of one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TypeRow {
    pub(super) event_type: String,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) other: u64,
}

impl TypeRow {
    pub(super) fn all(&self) -> u64 {
        self.succeeded + self.failed + self.other
    }

    pub(super) fn add(&mut self, outcome: Outcome, events: u64) {
        *match outcome {
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed => &mut self.failed,
            Outcome::Other => &mut self.other,
        } += events;
    }
}

/// One handler.
#[derive(Debug, Clone, Default)]
pub(super) struct HandlerRow {
    pub(super) name: String,
    pub(super) kind: Option<&'static str>,
    pub(super) configured: bool,
    pub(super) paused_at: Option<Timestamp>,
    /// Unfinished deliveries.
    pub(super) pending: u64,
    pub(super) dead: u64,
    /// When the oldest event with an unfinished delivery was received.
    pub(super) oldest: Option<Timestamp>,
    /// Attempts since the start of the process.
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

impl HandlerRow {
    /// Whether it gave deliveries up, or more than one attempt in twenty fails:
    /// nothing here looks good then.
    pub(super) fn is_failing(&self) -> bool {
        let attempts = self.succeeded.saturating_add(self.failed);
        self.dead > 0 || self.failed > attempts / 20
    }

    /// Whether anything can still happen to it: a name that is gone and has
    /// nothing left is of no interest.
    pub(super) fn is_of_interest(&self) -> bool {
        self.configured || self.pending > 0 || self.dead > 0
    }
}

/// One source.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceRow {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) last_event_at: Option<Timestamp>,
    pub(super) refusals: u64,
    pub(super) skew_seconds: Option<i64>,
    pub(super) lag_seconds: Option<f64>,
}

/// Refusals that are alike.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusalRow {
    /// The last of them.
    pub(super) at: Timestamp,
    /// `None` where its path is no source's.
    pub(super) source: Option<String>,
    pub(super) path: String,
    pub(super) peer: Option<String>,
    pub(super) reason: String,
    /// Our clock minus the sender's.
    pub(super) skew_seconds: Option<i64>,
    /// What was found out by trying, one sentence each.
    pub(super) diagnosis: Vec<String>,
    pub(super) count: u64,
}
