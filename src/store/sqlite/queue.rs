//! What waits for the writer, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::tally::Effects;
use crate::delivery::{DeliveryKey, Settlement};
use crate::event::NewEvent;
use crate::store::{Full, Inserted, StoreError, Wanted};

/// Events that may wait for the writer.
const INSERTS_MAX: usize = 8192;
/// Bytes of their bodies.
const INSERT_BYTES_MAX: usize = 64 << 20;
/// Events in one commit. Inserts go first, but each batch has room for
/// outcomes beside them, so that neither starves the other.
const BATCH_INSERTS_MAX: usize = 512;
/// Outcomes in one commit.
const BATCH_RECORDS_MAX: usize = 1024;
/// Other work in one commit.
const BATCH_JOBS_MAX: usize = 16;

/// An event on its way into the store.
#[derive(Debug)]
pub struct Insert {
    pub event: NewEvent,
    pub wanted: Vec<Wanted>,
    pub reply: oneshot::Sender<Result<Inserted, StoreError>>,
    /// Where the open transaction put it.
    pub placed: Option<Placed>,
}

/// Where an insert ended up.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    pub row: i64,
    pub id: Uuid,
    pub at: i64,
    pub duplicate: bool,
}

/// An outcome on its way into the store.
#[derive(Debug)]
pub struct Record {
    pub key: DeliveryKey,
    pub settlement: Settlement,
    pub reply: oneshot::Sender<Result<(), StoreError>>,
    /// Whether the open transaction found the key to hold.
    pub held: bool,
}

/// Any other work that shares a commit.
pub trait Job: Send {
    /// Does the work inside the open transaction. May be called again after a
    /// rollback.
    fn run(&mut self, tx: &Connection, effects: &mut Effects) -> rusqlite::Result<()>;
    /// Tells whoever waits, after the commit or the failure.
    fn finish(self: Box<Self>, result: Result<(), StoreError>);
}

/// A closure as a [`Job`].
pub struct Work<T, F> {
    pub work: F,
    pub value: Option<T>,
    pub reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Work<T, F>
where
    T: Send,
    F: FnMut(&Connection, &mut Effects) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, tx: &Connection, effects: &mut Effects) -> rusqlite::Result<()> {
        self.value = Some((self.work)(tx, effects)?);
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        // Whoever asked may have stopped waiting.
        let _ = reply.send(result.and_then(|()| value.ok_or_else(closed)));
    }
}

/// What one commit takes.
#[derive(Default)]
pub struct Batch {
    pub inserts: Vec<Insert>,
    pub records: Vec<Record>,
    pub jobs: Vec<Box<dyn Job>>,
}

impl Batch {
    /// How many things it holds.
    pub fn len(&self) -> usize {
        self.inserts.len() + self.records.len() + self.jobs.len()
    }

    /// The same things in two batches, in their order.
    pub fn halve(mut self) -> (Batch, Batch) {
        let mut left = self.len() / 2;
        let mut later = |len: usize| {
            let keep = len.min(left);
            left -= keep;
            keep
        };
        let inserts = later(self.inserts.len());
        let records = later(self.records.len());
        let jobs = later(self.jobs.len());
        let second = Batch {
            inserts: self.inserts.split_off(inserts),
            records: self.records.split_off(records),
            jobs: self.jobs.split_off(jobs),
        };
        (self, second)
    }
}

#[derive(Default)]
struct Waiting {
    inserts: VecDeque<Insert>,
    insert_bytes: usize,
    records: VecDeque<Record>,
    jobs: VecDeque<Box<dyn Job>>,
    closing: bool,
    writer_sleeps: bool,
}

/// The queue in front of the writer. One lock, held for a push or a swap.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting
            .lock()
            .expect("nothing that can panic runs under the queue's lock")
    }

    fn wake(&self, waiting: MutexGuard<'_, Waiting>) {
        let sleeps = waiting.writer_sleeps;
        drop(waiting);
        if sleeps {
            self.wake.notify_one();
        }
    }

    /// Queues an event.
    pub fn push_insert(&self, insert: Insert) -> Result<(), Full> {
        let mut waiting = self.lock();
        let bytes = waiting.insert_bytes + insert.event.body.len();
        if waiting.closing || waiting.inserts.len() >= INSERTS_MAX || bytes > INSERT_BYTES_MAX {
            return Err(Full);
        }
        waiting.insert_bytes = bytes;
        waiting.inserts.push_back(insert);
        self.wake(waiting);
        Ok(())
    }

    /// Queues an outcome. Their number is bounded by the places that the
    /// deliveries hold until they are settled.
    pub fn push_record(&self, record: Record) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        if waiting.closing {
            return Err(closed());
        }
        waiting.records.push_back(record);
        self.wake(waiting);
        Ok(())
    }

    /// Queues other work.
    pub fn push_job(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        if waiting.closing {
            return Err(closed());
        }
        waiting.jobs.push_back(job);
        self.wake(waiting);
        Ok(())
    }

    /// Takes what one commit may hold; waits for it until `deadline`. `None`
    /// once the queue was closed and is empty.
    pub fn take(&self, deadline: Instant) -> Option<Batch> {
        let mut waiting = self.lock();
        while waiting.inserts.is_empty() && waiting.records.is_empty() && waiting.jobs.is_empty() {
            if waiting.closing {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(Batch::default());
            }
            waiting.writer_sleeps = true;
            (waiting, _) = self
                .wake
                .wait_timeout(waiting, left)
                .expect("nothing that can panic runs under the queue's lock");
            waiting.writer_sleeps = false;
        }
        let inserts = waiting.inserts.len().min(BATCH_INSERTS_MAX);
        let records = waiting.records.len().min(BATCH_RECORDS_MAX);
        let jobs = waiting.jobs.len().min(BATCH_JOBS_MAX);
        let batch = Batch {
            inserts: waiting.inserts.drain(..inserts).collect(),
            records: waiting.records.drain(..records).collect(),
            jobs: waiting.jobs.drain(..jobs).collect(),
        };
        let bytes: usize = batch.inserts.iter().map(|i| i.event.body.len()).sum();
        waiting.insert_bytes -= bytes;
        Some(batch)
    }

    /// Lets nothing more in; the writer ends when it has written what waits.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closing = true;
        drop(waiting);
        self.wake.notify_one();
    }

    /// Lets nothing more in and drops what waits: whoever waits for an answer
    /// learns that none will come.
    pub fn abandon(&self) {
        let mut waiting = self.lock();
        let dropped = std::mem::take(&mut *waiting);
        waiting.closing = true;
        // Dropped outside of the lock: slots and answers run foreign code.
        drop(waiting);
        drop(dropped);
    }
}

/// What a store answers after it was closed.
pub fn closed() -> StoreError {
    StoreError::Unavailable("it was closed".into())
}
