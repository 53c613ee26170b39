//! The dispatcher over a store whose every answer a test decides.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;

use super::*;
use crate::clock::SystemClock;
use crate::delivery::{Delivery, DeliveryKey, Reason, Status, WorkerId};
use crate::event::EventId;
use crate::handler::log::{LogConfig, LogOutput};
use crate::handler::{HandlerError, Retry, testing};
use crate::store::{Backlog, Claimed, Enrolled, Full, History, Purge, Purged, Receipt};

mod keeping;
mod pausing;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct ScriptedStore {
    claims: AtomicUsize,
    /// What the next claim finds; it waits for `release` then.
    found: Mutex<Vec<Delivery>>,
    claiming: Notify,
    release: Notify,
    fails: AtomicBool,
    paused: AtomicBool,
    recorded: Mutex<Vec<(DeliveryKey, Verdict)>>,
    due: Arc<Notify>,
}

#[async_trait]
impl Store for ScriptedStore {
    fn insert(&self, _: NewEvent, _: Vec<Wanted>) -> Result<Receipt, Full> {
        Err(Full)
    }

    async fn record(&self, key: DeliveryKey, settlement: Settlement) -> Result<(), StoreError> {
        let mut recorded = self.recorded.lock().unwrap();
        recorded.push((key, settlement.verdict));
        Ok(())
    }

    async fn claim(&self, _: &[(HandlerName, u32)], _: Timestamp) -> Result<Claimed, StoreError> {
        self.claims.fetch_add(1, SeqCst);
        if self.fails.load(SeqCst) {
            return Err(StoreError::Unavailable("disk full".to_owned()));
        }
        let deliveries = std::mem::take(&mut *self.found.lock().unwrap());
        if !deliveries.is_empty() {
            self.claiming.notify_one();
            self.release.notified().await;
        }
        Ok(Claimed {
            deliveries,
            next_due: BTreeMap::new(),
        })
    }

    async fn take_over(&self, _: &Roster, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn enrol(&self, _: &Roster, _: Timestamp) -> Result<Enrolled, StoreError> {
        let mut enrolled = Enrolled::default();
        if self.paused.load(SeqCst) {
            let name = HandlerName::new("audit").unwrap();
            enrolled.paused.insert(name, SystemClock.now());
        }
        Ok(enrolled)
    }

    async fn history(&self, _: EventId) -> Result<Option<History>, StoreError> {
        Ok(None)
    }

    async fn purge(&self, _: Purge, _: u32) -> Result<Purged, StoreError> {
        Ok(Purged::default())
    }

    async fn backlog(&self) -> Result<BTreeMap<HandlerName, Backlog>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn due(&self) -> Arc<Notify> {
        Arc::clone(&self.due)
    }

    fn worker(&self) -> WorkerId {
        WorkerId(1)
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn close(&self) {}
}

/// Does its work at once.
struct Prompt;

#[async_trait]
impl Handler for Prompt {
    async fn handle(&self, _: &Delivery, _: &CancellationToken) -> Result<Report, HandlerError> {
        Ok(Report::default())
    }
}

/// Is told that the service ends, and says then that the event is nothing for it.
struct Gone;

#[async_trait]
impl Handler for Gone {
    async fn handle(&self, _: &Delivery, stop: &CancellationToken) -> Result<Report, HandlerError> {
        stop.cancelled().await;
        Err(HandlerError {
            retry: Retry::Never,
            reason: Reason::new("status 410"),
            report: Report::default(),
            source: None,
        })
    }
}

/// A lane that works on so many deliveries at a time.
fn lane(name: &HandlerName, concurrency: usize) -> LaneConfig {
    LaneConfig {
        name: name.clone(),
        filter: Filter::default(),
        timeout: Duration::from_secs(10),
        concurrency,
        retry: retry::RetryPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_mins(15),
            max_age: Duration::from_hours(72),
            attempts: None,
        },
        handler: HandlerConfig::Log(LogConfig {
            output: LogOutput::Stderr,
            body: true,
            body_bytes_max: None,
        }),
    }
}

async fn start(store: &Arc<ScriptedStore>, handler: impl Handler) -> Arc<Dispatcher> {
    let name = HandlerName::new("audit").unwrap();
    let lanes: Vec<(LaneConfig, Arc<dyn Handler>)> = vec![(lane(&name, 4), Arc::new(handler))];
    start_lanes(Arc::clone(store) as _, lanes).await
}

async fn start_lanes(
    store: Arc<dyn Store>,
    lanes: Vec<(LaneConfig, Arc<dyn Handler>)>,
) -> Arc<Dispatcher> {
    let config = DispatchConfig {
        queue_capacity: 1024,
        queue_bytes_max: 1 << 20,
        drain: Duration::from_secs(8),
    };
    let metrics = DispatchMetrics::new(lanes.iter().map(|(lane, _)| &lane.name));
    Dispatcher::start(&config, lanes, store, Arc::new(SystemClock), metrics)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_finds_nothing_is_not_followed_by_another_one() {
    let store = Arc::new(ScriptedStore::default());
    let dispatcher = start(&store, Prompt).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(store.claims.load(SeqCst), 1, "nobody called for more");
    store.due.notify_one();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(store.claims.load(SeqCst), 2, "called for once");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        store.claims.load(SeqCst),
        3,
        "the look that is taken anyway"
    );
    dispatcher.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_failed_is_repeated_every_second() {
    let store = Arc::new(ScriptedStore::default());
    store.fails.store(true, SeqCst);
    let dispatcher = start(&store, Prompt).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(store.claims.load(SeqCst), 4);
    dispatcher.drain().await;
}

#[tokio::test]
async fn what_is_claimed_while_a_stop_begins_is_given_back() {
    let store = Arc::new(ScriptedStore::default());
    store.found.lock().unwrap().push(testing::delivery(b"{}"));
    let dispatcher = start(&store, Prompt).await;
    timeout(PATIENCE, store.claiming.notified()).await.unwrap();
    dispatcher.begin_stop();
    // The stop has got everywhere before the claim comes back.
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    store.release.notify_one();
    timeout(PATIENCE, dispatcher.drain()).await.unwrap();
    let recorded = store.recorded.lock().unwrap();
    let verdicts: Vec<Verdict> = recorded.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Returned], "not left running");
}

#[tokio::test(start_paused = true)]
async fn what_is_dead_while_the_service_ends_is_dead() {
    let store = Arc::new(ScriptedStore::default());
    store.found.lock().unwrap().push(testing::delivery(b"{}"));
    store.release.notify_one();
    let dispatcher = start(&store, Gone).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    dispatcher.drain().await;
    let recorded = store.recorded.lock().unwrap();
    let verdicts: Vec<Verdict> = recorded.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Dead], "not tried again after the stop");
}
