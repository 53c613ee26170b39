//! The parts of the line, one by one: judging a signature, reading a body,
//! storing, claiming and recording.
//!
//! ```sh
//! cargo bench --bench parts
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Uri};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::try_join_all;
use ims_receiver::clock::{Clock as _, SystemClock};
use ims_receiver::delivery::{Delivery, Report, Settlement, Verdict};
use ims_receiver::event::{self, NewEvent};
use ims_receiver::request::{HandlerName, KeptHead, RequestHead, SourceName};
use ims_receiver::signature::ims::{ImsConfig, sign};
use ims_receiver::signature::{HeadVerdict, Scheme, SchemeConfig, Verified, VerifiedRequest};
use ims_receiver::store::{self, Store, StoreConfig, StoreMetrics, Wanted};
use jiff::Timestamp;
use tokio::runtime::Runtime;

const KEY: &str = "TestKey001TestKey001";
const URL: &str = "https://callbacks.example.com/ims/callback";

/// Events in one round of the store's parts; a full commit.
const ROUND: u64 = 512;

fn scheme(keys: usize) -> Arc<dyn Scheme> {
    let others = (1..keys).map(|n| format!("AnotherKey{n:03}").into());
    let config = ImsConfig {
        keys: others.chain([KEY.into()]).collect(),
        callback_urls: vec![URL.into()],
        public_origin: None,
        tolerance: Duration::from_secs(300),
    };
    SchemeConfig::Ims(config)
        .build()
        .expect("the scheme is right")
}

fn signed_headers(now: Timestamp) -> HeaderMap {
    let timestamp = now.as_second().to_string();
    let signature = sign(URL, &timestamp, KEY);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "callbacks.example.com"),
        ("content-type", "application/json"),
        ("x-ice-timestamp", &*timestamp),
        ("x-ice-signature", &*signature),
    ] {
        let value = HeaderValue::from_str(value).expect("visible ASCII");
        headers.insert(name, value);
    }
    headers
}

fn verify(criterion: &mut Criterion) {
    let now = SystemClock.now();
    let headers = signed_headers(now);
    let uri = Uri::from_static("/ims/callback");
    let head = RequestHead {
        uri: &uri,
        headers: &headers,
    };
    for keys in [1, 4] {
        let scheme = scheme(keys);
        scheme.check_head(&head, now).expect("it is signed");
        criterion.bench_function(&format!("verify, {keys} keys"), |bencher| {
            bencher.iter(|| scheme.check_head(&head, now));
        });
    }
}

fn verified() -> Verified {
    let now = SystemClock.now();
    let head = RequestHead {
        uri: &Uri::from_static("/ims/callback"),
        headers: &signed_headers(now),
    };
    match scheme(1).check_head(&head, now) {
        Ok(HeadVerdict::Authentic(verified)) => verified,
        other => panic!("it is signed: {other:?}"),
    }
}

fn body(number: u64, padding: usize) -> Bytes {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"EventType":"ProduceMediaComplete","UserId":1833220977561234,"EventTime":"2026-11-24T08:48:14Z","MessageBody":{{"Status":"Success","JobId":"{number:032x}","MediaId":"{number:032x}","MediaURL":"https://media.example.com/out/{number:016x}.mp4","Code":"Success","ProjectId":"b4a9f6c2d1e84c55","UserData":"{padding}"}}}}"#
    )
    .into()
}

fn request(verified: &Verified, body: Bytes) -> VerifiedRequest {
    let source = SourceName::new("default").expect("a good name");
    VerifiedRequest::new(source, verified.clone(), KeptHead::default(), body)
}

fn parse(criterion: &mut Criterion) {
    let verified = verified();
    let mut group = criterion.benchmark_group("parse");
    for padding in [0, 64 << 10] {
        let body = body(1, padding);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("{} bytes", body.len()), |bencher| {
            bencher.iter_batched(
                || request(&verified, body.clone()),
                event::parse,
                BatchSize::SmallInput,
            );
        });
    }
}

/// A store with everything that its parts need.
struct Bench {
    runtime: Runtime,
    store: Arc<dyn Store>,
    handler: HandlerName,
    verified: Verified,
    next: u64,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = tempfile::tempdir_in(memory).expect("a tmpfs for the store");
        let path = folder.path().join("events.db");
        let lock = store::lock(&path).expect("a lock");
        let config = StoreConfig {
            path,
            dedup_window: Duration::from_secs(3600),
            dedup_entries_max: 1_000_000,
            clock: Arc::new(SystemClock),
            metrics: StoreMetrics::default(),
        };
        Self {
            runtime: Runtime::new().expect("a runtime"),
            store: store::open(config, lock).expect("a store").store,
            handler: HandlerName::new("audit").expect("a good name"),
            verified: verified(),
            next: 0,
            folder,
        }
    }

    fn events(&mut self) -> Vec<NewEvent> {
        let from = self.next;
        self.next += ROUND;
        (from..self.next)
            .map(|number| event::parse(request(&self.verified, body(number, 0))))
            .collect()
    }

    /// Stores `events`, each with a delivery that waits to be claimed.
    fn insert(&self, events: Vec<NewEvent>, wanted: bool) {
        let receipts = events.into_iter().map(|event| {
            let wanted = wanted.then(|| Wanted {
                handler: self.handler.clone(),
                slot: None,
            });
            let wanted = wanted.into_iter().collect();
            self.store.insert(event, wanted).expect("there is room")
        });
        let receipts: Vec<_> = receipts.collect();
        for stored in self
            .runtime
            .block_on(try_join_all(receipts))
            .expect("the writer answers")
        {
            assert!(!stored.expect("it is stored").duplicate);
        }
    }

    fn claim(&self) -> Vec<Delivery> {
        let free = [(self.handler.clone(), ROUND as u32)];
        let claim = self.store.claim(&free, SystemClock.now());
        let claimed = self.runtime.block_on(claim).expect("the store works");
        claimed.deliveries
    }

    fn record(&self, deliveries: Vec<Delivery>) {
        let records = deliveries.iter().map(|delivery| {
            let now = SystemClock.now();
            self.store.record(
                delivery.key(),
                Settlement {
                    verdict: Verdict::Succeeded,
                    started_at: now,
                    ended_at: now,
                    reason: None,
                    report: Report::default(),
                },
            )
        });
        self.runtime
            .block_on(try_join_all(records))
            .expect("all are ours");
    }
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(ROUND));
    let mut bench = Bench::new();
    group.bench_function("insert", |bencher| {
        bencher.iter_custom(|rounds| {
            (0..rounds)
                .map(|_| {
                    let events = bench.events();
                    let since = std::time::Instant::now();
                    bench.insert(events, false);
                    since.elapsed()
                })
                .sum()
        });
    });
    let mut both = [Duration::ZERO; 2];
    for (at, name) in ["claim", "record"].into_iter().enumerate() {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                both = [Duration::ZERO; 2];
                for _ in 0..rounds {
                    let events = bench.events();
                    bench.insert(events, true);
                    let since = std::time::Instant::now();
                    let deliveries = bench.claim();
                    both[0] += since.elapsed();
                    assert_eq!(deliveries.len() as u64, ROUND);
                    let since = std::time::Instant::now();
                    bench.record(deliveries);
                    both[1] += since.elapsed();
                }
                both[at]
            });
        });
    }
    bench.runtime.block_on(bench.store.close());
    drop(bench.folder);
}

/// In a module of its own, since the macro's function cannot have documentation.
mod parts {
    use super::*;

    criterion_group!(parts, verify, parse, store);
}

criterion_main!(parts::parts);
