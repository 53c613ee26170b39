//! A light sender: HTTP/1.1 over keep-alive connections, so that the machine's
//! time goes into what is measured. `ims-receiver send` plays IMS faithfully;
//! this one only signs and counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ims_receiver::sender::Latencies;
use ims_receiver::signature::ims::sign;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::service::{KEY, URL};

/// Connections that send at the same time.
pub const CONNECTIONS: u64 = 64;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// As fast as the answers come, so long.
    For(Duration),
    /// As fast as the answers come, so many.
    Count(u64),
    /// So many per second by the clock, so long. Latency counts from when an
    /// event was due, not from when a connection was free for it.
    Rate(f64, Duration),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Events answered with 200.
    pub acked: u64,
    /// Everything else.
    pub failed: u64,
    /// From the first event to the last answer.
    pub elapsed: Duration,
    /// From due or start to the answer.
    pub latencies: Latencies,
}

impl Outcome {
    /// Acks per second.
    pub fn per_second(&self) -> f64 {
        self.acked as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that 99 % of the acks stayed below, in milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.latencies.quantile(0.99).as_secs_f64() * 1e3
    }
}

/// When events were acknowledged, by number: nanoseconds after `since`.
#[derive(Debug)]
pub struct Times {
    since: Instant,
    at: Vec<AtomicU64>,
}

impl Times {
    /// Room for `count` events.
    pub fn new(since: Instant, count: usize) -> Arc<Self> {
        let at = (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { since, at })
    }

    /// Notes that `number` is there now; the first time counts.
    pub fn note(&self, number: u64) {
        let Some(at) = usize::try_from(number).ok().and_then(|n| self.at.get(n)) else {
            return;
        };
        let now = self.since.elapsed().as_nanos() as u64;
        let _ = at.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How many have been noted.
    pub fn count(&self) -> u64 {
        let noted = |at: &&AtomicU64| at.load(Ordering::Relaxed) > 0;
        self.at.iter().filter(noted).count() as u64
    }

    /// From each of ours to the same of `later`; what came before counts as at
    /// once, what never came is left out.
    pub fn until(&self, later: &Times) -> Latencies {
        let mut latencies = Latencies::default();
        for (ours, theirs) in self.at.iter().zip(&later.at) {
            let (ours, theirs) = (ours.load(Ordering::Relaxed), theirs.load(Ordering::Relaxed));
            if ours > 0 && theirs > 0 {
                latencies.record(Duration::from_nanos(theirs.saturating_sub(ours)));
            }
        }
        latencies
    }
}

/// The number of the event in a body that this module made.
pub fn number_in(body: &[u8]) -> Option<u64> {
    const BEFORE: &[u8] = b"\"JobId\":\"";
    let at = body.windows(BEFORE.len()).position(|part| part == BEFORE)? + BEFORE.len();
    std::str::from_utf8(body.get(at..at + DIGITS)?)
        .ok()?
        .parse()
        .ok()
}

/// Sends and waits for all answers. `run` keeps the bodies of different loads
/// apart; `acks` notes when each event was acknowledged.
pub async fn send(to: SocketAddr, amount: Amount, run: u64, acks: Option<Arc<Times>>) -> Outcome {
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (next, acks) = (Arc::clone(&next), acks.clone());
        connections.spawn(async move {
            let mut sender = Connection::new(to, run);
            let mut outcome = Outcome::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(due) = due(amount, number, started) else {
                    return outcome;
                };
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
                let since = match amount {
                    Amount::Rate(..) => due,
                    Amount::For(_) | Amount::Count(_) => Instant::now(),
                };
                if sender
                    .post(number)
                    .await
                    .is_some_and(|status| status == 200)
                {
                    outcome.acked += 1;
                    outcome.latencies.record(since.elapsed());
                    if let Some(acks) = &acks {
                        acks.note(number);
                    }
                } else {
                    outcome.failed += 1;
                }
            }
        });
    }
    let mut total = Outcome::default();
    while let Some(part) = connections.join_next().await {
        let part = part.expect("no connection's task panics");
        total.acked += part.acked;
        total.failed += part.failed;
        total.latencies.merge(&part.latencies);
    }
    total.elapsed = started.elapsed();
    total
}

/// When event `number` starts at the earliest; `None` where there are no more.
fn due(amount: Amount, number: u64, started: Instant) -> Option<Instant> {
    match amount {
        Amount::For(time) => (started.elapsed() < time).then_some(started),
        Amount::Count(count) => (number < count).then_some(started),
        Amount::Rate(rate, time) => {
            let after = Duration::from_secs_f64(number as f64 / rate);
            (after < time).then(|| started + after)
        }
    }
}

