//! The loop that empties a queue into the line.

use std::sync::Arc;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::batch;
use super::client::{Client, Received};
use super::error::{Code, MnsError, Remedy};
use super::message::Message;
use super::metrics::OfQueue;
use super::state::QueueState;
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::request::SourceName;
use crate::throttle::Throttle;

/// Batches of one poller that are stored or deleted while it polls on.
const BATCHES_MAX: usize = 4;

/// What MNS gives a queue whose owner chose nothing.
const VISIBILITY_DEFAULT: Duration = Duration::from_secs(30);

/// How long the next poll waits for a store that takes nothing.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How long a stop waits for a poll under way: messages may have been handed
/// out to it, and would then be invisible to everybody for a while.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// How long a stop waits for the batches at work.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// Lines about single messages …
const LINES_MAX: u32 = 1;
/// … in this span; the rest are counted.
const LINES_SPAN: Duration = Duration::from_secs(60);

/// What the pollers of one queue share.
pub(super) struct Poller {
    pub(super) source: SourceName,
    pub(super) client: Client,
    pub(super) ingest: Arc<Ingest>,
    pub(super) metrics: OfQueue,
    pub(super) state: QueueState,
    /// When polls may go on after the store would not take a message.
    poll_from: Mutex<Option<Instant>>,
    clock: Arc<dyn Clock>,
    wait: Duration,
    batch: usize,
    max_receives: u32,
    visibility: OnceLock<Duration>,
    left: Throttle,
    too_often: Throttle,
}

/// What a poller is made of beside its client.
pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) ingest: Arc<Ingest>,
    pub(super) metrics: OfQueue,
    pub(super) state: QueueState,
    pub(super) clock: Arc<dyn Clock>,
}

impl Poller {
    pub(super) fn new(config: &super::QueueConfig, parts: Parts) -> Self {
        let visibility = OnceLock::new();
        if let Some(configured) = config.visibility_timeout {
            // It is empty.
            visibility.set(configured).ok();
        }
        Self {
            source: config.name.clone(),
            client: parts.client,
            ingest: parts.ingest,
            metrics: parts.metrics,
            state: parts.state,
            poll_from: Mutex::default(),
            clock: parts.clock,
            wait: config.wait,
            batch: config.batch,
            max_receives: config.max_receives,
            visibility,
            left: Throttle::new(LINES_MAX, LINES_SPAN),
            too_often: Throttle::new(LINES_MAX, LINES_SPAN),
        }
    }

