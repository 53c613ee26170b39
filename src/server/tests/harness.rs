//! A listener on a free port with a store in memory behind it, and a client
//! that says exactly the bytes it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::{Clock, ManualClock};
use crate::delivery::{DeliveryKey, Settlement, WorkerId};
use crate::dispatch::{DispatchConfig, DispatchMetrics, Dispatcher};
use crate::event::{EventId, NewEvent};
use crate::ingest::{Ingest, IngestMetrics, SourceConfig};
use crate::request::{HandlerName, SourceName};
use crate::server::{
    Callback, ConnectionLimits, Readiness, Refusals, ServerConfig, ServerMetrics, Unready, run,
};
use crate::signature::SchemeConfig;
use crate::signature::ims::{ImsConfig, ReusePolicy};
use crate::store::{
    Backlog, Claimed, Enrolled, Full, History, Inserted, Purge, Purged, Receipt, Roster, Store,
    StoreError, Wanted,
};

/// Nothing in these tests takes longer unless it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// When the vector of the documentation was signed.
pub(super) const NOW: i64 = 1_519_375_990;

/// The header lines of the vector of the documentation.
pub(super) const SIGNED: &str = "X-ICE-TIMESTAMP: 1519375990\r\n\
     X-ICE-SIGNATURE: c72b60894140fa98920f1279219b7ed4\r\n";

/// What the store does with an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Work,
    Fail,
    Full,
    Hang,
}

/// A store in memory that can be told to misbehave.
pub(super) struct FakeStore {
    mode: Mutex<Mode>,
    events: Mutex<Vec<(EventId, NewEvent)>>,
    hanging: Mutex<Vec<Hanging>>,
    pub(super) histories: Mutex<BTreeMap<EventId, History>>,
    changed: Notify,
}

type Hanging = (oneshot::Sender<Result<Inserted, StoreError>>, NewEvent);

impl FakeStore {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            mode: Mutex::new(Mode::Work),
            events: Mutex::default(),
            hanging: Mutex::default(),
            histories: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub(super) fn stored(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub(super) fn last(&self) -> NewEvent {
        self.events.lock().unwrap().last().unwrap().1.clone()
    }

    /// Commits what hangs.
    pub(super) fn release(&self) {
        for (answer, event) in self.hanging.lock().unwrap().drain(..) {
            answer.send(Ok(self.keep(event))).ok();
        }
    }

    /// Waits until `done` holds of this store.
    pub(super) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if done(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the store came to it");
    }

    pub(super) fn hangs(&self) -> usize {
        self.hanging.lock().unwrap().len()
    }

    fn keep(&self, event: NewEvent) -> Inserted {
        let mut events = self.events.lock().unwrap();
        let known = events
            .iter()
            .find(|(_, known)| known.fingerprint == event.fingerprint)
            .map(|(id, _)| *id);
        if let Some(id) = known {
            return Inserted {
                id,
                duplicate: true,
            };
        }
        let id = EventId(Uuid::from_u128(events.len() as u128 + 1));
        events.push((id, event));
        drop(events);
        self.changed.notify_waiters();
        Inserted {
            id,
            duplicate: false,
        }
    }
}

#[async_trait]
impl Store for FakeStore {
    fn insert(&self, event: NewEvent, _wanted: Vec<Wanted>) -> Result<Receipt, Full> {
        let (answer, receipt) = oneshot::channel();
        match *self.mode.lock().unwrap() {
            Mode::Work => drop(answer.send(Ok(self.keep(event)))),
            Mode::Fail => drop(answer.send(Err(StoreError::Unavailable("/secret/path".into())))),
            Mode::Full => return Err(Full),
            Mode::Hang => {
                self.hanging.lock().unwrap().push((answer, event));
                self.changed.notify_waiters();
            }
        }
        Ok(receipt)
    }

