//! Handlers that are held back, over the real store.

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::store::{self, Opened, StoreConfig, StoreMetrics};

/// Works until it is let go, and counts how often it was begun.
#[derive(Clone)]
struct Held {
    begun: Arc<AtomicUsize>,
    let_go: Arc<Semaphore>,
}

#[async_trait]
impl Handler for Held {
    async fn handle(&self, _: &Delivery, _: &CancellationToken) -> Result<Report, HandlerError> {
        self.begun.fetch_add(1, SeqCst);
        let permit = self.let_go.acquire().await.unwrap();
        permit.forget();
        Ok(Report::default())
    }
}

/// One handler that works on two deliveries at a time, and its store.
struct Line {
    folder: TempDir,
    opened: Opened,
    dispatcher: Arc<Dispatcher>,
    handler: Held,
    name: HandlerName,
}

impl Line {
    async fn start() -> Self {
        Self::start_in(TempDir::new().unwrap()).await
    }

    async fn start_in(folder: TempDir) -> Self {
        let path = folder.path().join("events.db");
        let opened = store::open(
            StoreConfig {
                path: path.clone(),
                dedup_window: Duration::from_hours(1),
                dedup_entries_max: 1000,
                clock: Arc::new(SystemClock),
                metrics: StoreMetrics::default(),
            },
            store::lock(&path).unwrap(),
        )
        .unwrap();
        let handler = Held {
            begun: Arc::default(),
            let_go: Arc::new(Semaphore::new(0)),
        };
        let name = HandlerName::new("audit").unwrap();
        let store = Arc::clone(&opened.store);
        let lanes: Vec<(LaneConfig, Arc<dyn Handler>)> =
            vec![(lane(&name, 2), Arc::new(handler.clone()))];
        Self {
            folder,
            dispatcher: start_lanes(store, lanes).await,
            opened,
            handler,
            name,
        }
    }

    /// Stores an event as the line does it.
    async fn arrive(&self, body: String) -> EventId {
        let mut event = testing::delivery(body.as_bytes()).event.content.clone();
        event.fingerprint = crate::event::fingerprint(&event.body);
        let wanted = self.dispatcher.reserve(&event);
        let receipt = self.opened.store.insert(event, wanted).unwrap();
        timeout(PATIENCE, receipt)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .id
    }

    async fn pause(&self) {
        let now = SystemClock.now();
        let archive = &self.opened.archive;
        archive.set_paused(&self.name, true, now).await.unwrap();
        assert_eq!(self.dispatcher.pause(&self.name), Some(true));
    }

    async fn resume(&self) {
        let now = SystemClock.now();
        let archive = &self.opened.archive;
        archive.set_paused(&self.name, false, now).await.unwrap();
        assert_eq!(self.dispatcher.resume(&self.name), Some(true));
    }

    fn begun(&self) -> usize {
        self.handler.begun.load(SeqCst)
    }

    /// Status and attempts of the only delivery of an event.
    async fn stands(&self, id: EventId) -> (Status, u32) {
        let history = self.opened.store.history(id).await.unwrap().unwrap();
        (history.deliveries[0].status, history.deliveries[0].attempts)
    }

