//! A queue service on loopback that speaks the MNS API as its documentation,
//! its SDKs and captured traffic have it, with faults that can be switched on,
//! a clock that can be moved, and a log of what happened in which order.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ims_receiver::mns::xml::Element;
use rand::Rng as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

mod answer;
mod queue;
mod request;

use answer::{Answer, Failure, Style};
use queue::{Attributes, Queue, Stored};
use request::Wire;
pub use request::{Key, Op};

pub const KEY_ID: &str = "TestAccessID";
pub const KEY_SECRET: &str = "TestAccessSecret";

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refused, nothing done.
    Refused(u16, &'static str),
    /// A gateway's page instead of an answer, nothing done.
    Html(u16),
    /// A page with status 200, nothing done.
    HtmlAsSuccess,
    /// "Nothing there" at once, as over the cap on long polls.
    EmptyAtOnce,
    /// The connection ends before anything was done.
    ResetBefore,
    /// It is done, and the connection ends instead of an answer.
    ResetAfter,
    /// It is done, and the answer comes late.
    Slow(Duration),
    /// It is done, and the answer breaks off.
    Truncated,
    /// The answer defines entities.
    Bomb,
    /// This instead of an answer, with status 200, nothing done.
    Garbage(String),
    /// A message without a body or a handle comes first in the answer.
    OddMessage,
    /// The MD5 of what is received is another one.
    WrongMd5,
    /// The message is handed out again at once.
    Twice,
    /// Some messages of a batch are not deleted.
    Partial,
}

impl Fault {
    /// Those that may hit a request of this kind at random.
    fn random(op: Op) -> Self {
        let mut all = vec![
            Self::Refused(429, "TooManyRequests"),
            Self::Refused(500, "InternalError"),
            Self::Refused(503, "ServiceUnavailable"),
            Self::Html(502),
            Self::HtmlAsSuccess,
            Self::ResetBefore,
            Self::ResetAfter,
            Self::Slow(Duration::from_millis(50)),
        ];
        match op {
            Op::Receive => all.extend([
                Self::EmptyAtOnce,
                Self::Truncated,
                Self::Bomb,
                Self::WrongMd5,
                Self::OddMessage,
                Self::Twice,
            ]),
            Op::Delete => all.extend([Self::Partial, Self::Partial]),
            _ => {}
        }
        all.swap_remove(rand::rng().random_range(0..all.len()))
    }

    /// Whether the request is not looked at any further.
    fn comes_first(&self) -> bool {
        matches!(
            self,
            Self::Refused(..)
                | Self::Html(_)
                | Self::HtmlAsSuccess
                | Self::EmptyAtOnce
                | Self::ResetBefore
                | Self::Bomb
                | Self::Garbage(_)
        )
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Sent { body: String },
    Received { body: String },
    Changed { body: String, seconds: i64 },
    Deleted { body: String },
    Failed { op: Op, code: String },
}

/// Asked before a message is deleted; `false` notes it as deleted too early.
type MayDelete = Box<dyn Fn(&str) -> bool + Send>;

#[derive(Default)]
struct State {
    queues: BTreeMap<String, Queue>,
    keys: BTreeMap<String, Key>,
    faults: Vec<(Op, Fault, u32)>,
    /// How many of a thousand requests get a fault at random.
    chaos: u32,
    random_style: bool,
    strict: bool,
    offset: i64,
    requests: BTreeMap<Op, u64>,
    log: Vec<Happened>,
    may_delete: Option<MayDelete>,
    early: Vec<String>,
    /// In the benchmark nothing is kept of it.
    silent: bool,
}

struct Shared {
    state: Mutex<State>,
    /// A message has come, or the clock was moved.
    moved: Notify,
}

/// A running emulator. Dropping it ends it.
pub struct Emulator {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<Server>,
    tls: Option<TlsAcceptor>,
}

struct Server {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Emulator {
    /// An emulator on a free port, with one key and these queues.
    pub fn start(queues: &[&str]) -> Self {
        Self::start_as(queues, None)
    }

