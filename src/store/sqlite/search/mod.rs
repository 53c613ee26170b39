//! Searching: an index of its own beside the store, and threads of its own that
//! are nicer than the rest of the service.
//!
//! In reading order: `index` (what all share), `file` (opened or made anew),
//! `fill` (rows into entries), `indexer` (the thread that keeps it); then
//! `sieve` (does an event match), `candidates` and `plan` (where to look),
//! `find` (one search), `summary`; this file runs them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{open, queue, readable};
use crate::store::StoreError;

mod candidates;
mod file;
mod fill;
mod find;
mod index;
mod indexer;
mod plan;
mod sieve;
mod summary;

pub use candidates::Failure;
pub use fill::{OTHER_TYPES, minutes};
pub use find::Search;
pub use index::{Index, Removed};
pub use indexer::Indexer;
pub use summary::{body, summary};

use index::be_nice;

/// A bound that is small in the tests, so that a few events take every way that
/// many would take.
const fn bound(usual: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { usual }
}

/// Searches at the same time: with two, one that reads bodies does not keep the
/// others waiting.
const SEARCHES_MAX: usize = 2;

/// Searches that wait for a thread.
const WAITING_MAX: usize = 256;

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// The threads that search.
pub struct Searches {
    jobs: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Searches {
    /// Starts the threads. They open what they need at the first search.
    pub fn spawn(index: &Arc<Index>) -> std::io::Result<Self> {
        let (jobs, taken) = sync_channel::<Job>(WAITING_MAX);
        let taken = Arc::new(Mutex::new(taken));
        let threads = (1..=SEARCHES_MAX)
            .map(|number| {
                let (taken, index) = (Arc::clone(&taken), Arc::clone(index));
                std::thread::Builder::new()
                    .name(format!("search-{number}"))
                    .spawn(move || {
                        be_nice();
                        work(&taken, Desk::new(index));
                    })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(threads),
        })
    }

    /// Runs `search` on one of the threads.
    pub async fn run<T, F>(&self, search: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection, Option<&Connection>) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |desk| {
            // Whoever asked may have stopped waiting.
            if !reply.is_closed() {
                let _ = reply.send(desk.run(search));
            }
        });
        let jobs = self.jobs.lock().expect("a plain copy cannot panic").clone();
        jobs.ok_or_else(queue::closed)?
            .try_send(job)
            .map_err(|_| StoreError::Unavailable("too many searches are waiting".into()))?;
        result.await.unwrap_or_else(|_| Err(queue::closed()))
    }

    /// Lets no other search in and waits for those at work.
    pub async fn close(&self) {
        self.jobs.lock().expect("a plain take cannot panic").take();
        let threads = std::mem::take(&mut *self.threads.lock().expect("so is this one"));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A panic of that thread was logged by the panic hook already.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, mut desk: Desk) {
    loop {
        let job = jobs.lock().expect("nothing under it can panic").recv();
        let Ok(job) = job else { return };
        // What it was in the middle of is opened afresh.
        if catch_unwind(AssertUnwindSafe(|| job(&mut desk))).is_err() {
            desk.clear();
        }
    }
}

/// What one thread has open.
struct Desk {
    index: Arc<Index>,
    /// With the generation of the file that is open.
    store: Option<(u64, Connection)>,
    file: Option<(u64, Connection)>,
}

impl Desk {
    fn new(index: Arc<Index>) -> Self {
        Self {
            index,
            store: None,
            file: None,
        }
    }

    fn clear(&mut self) {
        self.store = None;
        self.file = None;
    }

    /// The store and the index, opened where they are not, or are other files
    /// by now.
    fn open(&mut self, with_index: bool) -> Result<(&Connection, Option<&Connection>), Failure> {
        let wanted = self.index.store_generation();
        self.store.take_if(|(has, _)| *has != wanted);
        let store = match &mut self.store {
            Some((_, store)) => store,
            empty => {
                let store = open::open_reader(&self.index.store)?;
                store.set_prepared_statement_cache_capacity(32);
                &mut empty.insert((wanted, store)).1
            }
        };
        let wanted = self.index.generation();
        self.file.take_if(|(has, _)| *has != wanted || !with_index);
        let file = match &mut self.file {
            Some((_, file)) => Some(file),
            None if wanted == 0 || !with_index => None,
            empty => {
                let file = file::open_reader(&self.index.path).map_err(Failure::Index)?;
                Some(&mut empty.insert((wanted, file)).1)
            }
        };
        Ok((store, file.map(|file| &*file)))
    }

    /// Runs a search; once more without the index where that is at fault.
    fn run<T>(
        &mut self,
        search: impl Fn(&Connection, Option<&Connection>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let index = Arc::clone(&self.index);
        let attempt = |desk: &mut Self, with_index: bool| {
            let _using = with_index.then(|| index.using());
            let (store, file) = desk.open(with_index)?;
            search(store, file)
        };
        let mut found = attempt(self, true);
        if let Err(Failure::Index(error)) = &found {
            tracing::debug!(error = readable(error), "the search index cannot be read");
            if file::is_damage(error) {
                self.index
                    .damaged(self.file.take().map_or(0, |(generation, _)| generation));
            }
            found = attempt(self, false);
        }
        found.map_err(|failure| {
            let (Failure::Store(error) | Failure::Index(error)) = failure;
            self.clear();
            tracing::warn!(error = readable(&error), "a search failed");
            StoreError::Unavailable(readable(&error))
        })
    }
}
