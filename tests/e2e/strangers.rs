//! Thousands of strangers beside genuine senders.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::Value;

use crate::harness::{Folder, PATIENCE, body, send};

const SILENT: usize = 10_000;
/// How many are opened in a second.
const OPENED_RATE: f64 = 5000.0;
const FORGED: u32 = 16_000;
/// How many of them are sent in a second, and by how many threads.
const FORGED_RATE: u32 = 5000;
const FORGERS: u32 = 8;

/// How much later one ack in a hundred may come than without strangers, with the
/// other tests running beside on the same machine. What they cost is measured
/// before; `cargo bench --bench line` has the figure of a quiet machine.
const ACK_P99_MAX: Duration = Duration::from_millis(500);
const BUSY_FACTOR: u32 = 4;
/// After this a sender counts a try as failed.
const SENDER_PATIENCE: Duration = Duration::from_secs(3);
/// How long an unfinished head may take in these tests.
const HEAD_DEADLINE: Duration = Duration::from_secs(4);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(8);

/// All that the silent ones say.
const OPENINGS: [&[u8]; 5] = [
    b"",
    b"P",
    b"POST /ims/callback HTTP/1.1\r\nHost: x\r\nX-ICE-SIG",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

/// The number of an event, so that no two are the same.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

fn folder(server: &str) -> Folder {
    let folder = Folder::new("");
    let config = folder.path("receiver.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let text = text.replacen("[server]\n", &format!("[server]\n{server}\n"), 1);
    std::fs::write(config, text).expect("the configuration");
    folder
}

/// Lets this process, and those it starts, have enough sockets.
fn allow_descriptors(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        most >= needed,
        "raise the hard limit of open files to {needed}, it is {most}"
    );
    let raised = Rlimit {
        current: Some(limit.current.unwrap_or(u64::MAX).max(needed)),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit can be raised");
}

/// Sends one genuine event after another until `ended`; how long each took, in
/// order.
fn acks(to: SocketAddr, ended: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !ended(took.len()) {
        let event = body(NUMBERS.fetch_add(1, Ordering::Relaxed));
        let start = Instant::now();
        let (status, _) = send(to, &event).expect("an answer");
        assert_eq!(status, 200);
        took.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    took.sort_unstable();
    took
}

/// Runs `strangers` beside a genuine sender, who must not notice.
fn unnoticed<T: Send>(to: SocketAddr, strangers: impl FnOnce() -> T + Send) -> T {
    const ENOUGH: usize = 200;
    let alone = acks(to, |count| count >= ENOUGH);
    let quiet = AtomicBool::new(false);
    let (beside, result) = std::thread::scope(|scope| {
        let genuine = scope.spawn(|| acks(to, |_| quiet.load(Ordering::Relaxed)));
        let run = scope.spawn(strangers).join();
        quiet.store(true, Ordering::Relaxed);
        let beside = genuine.join().expect("every genuine event is acknowledged");
        (
            beside,
            run.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    let percent = |acks: &[Duration], part: usize| acks[acks.len() * part / 100];
    let (before, p99) = (percent(&alone, 99), percent(&beside, 99));
    println!(
        "{} acks beside: p50 {:?}, p99 {p99:?}; alone: p50 {:?}, p99 {before:?}",
        beside.len(),
        percent(&beside, 50),
        percent(&alone, 50),
    );
    assert!(beside.len() >= 50, "too few to tell: {}", beside.len());
    assert!(
        p99 < ACK_P99_MAX + before * BUSY_FACTOR,
        "p99 {p99:?}, alone {before:?}"
    );
    result
}

fn open_silent(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let start = Instant::now();
    (0..count)
        .map(|number| {
            let due = Duration::from_secs(1).mul_f64(number as f64 / OPENED_RATE);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let mut stream = TcpStream::connect(to).expect("accepted by the system at least");
            // At the limit it may be closed already.
            let _ = stream.write_all(OPENINGS[number % OPENINGS.len()]);
            stream.set_nonblocking(true).expect("a socket");
            stream
        })
        .collect()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let mut waste = [0; 1024];
    loop {
        match stream.read(&mut waste) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Looks now and then only, since each look costs as much as all the service
/// does for a silent connection.
fn wait_until_closed(mut streams: Vec<TcpStream>) {
    let start = Instant::now();
    while !streams.is_empty() {
        assert!(
            start.elapsed() < PATIENCE,
            "{} are still open",
            streams.len()
        );
        std::thread::sleep(Duration::from_millis(250));
        streams.retain_mut(|stream| !is_closed(stream));
    }
}

#[test]
fn ten_thousand_silent_connections_are_closed_in_time_and_disturb_nobody() {
    allow_descriptors(SILENT as u64 + 4096);
    // All at once, and more than there may be.
    for connections_max in [12_000, 4096] {
        let folder = folder(&format!(
            "connections_max = {connections_max}\nhead_deadline = \"{}s\"",
            HEAD_DEADLINE.as_secs()
        ));
        let service = folder.start();
        let before = service.resident();
        unnoticed(service.ingest, || {
            let silent = open_silent(service.ingest, SILENT);
            let opened = Instant::now();
            println!(
                "connections_max {connections_max}: resident {before} MiB, with {SILENT} silent {} MiB",
                service.resident()
            );
            wait_until_closed(silent);
            let waited = opened.elapsed();
            println!("all closed {waited:?} after the last was opened");
            assert!(waited < HEAD_DEADLINE + SLACK, "{waited:?}");
        });
        let after = service.resident();
        assert!(after < before + 150, "{before} MiB, then {after} MiB");
    }
}

/// Announces 10 MB, sends some of it, and reads the answer.
fn forge(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect(to).expect("accepted");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let head = "POST /ims/callback HTTP/1.1\r\nHost: x\r\nX-ICE-TIMESTAMP: 1519375990\r\n\
         X-ICE-SIGNATURE: c72b60894140fa98920f1279219b7ed4\r\nContent-Length: 10485760\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it reads");
    stream
        .write_all(&[b'x'; 8192])
        .expect("it reads on for a while");
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut answer).expect("it answers");
    answer
}

#[test]
fn ten_thousand_forged_uploads_cost_little_and_disturb_nobody() {
    let folder = folder("");
    let service = folder.start();
    let to = service.ingest;
    let before = service.resident();
    unnoticed(to, || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..FORGERS {
                scope.spawn(|| {
                    for number in 0..FORGED / FORGERS {
                        let due = Duration::from_secs(1) * number * FORGERS / FORGED_RATE;
                        std::thread::sleep(due.saturating_sub(start.elapsed()));
                        assert_eq!(forge(to), "HTTP/1.1 401 Unauthorized\r\n");
                    }
                });
            }
        });
        println!(
            "{:.0} forged a second",
            f64::from(FORGED) / start.elapsed().as_secs_f64()
        );
    });
    let after = service.resident();
    println!("resident {before} MiB, after it {after} MiB");
    assert!(after < before + 40, "{before} MiB, then {after} MiB");
    let (_, metrics) = service.get("/metrics");
    let refused =
        format!("ims_receiver_refusals_total{{source=\"default\",reason=\"mismatch\"}} {FORGED}\n");
    assert!(metrics.contains(&refused), "{metrics}");
    let lines = service.log().len();
    assert!(lines < 1000, "{lines} lines for {FORGED} strangers");
}

#[test]
fn peers_that_break_the_protocol_are_not_logged_one_by_one() {
    let folder = folder("");
    let service = folder.start();
    for _ in 0..20 {
        let mut reset_at_once = OPENINGS[4].to_vec();
        for stream in (1..200u8).step_by(2) {
            // GET / and, before it can be answered, RST_STREAM.
            reset_at_once.extend([0, 0, 6, 1, 5, 0, 0, 0, stream]);
            reset_at_once.extend([0x82, 0x86, 0x84, 1, 1, b'x']);
            reset_at_once.extend([0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8]);
        }
        let mut peer = TcpStream::connect(service.ingest).expect("accepted");
        peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
        peer.write_all(&reset_at_once).expect("it reads");
        let mut said = Vec::new();
        // A reset ends it as well.
        let _ = peer.read_to_end(&mut said);
        let limit = b"too_many_resets";
        assert!(said.windows(limit.len()).any(|part| part == limit));
    }
    let log = service.log().join("\n");
    assert!(!log.contains("h2::"), "{log}");
}

/// A started program that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next line of a log with this message.
fn log_until(next: &mut impl FnMut() -> Value, message: &str) -> Value {
    loop {
        let line = next();
        if line["message"] == message {
            return line;
        }
    }
}

#[test]
fn silent_connections_do_not_use_up_the_descriptors() {
    const DESCRIPTORS: usize = 200;
    let folder = folder("");
    let program = folder.command();
    let mut limited = Command::new("sh");
    limited
        .args([
            "-c",
            &format!(r#"ulimit -n {DESCRIPTORS} && exec "$0" "$@" serve"#),
        ])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(folder.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut service = Killed(limited.spawn().expect("a shell"));
    let mut log = BufReader::new(service.0.stdout.take().expect("it is piped")).lines();
    let mut next = || -> Value {
        let line = log.next().expect("another line").expect("UTF-8");
        serde_json::from_str(&line).expect("log lines are JSON")
    };
    let lowered = loop {
        let line = next();
        if let Some(most) = line["connections_max"].as_u64() {
            break most;
        }
        assert_ne!(
            line["message"], "listening",
            "nothing was said of the limit"
        );
    };
    assert!(lowered < DESCRIPTORS as u64, "{lowered}");
    let listening = log_until(&mut next, "listening");
    let to: SocketAddr = listening["ingest"]
        .as_str()
        .expect("text")
        .parse()
        .expect("an address");
    unnoticed(to, || {
        let silent = open_silent(to, DESCRIPTORS * 5);
        // Long enough for some acks; none of the silent ones has to end.
        std::thread::sleep(Duration::from_secs(2));
        drop(silent);
    });

    // Fewer than it counts on: handlers and the store may hold more than usual.
    let pid = Pid::from_child(&service.0);
    let most = Some(DESCRIPTORS as u64 / 3);
    let less = Rlimit {
        current: most,
        maximum: most,
    };
    prlimit(Some(pid), Resource::Nofile, less).expect("it may be lowered");
    let silent = open_silent(to, DESCRIPTORS * 5);
    let slowest = acks(to, |count| count >= 20).pop();
    println!("with too few descriptors the slowest of 20 acks took {slowest:?}");
    assert!(slowest < Some(SENDER_PATIENCE), "{slowest:?}");
    let line = log_until(&mut next, "cannot accept connections");
    assert_eq!(line["level"], "WARN");
    drop(silent);
}