    /// One that speaks TLS, as `localhost`.
    pub fn start_with_tls(queues: &[&str], tls: TlsAcceptor) -> Self {
        Self::start_as(queues, Some(tls))
    }

    fn start_as(queues: &[&str], tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = State::default();
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            moved: Notify::new(),
        });
        let mut emulator = Self {
            address,
            shared,
            server: None,
            tls,
        };
        let now = emulator.now();
        {
            let mut state = emulator.state();
            let queue = |name: &&str| ((*name).to_owned(), Queue::new(Attributes::default(), now));
            state.queues = queues.iter().map(queue).collect();
            let key = Key {
                secret: KEY_SECRET.to_owned(),
                token: None,
                expires: None,
            };
            state.keys.insert(KEY_ID.to_owned(), key);
        }
        emulator.serve(listener);
        emulator
    }

    pub fn url(&self) -> String {
        match self.tls {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// Ends all connections and listens no more; the queues stay.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop.cancel();
            server.thread.join().expect("the emulator does not panic");
        }
    }

    /// Listens again on the same port.
    pub fn start_again(&mut self) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        socket.set_reuse_address(true).expect("it is ours");
        socket.bind(&self.address.into()).expect("the port is free");
        socket.listen(128).expect("it listens");
        self.serve(socket.into());
    }

    fn serve(&mut self, listener: std::net::TcpListener) {
        let (shared, stop) = (Arc::clone(&self.shared), CancellationToken::new());
        let (ended, tls) = (stop.clone(), self.tls.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(accept(listener, shared, tls, ended));
        });
        self.server = Some(Server { stop, thread });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no lock is poisoned")
    }

    fn now(&self) -> i64 {
        self.state().now()
    }

    pub fn send(&self, queue: &str, body: &str) {
        let mut state = self.state();
        let now = state.now();
        let body = body.to_owned();
        if !state.silent {
            state.log.push(Happened::Sent { body: body.clone() });
        }
        let queue = state.queues.get_mut(queue).expect("a queue");
        queue.send(body, 0, 8, now);
        drop(state);
        self.shared.moved.notify_waiters();
    }

    /// The next `times` requests of this kind get this fault.
    pub fn fault(&self, op: Op, fault: Fault, times: u32) {
        self.state().faults.push((op, fault, times));
    }

    /// Of a thousand requests so many get a fault, and answers differ in all
    /// that means nothing.
    pub fn chaos(&self, per_thousand: u32) {
        let mut state = self.state();
        state.chaos = per_thousand;
        state.random_style = true;
    }

    /// Ends all faults.
    pub fn calm(&self) {
        let mut state = self.state();
        state.chaos = 0;
        state.faults.clear();
    }

    /// Refuses query keys that are not spelt as documented.
    pub fn strict(&self) {
        self.state().strict = true;
    }

    /// Keeps no log of what happened.
    pub fn silent(&self) {
        self.state().silent = true;
    }

    /// Moves the service's clock forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).expect("a short time");
        self.state().offset += by;
        self.shared.moved.notify_waiters();
    }

    pub fn visibility(&self, queue: &str, seconds: i64) {
        let mut state = self.state();
        let queue = state.queues.get_mut(queue).expect("a queue");
        queue.attributes.visibility_timeout = seconds;
    }

    /// Moves what was received so often without a delete to another queue.
    pub fn dead_letter(&self, queue: &str, to: &str, receives: u32) {
        let mut state = self.state();
        let queue = state.queues.get_mut(queue).expect("a queue");
        queue.dead_letter = Some((to.to_owned(), receives));
    }

    pub fn set_key(&self, id: &str, key: Key) {
        self.state().keys.insert(id.to_owned(), key);
    }

    pub fn remove_key(&self, id: &str) {
        self.state().keys.remove(id);
    }

    pub fn remove_queue(&self, name: &str) {
        self.state().queues.remove(name);
        self.shared.moved.notify_waiters();
    }

    pub fn add_queue(&self, name: &str) {
        let mut state = self.state();
        let created = state.now();
        let queue = Queue::new(Attributes::default(), created);
        state.queues.insert(name.to_owned(), queue);
    }

    /// Asks before each delete; see [`Emulator::early`].
    pub fn before_delete(&self, may_delete: impl Fn(&str) -> bool + Send + 'static) {
        self.state().may_delete = Some(Box::new(may_delete));
    }

    /// Bodies that were deleted although `before_delete` said no.
    pub fn early(&self) -> Vec<String> {
        self.state().early.clone()
    }

    /// How many messages a queue holds, visible or not.
    pub fn left(&self, queue: &str) -> usize {
        self.state().queues.get(queue).map_or(0, Queue::len)
    }

    /// The most receives of any message that is left.
    pub fn most_receives(&self, queue: &str) -> u32 {
        let state = self.state();
        let all = state.queues.get(queue).expect("a queue").all();
        all.map(|message| message.receives).max().unwrap_or(0)
    }

    /// How often messages of this body were received.
    pub fn receives_of(&self, body: &str) -> usize {
        let state = self.state();
        let all = state.log.iter();
        all.filter(|one| matches!(one, Happened::Received { body: of } if of == body))
            .count()
    }

    pub fn requests(&self, op: Op) -> u64 {
        self.state().requests.get(&op).copied().unwrap_or(0)
    }

    pub fn log(&self) -> Vec<Happened> {
        self.state().log.clone()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop.cancel();
            // A panic in there has been seen by then.
            let _ = server.thread.join();
        }
    }
}

