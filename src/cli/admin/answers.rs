//! What the admin API answers, as far as people are shown it. Members that are
//! not known here are passed over, so that a newer service can be asked.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// An event as a list shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct EventRow {
    /// Its public id.
    pub id: String,
    /// The source it came in by.
    pub source: String,
    /// Its type.
    pub r#type: String,
    /// The sender's word about the job.
    pub outcome: String,
    /// Its media id.
    pub media_id: Option<String>,
    /// Its job id.
    pub job_id: Option<String>,
    /// When it was stored.
    pub received_at: Timestamp,
    /// Its deliveries.
    #[serde(default)]
    pub deliveries: Vec<DeliveryRow>,
}

/// A delivery as a list shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct DeliveryRow {
    /// The handler.
    pub handler: String,
    /// Where it stands.
    pub status: String,
    /// The highest attempt number so far.
    #[serde(default)]
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// Why it is not `succeeded`.
    pub reason: Option<String>,
}

/// A page of events; each is kept as it came.
#[derive(Debug, Deserialize)]
pub struct EventPage {
    /// The events, newest first.
    pub events: Vec<Box<RawValue>>,
    /// Where to go on.
    pub next: Option<String>,
}

/// An event and what became of it.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// Its public id.
    pub id: String,
    /// The source it came in by.
    pub source: String,
    /// Its type.
    pub r#type: String,
    /// `EventTime`, the text as sent.
    pub event_time: Option<String>,
    /// `UserId` as text.
    pub user_id: Option<String>,
    /// The sender's word about the job.
    pub outcome: String,
    /// Its media id.
    pub media_id: Option<String>,
    /// Its job id.
    pub job_id: Option<String>,
    /// When it was stored.
    pub received_at: Timestamp,
    /// How often the same body came again.
    #[serde(default)]
    pub duplicates: u64,
    /// What was verified.
    #[serde(default)]
    pub verified: Value,
    /// The request's query.
    pub query: Option<String>,
    /// The header fields that are kept.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// The address it came from.
    pub peer: Option<String>,
    /// What was odd about it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The body, where it is JSON.
    pub body: Option<Box<RawValue>>,
    /// The body, where it is none.
    pub body_base64: Option<String>,
    /// Its deliveries.
    #[serde(default)]
    pub deliveries: Vec<Delivery>,
}

/// A delivery with its attempts.
#[derive(Debug, Deserialize)]
pub struct Delivery {
    /// How it stands.
    #[serde(flatten)]
    pub row: DeliveryRow,
    /// Its attempts.
    #[serde(default)]
    pub history: Vec<Attempt>,
}

/// One try.
#[derive(Debug, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub result: String,
    /// Why it did not succeed.
    pub reason: Option<String>,
    /// What the handler kept.
    #[serde(default)]
    pub report: Value,
}

/// What a redelivery did, or would do.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Redelivered {
    /// Events that had a delivery changed.
    pub events: u64,
    /// Deliveries that are due again.
    pub deliveries: u64,
    /// Deliveries that were left alone.
    #[serde(default)]
    pub running: u64,
    /// Where to go on.
    pub next: Option<String>,
    /// When the one after the last is due.
    pub next_due: Option<String>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Imported {
    /// Events that are new there.
    pub added: u64,
    /// Events that were there already.
    pub known: u64,
}

/// The handlers of a service.
#[derive(Debug, Default, Deserialize)]
pub struct Handlers {
    /// By name.
    pub handlers: Vec<HandlerRow>,
}

/// One handler.
#[derive(Debug, Clone, Deserialize)]
pub struct HandlerRow {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Option<String>,
    /// Whether it is there now.
    pub configured: bool,
    /// Since when it is held back.
    pub paused_at: Option<Timestamp>,
    /// Deliveries that are not finished.
    pub pending: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// Since when the oldest waits.
    pub oldest_pending_at: Option<Timestamp>,
    /// Attempts that worked since the start of the service.
    #[serde(default)]
    pub succeeded: u64,
    /// Attempts that did not.
    #[serde(default)]
    pub failed: u64,
}

/// What was turned away.
#[derive(Debug, Default, Deserialize)]
pub struct Refusals {
    /// The newest first.
    pub refusals: Vec<Refusal>,
}

/// One kind of refusal.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// When, of several the last time.
    pub at: Timestamp,
    /// The source that was meant.
    pub source: Option<String>,
    /// The path.
    #[serde(default)]
    pub path: String,
    /// Who sent it.
    pub peer: Option<String>,
    /// Why.
    pub reason: String,
    /// What trying showed.
    #[serde(default)]
    pub diagnosis: Vec<String>,
    /// How many.
    #[serde(default = "one")]
    pub count: u64,
}

fn one() -> u64 {
    1
}

/// The numbers of a service, as far as `doctor` judges them.
#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    /// Its time.
    pub now: Timestamp,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its version.
    pub version: String,
    /// Minute by minute.
    #[serde(default)]
    pub acks: Vec<AckMinute>,
    /// Its sources.
    #[serde(default)]
    pub sources: Vec<SourceRow>,
    /// Its store.
    pub store: Option<StoreRow>,
}

/// The answers of one minute.
#[derive(Debug, Clone, Deserialize)]
pub struct AckMinute {
    /// How many were 503.
    #[serde(default)]
    pub unavailable: u64,
    /// What one in a hundred took.
    pub p99_ms: Option<f64>,
    /// How long the slowest took.
    pub max_ms: Option<f64>,
}

/// One source.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// When its last event came.
    pub last_event_at: Option<Timestamp>,
}

/// How large a store is.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct StoreRow {
    /// The database file.
    pub file_bytes: u64,
    /// What of it is in use.
    pub used_bytes: Option<u64>,
    /// The log beside it.
    pub wal_bytes: u64,
    /// What is free on its disk.
    pub disk_free_bytes: u64,
    /// With less free the service purges early.
    pub disk_free_min_bytes: Option<u64>,
}
