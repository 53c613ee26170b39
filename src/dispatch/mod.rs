//! From a committed event to a handler's outcome on disk.
//!
//! Each handler has a `lane`: places in memory, and a task that starts
//! attempts. Fresh events arrive in reserved slots, right after their commit;
//! everything else (retries, what found no slot, what an earlier process left)
//! is claimed from the store by one task, for free places only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::delivery::{Report, Settlement, Verdict};
use crate::event::NewEvent;
use crate::filter::Filter;
use crate::handler::{Handler, HandlerConfig};
use crate::request::HandlerName;
use crate::store::{Enrolled, Roster, Store, StoreError, Wanted};

mod attempt;
mod claim;
mod disk;
mod lane;
pub mod metrics;
pub mod retention;
pub mod retry;
#[cfg(test)]
mod tests;

pub use metrics::DispatchMetrics;

use attempt::Crew;
use lane::{Budget, Handed, Lane};

/// After this many failures in a row a handler's destination is taken for
/// down: its attempts start with a pause between them, so that a dead one does
/// not spend the machine that the others need.
const FAILURES_BEFORE_PACE: u32 = 32;

/// The pause between the starts of attempts of a handler that is down.
const PACE: Duration = Duration::from_millis(5);

/// What of dispatch can be configured.
#[derive(Debug, Clone)]
pub struct DispatchConfig {
    /// Deliveries handed over in memory, per handler, at the most.
    pub queue_capacity: usize,
    /// Bytes of all bodies handed over in memory, at the most.
    pub queue_bytes_max: usize,
    /// How long a stop waits for handlers at work.
    pub drain: Duration,
}

/// One configured handler: what it wants, how it is driven, and what it is.
#[derive(Debug, Clone)]
pub struct LaneConfig {
    /// Its name.
    pub name: HandlerName,
    /// Which events it wants.
    pub filter: Filter,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many attempts run at the same time.
    pub concurrency: usize,
    /// When failed attempts are repeated.
    pub retry: retry::RetryPolicy,
    /// Its kind, with that kind's own configuration.
    pub handler: HandlerConfig,
}

