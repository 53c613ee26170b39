//! What the index's thread, the writer and the searches share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::Clock;

/// Removals that wait for the thread. What is dropped beyond that stays in the
/// index, leads nowhere, and goes when a search stumbles over it.
const REMOVED_MAX: usize = 65_536;

/// Entries that lead nowhere and wait for the thread.
const ORPHANS_MAX: usize = 65_536;

/// How long the thread sleeps where nothing happens.
const IDLE: Duration = Duration::from_secs(3600);

/// An event that was removed from the store, as far as the index knows it.
#[derive(Debug, Clone)]
pub struct Removed {
    pub row: i64,
    pub id: Uuid,
    pub source: String,
    pub event_type: String,
    pub outcome: String,
    pub media_id: Option<String>,
    pub job_id: Option<String>,
}

/// One entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Kind { kind: i64, id: Uuid },
    Key { segment: i64, hash: i64, id: Uuid },
    Stray { id: Uuid },
}

impl Entry {
    /// The event that it leads to.
    pub fn id(self) -> Uuid {
        match self {
            Self::Kind { id, .. } | Self::Key { id, .. } | Self::Stray { id } => id,
        }
    }
}

/// What the thread has to do beside reading new rows.
#[derive(Debug, Default)]
pub struct Todo {
    pub stop: bool,
    /// The store's file may not be the one it was.
    pub renew: bool,
    /// A search found the index to be damaged.
    pub damaged: bool,
    pub removed: Vec<Removed>,
    pub orphans: Vec<Entry>,
}

/// The index, as everybody but its own thread sees it.
#[derive(Debug)]
pub struct Index {
    /// The store's file.
    pub store: PathBuf,
    /// The index's own file, beside it.
    pub path: PathBuf,
    pub clock: Arc<dyn Clock>,
    /// Wanted by the log of the store: no reading for a moment, so that it can
    /// start again.
    pub hold: Arc<AtomicBool>,
    /// The number of the file that is in use; 0 while there is none.
    generation: AtomicU64,
    /// Held by every search that looks into the file. A file that is removed
    /// under a reader is worse than none: SQLite would take the journal of the
    /// next one for its own, play it back, and answer from the mixture.
    in_use: RwLock<()>,
    /// Counts the files that were made or found.
    files: AtomicU64,
    /// Counts the times that the store's file was opened afresh.
    store_generation: AtomicU64,
    awake: AtomicBool,
    todo: Mutex<Todo>,
    wake: Condvar,
}

