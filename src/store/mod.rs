//! Where events and deliveries live, as a written contract.
//!
//! [`Store`] is the contract, `conformance` holds every promise of it as a
//! test over `&dyn Store`, and each engine is a folder beside this file.
//! Nothing outside this module knows SQL.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::delivery::{Attempt, Delivery, DeliveryKey, Reason, Settlement, Status, WorkerId};
use crate::event::{Event, EventId, NewEvent};
use crate::request::HandlerName;

pub mod archive;
#[cfg(test)]
pub(crate) mod conformance;
pub mod metrics;
pub mod sqlite;

pub use archive::Archive;
pub use metrics::StoreMetrics;
pub use sqlite::{StoreLock, tools};

/// Keeps events and their deliveries, and loses none that it acknowledged.
///
/// Conventions: time comes in as an argument or from the clock given at
/// opening; a look-up answers `Option`; every change that is reported as done
/// is on disk and survives the loss of power.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Stores an event with the deliveries that it owes, unless it is a
    /// duplicate.
    ///
    /// Does: queues the event at once and without waiting; the receipt
    /// resolves after the commit. A body seen within the duplicate window is
    /// counted on its first event instead, and creates only those of `wanted`
    /// that the event does not have yet. A delivery with a slot is born
    /// `running` and handed over right after the commit, before the receipt
    /// resolves; one without is born `pending`. `wanted` names each handler at
    /// most once. Slots that are not filled are dropped before the receipt
    /// resolves as well.
    /// Durability: on disk when the receipt says so.
    /// Concurrency: two copies of one body never both become events; the later
    /// one waits for the earlier one's result and shares it. Dropping the
    /// receipt undoes nothing.
    ///
    /// # Errors
    /// [`Full`] when too much is waiting already; nothing was queued then.
    fn insert(&self, event: NewEvent, wanted: Vec<Wanted>) -> Result<Receipt, Full>;

    /// Writes what an attempt led to: the attempt into the history and the
    /// delivery's new status, together.
    ///
    /// Concurrency: checks that the delivery is still `running` under this
    /// worker and attempt number. Outcomes share commits with inserts.
    ///
    /// # Errors
    /// [`StoreError::NotOurs`] where the key no longer holds; the store is
    /// unchanged then. [`StoreError::Unavailable`] where it cannot commit: the
    /// caller keeps the settlement and records it again later, since forgetting
    /// it would repeat the delivery.
    async fn record(&self, key: DeliveryKey, settlement: Settlement) -> Result<(), StoreError>;

    /// Takes deliveries that are due, oldest due first, at most as many per
    /// handler as it has `free` places for, and marks them `running` under this
    /// process with the next attempt number.
    ///
    /// Handlers that are not named are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; nothing was taken then.
    async fn claim(
        &self,
        free: &[(HandlerName, u32)],
        now: Timestamp,
    ) -> Result<Claimed, StoreError>;

    /// Takes over what dead workers left `running`: each such attempt is closed
    /// as `lost` in the history and its delivery is due again, at once, or
    /// after `backoff` of its handler where it was lost twice in a row. Answers
    /// how many there were.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn take_over(&self, roster: &Roster, now: Timestamp) -> Result<u64, StoreError>;

    /// Says which handlers are configured at this start. A name that comes back
    /// after it was away has the age of its deliveries counted from `now` on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn enrol(&self, roster: &Roster, now: Timestamp) -> Result<Enrolled, StoreError>;

    /// An event with all that became of it; `None` where there is no such event.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Rejected`] where this one
    /// cannot be read.
    async fn history(&self, id: EventId) -> Result<Option<History>, StoreError>;

    /// Removes events that are past their retention, at most `limit` of them,
    /// in small commits that leave room for inserts. An event with an
    /// unfinished delivery always stays, one inside the duplicate window too,
    /// whatever `purge` says.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what was removed before stays removed.
    async fn purge(&self, purge: Purge, limit: u32) -> Result<Purged, StoreError>;

    /// What waits and what is dead, per handler. Right again at once after a
    /// restart.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn backlog(&self) -> Result<BTreeMap<HandlerName, Backlog>, StoreError>;

    /// Woken whenever a commit left a delivery `pending` and due now.
    fn due(&self) -> Arc<Notify>;

    /// The worker that this process is.
    fn worker(&self) -> WorkerId;

    /// Whether commits work. A broken store probes itself by a small commit
    /// once a second and heals without traffic; a closed one does not.
    ///
    /// # Errors
    /// Why they do not, for people.
    fn health(&self) -> Result<(), String>;

    /// Commits what waits, writes what is only in memory, and releases the
    /// store. Everything after it is [`Full`] or [`StoreError::Unavailable`].
    async fn close(&self);
}

/// One delivery that an event owes.
#[derive(Debug)]
pub struct Wanted {
    /// The handler that wants the event.
    pub handler: HandlerName,
    /// A reserved place in its queue in memory; without one the delivery is
    /// born `pending`.
    pub slot: Option<Slot>,
}

/// Where a slot's delivery goes. Implemented by the dispatcher.
pub trait HandOver: Send + Sync {
    /// Takes a delivery into the place that was reserved for it.
    fn fill(self: Box<Self>, delivery: Delivery);
}

/// A reserved place in a handler's queue in memory. Dropping it gives the
/// place back; filling it hands a delivery over. Only a store fills slots,
/// right after the commit.
pub struct Slot(Box<dyn HandOver>);

