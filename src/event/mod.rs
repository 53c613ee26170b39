//! One callback, as the rest of the program knows it, and the parser that
//! makes it out of a verified request.
//!
//! [`parse()`] is total: what cannot be read becomes an event of type
//! [`MALFORMED`] with the raw body kept. The raw body is the truth; everything
//! else here is read out of it and can be read again.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::request::{KeptHead, SourceName};
use crate::signature::Verified;

pub mod ims;
pub mod json;
mod parse;

pub use parse::{fingerprint, parse, too_long};

/// The type of an event whose body is no JSON object with a usable `EventType`.
pub const MALFORMED: &str = "malformed";

/// The longest `EventType` that is taken for one, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;

/// The longest `EventTime`, `UserId`, `MediaId` or `JobId` that is taken for one,
/// in bytes: none is a tenth of that, and they stand in lists and indexes.
pub const ID_BYTES_MAX: usize = 512;

/// The public id of an event: a UUIDv7, in lower-case text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What tells two bodies apart: the first 16 bytes of their SHA-256.
pub type Fingerprint = [u8; 16];

/// A callback that was verified and read, but not yet stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The source it came in by.
    pub source: SourceName,
    /// `EventType` as sent, or [`MALFORMED`].
    pub event_type: String,
    /// `EventTime`, the text as sent. This and the ids below are left out where
    /// they are longer than [`ID_BYTES_MAX`].
    pub event_time: Option<String>,
    /// `UserId` as text, whether it came as a number or as a string.
    pub user_id: Option<String>,
    /// The sender's word about the job.
    pub outcome: Outcome,
    /// `MediaId` of the `MessageBody`.
    pub media_id: Option<String>,
    /// `JobId` of the `MessageBody`, else its `ParentJobId`, else its `TaskId`.
    pub job_id: Option<String>,
    /// What was proved about the sender.
    pub verified: Verified,
    /// What is kept of the request's head.
    pub head: KeptHead,
    /// The raw body, byte for byte.
    pub body: Bytes,
    /// What tells this body from others.
    pub fingerprint: Fingerprint,
    /// What was odd about it, one sentence each.
    pub notes: Vec<String>,
}

/// A stored callback.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its public id.
    pub id: EventId,
    /// The store's own number of it; means nothing outside the store.
    pub row: i64,
    /// When it was stored, to the millisecond; never runs backwards.
    pub received_at: Timestamp,
    /// What was received.
    pub content: NewEvent,
}

/// The sender's word about the job, many words made one of three.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Default,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// `Success`, `Succeed`, `Finished`, `Complete`.
    Succeeded,
    /// `Fail`, `Failed`, `Error`.
    Failed,
    /// Every other word, or none.
    #[default]
    Other,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Other];

    /// Reads the sender's word; case is ignored.
    pub fn from_word(word: &str) -> Self {
        const SUCCEEDED: [&str; 4] = ["success", "succeed", "finished", "complete"];
        const FAILED: [&str; 3] = ["fail", "failed", "error"];
        let is = |known: &&str| word.eq_ignore_ascii_case(known);
        if SUCCEEDED.iter().any(is) {
            Self::Succeeded
        } else if FAILED.iter().any(is) {
            Self::Failed
        } else {
            Self::Other
        }
    }

    /// The outcome as logs, metrics and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