impl State {
    fn now(&self) -> i64 {
        let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        i64::try_from(since.as_millis()).expect("before the year 292 million") + self.offset
    }

    /// The fault of a request, if it gets one.
    fn fault_of(&mut self, op: Op) -> Option<Fault> {
        let asked = self
            .faults
            .iter()
            .position(|(of, _, times)| *of == op && *times > 0);
        if let Some(position) = asked {
            let (_, fault, times) = &mut self.faults[position];
            *times -= 1;
            return Some(fault.clone());
        }
        let hit = self.chaos > 0 && rand::rng().random_range(0..1000) < self.chaos;
        hit.then(|| Fault::random(op))
    }

    fn style(&self) -> Style {
        if !self.random_style {
            return Style::default();
        }
        Style {
            trailing_slash: rand::random(),
            shuffled: rand::random(),
            extra: rand::random(),
            ..Style::default()
        }
    }

    fn note(&mut self, happened: impl FnOnce() -> Happened) {
        if !self.silent {
            self.log.push(happened());
        }
    }

    /// A queue as it is by now.
    fn queue(&mut self, name: &str) -> Result<&mut Queue, Failure> {
        let now = self.now();
        let missing = Failure::new(404, "QueueNotExist");
        let queue = self.queues.get_mut(name).ok_or(missing)?;
        let dead = queue.turn(now);
        let to = queue.dead_letter.clone().map(|(to, _)| to);
        if let Some(target) = to.and_then(|to| self.queues.get_mut(&to)) {
            for message in dead {
                let message = Stored {
                    receives: 0,
                    next_visible: now,
                    ..message
                };
                target.put(message, now);
            }
        }
        self.queues.get_mut(name).ok_or(missing)
    }
}

/// The connection ends instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault that was asked for")]
struct Cut;

