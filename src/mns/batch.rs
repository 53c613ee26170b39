//! What becomes of the messages that one poll brought: stored, then deleted.
//!
//! A message is deleted after its commit and never before. One that could not
//! be stored is left, so that the queue hands it out again.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use super::body;
use super::client::Received;
use super::error::Remedy;
use super::message::Message;
use super::poller::Poller;
use crate::ingest::Accepted;
use crate::request::KeptHead;
use crate::signature::mns::received;
use crate::store::{Inserted, StoreError};

/// How often a delete is tried, with a pause before each further try.
const DELETE_PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// How long a stop waits for the commits of what is held.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What a stop gives back is visible again after this.
const RELEASED: Duration = Duration::from_secs(1);

/// The header under which a message's id is kept with its event.
const MESSAGE_ID: &str = "x-mns-message-id";

/// Messages on their way into the store, and those already there.
struct Held<'a> {
    poller: &'a Poller,
    visibility: Duration,
    /// By position; `None` where a message is no longer ours to delete.
    handles: Vec<Option<String>>,
    waiting: Vec<usize>,
    committed: Vec<usize>,
}

/// Sees a batch through.
pub(super) async fn handle(poller: &Poller, batch: Received, stop: &CancellationToken) {
    let visibility = poller.visibility_of(&batch);
    poller.observe_lag(&batch);
    if batch.unreadable > 0 {
        poller.metrics.corrupt.inc_by(batch.unreadable as u64);
        poller.warn("", "it has no body, or no handle to delete it by");
    }
    let mut commits = FuturesUnordered::new();
    let mut held = Held {
        poller,
        visibility,
        handles: Vec::new(),
        waiting: Vec::new(),
        committed: Vec::new(),
    };
    for message in batch.messages {
        let handle = message.handle.clone();
        let Some(accepted) = accept(poller, message) else {
            continue;
        };
        let position = held.handles.len();
        held.handles.push(Some(handle));
        held.waiting.push(position);
        commits.push(async move { (position, accepted.await) });
    }
    let mut late = None;
    let third = visibility / 3;
    let mut thirds = interval_at(Instant::now() + third, third);
    thirds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            answer = commits.next() => match answer {
                Some((position, answer)) => held.note(position, answer),
                None => break,
            },
            _ = thirds.tick() => {
                held.delete().await;
                held.extend().await;
            }
            () = stop.cancelled(), if late.is_none() => late = Some(Instant::now() + STOP_PATIENCE),
            () = until(late), if late.is_some() => {
                held.release().await;
                break;
            }
        }
    }
    held.delete().await;
}

async fn until(late: Option<Instant>) {
    if let Some(late) = late {
        tokio::time::sleep_until(late).await;
    }
}

/// Puts one message on the line; `None` where it stays in the queue.
fn accept(poller: &Poller, message: Message) -> Option<Accepted> {
    poller.watch_receives(&message);
    let text = match &message.body_md5 {
        Some(stated) => body::whole(message.body, stated),
        None => Ok(message.body),
    };
    let Ok(text) = text else {
        poller.metrics.corrupt.inc();
        poller.warn(&message.id, "its MD5 is another one");
        return None;
    };
    let head = KeptHead {
        headers: vec![(MESSAGE_ID.to_owned(), message.id.clone())],
        ..KeptHead::default()
    };
    let body = body::decoded(text);
    let request = received(poller.source.clone(), head, body);
    match poller.ingest.accept(request) {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            poller.metrics.left.inc();
            poller.hold_off();
            poller.warn(&message.id, &error.to_string());
            None
        }
    }
}

impl Held<'_> {
    fn note(&mut self, position: usize, answer: Result<Inserted, StoreError>) {
        self.waiting.retain(|other| *other != position);
        let metrics = &self.poller.metrics;
        match answer {
            Ok(inserted) => {
                let count = if inserted.duplicate {
                    &metrics.duplicate
                } else {
                    &metrics.stored
                };
                count.inc();
                self.committed.push(position);
            }
            Err(error) => {
                metrics.left.inc();
                self.poller.hold_off();
                self.poller.warn("", &error.to_string());
            }
        }
    }

    /// Deletes what is on disk.
    async fn delete(&mut self) {
        let failures = &self.poller.metrics.delete_failures;
        let committed = self.committed.len();
        let mut handles: Vec<String> = self
            .committed
            .drain(..)
            .filter_map(|position| self.handles[position].take())
            .collect();
        // Somebody else received them before they were on disk.
        failures.inc_by((committed - handles.len()) as u64);
        let mut why = String::new();
        for (tries, pause) in DELETE_PAUSES.into_iter().enumerate() {
            if handles.is_empty() {
                return;
            }
            sleep(pause).await;
            let asked: Vec<&str> = handles.iter().map(String::as_str).collect();
            let failed = match self.poller.client.delete(&asked).await {
                Ok(failed) => failed,
                Err(error) if error.remedy() == Remedy::Somebody => {
                    failures.inc_by(handles.len() as u64);
                    self.poller.state.cannot_empty(&error);
                    return;
                }
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            if failed.len() < handles.len() {
                self.poller.state.empties();
            }
            let (gone, others): (Vec<_>, Vec<_>) =
                failed.into_iter().partition(|one| one.code.is_gone());
            if tries == 0 {
                // After the first try it may be our own that deleted them.
                failures.inc_by(gone.len() as u64);
            }
            if let Some(other) = others.first() {
                other.code.as_str().clone_into(&mut why);
            }
            handles = others.into_iter().map(|one| one.handle).collect();
        }
        failures.inc_by(handles.len() as u64);
        if !handles.is_empty() {
            let reason = format!("stored and not deleted, and comes again as a duplicate: {why}");
            self.poller.warn("", &reason);
        }
    }

    /// Keeps what is still waiting invisible, under the new handles.
    async fn extend(&mut self) {
        let visibility = self.visibility;
        self.change(visibility).await;
    }

    /// Gives what is still waiting back to the queue; it may be stored all the
    /// same, and then comes again as a duplicate.
    async fn release(&mut self) {
        self.change(RELEASED).await;
        self.poller.metrics.left.inc_by(self.waiting.len() as u64);
        self.waiting.clear();
    }

    async fn change(&mut self, visibility: Duration) {
        let client = &self.poller.client;
        let changes = self.waiting.iter().filter_map(|position| {
            let handle = self.handles[*position].clone()?;
            Some(async move {
                let changed = client.change_visibility(&handle, visibility).await;
                (*position, changed)
            })
        });
        for (position, changed) in join_all(changes).await {
            match changed {
                Ok(changed) => self.handles[position] = Some(changed.handle),
                Err(error) if error.code().is_some_and(super::Code::is_gone) => {
                    self.handles[position] = None;
                }
                Err(error) if error.remedy() == Remedy::Somebody => {
                    self.poller.state.cannot_empty(&error);
                }
                // The handle we have may still be good.
                Err(error) => tracing::debug!(%error, "a visibility was not changed"),
            }
        }
    }
}