impl Index {
    /// The index of the store at `store`. Nothing is opened yet.
    pub fn new(store: &Path, clock: Arc<dyn Clock>) -> Self {
        Self {
            store: store.to_owned(),
            path: beside(store),
            clock,
            hold: Arc::default(),
            generation: AtomicU64::new(0),
            in_use: RwLock::default(),
            files: AtomicU64::new(0),
            store_generation: AtomicU64::new(0),
            awake: AtomicBool::new(false),
            todo: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Todo> {
        self.todo
            .lock()
            .expect("nothing that can panic runs under the lock")
    }

    /// Keeps the file where it is. Ask for its generation under it.
    pub fn using(&self) -> RwLockReadGuard<'_, ()> {
        // There is nothing that a panic could leave half changed.
        self.in_use.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which file there is; 0 while there is none.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Tells the searches that there is another file now.
    pub fn opened(&self) {
        let number = self.files.fetch_add(1, Ordering::AcqRel) + 1;
        self.generation.store(number, Ordering::Release);
    }

    /// Tells the searches that there is no file to look at, and waits for those
    /// that do. To be called before the file is removed.
    pub fn closed(&self) {
        let _unused = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.store(0, Ordering::Release);
    }

    /// How often the store's file was opened afresh.
    pub fn store_generation(&self) -> u64 {
        self.store_generation.load(Ordering::Acquire)
    }

    /// Has the thread look for new rows. Called after every commit, so it costs
    /// a look at a flag where the thread knows already.
    pub fn committed(&self) {
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::AcqRel) {
            drop(self.lock());
            self.wake.notify_all();
        }
    }

    /// Has the entries of removed events go.
    pub fn removed(&self, mut removed: Vec<Removed>) {
        let mut todo = self.lock();
        let room = REMOVED_MAX.saturating_sub(todo.removed.len());
        removed.truncate(room);
        todo.removed.append(&mut removed);
        drop(todo);
        self.committed();
    }

    /// Has entries go that lead to no event.
    pub fn orphaned(&self, mut entries: Vec<Entry>) {
        let mut todo = self.lock();
        let room = ORPHANS_MAX.saturating_sub(todo.orphans.len());
        entries.truncate(room);
        todo.orphans.append(&mut entries);
        drop(todo);
        self.committed();
    }

    /// Has both files opened afresh and the index prove itself again.
    pub fn renew(&self) {
        self.store_generation.fetch_add(1, Ordering::AcqRel);
        self.lock().renew = true;
        self.committed();
    }

    /// Has the index of this generation built anew.
    pub fn damaged(&self, generation: u64) {
        if generation != 0 && generation == self.generation() {
            self.lock().damaged = true;
            self.committed();
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_all();
    }

    /// Whether the thread has to end.
    pub fn stopping(&self) -> bool {
        self.lock().stop
    }

    /// What there is to do by now.
    pub fn take(&self) -> Todo {
        // First the flag: what comes from here on sets it again.
        self.awake.store(false, Ordering::Release);
        let mut todo = self.lock();
        let stop = todo.stop;
        let taken = std::mem::take(&mut *todo);
        todo.stop = stop;
        taken
    }

    /// Sleeps `pause` at least, and until there is something to do. Ends early
    /// where the thread has to stop.
    pub fn sleep(&self, pause: Duration) {
        self.wait(pause, false);
    }

    /// Sleeps for `pause`, whatever there is to do.
    pub fn sleep_after_error(&self, pause: Duration) {
        self.wait(pause, true);
    }

    fn wait(&self, pause: Duration, asked: bool) {
        let until = Instant::now() + pause;
        let mut todo = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let due = left.is_zero() && (asked || self.awake.load(Ordering::Acquire));
            if todo.stop || due {
                return;
            }
            let left = if left.is_zero() { IDLE } else { left };
            (todo, _) = self
                .wake
                .wait_timeout(todo, left)
                .expect("nothing that can panic runs under the lock");
        }
    }
}

fn beside(store: &Path) -> PathBuf {
    // Two names of one store share one index.
    let store = std::fs::canonicalize(store).unwrap_or_else(|_| store.to_owned());
    let mut path = store.into_os_string();
    path.push("-search");
    path.into()
}

/// How much nicer searching is than the service: it gets the time that
/// answering leaves it, and about a tenth where both want a processor.
const NICER_BY: i32 = 10;

/// The nicest there is.
const NICE_MAX: i32 = 19;

/// Makes the calling thread nicer than the others.
pub fn be_nice() {
    // Where it is not to be had, searches compete with the service.
    if let Ok(nice) = rustix::process::getpriority_process(None) {
        let _ = rustix::process::setpriority_process(None, (nice + NICER_BY).min(NICE_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn what_waits_is_bounded() {
        let index = Index::new(Path::new("events.db"), Arc::new(SystemClock));
        let entry = Entry::Stray { id: Uuid::nil() };
        for _ in 0..3 {
            index.orphaned(vec![entry; ORPHANS_MAX - 1]);
        }
        assert_eq!(index.take().orphans.len(), ORPHANS_MAX);
        assert!(index.take().orphans.is_empty());
    }

    #[test]
    fn a_commit_ends_the_sleep_and_a_stop_does_so_at_once() {
        let index = Arc::new(Index::new(Path::new("events.db"), Arc::new(SystemClock)));
        index.committed();
        index.sleep(Duration::ZERO);
        index.take();
        let sleeper = std::thread::spawn({
            let index = Arc::clone(&index);
            move || index.sleep(Duration::from_secs(600))
        });
        index.stop();
        sleeper.join().unwrap();
        assert!(index.take().stop && index.stopping(), "a stop stays");
    }
}
