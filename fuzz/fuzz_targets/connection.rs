//! Any bytes over a real connection to the public listener, and then the end
//! of the client's side: the connection ends too, its answers are well-formed,
//! and there is no 200 without an event in the store.

#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use ims_receiver::clock::{Clock, ManualClock};
use ims_receiver::delivery::{DeliveryKey, Settlement, WorkerId};
use ims_receiver::dispatch::{DispatchConfig, DispatchMetrics, Dispatcher};
use ims_receiver::event::{EventId, NewEvent};
use ims_receiver::ingest::{Ingest, IngestMetrics, SourceConfig};
use ims_receiver::request::{HandlerName, SourceName};
use ims_receiver::server::{
    self, Callback, ConnectionLimits, Readiness, ServerConfig, ServerMetrics, Unready,
};
use ims_receiver::signature::SchemeConfig;
use ims_receiver::signature::ims::{ImsConfig, ReusePolicy};
use ims_receiver::store::{
    Backlog, Claimed, Enrolled, Full, History, Inserted, Purge, Purged, Receipt, Roster, Store,
    StoreError, Wanted,
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fuzz_target!(|bytes: &[u8]| {
    let before = STORED.load(Relaxed);
    let answers = SERVER.exchange(bytes);
    let stored = STORED.load(Relaxed) - before;
    if bytes.starts_with(PREFACE) {
        check_frames(&answers);
    } else {
        let acknowledged = check_answers(&answers);
        assert!(
            acknowledged <= stored,
            "{acknowledged} acks, {stored} events"
        );
    }
});

/// Everything was said, and the client's side is closed: nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
const FRAME_PAYLOAD_MAX: usize = 16 * 1024;
/// What the contract names, and what hyper answers to what is no HTTP.
const STATUSES: [u16; 12] = [100, 200, 400, 401, 403, 404, 405, 413, 414, 431, 503, 505];

/// Events that the store has taken.
static STORED: AtomicUsize = AtomicUsize::new(0);
static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

/// The public listener, on a runtime that only turns while an input is tried.
struct Server {
    runtime: Runtime,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let address = runtime.block_on(listen());
        Self { runtime, address }
    }

    /// Sends `bytes`, closes our side, and reads to the end.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let talk = async {
            let mut answers = Vec::new();
            let mut stream = TcpStream::connect(self.address)
                .await
                .expect("the listener accepts");
            // A server that has heard enough may close before it has read all.
            let sent = stream.write_all(bytes).await;
            if sent.is_ok() {
                stream.shutdown().await.ok();
            }
            stream.read_to_end(&mut answers).await.ok();
            answers
        };
        self.runtime
            .block_on(async { timeout(PATIENCE, talk).await })
            .expect("a connection ends when nothing more can come")
    }
}

async fn listen() -> SocketAddr {
    let config = server_config();
    let store: Arc<dyn Store> = Arc::new(CountingStore);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(
        Timestamp::from_second(1_519_375_990).expect("it is a time"),
    ));
    let dispatch = DispatchConfig {
        queue_capacity: 1,
        queue_bytes_max: 1,
        drain: Duration::ZERO,
    };
    let metrics = DispatchMetrics::new(std::iter::empty());
    let dispatcher = Dispatcher::start(
        &dispatch,
        Vec::new(),
        Arc::clone(&store),
        Arc::clone(&clock),
        metrics,
    )
    .await
    .expect("nothing is left from before");
    let ingest = Ingest::new(
        &sources(),
        Arc::clone(&store),
        dispatcher,
        clock,
        IngestMetrics::default(),
    )
    .expect("the schemes can be built");
    let readiness = Arc::new(Readiness::new());
    readiness.store_opened(store);
    readiness.clear(Unready::Starting);
    let close = CancellationToken::new();
    let callback = Callback::new(
        &config,
        Arc::new(ingest),
        readiness,
        &ServerMetrics::new(),
        Arc::default(),
        close.clone(),
    );
    let listener = TcpListener::bind(config.listen)
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let limits = ConnectionLimits::from(&config);
    tokio::spawn(server::run(listener, callback, limits, close));
    address
}

fn server_config() -> ServerConfig {
    ServerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        health_path: "/healthz".to_owned(),
        // Small, so that inputs of a few KiB get past them.
        body_bytes_max: 1024,
        body_bytes_in_flight_max: 1536,
        ack_deadline: Duration::from_secs(2),
        head_deadline: Duration::from_secs(10),
        keep_alive: Duration::from_secs(75),
        connections_max: 64,
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("it is a network")],
        shutdown_delay: Duration::ZERO,
    }
}

fn sources() -> [SourceConfig; 2] {
    let ims = SchemeConfig::Ims(ImsConfig {
        keys: vec!["test123".into()],
        callback_urls: vec!["https://www.example.com/your/callback".to_owned()],
        public_origin: None,
        tolerance: Duration::from_secs(300),
        reuse: ReusePolicy::Note,
    });
    let source = |name: &str, path: &str, auth| SourceConfig {
        keys_file: None,
        name: SourceName::new(name).expect("it follows the rule"),
        path: path.to_owned(),
        auth,
        allow_from: None,
    };
    [
        source("signed", "/s", ims),
        source("open", "/n", SchemeConfig::None),
    ]
}

/// Reads answer by answer; returns how many of them acknowledge an event.
fn check_answers(mut bytes: &[u8]) -> usize {
    let mut acknowledged = 0;
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(head)) = answer.parse(bytes) else {
            panic!("no answer: {}", bytes.escape_ascii());
        };
        let status = answer.code.expect("a whole answer has a status");
        assert!(STATUSES.contains(&status), "status {status}");
        let field = |name: &str| {
            let mut found = answer.headers.iter();
            found
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        let length = field("content-length").map_or(0, |length| {
            let length = std::str::from_utf8(length).expect("a length is text");
            length.parse().expect("a length is a number")
        });
        let is_json = field("content-type") == Some(b"application/json");
        acknowledged += usize::from(status == 200 && is_json);
        if status == 503 {
            assert!(field("retry-after").is_some(), "says when to come back");
        }
        bytes = &bytes[head..];
        // An answer to HEAD has a length and no body.
        if !bytes.is_empty() && !bytes.starts_with(b"HTTP/1.") {
            bytes = bytes.get(length..).expect("as long as it says");
        }
    }
    acknowledged
}

/// HTTP/2: whole frames to the end.
fn check_frames(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let [high, middle, low, ..] = *bytes else {
            panic!("half a frame header: {}", bytes.escape_ascii());
        };
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        assert!(length <= FRAME_PAYLOAD_MAX, "a frame of {length} bytes");
        let rest = bytes.get(FRAME_HEADER_BYTES + length..);
        bytes = rest.expect("frames are whole");
    }
}

/// A store that takes everything and remembers how much.
struct CountingStore;

#[async_trait]
impl Store for CountingStore {
    fn insert(&self, _: NewEvent, _: Vec<Wanted>) -> Result<Receipt, Full> {
        let (answer, receipt) = oneshot::channel();
        let id = "019ab2f6-2a41-7000-8000-000000000001".parse::<EventId>();
        let inserted = Inserted {
            id: id.expect("it is an id"),
            duplicate: false,
        };
        STORED.fetch_add(1, Relaxed);
        answer.send(Ok(inserted)).ok();
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
        Arc::default()
    }

    fn worker(&self) -> WorkerId {
        WorkerId(1)
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn close(&self) {}
}
