//! Whether a queue can be read, told once when it changes.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::{MnsError, Remedy};
use crate::request::SourceName;
use crate::server::Readiness;

/// A failure that passes by itself is worth a word from this one in a row on.
const FAILURES_TOLD: u32 = 2;

/// The state of one queue, shared by its pollers.
#[derive(Debug)]
pub(super) struct QueueState {
    source: SourceName,
    queue: String,
    readiness: Arc<Readiness>,
    /// What was told last; `None` where the queue can be read.
    told: Mutex<Option<String>>,
}

impl QueueState {
    pub(super) fn new(source: SourceName, queue: String, readiness: Arc<Readiness>) -> Self {
        Self {
            source,
            queue,
            readiness,
            told: Mutex::new(None),
        }
    }

    /// Says that the queue answered as it should.
    pub(super) fn works(&self) {
        if self.tell(None) {
            self.readiness.set_trouble(self.source.as_str(), None);
            let (source, queue) = (self.source.as_str(), &self.queue);
            tracing::info!(source, queue, "the queue is read again");
        }
    }

    /// Says that a poll failed, the `failures`th in a row.
    pub(super) fn fails(&self, error: &MnsError, failures: u32) {
        let (source, queue) = (self.source.as_str(), self.queue.as_str());
        if error.remedy() == Remedy::Patience && failures < FAILURES_TOLD {
            tracing::debug!(source, queue, %error, "a poll failed");
            return;
        }
        let trouble = format!("queue {queue} cannot be read: {error}");
        self.readiness.set_trouble(source, Some(trouble));
        if self.tell(Some(kind(error).to_owned())) {
            let hint = error.hint();
            tracing::warn!(source, queue, %error, hint, "the queue cannot be read; it is tried again");
        }
    }

    /// Whether this is another state than the one told last.
    fn tell(&self, state: Option<String>) -> bool {
        // A panic cannot leave it half changed.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = *told != state;
        *told = state;
        changes
    }
}

/// What has to change for another line; an error's own words hold ids.
fn kind(error: &MnsError) -> &str {
    match error {
        MnsError::Refused(refusal) => refusal.code.as_str(),
        MnsError::Garbled { .. } => "garbled",
        MnsError::Unreachable(_) => "unreachable",
        MnsError::Credentials(_) => "credentials",
    }
}
