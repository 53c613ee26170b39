//! Restarts behind a socket that outlives the service.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ims_receiver::clock::SystemClock;
use ims_receiver::sender::{Bodies, Load, Sender, SenderConfig, SenderRule, Summary};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::destination::{Answer, Destination, free_port};
use crate::harness::{Folder, KEY, Post, URL, exchange, get, wait_at_most};

const RESTARTS: u32 = 20;
/// Events per second.
const RATE: f64 = 25.0;
/// How long the destination takes for each.
const WORK: Duration = Duration::from_secs(6);
/// How long a stop waits for deliveries at work.
const DRAIN: Duration = Duration::from_secs(2);
/// The longest that nobody may accept.
const GAP_MAX: Duration = Duration::from_secs(2);

#[test]
fn twenty_restarts_behind_an_inherited_socket_lose_nothing() {
    let destination = Destination::start(|_| Answer::after(WORK));
    let folder = Folder::new(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/\"\nconcurrency = 1000\n",
        destination.address
    ))
    .set("dispatch.drain", format!("{}s", DRAIN.as_secs()));
    let socket = free_port();
    let to = socket.local_addr().expect("it is bound");

    let mut service = folder.start_on(&socket);
    assert_eq!(service.ingest, to);
    let load = SteadyLoad::start(to);
    let probe = Probe::start(to);
    for round in 0..RESTARTS {
        // Mostly too short for any delivery, so that they are cut short again
        // and again; some runs let those that have waited come to their end.
        let run = if round % 5 == 4 { 5500 } else { 800 };
        std::thread::sleep(Duration::from_millis(run));
        service.signal("-TERM");
        let dawdler = std::thread::spawn(move || dawdle(to));
        assert_eq!(service.wait(), Some(0), "stop {round}");
        service = folder.start_on(&socket);
        assert_eq!(service.taken_over(), 0, "start {round}");
        let status = dawdler.join().expect("it does not panic");
        assert_eq!(status, Some(503), "stop {round}");
    }
    let (summary, acked) = load.end();
    let gap = probe.end();

    assert_eq!(summary.lost, 0, "{summary}");
    assert_eq!(acked.len() as u64, summary.sent(), "{summary}");
    assert!(acked.len() > 500, "too little load to prove anything");
    assert!(gap < GAP_MAX, "nobody accepted for {gap:?}; {summary}");
    let attempts = destination.received().len();
    let cut = attempts - destination.answers();
    assert!(cut > 100, "the restarts met few deliveries at work: {cut}");
    wait_at_most(WORK * 6, "every acknowledged event is delivered", || {
        acked.is_subset(&destination.answered()).then_some(())
    });
    assert_eq!(destination.answered(), acked, "and nothing else is");
    for id in &acked {
        service.succeeded(id);
    }
    println!("{summary}\nlongest gap {gap:?}, deliveries cut short {cut}");
}

/// Comes while handlers drain, and sends half of its body and no more: of all
/// clients the one that holds up the close for longest. Answers the status.
fn dawdle(to: SocketAddr) -> Option<u16> {
    std::thread::sleep(DRAIN / 2);
    let request = Post::of("").head("Content-Length: 10\r\n\r\n12345");
    exchange(to, request.as_bytes()).map(|(status, _)| status)
}

/// The project's own sender with the rule of IMS, until it is ended.
struct SteadyLoad {
    stop: CancellationToken,
    acked: Arc<Mutex<HashSet<String>>>,
    thread: JoinHandle<Summary>,
}

impl SteadyLoad {
    fn start(to: SocketAddr) -> Self {
        let sender = Sender::new(SenderConfig {
            target: format!("http://{to}/ims/callback"),
            callback_url: Some(URL.into()),
            key: Some(KEY.into()),
            ca_file: None,
            rule: SenderRule::default(),
            clock: Arc::new(SystemClock),
        });
        let sender = sender.expect("a sender");
        let load = Load {
            count: None,
            rate: Some(RATE),
            concurrency: 1000,
        };
        let stop = CancellationToken::new();
        let acked: Arc<Mutex<HashSet<String>>> = Arc::default();
        let (stopped, ids) = (stop.clone(), Arc::clone(&acked));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let bodies = Bodies::of_all_types();
            runtime.block_on(sender.send_many(load, &bodies, &stopped, |outcome| {
                if outcome.acked {
                    let answer: Value = serde_json::from_slice(&outcome.answer).expect("JSON");
                    let id = answer["id"].as_str().expect("an id").to_owned();
                    ids.lock().expect("plain insert").insert(id);
                }
            }))
        });
        Self {
            stop,
            acked,
            thread,
        }
    }

    fn end(self) -> (Summary, HashSet<String>) {
        self.stop.cancel();
        let summary = self.thread.join().expect("the sender does not panic");
        let acked = self.acked.lock().expect("plain read").clone();
        (summary, acked)
    }
}

/// Asks on new connections, one after another, and keeps the longest time
/// between two answers. Ready or not does not matter here: whoever answers has
/// accepted.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Probe {
    fn start(to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            let mut last = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                if get(to, "/healthz").is_some() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        Self { stop, thread }
    }

    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the probe does not panic")
    }
}
