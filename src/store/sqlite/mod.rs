//! The embedded engine: one SQLite file, one writing thread, a pool of readers.
//!
//! In reading order: `open` (lock, looks, migrations), `queue` (what waits),
//! `writer` (group commit) with its `answer`, `connection` and `upkeep`, `events`, `rows` and `columns` (the SQL),
//! `ids`, `window` (duplicates), `tally` (the backlog's counts), `checkpoint`;
//! then `reader` (history, oldest), `roster` and `retention`; beside all of it
//! `search`, with an index and threads of its own, for `archive`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Backlog, Claimed, Enrolled, Full, History, OpenError, Purge, Purged, Receipt, Roster, Store,
    StoreConfig, StoreError, Wanted,
};
use crate::clock::Clock;
use crate::delivery::{DeliveryKey, Settlement, WorkerId};
use crate::event::{EventId, NewEvent};
use crate::request::HandlerName;

mod answer;
mod archive;
mod checkpoint;
mod columns;
mod connection;
mod events;
mod ground;
mod ids;
mod import;
mod open;
mod queue;
mod reader;
mod redeliver;
mod retention;
mod roster;
mod rows;
mod search;
mod tally;
#[cfg(test)]
mod tests;
pub mod tools;
mod upkeep;
mod window;
mod writer;

pub use ground::doubt;
pub use open::StoreLock;

use queue::{Insert, Queue, Record, Work};
use reader::Readers;
use rows::{millis, timestamp};
use search::{Index, Searches};
use tally::{Effects, Tallies};
use writer::Writer;

/// Events removed by one commit: few enough that no ack notices.
const PURGE_BATCH: usize = 64;

/// How long closing waits for a disk.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// What the writer and everybody else share.
struct Shared {
    queue: Queue,
    worker: WorkerId,
    due: Arc<Notify>,
    health: Mutex<Option<String>>,
    /// Has the next commit reach the disk and yet be reported as failed.
    #[cfg(test)]
    commit_fault: std::sync::atomic::AtomicBool,
    /// Cancelled when the writer's thread is through.
    ended: CancellationToken,
    tallies: Tallies,
    index: Arc<Index>,
}

impl Shared {
    fn set_health(&self, problem: Option<String>) {
        *self.health.lock().expect("a plain store cannot panic") = problem;
    }
}

/// Goes with the writer's thread: nobody may wait for a writer that is gone,
/// whether it was closed or ended by a panic.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let problem = if std::thread::panicking() {
            "its writer ended by a panic; restart the service"
        } else {
            "it was closed"
        };
        self.0.set_health(Some(problem.into()));
        self.0.queue.abandon();
        self.0.index.stop();
        self.0.ended.cancel();
    }
}

/// A store in one SQLite file.
pub struct SqliteStore {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    searches: Searches,
    path: PathBuf,
    /// How long a body is remembered; its event stays that long.
    dedup_window: Duration,
    clock: Arc<dyn Clock>,
    /// When a handler's name last came back, by name.
    returned: Arc<Mutex<HashMap<HandlerName, i64>>>,
    /// How far the search for events past their retention has come.
    purge_cursor: Mutex<Option<EventId>>,
}