    async fn record(&self, _: DeliveryKey, _: Settlement) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(&self, _: &[(HandlerName, u32)], _: Timestamp) -> Result<Claimed, StoreError> {
        Ok(Claimed::default())
    }

    async fn take_over(&self, _: &Roster, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn enrol(&self, _: &Roster, _: Timestamp) -> Result<Enrolled, StoreError> {
        Ok(Enrolled::default())
    }

    async fn history(&self, id: EventId) -> Result<Option<History>, StoreError> {
        Ok(self.histories.lock().unwrap().get(&id).cloned())
    }

    async fn purge(&self, _: Purge, _: u32) -> Result<Purged, StoreError> {
        Ok(Purged::default())
    }

    async fn backlog(&self) -> Result<BTreeMap<HandlerName, Backlog>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn due(&self) -> Arc<Notify> {
        Arc::default()
    }

    fn worker(&self) -> WorkerId {
        WorkerId(1)
    }

    fn health(&self) -> Result<(), String> {
        match *self.mode.lock().unwrap() {
            Mode::Fail => Err("no space left on device".to_owned()),
            _ => Ok(()),
        }
    }

    async fn close(&self) {}
}

/// The configuration that tests start from.
pub(super) struct Setup {
    pub(super) server: ServerConfig,
    pub(super) sources: Vec<SourceConfig>,
}

impl Setup {
    fn new() -> Self {
        let ims = ImsConfig {
            keys: vec!["test123".into()],
            callback_urls: vec!["https://www.example.com/your/callback".to_owned()],
            public_origin: None,
            tolerance: Duration::from_secs(300),
            reuse: ReusePolicy::Note,
        };
        let source = |name: &str, path: &str, auth| SourceConfig {
            name: SourceName::new(name).unwrap(),
            path: path.to_owned(),
            auth,
            allow_from: None,
            keys_file: None,
        };
        Self {
            server: ServerConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                health_path: "/healthz".to_owned(),
                body_bytes_max: 1024 * 1024,
                body_bytes_in_flight_max: 64 * 1024 * 1024,
                ack_deadline: Duration::from_secs(2),
                head_deadline: Duration::from_secs(10),
                keep_alive: Duration::from_secs(75),
                connections_max: 4096,
                trusted_proxies: Vec::new(),
                shutdown_delay: Duration::ZERO,
            },
            sources: vec![
                source("default", "/ims", SchemeConfig::Ims(ims)),
                source("open", "/open", SchemeConfig::None),
            ],
        }
    }
}

/// A running public listener. Dropping it closes it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) store: Arc<FakeStore>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) registry: Arc<Registry>,
    pub(super) close: CancellationToken,
    pub(super) clock: Arc<ManualClock>,
    pub(super) refusals: Arc<Refusals>,
    running: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::new();
        change(&mut setup);
        let store = FakeStore::new();
        let close = CancellationToken::new();
        let readiness = Arc::new(Readiness::new());
        readiness.store_opened(Arc::clone(&store) as Arc<dyn Store>);
        readiness.clear(Unready::Starting);
        let mut registry = Registry::with_prefix("ims_receiver");
        let (metrics, ingest_metrics) = (ServerMetrics::new(), IngestMetrics::default());
        metrics.register(&mut registry);
        ingest_metrics.register(&mut registry);
        let standing = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
        let clock = Arc::clone(&standing) as Arc<dyn Clock>;
        let refusals = Arc::new(Refusals::new());
        let dispatcher = dispatcher(Arc::clone(&store) as _, Arc::clone(&clock)).await;
        let ingest = Ingest::new(
            &setup.sources,
            Arc::clone(&store) as Arc<dyn Store>,
            dispatcher,
            clock,
            ingest_metrics,
        );
        let callback = Callback::new(
            &setup.server,
            Arc::new(ingest.unwrap()),
            Arc::clone(&readiness),
            &metrics,
            Arc::clone(&refusals),
            close.clone(),
        );
        let listener = TcpListener::bind(setup.server.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = ConnectionLimits::from(&setup.server);
        let running = tokio::spawn(run(listener, callback, limits, close.clone()));
        Self {
            address,
            store,
            readiness,
            registry: Arc::new(registry),
            close,
            clock: standing,
            refusals,
            running,
        }
    }