    /// Polls until `stop`, and then finishes or gives back what it holds.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut batches = JoinSet::new();
        self.poll(&mut batches, &stop).await;
        let finished = async { while batches.join_next().await.is_some() {} };
        if timeout(STOP_PATIENCE, finished).await.is_err() {
            let source = self.source.as_str();
            tracing::warn!(
                source,
                "messages are left to the queue, which hands them out again"
            );
        }
    }

    /// Polls until `stop`.
    async fn poll(self: &Arc<Self>, batches: &mut JoinSet<()>, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        let mut pause = Duration::ZERO;
        stop.run_until_cancelled(self.learn_visibility()).await;
        while !stop.is_cancelled() {
            let ready = async {
                sleep(pause).await;
                while batches.len() >= BATCHES_MAX {
                    // A panic in one was logged by the panic hook; its messages come again.
                    let _ = batches.join_next().await;
                }
                while batches.try_join_next().is_some() {}
                self.wait_for_the_store().await;
            };
            if stop.run_until_cancelled(ready).await.is_none() {
                return;
            }
            let since = Instant::now();
            let Some(received) = self.receive(stop).await else {
                return;
            };
            pause = match received {
                Ok(received) if received.messages.is_empty() => {
                    self.state.works();
                    self.after_empty(&mut backoff, since.elapsed())
                }
                Ok(received) => {
                    self.state.works();
                    self.metrics.full.inc();
                    backoff.reset();
                    let (poller, stop) = (Arc::clone(self), stop.clone());
                    batches.spawn(async move { batch::handle(&poller, received, &stop).await });
                    Duration::ZERO
                }
                Err(error) => self.after_failure(&mut backoff, &error),
            };
        }
    }

    /// One poll; `None` where `stop` came and nothing else.
    async fn receive(&self, stop: &CancellationToken) -> Option<Result<Received, MnsError>> {
        let given_up = async {
            stop.cancelled().await;
            sleep(STOP_GRACE).await;
        };
        tokio::select! {
            received = self.client.receive(self.batch, self.wait) => Some(received),
            () = given_up => None,
        }
    }

    /// One request that proves endpoint, name and key; a policy that forbids
    /// it is no failure, and any other failure the first poll tells as well.
    async fn learn_visibility(&self) {
        if self.visibility.get().is_some() {
            return;
        }
        match self.client.attributes().await {
            Ok(attributes) => {
                if let Some(visibility) = attributes.visibility_timeout {
                    // Another poller of the queue learnt the same.
                    self.visibility.set(visibility).ok();
                }
            }
            Err(error) => {
                let source = self.source.as_str();
                tracing::debug!(source, %error, "the queue's attributes cannot be read");
            }
        }
    }

    /// A message that cannot be stored would only use up its receives.
    async fn wait_for_the_store(&self) {
        let from = *self.poll_from();
        if let Some(from) = from {
            sleep_until(from).await;
        }
        while self.ingest.store_health().is_err() {
            sleep(STORE_PAUSE).await;
        }
    }

    /// Says that the store would not take a message; all polls wait a while.
    pub(super) fn hold_off(&self) {
        *self.poll_from() = Some(Instant::now() + STORE_PAUSE);
    }

    fn poll_from(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // A panic cannot leave it half changed.
        self.poll_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Over the cap on long polls MNS answers at once instead of waiting.
    fn after_empty(&self, backoff: &mut Backoff, took: Duration) -> Duration {
        self.metrics.lag.set(0.0);
        if took >= self.wait / 2 {
            self.metrics.empty.inc();
            backoff.reset();
            Duration::ZERO
        } else {
            self.metrics.early.inc();
            backoff.after_early_empty(rand::random())
        }
    }

    fn after_failure(&self, backoff: &mut Backoff, error: &MnsError) -> Duration {
        let count = match (error, error.code()) {
            (_, Some(Code::Throttled)) => &self.metrics.throttled,
            (MnsError::Refused(_), _) => &self.metrics.refused,
            _ => &self.metrics.failed,
        };
        count.inc();
        let pause = match error.remedy() {
            Remedy::Patience => backoff.after_failure(rand::random()),
            Remedy::Somebody => backoff.after_refusal(rand::random()),
        };
        self.state.fails(error, backoff.failures());
        pause
    }

    /// How long the messages of a batch stay ours: as MNS says with them, and
    /// no longer than the configuration or the queue itself says.
    pub(super) fn visibility_of(&self, batch: &Received) -> Duration {
        let stated = batch.date.and_then(|date| {
            let until = batch.messages.iter().filter_map(|one| one.next_visible_at);
            Duration::try_from(until.min()?.duration_since(date)).ok()
        });
        let known = self.visibility.get().copied();
        let visibility = match (known, stated) {
            (Some(known), Some(stated)) => known.min(stated),
            (known, stated) => known.or(stated).unwrap_or(VISIBILITY_DEFAULT),
        };
        visibility.max(Duration::from_secs(1))
    }

    /// By the clock that stamped the messages, where the answer tells it.
    pub(super) fn observe_lag(&self, batch: &Received) {
        let sent = batch.messages.iter().filter_map(|one| one.enqueued_at);
        if let Some(oldest) = sent.min() {
            let now = batch.date.unwrap_or_else(|| self.clock.now());
            let lag = now.duration_since(oldest);
            self.metrics.lag.set(lag.as_secs_f64().max(0.0));
        }
    }

    pub(super) fn watch_receives(&self, message: &Message) {
        if message.receives <= self.max_receives {
            return;
        }
        self.metrics.too_often.inc();
        if let Some(suppressed) = self.too_often.admit(std::time::Instant::now()) {
            tracing::warn!(
                source = self.source.as_str(),
                message_id = message.id,
                receives = message.receives,
                suppressed,
                "a message comes again and again"
            );
        }
    }

    /// Says now and then that a message stays in its queue.
    pub(super) fn warn(&self, message_id: &str, reason: &str) {
        if let Some(suppressed) = self.left.admit(std::time::Instant::now()) {
            let source = self.source.as_str();
            tracing::warn!(
                source,
                message_id,
                reason,
                suppressed,
                "a message was left in its queue"
            );
        }
    }
}