    async fn until(&self, ids: &[EventId], expected: (Status, u32)) {
        crate::store::conformance::until(&format!("all stand at {expected:?}"), async || {
            for id in ids {
                if self.stands(*id).await != expected {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn unfinished(&self) -> u64 {
        self.opened.store.backlog().await.unwrap()[&self.name].unfinished
    }

    async fn stop(self) -> TempDir {
        self.handler.let_go.add_permits(1000);
        timeout(PATIENCE, self.dispatcher.drain()).await.unwrap();
        timeout(PATIENCE, self.opened.store.close()).await.unwrap();
        self.folder
    }
}

#[tokio::test]
async fn a_pause_gives_back_what_is_not_begun_and_lets_the_rest_end() {
    let line = Line::start().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(line.arrive(n.to_string()).await);
    }
    crate::store::conformance::until("two are at work", async || line.begun() == 2).await;
    line.pause().await;
    assert_eq!(line.dispatcher.pause(&line.name), Some(false), "already");
    line.until(&ids[2..], (Status::Pending, 0)).await;
    assert_eq!(line.stands(ids[0]).await, (Status::Running, 1));
    // What is at work comes to its end, and nothing follows it.
    line.handler.let_go.add_permits(20);
    line.until(&ids[..2], (Status::Succeeded, 1)).await;
    for n in 20..40 {
        ids.push(line.arrive(n.to_string()).await);
    }
    line.until(&ids[2..], (Status::Pending, 0)).await;
    assert_eq!((line.begun(), line.unfinished().await), (2, 38));

    line.handler.let_go.add_permits(100);
    line.resume().await;
    assert_eq!(line.dispatcher.resume(&line.name), Some(false), "already");
    line.until(&ids, (Status::Succeeded, 1)).await;
    assert_eq!((line.begun(), line.unfinished().await), (40, 0));
    line.stop().await;
}

#[tokio::test]
async fn a_paused_handler_is_left_alone_by_the_next_start() {
    let line = Line::start().await;
    line.pause().await;
    let id = line.arrive("before".to_owned()).await;
    let line = Line::start_in(line.stop().await).await;
    let other = line.arrive("after".to_owned()).await;
    line.handler.let_go.add_permits(100);
    // A claim would have come by now: it is what a wake-up is for.
    line.opened.store.due().notify_one();
    line.dispatcher.crew.scheduled.notify_one();
    line.until(&[id, other], (Status::Pending, 0)).await;
    assert_eq!(line.begun(), 0);
    line.resume().await;
    line.until(&[id, other], (Status::Succeeded, 1)).await;
    line.stop().await;
}

#[tokio::test]
async fn pauses_at_any_moment_lose_and_repeat_nothing() {
    let line = Line::start().await;
    line.handler.let_go.add_permits(100_000);
    let mut ids = Vec::new();
    for n in 0..400 {
        ids.push(line.arrive(n.to_string()).await);
        match n % 20 {
            7 => line.pause().await,
            13 => line.resume().await,
            _ => {}
        }
    }
    line.until(&ids, (Status::Succeeded, 1)).await;
    assert_eq!((line.begun(), line.unfinished().await), (400, 0));
    line.stop().await;
}

#[tokio::test]
async fn a_handler_that_is_not_configured_cannot_be_paused() {
    let line = Line::start().await;
    let nobody = HandlerName::new("nobody").unwrap();
    assert_eq!(line.dispatcher.pause(&nobody), None);
    assert_eq!(line.dispatcher.resume(&nobody), None);
    line.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_while_a_handler_is_paused() {
    let store = Arc::new(ScriptedStore::default());
    store.paused.store(true, SeqCst);
    store.found.lock().unwrap().push(testing::delivery(b"{}"));
    let dispatcher = start(&store, Prompt).await;
    store.due.notify_one();
    // Longer than any look that is taken anyway.
    tokio::time::sleep(Duration::from_secs(30)).await;
    timeout(PATIENCE, dispatcher.drain()).await.unwrap();
    assert_eq!(store.claims.load(SeqCst), 0, "nothing is claimed for it");
    assert!(store.recorded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_claimed_while_a_pause_begins_is_given_back() {
    let store = Arc::new(ScriptedStore::default());
    store.found.lock().unwrap().push(testing::delivery(b"{}"));
    let dispatcher = start(&store, Prompt).await;
    timeout(PATIENCE, store.claiming.notified()).await.unwrap();
    let name = HandlerName::new("audit").unwrap();
    assert_eq!(dispatcher.pause(&name), Some(true));
    store.release.notify_one();
    crate::store::conformance::until("it is given back", async || {
        let recorded = store.recorded.lock().unwrap();
        recorded
            .iter()
            .any(|(_, verdict)| *verdict == Verdict::Returned)
    })
    .await;
    assert_eq!(store.recorded.lock().unwrap().len(), 1);
    timeout(PATIENCE, dispatcher.drain()).await.unwrap();
}
