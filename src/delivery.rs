//! One event for one handler: its states, its attempts, and what ends them.
//!
//! ```text
//!            reserve+commit            Succeeded
//!   (new) ──────────────────▶ running ───────────▶ succeeded
//!     │                        ▲   │   Dead
//!     │ no slot          claim │   ├───────────────▶ dead
//!     ▼                        │   │ RetryAt, Stopped, Returned, lost
//!   pending ───────────────────┘   │
//!     ▲                            │
//!     └────────────────────────────┘
//! ```

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::{Event, EventId};
use crate::request::HandlerName;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waits in the store until it is due.
    Pending,
    /// Handed over or at work in some worker.
    Running,
    /// The handler did its work. Final.
    Succeeded,
    /// Given up, with the reason. Final until somebody redelivers it.
    Dead,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Running, Self::Succeeded, Self::Dead];

    /// The status as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
        }
    }

    /// Whether nothing happens to the delivery any more by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead)
    }
}

/// One running process of the service. What is `running` belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub i64);

/// Why an attempt failed or a delivery died; one line, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(String);

impl Reason {
    /// Reasons longer than this many bytes are cut.
    pub const BYTES_MAX: usize = 512;

    /// A reason; control characters are replaced and the text is cut to
    /// [`Reason::BYTES_MAX`].
    pub fn new(text: impl AsRef<str>) -> Self {
        let mut clean: String = text
            .as_ref()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if clean.len() > Self::BYTES_MAX {
            let end = clean.floor_char_boundary(Self::BYTES_MAX);
            clean.truncate(end);
        }
        Self(clean)
    }

    /// The same reason and what followed from it, which a cut spares.
    pub fn and(&self, consequence: &str) -> Self {
        let room = Self::BYTES_MAX.saturating_sub(consequence.len() + 2);
        let kept = &self.0[..self.0.floor_char_boundary(room)];
        Self::new(format!("{kept}; {consequence}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a handler kept of an attempt, for the history: a small JSON object
/// such as `{"status":500,"body":"…"}`, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(pub Option<serde_json::Value>);

/// One event for one handler, on its way to it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event; shared by all its deliveries.
    pub event: Arc<Event>,
    /// The handler it is for.
    pub handler: HandlerName,
    /// The process that has it in hand.
    pub worker: WorkerId,
    /// The number of this attempt, counted from 1 over all rounds.
    pub attempt: u32,
    /// How many attempts of this round have failed before.
    pub failed: u32,
    /// From when on its age counts: the event's arrival, a redelivery, or the
    /// start at which its handler's name returned.
    pub age_from: Timestamp,
}

impl Delivery {
    /// What names this attempt to the store.
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey {
            event: self.event.id,
            row: self.event.row,
            handler: self.handler.clone(),
            worker: self.worker,
            attempt: self.attempt,
        }
    }
}

/// Names one attempt in the hands of one worker. A settlement under a key that
/// no longer holds changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryKey {
    /// The event.
    pub event: EventId,
    /// The store's own number of the event.
    pub row: i64,
    /// The handler.
    pub handler: HandlerName,
    /// The worker that had it.
    pub worker: WorkerId,
    /// The attempt.
    pub attempt: u32,
}

/// What an attempt led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// What becomes of the delivery.
    pub verdict: Verdict,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it failed; `None` after a success.
    pub reason: Option<Reason>,
    /// What the handler kept of it.
    pub report: Report,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Succeeded,
    /// Failed; tried again at this time.
    RetryAt(Timestamp),
    /// Failed for good.
    Dead,
    /// Cut short by a stop of the service: due again at once, and the attempt
    /// does not count against `retry.attempts`.
    Stopped,
    /// Never begun: due again at once, the attempt number is given back, and
    /// the history knows nothing of it.
    Returned,
}

/// How an attempt of the history ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptResult {
    /// The handler did its work.
    Succeeded,
    /// The handler failed.
    Failed,
    /// A stop of the service cut it short.
    Stopped,
    /// It ended with the process, nobody knows how.
    Lost,
}

/// One attempt, as the history keeps it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` where that is not known.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub result: AttemptResult,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// What the handler kept of it.
    pub report: Report,
}

/// A history keeps this many of the first attempts …
pub const HISTORY_FIRST: u32 = 5;
/// … and this many of the last.
pub const HISTORY_LAST: u32 = 20;