/// Digits of an event's number.
const DIGITS: usize = 10;

struct Connection {
    to: SocketAddr,
    run: u64,
    stream: Option<TcpStream>,
    signed_at: u64,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    fn new(to: SocketAddr, run: u64) -> Self {
        Self {
            to,
            run,
            stream: None,
            signed_at: 0,
            head: String::new(),
            request: Vec::new(),
            answer: vec![0; 4096],
        }
    }

    /// The status of the answer; `None` where there was none.
    async fn post(&mut self, number: u64) -> Option<u16> {
        let body = body(self.run, number);
        self.sign();
        self.request.clear();
        self.request.extend_from_slice(self.head.as_bytes());
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        self.request.extend_from_slice(length.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.to).await.ok()?;
                stream.set_nodelay(true).ok()?;
                stream
            }
        };
        stream.write_all(&self.request).await.ok()?;
        let status = read_answer(&mut stream, &mut self.answer).await?;
        self.stream = Some(stream);
        Some(status)
    }

    /// The same signature serves a second long.
    fn sign(&mut self) {
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |now| now.as_secs());
        if now != self.signed_at {
            self.signed_at = now;
            let timestamp = now.to_string();
            let signature = sign(URL, &timestamp, KEY);
            self.head = format!(
                "POST /ims/callback HTTP/1.1\r\nHost: callbacks.example.com\r\n\
                 User-Agent: bench\r\nContent-Type: application/json\r\n\
                 X-ICE-TIMESTAMP: {timestamp}\r\nX-ICE-SIGNATURE: {signature}\r\n"
            );
        }
    }
}

/// 330 bytes, as IMS would send them at the end of a production.
pub fn body(run: u64, number: u64) -> String {
    format!(
        r#"{{"EventType":"ProduceMediaComplete","UserId":1833220977561234,"EventTime":"2026-11-24T08:48:14Z","MessageBody":{{"Status":"Success","JobId":"{number:0width$}","MediaId":"{run:08x}f30671efa9e5{number:012x}","MediaURL":"https://media.example.com/out/{run:08x}/{number:012x}.mp4","Code":"Success","ProjectId":"b4a9f6c2d1e84c55","UserData":"{{\"batch\":7}}"}}}}"#,
        width = DIGITS
    )
}

/// Reads one answer with a length, as all of the service's have.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<u16> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..)?).await.ok()?;
        if read == 0 {
            return None;
        }
        filled += read;
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(head)) = answer.parse(&buffer[..filled]) else {
            continue;
        };
        let length = answer
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
        let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
        if filled >= head + length {
            return answer.code;
        }
    }
}

/// Requests with a wrong signature that announce a large body, each on a
/// connection of its own: `rate` per second by the clock, for `time`. Answers
/// how many were refused with 401, and how many were not.
pub async fn forge(to: SocketAddr, rate: f64, time: Duration) -> (u64, u64) {
    const BODY_BYTES: usize = 10 << 20;
    const FIRST_BYTES: usize = 4 << 10;
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut forgers = JoinSet::new();
    for _ in 0..2 * CONNECTIONS {
        let next = Arc::clone(&next);
        forgers.spawn(async move {
            let now = std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |now| now.as_secs());
            let signature = sign(URL, &now.to_string(), "not the key");
            let mut request = format!(
                "POST /ims/callback HTTP/1.1\r\nHost: callbacks.example.com\r\n\
                 X-ICE-TIMESTAMP: {now}\r\nX-ICE-SIGNATURE: {signature}\r\n\
                 Content-Length: {BODY_BYTES}\r\n\r\n"
            )
            .into_bytes();
            request.resize(request.len() + FIRST_BYTES, b'x');
            let mut answer = vec![0; 4096];
            let (mut refused, mut other) = (0, 0);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(due) = due(Amount::Rate(rate, time), number, started) else {
                    return (refused, other);
                };
                tokio::time::sleep_until(due.into()).await;
                let status = async {
                    let mut stream = TcpStream::connect(to).await.ok()?;
                    stream.write_all(&request).await.ok()?;
                    read_answer(&mut stream, &mut answer).await
                };
                match status.await {
                    Some(401) => refused += 1,
                    _ => other += 1,
                }
            }
        });
    }
    let (mut refused, mut other) = (0, 0);
    while let Some(part) = forgers.join_next().await {
        let part = part.expect("no forger's task panics");
        refused += part.0;
        other += part.1;
    }
    (refused, other)
}