    pub(super) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(super) async fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// Waits for the end of `run`.
    pub(super) async fn ended(mut self) {
        let ended = timeout(PATIENCE, &mut self.running).await;
        ended.expect("run returns").expect("run does not panic");
    }

    /// The value of a series, by the beginning of its line.
    pub(super) fn metric(&self, series: &str) -> Option<f64> {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry).unwrap();
        let line = page.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// The one place that knows how a dispatcher without handlers is made.
async fn dispatcher(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Dispatcher> {
    let config = DispatchConfig {
        queue_capacity: 1,
        queue_bytes_max: 1,
        drain: Duration::ZERO,
    };
    let metrics = DispatchMetrics::new(std::iter::empty());
    let dispatcher = Dispatcher::start(&config, Vec::new(), store, clock, metrics);
    dispatcher.await.unwrap()
}

/// A signed POST with a length.
pub(super) fn signed(body: &str) -> String {
    let length = body.len();
    format!("POST /ims HTTP/1.1\r\nHost: x\r\n{SIGNED}Content-Length: {length}\r\n\r\n{body}")
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Asserts that this is a problem of `status` that says nothing internal.
    #[track_caller]
    pub(super) fn is_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string());
        let detail = usize::from(problem.get("detail").is_some());
        assert_eq!(problem.as_object().unwrap().len(), 3 + detail, "{problem}");
    }
}

/// A client that says exactly the bytes it is told.
pub(super) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        Self {
            stream: stream.expect("accepted in time").unwrap(),
            read: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("taken in time").unwrap();
    }

    /// Like `send`, for what the server may refuse to read.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Repeats `bytes` until the server closes, without reading a byte; how
    /// many it took.
    pub(super) async fn flood(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        let flood = async {
            while let Ok(length) = self.stream.write(bytes).await {
                taken += length;
            }
        };
        let closed = timeout(PATIENCE * 3, flood).await;
        closed.expect("the server closes");
        taken
    }

    pub(super) async fn finish_writing(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Answer {
        loop {
            if let Some(answer) = self.take_answer() {
                return answer;
            }
            let so_far = String::from_utf8_lossy(&self.read).into_owned();
            assert!(self.fill().await, "closed before an answer: {so_far:?}");
        }
    }

    /// Reads to the end of the connection; what came beyond the answers taken.
    pub(super) async fn rest(&mut self) -> Bytes {
        while self.fill().await {}
        Bytes::from(std::mem::take(&mut self.read))
    }

    /// Whether the server says something before it closes.
    pub(super) async fn hears_something(&mut self) -> bool {
        let heard = self.fill().await;
        self.read.clear();
        heard
    }

    /// How long it takes until the server closes, without a byte from it.
    pub(super) async fn silent_until_closed(mut self) -> Duration {
        let start = Instant::now();
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{rest:?}");
        start.elapsed()
    }

    /// Reads until `text` has come; what came until then is gone.
    pub(super) async fn hears(&mut self, text: &str) -> String {
        loop {
            let so_far = String::from_utf8_lossy(&self.read).into_owned();
            if let Some(at) = so_far.find(text) {
                let end = at + text.len();
                self.read.drain(..end);
                return so_far[..end].to_owned();
            }
            assert!(self.fill().await, "closed before {text:?}: {so_far:?}");
        }
    }

    async fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        match read.expect("the server says something or closes") {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                true
            }
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let end = self.read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.read[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |n| n.parse().unwrap());
        if self.read.len() < end + length {
            return None;
        }
        answer.body = String::from_utf8(self.read[end..end + length].to_vec()).unwrap();
        self.read.drain(..end + length);
        Some(answer)
    }
}
