//! Copies the write-ahead log into the database, off the ack path.
//!
//! The thread does the long part beside the writer (`PASSIVE`, which blocks
//! nobody). While the writer appends, the log is never empty, so it would only
//! grow; hence the writer itself copies the short rest between two commits and
//! starts the log again (`RESTART`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::open::open_checkpointer;
use super::readable;

/// Restarts of the log that are tried while readers leave a gap.
const TRIES_MAX: u32 = 20;

/// The thread that checkpoints.
pub struct Checkpointer {
    wake: Option<SyncSender<()>>,
    copied: Arc<AtomicBool>,
    /// Set from a copy to the restart of the log: whoever reads without pause
    /// leaves a gap meanwhile.
    hold: Arc<AtomicBool>,
    /// Restarts that were tried since the copy.
    tries: u32,
    stale: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// A log of this many pages (4 KiB each) is copied.
    pub const PAGES: u32 = 4000;

    /// Starts the thread; it opens its connection at the first use.
    pub fn spawn(path: PathBuf, hold: Arc<AtomicBool>) -> Self {
        let (wake, woken) = sync_channel::<()>(1);
        let copied = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&copied);
        let wanted = Arc::clone(&hold);
        let stale = Arc::new(AtomicBool::new(false));
        let renew = Arc::clone(&stale);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || {
                let mut connection = None;
                while woken.recv().is_ok() {
                    if renew.swap(false, Ordering::AcqRel) {
                        connection = None;
                        continue;
                    }
                    match copy(&path, &mut connection) {
                        Ok(()) => {
                            wanted.store(true, Ordering::Release);
                            flag.store(true, Ordering::Release);
                        }
                        Err(error) => {
                            connection = None;
                            tracing::warn!(error = readable(&error), "a checkpoint failed");
                        }
                    }
                }
            })
            .ok();
        Self {
            wake: Some(wake),
            copied,
            hold,
            tries: 0,
            stale,
            thread,
        }
    }

    /// Asks for a checkpoint; one that is under way is enough.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake {
            match wake.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// Has the connection closed, because the file may not be the one it was.
    pub fn renew(&self) {
        self.stale.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether a checkpoint has ended since the last call.
    pub fn wants_restart(&self) -> bool {
        self.copied.load(Ordering::Relaxed) && self.copied.swap(false, Ordering::Acquire)
    }

    /// Notes how a restart of the log went. One that a reader from outside
    /// stands in the way of must not keep others from reading for long.
    pub fn restart_tried(&mut self, restarted: bool) {
        self.tries += 1;
        if restarted || self.tries >= TRIES_MAX {
            self.hold.store(false, Ordering::Release);
            self.tries = 0;
        }
    }

    /// Ends the thread and waits for it.
    pub fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was logged by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn copy(path: &Path, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(open_checkpointer(path)?),
    };
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