impl Slot {
    /// A slot that hands over through `hand_over`; whatever has to be given
    /// back is given back when that is dropped.
    pub fn new(hand_over: Box<dyn HandOver>) -> Self {
        Self(hand_over)
    }

    /// Hands `delivery` over.
    pub(in crate::store) fn fill(self, delivery: Delivery) {
        self.0.fill(delivery);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// What an insert led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// The id of the event: the new one's, or the first copy's.
    pub id: EventId,
    /// Whether the body was there already.
    pub duplicate: bool,
}

/// Resolves after the commit.
pub type Receipt = oneshot::Receiver<Result<Inserted, StoreError>>;

/// Too much is waiting in front of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be stored")]
pub struct Full;

/// A store that could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The delivery is not this worker's, or not in this attempt, any more.
    #[error("the delivery is no longer ours")]
    NotOurs,
    /// The engine failed; trying again may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// This one event cannot be stored or read; others can.
    #[error("the event cannot be stored or read: {0}")]
    Rejected(String),
}

/// A store that cannot be opened as it is. The file is untouched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Says what is wrong with which path and what to do next.
    #[error("{path}: {problem}; {hint}")]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The disk is full. Passes by itself, unlike the others.
    #[error("{path}: {problem}; its disk is full: make room there and start again")]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// What failed.
        problem: String,
    },
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database file.
    pub path: PathBuf,
    /// How long a body is remembered.
    pub dedup_window: Duration,
    /// How many bodies are remembered at the most.
    pub dedup_entries_max: u32,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// What the store counts and measures.
    pub metrics: StoreMetrics,
}

/// The configured handlers, with the wait after an attempt that was lost twice
/// in a row.
#[derive(Debug, Clone, Default)]
pub struct Roster(pub BTreeMap<HandlerName, Duration>);

/// What a store remembers about handlers from earlier starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolled {
    /// Names that are no longer configured and still have unfinished
    /// deliveries, with their number.
    pub left: Vec<(HandlerName, u64)>,
    /// Configured handlers that are held back, and since when.
    pub paused: BTreeMap<HandlerName, Timestamp>,
}

/// Deliveries that were claimed.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The deliveries, `running` now.
    pub deliveries: Vec<Delivery>,
    /// When the next one of each named handler is due, where there is one.
    pub next_due: BTreeMap<HandlerName, Timestamp>,
}

/// An event and what became of it.
#[derive(Debug, Clone)]
pub struct History {
    /// The event.
    pub event: Event,
    /// How often the same body came again.
    pub duplicates: u64,
    /// Its deliveries, by handler name.
    pub deliveries: Vec<DeliveryHistory>,
}

/// A delivery and its attempts.
#[derive(Debug, Clone)]
pub struct DeliveryHistory {
    /// The handler.
    pub handler: HandlerName,
    /// Where it stands.
    pub status: Status,
    /// The highest attempt number so far.
    pub attempts: u32,
    /// How many attempts of this round have failed.
    pub failed: u32,
    /// When this round began, where it is not the first.
    pub age_from: Option<Timestamp>,
    /// When it is tried next, where it is `pending`.
    pub next_at: Option<Timestamp>,
    /// Why it is not `succeeded`, where there is a reason.
    pub reason: Option<Reason>,
    /// The first [`HISTORY_FIRST`](crate::delivery::HISTORY_FIRST) and the last
    /// [`HISTORY_LAST`](crate::delivery::HISTORY_LAST) attempts.
    pub history: Vec<Attempt>,
}

/// Which events are past their retention.
#[derive(Debug, Clone, Copy)]
pub struct Purge {
    /// Finished events (all deliveries succeeded, or none) received before this.
    pub finished_before: Timestamp,
    /// Events with a dead delivery and no unfinished one received before this.
    pub dead_before: Timestamp,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Events removed.
    pub removed: u32,
    /// Whether there may be more.
    pub more: bool,
}

/// What waits for one handler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Unfinished deliveries, `running` included.
    pub unfinished: u64,
    /// Dead ones.
    pub dead: u64,
    /// When the oldest event with an unfinished delivery was received. Where
    /// many wait, an imported event counts as old as those around it.
    pub oldest: Option<Timestamp>,
}

/// Takes the lock of the store at `path`: proof that no other process has it.
///
/// # Errors
/// [`OpenError`] where another process holds it, the folder cannot be written,
/// or its file system would damage the store.
pub fn lock(path: &Path) -> Result<StoreLock, OpenError> {
    StoreLock::take(path)
}

/// What is doubtful about the place of a store at `path`, in words: it works
/// there, and events may be lost by what the place is.
pub fn doubt(path: &Path) -> Option<String> {
    sqlite::doubt(path)
}

/// Opens the store that `config` names, under its lock.
///
/// # Errors
/// [`OpenError`] where it cannot be used as it is; the file is untouched then.
pub fn open(config: StoreConfig, lock: StoreLock) -> Result<Opened, OpenError> {
    let store = Arc::new(sqlite::SqliteStore::open(config, lock)?);
    Ok(Opened {
        archive: Arc::clone(&store) as Arc<dyn Archive>,
        store,
    })
}

/// One open store from both its sides.
#[derive(Clone)]
pub struct Opened {
    /// The line's side.
    pub store: Arc<dyn Store>,
    /// The operator's side.
    pub archive: Arc<dyn Archive>,
}