async fn accept(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    listener.set_nonblocking(true).expect("it is ours");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            () = stop.cancelled() => break,
        };
        stream.set_nodelay(true).expect("it is ours");
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            match tls {
                None => converse(stream, shared).await,
                Some(tls) => {
                    // Who does not trust us ends it here.
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, shared).await;
                    }
                }
            }
        });
    }
    // Dropped with the set: whoever was connected sees a broken connection.
    connections.abort_all();
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { serve(&shared, request).await }
    });
    // Clients and faults end connections as they like.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve(shared: &Shared, request: Request<Incoming>) -> Result<Answer, Cut> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let wire = Wire {
        method: parts.method,
        target: target.to_owned(),
        headers: parts.headers,
        body: body.collect().await.map_err(|_| Cut)?.to_bytes(),
    };
    let op = wire.op();
    let fault = {
        let mut state = shared.state.lock().expect("no lock is poisoned");
        *state.requests.entry(op).or_default() += 1;
        state.fault_of(op)
    };
    let request_id = format!("{:024X}", rand::random::<u128>() >> 32);
    let mut answer = match &fault {
        Some(fault) if fault.comes_first() => instead(fault, &request_id)?,
        _ => match respond(shared, &wire, fault.as_ref()).await {
            Ok(answer) => answer,
            Err(failure) => {
                let mut state = shared.state.lock().expect("no lock is poisoned");
                state.note(|| Happened::Failed {
                    op,
                    code: failure.code.to_owned(),
                });
                failure.answer(&request_id)
            }
        },
    };
    match fault {
        Some(Fault::ResetAfter) => return Err(Cut),
        Some(Fault::Slow(by)) => tokio::time::sleep(by).await,
        Some(Fault::Truncated) => answer = truncated(answer).await,
        _ => {}
    }
    let now = shared.state.lock().expect("no lock is poisoned").now();
    let millis = u64::try_from(now).expect("after 1970");
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(millis));
    let headers = answer.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).expect("visible ASCII"));
    };
    put("x-mns-request-id", &request_id);
    put("x-mns-version", "2015-06-06");
    put("server", "AliyunMNS");
    put("date", &date);
    Ok(answer)
}

/// What is answered without a look at the request.
fn instead(fault: &Fault, request_id: &str) -> Result<Answer, Cut> {
    const PAGE: &str =
        "<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head><body><hr></body></html>\n";
    let page = |status| {
        let answer = Response::builder()
            .status(status)
            .header("content-type", "text/html")
            .body(Full::new(Bytes::from_static(PAGE.as_bytes())));
        answer.expect("an answer")
    };
    Ok(match fault {
        Fault::Refused(status, code) => Failure::new(*status, code).answer(request_id),
        Fault::Html(status) => page(*status),
        Fault::HtmlAsSuccess => page(200),
        Fault::Garbage(text) => answer::xml(StatusCode::OK, text.clone()),
        Fault::EmptyAtOnce => Failure::new(404, "MessageNotExist").answer(request_id),
        Fault::Bomb => {
            let entities: String = (1..30)
                .map(|n| format!("<!ENTITY e{n} \"&e{m};&e{m};\">", m = n - 1))
                .collect();
            let text = format!(
                "<?xml version=\"1.0\"?><!DOCTYPE m [<!ENTITY e0 \"bomb\">{entities}]><Messages><Message><MessageBody>&e29;</MessageBody><ReceiptHandle>h</ReceiptHandle></Message></Messages>"
            );
            answer::xml(StatusCode::OK, text)
        }
        _ => return Err(Cut),
    })
}

async fn truncated(answer: Answer) -> Answer {
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body
        .unwrap_or_else(|never: Infallible| match never {})
        .to_bytes();
    let half = String::from_utf8_lossy(&body[..body.len() / 2]).into_owned();
    answer::xml(status, half)
}

async fn respond(shared: &Shared, wire: &Wire, fault: Option<&Fault>) -> Result<Answer, Failure> {
    {
        let state = shared.state.lock().expect("no lock is poisoned");
        wire.check(|id| state.keys.get(id).cloned(), state.now())?;
        if state.strict && !wire.is_spelt_as_documented() {
            return Err(Failure::new(400, "InvalidQueryString"));
        }
    }
    let query: BTreeMap<String, String> = wire.query().into_iter().collect();
    let path = wire.path();
    if path == "/queues" && wire.method == Method::GET {
        return Ok(list(shared, wire));
    }
    let rest = path.strip_prefix("/queues/");
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
        return Err(Failure::new(400, "InvalidRequestURL"));
    };
    match rest.strip_suffix("/messages") {
        Some(name) if wire.method == Method::GET => receive(shared, name, &query, fault).await,
        Some(name) => {
            let mut state = shared.state.lock().expect("no lock is poisoned");
            let answer = match wire.method {
                Method::DELETE => delete(&mut state, name, &query, wire, fault),
                Method::PUT => change(&mut state, name, &query),
                Method::POST => send(&mut state, name, wire),
                _ => Err(Failure::new(400, "InvalidRequestURL")),
            };
            drop(state);
            shared.moved.notify_waiters();
            answer
        }
        None => manage(shared, rest, &query, wire),
    }
}

