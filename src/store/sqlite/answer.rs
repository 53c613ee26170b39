//! What the writer says after a commit, or after one that failed.

use std::sync::Arc;

use rusqlite::ErrorCode;

use super::queue::{Batch, Placed};
use super::readable;
use super::rows::{millis, timestamp};
use super::tally::Effects;
use super::writer::Writer;
use crate::delivery::Delivery;
use crate::event::{Event, EventId, NewEvent};
use crate::store::{Inserted, StoreError, Wanted};

impl Writer {
    /// Tells everybody, after the commit: the window, the handlers, and then
    /// those who wait for an answer.
    pub fn publish(&mut self, batch: Batch, effects: Effects) {
        self.shared.tallies.apply(&effects);
        if effects.dirty {
            self.shared.index.committed();
        }
        if !effects.removed.is_empty() {
            self.shared.index.removed(effects.removed);
        }
        for insert in batch.inserts {
            let placed = insert.placed.expect("the transaction placed every insert");
            if placed.duplicate {
                *self.duplicates.entry(placed.row).or_default() += 1;
                // Places are given back before anybody is answered.
                drop(insert.wanted);
            } else {
                self.window
                    .push(insert.event.fingerprint, placed.row, placed.at);
                self.hand_over(insert.event, insert.wanted, placed);
            }
            // A sender that hung up does not wait any more.
            let _ = insert.reply.send(Ok(Inserted {
                id: EventId(placed.id),
                duplicate: placed.duplicate,
            }));
        }
        let now = millis(self.config.clock.now()).max(self.ids.last_ms());
        for (fingerprint, row, at) in effects.remembered {
            self.window.recall(fingerprint, row, at, now);
        }
        for record in batch.records {
            let result = if record.held {
                Ok(())
            } else {
                Err(StoreError::NotOurs)
            };
            let _ = record.reply.send(result);
        }
        for job in batch.jobs {
            job.finish(Ok(()));
        }
        if effects.due {
            self.shared.due.notify_one();
        }
    }

    fn hand_over(&self, event: NewEvent, wanted: Vec<Wanted>, placed: Placed) {
        if wanted.iter().all(|wanted| wanted.slot.is_none()) {
            return;
        }
        let received_at = timestamp(placed.at);
        let event = Arc::new(Event {
            id: EventId(placed.id),
            row: placed.row,
            received_at,
            content: event,
        });
        for Wanted { handler, slot } in wanted {
            let Some(slot) = slot else { continue };
            slot.fill(Delivery {
                event: Arc::clone(&event),
                handler,
                worker: self.shared.worker,
                attempt: 1,
                failed: 0,
                age_from: received_at,
            });
        }
    }

    /// Tells everybody that nothing was stored.
    pub fn fail(&mut self, batch: Batch, error: &rusqlite::Error) {
        self.config.metrics.errors.inc();
        let message = readable(error);
        let error = if concerns_one(error) {
            tracing::warn!(error = message, "one item could not be stored");
            StoreError::Rejected(message)
        } else {
            if !self.broken {
                tracing::error!(
                    error = message,
                    "the store does not commit; callbacks get 503 until it does"
                );
            }
            self.broken = true;
            self.shared.set_health(Some(message.clone()));
            // A log that starts again takes commits, retention's among them,
            // without more room.
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
                self.checkpointer.wake();
            }
            StoreError::Unavailable(message)
        };
        for insert in batch.inserts {
            drop(insert.wanted);
            let _ = insert.reply.send(Err(error.clone()));
        }
        for record in batch.records {
            let _ = record.reply.send(Err(error.clone()));
        }
        for job in batch.jobs {
            job.finish(Err(error.clone()));
        }
    }
}

/// Whether an error concerns one item of a batch and not the store.
pub fn concerns_one(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
        _ => true,
    }
}
