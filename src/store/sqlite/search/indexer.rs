//! The thread that keeps the index: nicer than the rest of the service, behind
//! it by a fraction of a second, and never an error for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result};

use super::super::open;
use super::super::readable;
use super::super::rows::millis;
use super::file;
use super::fill::Filler;
use super::index::{Index, be_nice};

/// The least time between two looks for new rows: batches make it cheap.
const PAUSE: Duration = Duration::from_millis(200);

/// How long it waits after an error.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);

/// How long it lets the store's log start again.
const HOLD_MAX: Duration = Duration::from_millis(20);

/// With less room than this on the disk, the index does not grow.
const ROOM_BYTES_MIN: u64 = 64 << 20;

/// Rows whose taking in is worth a line in the log.
const WORTH_TELLING: i64 = 100_000;

/// The running thread.
pub struct Indexer {
    index: Arc<Index>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts the thread. Without it searches walk through the store.
    ///
    /// Its connection is opened here and now: one that is opened later might
    /// make files beside the store that somebody has just taken away, and hide
    /// that from the writer.
    pub fn spawn(index: Arc<Index>) -> Self {
        let shared = Arc::clone(&index);
        let store = open_store(&index).ok();
        let thread = std::thread::Builder::new()
            .name("search-index".into())
            .spawn(move || {
                be_nice();
                Work::new(shared, store).run();
            })
            .inspect_err(|error| tracing::warn!(%error, "no thread for the search index"))
            .ok();
        Self { index, thread }
    }

    /// Ends the thread and waits for it.
    pub fn stop(&mut self) {
        self.index.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was logged by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn open_store(index: &Index) -> Result<Connection> {
    let store = open::open_reader(&index.store)?;
    // The log is opened by the first look.
    store.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(store)
}

/// Whether the disk has more room than the store may need at once.
fn has_room(store: &Path) -> bool {
    rustix::fs::statvfs(store)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM_BYTES_MIN)
}

/// Opens the index, or makes it; answers how many rows it does not know yet.
fn open_index(index: &Index, store: &Connection) -> Result<(Filler, i64)> {
    index.closed();
    let opened = file::open(&index.path, store)?;
    if let Some(reason) = opened.because {
        tracing::warn!(reason, "the search index is built anew");
    }
    let filler = Filler::new(opened.connection)?;
    let behind = filler.behind(store)?;
    index.opened();
    Ok((filler, behind))
}

struct Work {
    index: Arc<Index>,
    store: Option<Connection>,
    filler: Option<Filler>,
    /// Whether the last turn failed; told once.
    failed: bool,
    /// Since when it has been taking in so many rows that it was told.
    catching_up: Option<Instant>,
}

impl Work {
    fn new(index: Arc<Index>, store: Option<Connection>) -> Self {
        Self {
            index,
            store,
            filler: None,
            failed: false,
            catching_up: None,
        }
    }

    fn run(mut self) {
        // The first look needs no commit.
        self.index.committed();
        while !self.index.stopping() {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => {
                    if let Some(since) = self.catching_up.take() {
                        let seconds = since.elapsed().as_secs();
                        tracing::info!(seconds, "the search index is complete");
                    }
                    self.failed = false;
                    self.index.sleep(PAUSE);
                }
                Err(error) => self.fail(&error),
            }
        }
        if let Some(filler) = self.filler.take()
            && let Err(error) = filler.close()
        {
            tracing::debug!(error = readable(&error), "the search index was left open");
        }
    }

    /// Does what there is to do and one batch; answers whether there is more.
    fn turn(&mut self) -> Result<bool> {
        let todo = self.index.take();
        if todo.renew {
            self.filler = None;
            self.store = None;
        }
        if todo.damaged {
            self.filler = None;
            self.index.closed();
            tracing::warn!("the search index is damaged; it is built anew");
            file::remove(&self.index.path);
        }
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(open_store(&self.index)?),
        };
        // What room there is belongs to the store.
        if !has_room(&self.index.store) {
            self.catching_up = None;
            return Ok(false);
        }
        let filler = match &mut self.filler {
            Some(filler) => filler,
            None => {
                let (filler, behind) = open_index(&self.index, store)?;
                if behind >= WORTH_TELLING {
                    tracing::info!(
                        events = behind,
                        "the search index takes in what is stored; searches are slower meanwhile"
                    );
                    self.catching_up = Some(Instant::now());
                }
                self.filler.insert(filler)
            }
        };
        if !todo.removed.is_empty() || !todo.orphans.is_empty() {
            filler.forget(store, &todo.removed, &todo.orphans)?;
        }
        let since = Instant::now();
        while self.index.hold.load(Ordering::Acquire) && since.elapsed() < HOLD_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        filler.fill(store, millis(self.index.clock.now()))
    }

    fn fail(&mut self, error: &rusqlite::Error) {
        self.filler = None;
        let error_text = readable(error);
        if self.failed {
            tracing::debug!(error = error_text, "the search index still fails");
        } else {
            tracing::warn!(
                error = error_text,
                path = %self.index.path.display(),
                "the search index cannot be kept; searches are slow until it can"
            );
        }
        let again = self.failed;
        self.failed = true;
        if file::is_damage(error) && !again {
            self.index.closed();
            file::remove(&self.index.path);
        } else {
            self.index.sleep_after_error(PAUSE_AFTER_ERROR);
        }
        self.index.committed();
    }
}
