//! Whether a queue can be read and emptied, told once when it changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::QueueConfig;
use super::error::{MnsError, Remedy};
use crate::request::SourceName;
use crate::server::Readiness;
use crate::throttle::Throttle;

/// A failure that passes by itself is worth a word from this one in a row on.
const FAILURES_TOLD: u32 = 2;

/// A queue that fails and works in turns has this many lines …
const LINES_MAX: u32 = 10;
/// … in this span. What changed without a line is told by the next that fits.
const LINES_SPAN: Duration = Duration::from_secs(60);

/// The state of one queue, shared by its pollers.
#[derive(Debug)]
pub(super) struct QueueState {
    source: SourceName,
    endpoint: String,
    queue: String,
    readiness: Arc<Readiness>,
    troubles: Mutex<Troubles>,
    lines: Throttle,
}

#[derive(Debug, Default)]
struct Troubles {
    reading: Trouble,
    emptying: Trouble,
}

/// What is wrong with one of the two.
#[derive(Debug, Default)]
struct Trouble {
    /// For `/readyz`; `None` where it works.
    text: Option<String>,
    /// The kind that was told last.
    told: Option<String>,
}

impl QueueState {
    /// The state of what `config` names.
    pub(super) fn new(config: &QueueConfig, readiness: Arc<Readiness>) -> Self {
        Self {
            source: config.name.clone(),
            endpoint: config.endpoint.clone(),
            queue: config.queue.clone(),
            readiness,
            troubles: Mutex::default(),
            lines: Throttle::new(LINES_MAX, LINES_SPAN),
        }
    }

    /// Says that the queue answered a poll as it should.
    pub(super) fn works(&self) {
        let mut troubles = self.troubles();
        if self.ends(&mut troubles, |troubles| &mut troubles.reading) {
            let (source, queue) = (self.source.as_str(), &self.queue);
            tracing::info!(source, queue, "the queue is read again");
        }
    }

    /// Says that messages were deleted.
    pub(super) fn empties(&self) {
        let mut troubles = self.troubles();
        if self.ends(&mut troubles, |troubles| &mut troubles.emptying) {
            let (source, queue) = (self.source.as_str(), &self.queue);
            tracing::info!(source, queue, "messages are deleted again");
        }
    }

    /// Says that a poll failed, the `failures`th in a row.
    pub(super) fn fails(&self, error: &MnsError, failures: u32) {
        let (source, queue) = (self.source.as_str(), self.queue.as_str());
        if error.remedy() == Remedy::Patience && failures < FAILURES_TOLD {
            tracing::debug!(source, queue, %error, "a poll failed");
            return;
        }
        let text = format!("queue {queue} cannot be read: {error}");
        if self.begins(error, text, |troubles| &mut troubles.reading) {
            let (endpoint, hint) = (&self.endpoint, error.hint());
            tracing::warn!(source, queue, endpoint, %error, hint, "the queue cannot be read; it is tried again");
        }
    }

    /// Says that MNS will not let us delete or keep what it lets us receive.
    pub(super) fn cannot_empty(&self, error: &MnsError) {
        let (source, queue) = (self.source.as_str(), self.queue.as_str());
        let text =
            format!("queue {queue} cannot be emptied, so that its messages come again: {error}");
        if self.begins(error, text, |troubles| &mut troubles.emptying) {
            let (endpoint, hint) = (&self.endpoint, error.hint());
            tracing::warn!(source, queue, endpoint, %error, hint, "the queue cannot be emptied; what was stored comes again as duplicates");
        }
    }

    /// Whether the end of a trouble is to be told.
    fn ends(&self, troubles: &mut Troubles, of: fn(&mut Troubles) -> &mut Trouble) -> bool {
        let trouble = of(troubles);
        let tells = trouble.told.is_some() && self.lines.admit(Instant::now()).is_some();
        if tells {
            trouble.told = None;
        }
        if trouble.text.take().is_some() {
            self.show(troubles);
        }
        tells
    }

    /// Whether it is a trouble of another kind than the one told last.
    fn begins(
        &self,
        error: &MnsError,
        text: String,
        of: fn(&mut Troubles) -> &mut Trouble,
    ) -> bool {
        let mut troubles = self.troubles();
        let trouble = of(&mut troubles);
        trouble.text = Some(text);
        let kind = kind(error);
        let tells =
            trouble.told.as_deref() != Some(kind) && self.lines.admit(Instant::now()).is_some();
        if tells {
            trouble.told = Some(kind.to_owned());
        }
        self.show(&troubles);
        tells
    }

    fn show(&self, troubles: &Troubles) {
        let text = troubles.reading.text.as_ref();
        let text = text.or(troubles.emptying.text.as_ref());
        self.readiness
            .set_trouble(self.source.as_str(), text.cloned());
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        // A panic cannot leave it half changed.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mns::CredentialsConfig;
    use crate::mns::credentials::Variables;

    fn state() -> QueueState {
        let config = QueueConfig {
            name: SourceName::new("queue").unwrap(),
            endpoint: "http://127.0.0.1:9".to_owned(),
            queue: "q".to_owned(),
            wait: Duration::from_secs(1),
            batch: 1,
            pollers: 1,
            visibility_timeout: None,
            max_receives: 5,
            ca_file: None,
            credentials: CredentialsConfig::Chain(Variables::default()),
        };
        QueueState::new(&config, Arc::default())
    }

    /// Whether this ends in a line, as the two that log do.
    fn is_told(state: &QueueState, error: &MnsError) -> bool {
        state.begins(error, error.to_string(), |troubles| &mut troubles.reading)
    }

    fn is_ended(state: &QueueState) -> bool {
        state.ends(&mut state.troubles(), |troubles| &mut troubles.reading)
    }

    #[test]
    fn a_queue_that_flaps_has_few_lines_and_readyz_is_right_all_the_same() {
        let state = state();
        let error = MnsError::Unreachable("gone".to_owned());
        let mut lines = 0;
        for _ in 0..1000 {
            lines += u32::from(is_told(&state, &error));
            assert_eq!(state.readiness.told_troubles(), ["sources.queue: gone"]);
            lines += u32::from(is_ended(&state));
            assert!(state.readiness.told_troubles().is_empty());
        }
        assert_eq!(lines, LINES_MAX);
    }

    #[test]
    fn what_lasts_is_told_once_and_what_cannot_be_emptied_outlives_a_poll() {
        let state = state();
        let error = MnsError::Unreachable("gone".to_owned());
        assert!(is_told(&state, &error));
        assert!((0..100).all(|_| !is_told(&state, &error)));
        assert!(is_ended(&state));
        assert!(!is_ended(&state));
        state.cannot_empty(&error);
        state.works();
        let troubles = state.readiness.told_troubles();
        assert!(troubles[0].contains("cannot be emptied"), "{troubles:?}");
        state.empties();
        assert!(state.readiness.told_troubles().is_empty());
    }
}
