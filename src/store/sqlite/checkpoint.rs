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

/// The thread that checkpoints.
pub struct Checkpointer {
    wake: Option<SyncSender<()>>,
    copied: Arc<AtomicBool>,
    stale: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// A log of this many pages (4 KiB each) is copied.
    pub const PAGES: u32 = 4000;

    /// Starts the thread; it opens its connection at the first use.
    pub fn spawn(path: PathBuf) -> Self {
        let (wake, woken) = sync_channel::<()>(1);
        let copied = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&copied);
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
                        Ok(()) => flag.store(true, Ordering::Release),
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
