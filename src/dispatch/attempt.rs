//! One attempt: run the handler within its limits, judge what it led to, and
//! have that written. Every change of a delivery's status after its birth goes
//! through [`Crew::settle`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::lane::{Handed, Lane};
use super::metrics::DispatchMetrics;
use crate::clock::Clock;
use crate::delivery::{Delivery, Reason, Report, Settlement, Verdict};
use crate::handler::{HandlerConfig, HandlerError, Retry};
use crate::store::{Store, StoreError};

/// How long an outcome that could not be written waits for the next try.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// What every attempt needs beside its delivery.
pub struct Crew {
    /// Where outcomes go.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: DispatchMetrics,
    /// Tells handlers that can end early to do so.
    pub ending: CancellationToken,
    /// Cuts short what is still at work.
    pub cut: CancellationToken,
    /// Woken when a retry was scheduled.
    pub scheduled: tokio::sync::Notify,
    /// When the next retry is due, as far as this process scheduled it.
    pub next_retry: std::sync::Mutex<Option<Timestamp>>,
}

/// How an attempt ended.
enum Ending {
    Done(Report),
    Failed(HandlerError),
    /// By the stop of the service.
    Cut(Report),
}

impl Crew {
    /// Runs one attempt to its end. `running` is held while the handler works
    /// and released before the outcome is written, so that a slow disk does not
    /// count against the handler's concurrency.
    pub async fn attempt(
        self: Arc<Self>,
        lane: Arc<Lane>,
        handed: Handed,
        running: OwnedSemaphorePermit,
    ) {
        let Handed { delivery, place } = handed;
        let started_at = self.clock.now();
        let started = Instant::now();
        let ending = self.run(&lane, &delivery).await;
        drop(running);
        let handles = self.metrics.of(&lane.config.name);
        handles.seconds.observe(started.elapsed().as_secs_f64());
        let settlement = self.judge(&lane, &delivery, ending, started_at);
        handles.count(settlement.verdict);
        if let Some(tracer) = self.metrics.tracer() {
            let leaves = matches!(lane.config.handler, HandlerConfig::Forward(_));
            tracer.attempt(&delivery, &settlement, leaves);
        }
        self.settle(&lane, &delivery, settlement).await;
        drop(place);
    }

    async fn run(&self, lane: &Lane, delivery: &Delivery) -> Ending {
        let handling = AssertUnwindSafe(lane.handler.handle(delivery, &self.ending)).catch_unwind();
        let limit = lane.config.timeout + lane.handler.overtime();
        let limited = tokio::time::timeout(limit, handling);
        let result = tokio::select! {
            biased;
            result = limited => result,
            () = self.cut.cancelled() => return Ending::Cut(Report::default()),
        };
        match result {
            Ok(Ok(Ok(report))) => Ending::Done(report),
            // That trying again cannot help is an answer, and no cut.
            Ok(Ok(Err(error))) if self.ending.is_cancelled() && error.retry != Retry::Never => {
                Ending::Cut(error.report)
            }
            Ok(Ok(Err(error))) => Ending::Failed(error),
            Ok(Err(_panic)) => Ending::Failed(failure("the handler panicked")),
            Err(_elapsed) => Ending::Failed(failure(&format!(
                "timed out after {:?}",
                lane.config.timeout
            ))),
        }
    }

    /// What an ending means for the delivery.
    fn judge(
        &self,
        lane: &Lane,
        delivery: &Delivery,
        ending: Ending,
        started_at: Timestamp,
    ) -> Settlement {
        let ended_at = self.clock.now().max(started_at);
        let settlement = |verdict, reason, report| Settlement {
            verdict,
            started_at,
            ended_at,
            reason,
            report,
        };
        match ending {
            Ending::Done(report) => {
                lane.failures.store(0, Ordering::Relaxed);
                settlement(Verdict::Succeeded, None, report)
            }
            Ending::Cut(report) => settlement(
                Verdict::Stopped,
                Some(Reason::new("stopped with the service")),
                report,
            ),
            Ending::Failed(error) => {
                lane.failures.fetch_add(1, Ordering::Relaxed);
                let (verdict, reason) = lane.config.retry.after_failure(
                    delivery,
                    error.retry,
                    error.reason,
                    ended_at,
                    rand::random(),
                );
                self.log_failure(lane, delivery, verdict, &reason);
                settlement(verdict, Some(reason), error.report)
            }
        }
    }

    fn log_failure(&self, lane: &Lane, delivery: &Delivery, verdict: Verdict, reason: &Reason) {
        let Some(suppressed) = self.metrics.of(&lane.config.name).log.admit(Instant::now()) else {
            return;
        };
        let event_id = delivery.event.id;
        let handler = lane.config.name.as_str();
        let attempt = delivery.attempt;
        match verdict {
            Verdict::RetryAt(at) => tracing::warn!(
                %event_id, handler, attempt, %reason, next_at = %at, suppressed,
                "a delivery failed and is tried again"
            ),
            _ => tracing::error!(
                %event_id, handler, attempt, %reason, suppressed,
                "a delivery is dead"
            ),
        }
    }

    /// Has the outcome written, however long the store takes to heal: an
    /// outcome that is forgotten would repeat the delivery.
    pub async fn settle(&self, lane: &Lane, delivery: &Delivery, settlement: Settlement) {
        let retry_at = match settlement.verdict {
            Verdict::RetryAt(at) => Some(at),
            _ => None,
        };
        loop {
            match self.store.record(delivery.key(), settlement.clone()).await {
                Ok(()) => break,
                Err(StoreError::NotOurs) => {
                    tracing::warn!(
                        event_id = %delivery.event.id,
                        handler = lane.config.name.as_str(),
                        attempt = delivery.attempt,
                        "an outcome came too late: the delivery was no longer ours"
                    );
                    return;
                }
                Err(_) => tokio::select! {
                    () = tokio::time::sleep(RECORD_AGAIN) => {}
                    // At the end of a stop the next start takes it over.
                    () = self.cut.cancelled() => return,
                },
            }
        }
        if let Some(at) = retry_at
            && self.note_retry(at)
        {
            self.scheduled.notify_one();
        }
    }

    /// Notes that something is due at `at`. Answers whether that is earlier
    /// than all that was noted before.
    pub fn note_retry(&self, at: Timestamp) -> bool {
        let mut next = self
            .next_retry
            .lock()
            .expect("plain arithmetic cannot panic");
        let earlier = next.is_none_or(|next| at < next);
        if earlier {
            *next = Some(at);
        }
        earlier
    }
}

fn failure(reason: &str) -> HandlerError {
    HandlerError {
        retry: Retry::WithBackoff,
        reason: Reason::new(reason),
        report: Report::default(),
        source: None,
    }
}