impl SqliteStore {
    /// Opens the store under its lock and starts the writer.
    ///
    /// # Errors
    /// [`OpenError`] where the file cannot be used as it is; it is untouched
    /// then.
    pub fn open(config: StoreConfig, lock: StoreLock) -> Result<Self, OpenError> {
        let path = config.path.clone();
        let failed = |error: rusqlite::Error| open::failed(&path, "cannot be read", &error);
        let connection = open::open_writer(&lock)?;
        let now = millis(config.clock.now());
        let worker = roster::register_worker(&connection, now).map_err(failed)?;
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            worker,
            due: Arc::new(Notify::new()),
            health: Mutex::new(None),
            #[cfg(test)]
            commit_fault: std::sync::atomic::AtomicBool::new(false),
            ended: CancellationToken::new(),
            tallies: Tallies::default(),
            index: Arc::new(Index::new(&path, Arc::clone(&config.clock))),
        });
        let readers = Arc::new(Readers::new(path.clone()));
        let file = path.clone();
        let (dedup_window, clock) = (config.dedup_window, Arc::clone(&config.clock));
        let writer = Writer::new(
            config,
            lock,
            connection,
            Arc::clone(&shared),
            Arc::clone(&readers),
        )
        .map_err(failed)?;
        let no_thread = |error: std::io::Error| OpenError::Unusable {
            path: path.clone(),
            problem: format!("no thread for it: {error}"),
            hint: "raise the limit on threads of this user or container".into(),
        };
        let searches = Searches::spawn(&shared.index).map_err(no_thread)?;
        let ending = Ending(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // Dropped after the writer, however that ends.
                let _ending = ending;
                writer.run();
            })
            .map_err(no_thread)?;
        Ok(Self {
            shared,
            readers,
            searches,
            path: file,
            dedup_window,
            clock,
            returned: Arc::default(),
            purge_cursor: Mutex::new(None),
        })
    }

    /// Has `work` done inside the writer's next transaction.
    async fn in_commit<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection, &mut Effects) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        self.shared.queue.push_job(Box::new(Work {
            work,
            value: None,
            reply,
        }))?;
        result.await.unwrap_or_else(|_| Err(queue::closed()))
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn insert(&self, event: NewEvent, wanted: Vec<Wanted>) -> Result<Receipt, Full> {
        let (reply, receipt) = oneshot::channel();
        self.shared.queue.push_insert(Insert {
            event,
            wanted,
            reply,
            placed: None,
        })?;
        Ok(receipt)
    }

    async fn record(&self, key: DeliveryKey, settlement: Settlement) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        self.shared.queue.push_record(Record {
            key,
            settlement,
            reply,
            held: false,
        })?;
        result.await.unwrap_or_else(|_| Err(queue::closed()))
    }

    async fn claim(
        &self,
        free: &[(HandlerName, u32)],
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        let free = free.to_vec();
        let worker = self.shared.worker;
        let returned = Arc::clone(&self.returned);
        let now = millis(now);
        self.in_commit(move |tx, effects| {
            let mut claimed = Claimed::default();
            for (handler, places) in &free {
                let returned_at = returned
                    .lock()
                    .expect("a plain look-up cannot panic")
                    .get(handler)
                    .copied();
                let deliveries =
                    rows::claim(tx, handler, *places, worker, now, returned_at, effects)?;
                for delivery in &deliveries {
                    effects.took(delivery.event.row, handler, delivery.attempt);
                }
                claimed.deliveries.extend(deliveries);
                if let Some(due) = rows::next_due(tx, handler)? {
                    claimed.next_due.insert(handler.clone(), timestamp(due));
                }
            }
            Ok(claimed)
        })
        .await
    }

    async fn take_over(&self, roster: &Roster, now: Timestamp) -> Result<u64, StoreError> {
        let roster = roster.clone();
        let worker = self.shared.worker;
        let now = millis(now);
        self.in_commit(move |tx, effects| {
            let names = rows::names_with_open(tx)?;
            let mut taken = 0;
            for name in names {
                let backoff = roster.0.get(name.as_str()).copied().unwrap_or_default();
                taken += rows::take_over(tx, &name, worker, now, backoff)?;
            }
            effects.wrote();
            effects.due();
            Ok(taken)
        })
        .await
    }

    async fn enrol(&self, roster: &Roster, now: Timestamp) -> Result<Enrolled, StoreError> {
        let names: Vec<HandlerName> = roster.0.keys().cloned().collect();
        let now = millis(now);
        let (returned, enrolled) = self
            .in_commit(move |tx, effects| {
                effects.wrote();
                roster::enrol(tx, &names, now)
            })
            .await?;
        *self.returned.lock().expect("a plain store cannot panic") = returned;
        Ok(enrolled)
    }

    async fn history(&self, id: EventId) -> Result<Option<History>, StoreError> {
        self.readers
            .read(move |connection| reader::history_of(connection, id))
            .await?
    }

    async fn purge(&self, purge: Purge, limit: u32) -> Result<Purged, StoreError> {
        // One that is in the window still has to answer for its copies. The
        // second is for the window's coarse steps.
        let newest = self
            .clock
            .now()
            .checked_sub(self.dedup_window.saturating_add(Duration::from_secs(1)))
            .unwrap_or(Timestamp::MIN);
        let purge = Purge {
            finished_before: purge.finished_before.min(newest),
            dead_before: purge.dead_before.min(newest),
        };
        let cursor = *self.purge_cursor.lock().expect("a plain copy cannot panic");
        let found = self
            .readers
            .read(move |connection| retention::past_retention(connection, purge, cursor, limit))
            .await?;
        let mut purged = Purged {
            removed: 0,
            more: found.cursor.is_some(),
        };
        for chunk in found.rows.chunks(PURGE_BATCH) {
            let chunk = chunk.to_vec();
            purged.removed += self
                .in_commit(move |tx, effects| retention::remove(tx, &chunk, purge, effects))
                .await?;
        }
        *self.purge_cursor.lock().expect("a plain copy cannot panic") = found.cursor;
        Ok(purged)
    }

    async fn backlog(&self) -> Result<BTreeMap<HandlerName, Backlog>, StoreError> {
        let tally = self.shared.tallies.snapshot();
        let found = self
            .readers
            .read(move |connection| {
                let mut backlog = BTreeMap::new();
                for (name, tally) in tally {
                    let oldest = match tally.unfinished {
                        0 => None,
                        _ => {
                            let (unfinished, from) = (tally.unfinished, tally.settled_before);
                            reader::oldest(connection, &name, unfinished, from)?
                        }
                    };
                    backlog.insert(name, (tally, oldest));
                }
                Ok(backlog)
            })
            .await?;
        let mut backlog = BTreeMap::new();
        for (name, (seen, oldest)) in found {
            if let Some((row, _)) = oldest {
                self.shared.tallies.settle(&name, seen, row);
            }
            let entry = Backlog {
                unfinished: seen.unfinished.max(0).cast_unsigned(),
                dead: seen.dead.max(0).cast_unsigned(),
                oldest: oldest.map(|(_, at)| timestamp(at)),
            };
            backlog.insert(name, entry);
        }
        Ok(backlog)
    }

    fn due(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.due)
    }

    fn worker(&self) -> WorkerId {
        self.shared.worker
    }

    fn health(&self) -> Result<(), String> {
        match &*self
            .shared
            .health
            .lock()
            .expect("a plain read cannot panic")
        {
            None => Ok(()),
            Some(problem) => Err(problem.clone()),
        }
    }

    async fn close(&self) {
        self.shared.queue.close();
        self.shared.index.stop();
        let written = async {
            // Readers first: the last connection to close, the writer's, copies
            // the log into the database.
            self.readers.close().await;
            self.searches.close().await;
            self.shared.ended.cancelled().await;
        };
        if tokio::time::timeout(CLOSE_MAX, written).await.is_err() {
            tracing::error!("the store's disk does not answer; what waited is not written");
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// What SQLite says, without the crate's wrapping.
fn readable(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(failure, Some(text)) => {
            let kind = failure.to_string();
            if kind.contains(text.as_str()) || text.contains(&kind) {
                text.clone()
            } else {
                format!("{text} ({kind})")
            }
        }
        other => other.to_string(),
    }
}