/// Drives all handlers.
pub struct Dispatcher {
    lanes: Vec<Arc<Lane>>,
    crew: Arc<Crew>,
    drain: Duration,
    /// From the stop signal on no slot is given and no attempt starts.
    stopping: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Dispatcher {
    /// Takes over what an earlier process left, and starts to drive `lanes`.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot say what is left.
    pub async fn start(
        config: &DispatchConfig,
        lanes: Vec<(LaneConfig, Arc<dyn Handler>)>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        metrics: DispatchMetrics,
    ) -> Result<Arc<Self>, StoreError> {
        let roster = lanes
            .iter()
            .map(|(lane, _)| (lane.name.clone(), lane.retry.step(1)))
            .collect();
        let paused = take_over(&*store, &Roster(roster), &*clock).await?;
        let budget = Arc::new(Budget::new(config.queue_bytes_max));
        let crew = Arc::new(Crew {
            store,
            clock,
            metrics,
            ending: CancellationToken::new(),
            cut: CancellationToken::new(),
            scheduled: Notify::new(),
            next_retry: std::sync::Mutex::new(None),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let mut driven = Vec::with_capacity(lanes.len());
        for (lane, handler) in lanes {
            let paused = paused.contains_key(&lane.name);
            let budget = Arc::clone(&budget);
            let (lane, handed) = Lane::new(lane, handler, paused, config.queue_capacity, budget);
            driven.push(Arc::clone(&lane));
            tasks.spawn(drive(
                lane,
                handed,
                Arc::clone(&crew),
                stop.clone(),
                tasks.clone(),
            ));
        }
        let claims: HashMap<HandlerName, Arc<Lane>> = driven
            .iter()
            .map(|lane| (lane.config.name.clone(), Arc::clone(lane)))
            .collect();
        tasks.spawn(claim::run(claims, Arc::clone(&crew), budget, stop.clone()));
        Ok(Arc::new(Self {
            lanes: driven,
            crew,
            drain: config.drain,
            stopping: AtomicBool::new(false),
            stop,
            tasks,
        }))
    }

    /// A dispatcher that drives nothing, for tests of what stands before it.
    #[cfg(test)]
    pub fn without_handlers(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            lanes: Vec::new(),
            crew: Arc::new(Crew {
                store,
                clock: Arc::new(crate::clock::SystemClock),
                metrics: DispatchMetrics::new(std::iter::empty()),
                ending: CancellationToken::new(),
                cut: CancellationToken::new(),
                scheduled: Notify::new(),
                next_retry: std::sync::Mutex::new(None),
            }),
            drain: Duration::ZERO,
            stopping: AtomicBool::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The deliveries that `event` owes, each with a slot where there is one.
    pub fn reserve(&self, event: &NewEvent) -> Vec<Wanted> {
        self.lanes
            .iter()
            .filter(|lane| lane.config.filter.admit(event).is_ok())
            .map(|lane| Wanted {
                handler: lane.config.name.clone(),
                // Asked when the place is taken, not before: a lane ends once
                // it has seen the stop and no place that is taken.
                slot: lane
                    .reserve(event.body.len())
                    .filter(|_| !self.stopping.load(Ordering::SeqCst)),
            })
            .collect()
    }

    /// SIGHUP: handlers reopen their files.
    pub fn reopen(&self) {
        self.lanes.iter().for_each(|lane| lane.handler.reopen());
    }

    /// Holds a handler back at once: no slot is given, no attempt starts, and
    /// what was handed over and not begun goes back into the store. Attempts at
    /// work come to their end. That it lasts beyond a restart is the store's
    /// part ([`Archive::set_paused`](crate::store::Archive::set_paused)), which
    /// comes first. Answers whether it changed anything; `None` where no such
    /// handler is configured.
    pub fn pause(&self, handler: &HandlerName) -> Option<bool> {
        let changed = self.lane(handler)?.set_paused(true);
        if changed {
            tracing::info!(
                handler = handler.as_str(),
                "paused: its deliveries wait in the store from now on"
            );
        }
        Some(changed)
    }

    /// Drives a handler again that was held back; what waits for it is claimed
    /// at once. The store's part comes first here, too. Answers whether it
    /// changed anything; `None` where no such handler is configured.
    pub fn resume(&self, handler: &HandlerName) -> Option<bool> {
        let changed = self.lane(handler)?.set_paused(false);
        if changed {
            tracing::info!(
                handler = handler.as_str(),
                "resumed: its deliveries go on, and their age counts from now"
            );
        }
        Some(changed)
    }

    fn lane(&self, handler: &HandlerName) -> Option<&Arc<Lane>> {
        let mut lanes = self.lanes.iter();
        lanes.find(|lane| lane.config.name == *handler)
    }

    /// The stop signal: from now on no slot is given and no attempt starts.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.cancel();
    }

    /// Waits for what is at work, at most `drain` long; then cuts the rest
    /// short. Handlers that can end early are told 5 s before. Ends when every
    /// outcome is recorded.
    pub async fn drain(&self) {
        const NOTICE: Duration = Duration::from_secs(5);
        self.begin_stop();
        self.tasks.close();
        let ended = tokio::time::timeout(self.drain.saturating_sub(NOTICE), self.tasks.wait());
        if ended.await.is_ok() {
            return;
        }
        self.crew.ending.cancel();
        let ended = tokio::time::timeout(self.drain.min(NOTICE), self.tasks.wait());
        if ended.await.is_ok() {
            return;
        }
        self.crew.cut.cancel();
        // What was cut short is recorded within moments, or taken over by the
        // next start.
        let recorded = tokio::time::timeout(Duration::from_millis(500), self.tasks.wait());
        if recorded.await.is_err() {
            tracing::warn!("some outcomes could not be recorded; the next start takes them over");
        }
    }
}

/// Handlers that are named, of those that are no longer configured.
const LEFT_NAMED_MAX: usize = 5;

/// Says for which handlers deliveries wait that nobody takes: a line for each of
/// a few, and one for many, since an import may bring any names.
fn tell_left(left: &[(HandlerName, u64)]) {
    if left.len() > LEFT_NAMED_MAX {
        let (first, rest) = left.split_at(LEFT_NAMED_MAX);
        let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
        tracing::warn!(
            handlers = format!("{} and {} more", names.join(", "), rest.len()),
            pending = left.iter().map(|(_, waiting)| waiting).sum::<u64>(),
            "deliveries wait for handlers that are no longer configured; `ims-receiver handlers list` names all"
        );
        return;
    }
    for (handler, waiting) in left {
        tracing::warn!(
            handler = handler.as_str(),
            pending = waiting,
            "deliveries wait for a handler that is no longer configured; they go on when its name returns"
        );
    }
}

/// Answers which of the handlers are held back, and since when.
async fn take_over(
    store: &dyn Store,
    roster: &Roster,
    clock: &dyn Clock,
) -> Result<BTreeMap<HandlerName, Timestamp>, StoreError> {
    let Enrolled { left, paused } = store.enrol(roster, clock.now()).await?;
    tell_left(&left);
    if !paused.is_empty() {
        let since = |(name, at): (&HandlerName, &Timestamp)| format!("{name} since {at:.0}");
        let handlers: Vec<String> = paused.iter().map(since).collect();
        tracing::warn!(
            handlers = handlers.join(", "),
            "handlers are paused: their deliveries wait in the store until somebody resumes them"
        );
    }
    let taken_over = store.take_over(roster, clock.now()).await?;
    tracing::info!(
        taken_over,
        "took over what an earlier process had left running"
    );
    Ok(paused)
}

/// Starts attempts of one lane, as its concurrency allows, until the stop;
/// then gives back what was handed over and not begun. While the handler is
/// held back, what is handed over is given back at once.
async fn drive(
    lane: Arc<Lane>,
    mut handed: mpsc::UnboundedReceiver<Handed>,
    crew: Arc<Crew>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let running = Arc::new(Semaphore::new(lane.config.concurrency.max(1)));
    let mut pauses = lane.pauses();
    loop {
        // Seen before it is asked for, so that no change is missed.
        pauses.borrow_and_update();
        let paused = lane.is_paused();
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = pauses.changed() => continue,
            permit = Arc::clone(&running).acquire_owned(), if !paused => Some(permit),
            // Nothing is begun, so nobody has to make room for it.
            () = std::future::ready(()), if paused => None,
        };
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = pauses.changed() => continue,
            next = handed.recv() => next,
        };
        let Some(next) = next else { break };
        match permit {
            None => give_back(&lane, next, &crew, &tasks),
            Some(Err(_closed)) => break,
            Some(Ok(permit)) => {
                tasks.spawn(Arc::clone(&crew).attempt(Arc::clone(&lane), next, permit));
            }
        }
        if !paused && lane.failures.load(Ordering::Relaxed) >= FAILURES_BEFORE_PACE {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PACE) => {}
            }
        }
    }
    give_all_back(&lane, &mut handed, &crew, &tasks).await;
}

/// Returns what was not begun, until every slot has been filled or dropped and
/// every attempt is settled.
async fn give_all_back(
    lane: &Arc<Lane>,
    handed: &mut mpsc::UnboundedReceiver<Handed>,
    crew: &Arc<Crew>,
    tasks: &TaskTracker,
) {
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    loop {
        match tokio::time::timeout(LOOK_AGAIN, handed.recv()).await {
            Ok(Some(next)) => give_back(lane, next, crew, tasks),
            Ok(None) => return,
            Err(_) if lane.is_empty() => return,
            Err(_) => {}
        }
    }
}

/// Has a delivery that was not begun recorded as if it had not been taken.
fn give_back(lane: &Arc<Lane>, handed: Handed, crew: &Arc<Crew>, tasks: &TaskTracker) {
    let Handed { delivery, place } = handed;
    let now = crew.clock.now();
    let returned = Settlement {
        verdict: Verdict::Returned,
        started_at: now,
        ended_at: now,
        reason: None,
        report: Report::default(),
    };
    let (lane, crew) = (Arc::clone(lane), Arc::clone(crew));
    tasks.spawn(async move {
        crew.settle(&lane, &delivery, returned).await;
        drop(place);
    });
}