fn number(
    query: &BTreeMap<String, String>,
    key: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<i64>, Failure> {
    let Some(text) = query.get(key) else {
        return Ok(None);
    };
    let parsed = text.parse().ok().filter(|value| range.contains(value));
    parsed.map(Some).ok_or(Failure::new(400, "InvalidArgument"))
}

async fn receive(
    shared: &Shared,
    name: &str,
    query: &BTreeMap<String, String>,
    fault: Option<&Fault>,
) -> Result<Answer, Failure> {
    let count = number(query, "numofmessages", 1..=16)?;
    let wait = number(query, "waitseconds", 0..=30)?;
    let peek = query.get("peekonly").is_some_and(|value| value == "true");
    let (until, batch) = {
        let mut state = shared.state.lock().expect("no lock is poisoned");
        let now = state.now();
        let queue = state.queue(name)?;
        let wait = if peek {
            0
        } else {
            wait.unwrap_or(queue.attributes.polling_wait)
        };
        (now + wait * 1000, count.is_some())
    };
    let count = usize::try_from(count.unwrap_or(1)).expect("it is in range");
    loop {
        // Registered before the look, so that nothing is missed in between.
        let moved = shared.moved.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        let again_at = {
            let mut state = shared.state.lock().expect("no lock is poisoned");
            let (now, mut style) = (state.now(), state.style());
            let queue = state.queue(name)?;
            if peek {
                let found = queue.peek(count);
                return if found.is_empty() {
                    Err(Failure::new(404, "MessageNotExist"))
                } else {
                    Ok(answer::messages(&found, batch, true, style))
                };
            }
            if queue.has_visible() {
                let found = queue.receive(count, now);
                if fault == Some(&Fault::Twice) {
                    found.iter().for_each(|one| queue.show_again(&one.handle));
                }
                style.wrong_md5 = fault == Some(&Fault::WrongMd5);
                style.odd_message = fault == Some(&Fault::OddMessage);
                for message in &found {
                    state.note(|| Happened::Received {
                        body: message.body.clone(),
                    });
                }
                return Ok(answer::messages(&found, batch, false, style));
            }
            if now >= until {
                return Err(Failure::new(404, "MessageNotExist"));
            }
            let next = queue.next_change().unwrap_or(until);
            u64::try_from(next.min(until) - now).unwrap_or(0)
        };
        tokio::select! {
            () = moved => {}
            () = tokio::time::sleep(Duration::from_millis(again_at + 1)) => {}
        }
    }
}

fn delete(
    state: &mut State,
    name: &str,
    query: &BTreeMap<String, String>,
    wire: &Wire,
    fault: Option<&Fault>,
) -> Result<Answer, Failure> {
    state.queue(name)?;
    if let Some(handle) = query.get("receipthandle") {
        if fault == Some(&Fault::Partial) {
            return Err(Failure::new(500, "InternalError"));
        }
        delete_one(state, name, handle)?;
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let document = parsed(wire, "ReceiptHandles")?;
    let handles: Vec<&str> = document
        .named_children("ReceiptHandle")
        .map(|handle| handle.text.as_str())
        .collect();
    if handles.is_empty() {
        return Err(Failure::new(400, "MissingReceiptHandle"));
    }
    if handles.len() > 16 {
        return Err(Failure::new(400, "InvalidArgument"));
    }
    let mut failed = Vec::new();
    for (position, handle) in handles.into_iter().enumerate() {
        let deleted = if fault == Some(&Fault::Partial) && position % 2 == 0 {
            Err(Failure::new(500, "InternalError"))
        } else {
            delete_one(state, name, handle)
        };
        if let Err(failure) = deleted {
            failed.push((handle.to_owned(), failure));
        }
    }
    Ok(if failed.is_empty() {
        answer::empty(StatusCode::NO_CONTENT)
    } else {
        answer::not_deleted(&failed)
    })
}

fn delete_one(state: &mut State, name: &str, handle: &str) -> Result<(), Failure> {
    let now = state.now();
    let body = state.queue(name)?.held(handle, now)?.body.clone();
    if state.may_delete.as_ref().is_some_and(|ask| !ask(&body)) {
        state.early.push(body.clone());
    }
    state.queue(name)?.delete(handle, now)?;
    state.note(|| Happened::Deleted { body });
    Ok(())
}

fn change(
    state: &mut State,
    name: &str,
    query: &BTreeMap<String, String>,
) -> Result<Answer, Failure> {
    let (now, style) = (state.now(), state.style());
    state.queue(name)?;
    let missing = |code| Failure::new(400, code);
    let handle = query
        .get("receipthandle")
        .ok_or(missing("MissingReceiptHandle"))?;
    let seconds = number(query, "visibilitytimeout", 1..=43_200)?
        .ok_or(missing("MissingVisibilityTimeout"))?;
    let queue = state.queue(name)?;
    let body = queue.held(handle, now)?.body.clone();
    let (handle, next_visible) = queue.change(handle, seconds, now)?;
    state.note(|| Happened::Changed { body, seconds });
    Ok(answer::changed(&handle, next_visible, style))
}

fn send(state: &mut State, name: &str, wire: &Wire) -> Result<Answer, Failure> {
    let now = state.now();
    let queue = state.queue(name)?;
    let (size_max, delay) = (
        queue.attributes.maximum_message_size,
        queue.attributes.delay,
    );
    let root = Element::parse(&wire.body).map_err(|_| Failure::new(400, "MalformedXML"))?;
    let batch = root.name == "Messages";
    let given: Vec<&Element> = match root.name.as_str() {
        "Message" => vec![&root],
        "Messages" => root.named_children("Message").collect(),
        _ => return Err(Failure::new(400, "MalformedXML")),
    };
    let mut taken = VecDeque::new();
    for message in &given {
        let body = message.text_of("MessageBody");
        let body = body.ok_or(Failure::new(400, "MalformedXML"))?.to_owned();
        let number = |name, default: i64| -> Result<i64, Failure> {
            let Some(text) = message.text_of(name) else {
                return Ok(default);
            };
            text.trim()
                .parse()
                .map_err(|_| Failure::new(400, "InvalidArgument"))
        };
        let (delay, priority) = (number("DelaySeconds", delay)?, number("Priority", 8)?);
        let fits = i64::try_from(body.len()).is_ok_and(|size| size <= size_max)
            && (0..=604_800).contains(&delay)
            && (1..=16).contains(&priority)
            && body.chars().all(is_xml);
        if !fits {
            return Err(Failure::new(400, "InvalidArgument"));
        }
        taken.push_back((body, delay, u8::try_from(priority).expect("up to 16")));
    }
    if taken.is_empty() || taken.len() > 16 {
        return Err(Failure::new(400, "InvalidArgument"));
    }
    let delayed = taken.iter().any(|(_, delay, _)| *delay > 0);
    let mut sent = Vec::new();
    for (body, delay, priority) in taken {
        state.note(|| Happened::Sent { body: body.clone() });
        sent.push(state.queue(name)?.send(body, delay, priority, now));
    }
    Ok(answer::sent(&sent, batch, delayed))
}

/// Characters that XML 1.0 can carry.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn parsed(wire: &Wire, root: &str) -> Result<Element, Failure> {
    let document = Element::parse(&wire.body).ok();
    document
        .filter(|document| document.name == root)
        .ok_or(Failure::new(400, "MalformedXML"))
}

fn list(shared: &Shared, wire: &Wire) -> Answer {
    let state = shared.state.lock().expect("no lock is poisoned");
    let prefix = wire.header("x-mns-prefix").unwrap_or_default();
    let names = state.queues.keys().filter(|name| name.starts_with(prefix));
    let host = wire.header("host").unwrap_or_default();
    answer::queue_list(
        &format!("http://{host}"),
        &names.cloned().collect::<Vec<_>>(),
    )
}

fn manage(
    shared: &Shared,
    name: &str,
    query: &BTreeMap<String, String>,
    wire: &Wire,
) -> Result<Answer, Failure> {
    let mut state = shared.state.lock().expect("no lock is poisoned");
    let now = state.now();
    let answer = match wire.method {
        Method::GET => {
            let queue = state.queue(name)?;
            Ok(answer::attributes(name, queue))
        }
        Method::DELETE => {
            state.queues.remove(name);
            Ok(answer::empty(StatusCode::NO_CONTENT))
        }
        Method::PUT if query.contains_key("metaoverride") => {
            let queue = state.queue(name)?;
            queue.attributes = attributes(wire, queue.attributes.clone())?;
            Ok(answer::empty(StatusCode::NO_CONTENT))
        }
        Method::PUT => {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if !name.chars().all(fits) || name.starts_with('-') {
                return Err(Failure::new(400, "InvalidQueueName"));
            }
            if name.len() > 120 {
                return Err(Failure::new(400, "QueueNameLengthError"));
            }
            let wanted = attributes(wire, Attributes::default())?;
            match state.queues.get(name) {
                Some(queue) if queue.attributes == wanted => {
                    Ok(answer::empty(StatusCode::NO_CONTENT))
                }
                Some(_) => Err(Failure::new(409, "QueueAlreadyExist")),
                None => {
                    state
                        .queues
                        .insert(name.to_owned(), Queue::new(wanted, now));
                    let host = wire.header("host").unwrap_or_default();
                    let mut answer = answer::empty(StatusCode::CREATED);
                    let location = format!("http://{host}/queues/{name}");
                    let location = HeaderValue::from_str(&location).expect("visible ASCII");
                    answer.headers_mut().insert("location", location);
                    Ok(answer)
                }
            }
        }
        _ => Err(Failure::new(400, "InvalidRequestURL")),
    };
    drop(state);
    shared.moved.notify_waiters();
    answer
}

fn attributes(wire: &Wire, mut attributes: Attributes) -> Result<Attributes, Failure> {
    let document = parsed(wire, "Queue")?;
    let invalid = Failure::new(400, "InvalidArgument");
    let given = |name: &str, range: std::ops::RangeInclusive<i64>, value: &mut i64| {
        let Some(text) = document
            .text_of(name)
            .filter(|text| !text.trim().is_empty())
        else {
            return Ok(());
        };
        let parsed: i64 = text.trim().parse().map_err(|_| invalid)?;
        // The Python client sends -1 for what it does not set.
        if parsed != -1 {
            if !range.contains(&parsed) {
                return Err(invalid);
            }
            *value = parsed;
        }
        Ok(())
    };
    given(
        "VisibilityTimeout",
        1..=43_200,
        &mut attributes.visibility_timeout,
    )?;
    given(
        "MaximumMessageSize",
        1024..=65_536,
        &mut attributes.maximum_message_size,
    )?;
    given(
        "MessageRetentionPeriod",
        60..=604_800,
        &mut attributes.retention,
    )?;
    given("DelaySeconds", 0..=604_800, &mut attributes.delay)?;
    given("PollingWaitSeconds", 0..=30, &mut attributes.polling_wait)?;
    if let Some(text) = document.text_of("LoggingEnabled") {
        attributes.logging = text.trim().eq_ignore_ascii_case("true");
    }
    Ok(attributes)
}
