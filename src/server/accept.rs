//! The accept loop of both listeners, with its deadlines and limits.
//!
//! `axum::serve` and hyper's own timers leave silent connections open for
//! ever: nothing times the detection of the protocol, HTTP/2 heads, or a peer
//! that stops reading. So each connection has one timer here, from the accept
//! on and whatever the protocol; [`Connection`] says when it is due.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ServerConfig;
use super::connection::{Connection, Due, Over, WRITE_STALL_MAX};
use super::io::WatchedIo;
use super::registry::Connections;
use super::service::PerConnection;
use crate::throttle::Throttle;

/// From the close on, what was read has to be answered within this.
pub(super) const CLOSE_ANSWER_MAX: Duration = Duration::from_millis(500);
/// For answers that are written but perhaps not yet on the wire.
const FLUSH_GRACE: Duration = Duration::from_millis(100);
/// How long a connection that was asked to make room may take.
const EVICTION_WAIT: Duration = Duration::from_millis(100);
/// How long to wait when the system has no descriptor left …
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// … and when this many connections were asked to give theirs back.
const ROOM_BACKOFF: Duration = Duration::from_millis(1);
const ROOM_BATCH: usize = 16;
/// Failed accepts are logged at most this often.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// hyper answers larger heads itself, with a bare 431. Ours is smaller.
const HEAD_BUFFER_BYTES_MAX: usize = 32 * 1024;
/// A stream whose answer the peer does not take costs about 2 KB, and strangers
/// may hold as many as this on each connection.
const HTTP2_STREAMS_MAX: u32 = 32;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HTTP2_PENDING_RESETS_MAX: usize = 32;
const HTTP2_LOCAL_RESETS_MAX: usize = 256;

/// What a listener answers. Clones answer the same.
pub trait Endpoint: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + Unpin + 'static;
    /// The answer on its way. Dropped when the client hangs up.
    type Answer: Future<Output = Response<Self::Body>> + Send + Unpin + 'static;

    /// Begins to answer a request whose head has just ended.
    fn call(&self, request: Request<Incoming>, connection: &Arc<Connection>) -> Self::Answer;
}

/// The limits of a listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// From the accept, or the first byte of a later request, to the end of
    /// the head. What comes before the answer to the request before it has
    /// its time from that answer.
    pub head_deadline: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Connections at the same time.
    pub connections_max: usize,
}

impl ConnectionLimits {
    /// The shortest time in which a connection can be over.
    pub(super) fn shortest(&self) -> Duration {
        self.head_deadline.min(self.keep_alive).min(WRITE_STALL_MAX)
    }
}

impl From<&ServerConfig> for ConnectionLimits {
    fn from(config: &ServerConfig) -> Self {
        Self {
            head_deadline: config.head_deadline,
            keep_alive: config.keep_alive,
            connections_max: config.connections_max,
        }
    }
}

/// Serves `listener` until `close` is cancelled.
///
/// Call it only when everything is ready: early connections wait in the
/// kernel's queue until then. On `close` it accepts nothing more, closes idle
/// connections, drops unfinished heads, and gives requests that were read half
/// a second; then it returns, in about that time whatever the peers do.
pub async fn run<E: Endpoint>(
    listener: TcpListener,
    endpoint: E,
    limits: ConnectionLimits,
    close: CancellationToken,
) {
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let acceptor = Acceptor {
        slots: Arc::new(Semaphore::new(all as usize)),
        all,
        connections: Arc::default(),
        http: Arc::new(http_builder()),
        endpoint,
        limits,
        epoch: Instant::now(),
    };
    // What never comes to an end is ended here with the listener.
    close
        .run_until_cancelled(acceptor.accept_all(&listener))
        .await;
    drop(listener);
    acceptor.finish().await;
}

/// HTTP/1 and HTTP/2 on one port. hyper's own head timer is off: it would
/// close idle connections and does not cover the rest.
pub(super) fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(HEAD_BUFFER_BYTES_MAX);
    builder
        .http2()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEAD_BUFFER_BYTES_MAX as u32)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS_MAX);
    builder
}

struct Acceptor<E> {
    slots: Arc<Semaphore>,
    /// How many slots there are.
    all: u32,
    connections: Arc<Connections>,
    http: Arc<auto::Builder<TokioExecutor>>,
    endpoint: E,
    limits: ConnectionLimits,
    epoch: Instant,
}

impl<E: Endpoint> Acceptor<E> {
    async fn accept_all(&self, listener: &TcpListener) {
        let log = Throttle::new(1, ACCEPT_LOG_INTERVAL);
        let mut victims = Vec::new();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = Connection::new(peer, Instant::now(), self.epoch);
                    let slot = self.slot(&mut victims).await;
                    self.spawn(stream, Arc::new(connection), slot);
                }
                Err(error) if is_the_peers(&error) => debug!(%error, "accept failed"),
                Err(error) => {
                    if let Some(suppressed) = log.admit(std::time::Instant::now()) {
                        warn!(%error, suppressed, "cannot accept connections");
                    }
                    // Most likely no descriptor is free, and who waits to be
                    // accepted should not wait for strangers' deadlines.
                    let gone = (0..ROOM_BATCH).take_while(|_| self.make_room(&mut victims));
                    let any_gone = gone.count() > 0;
                    sleep(if any_gone {
                        ROOM_BACKOFF
                    } else {
                        ACCEPT_BACKOFF
                    })
                    .await;
                }
            }
        }
    }

    /// A place for one more connection; at the limit, the one that has waited
    /// longest without a verified request has to go.
    async fn slot(&self, victims: &mut Vec<Arc<Connection>>) -> OwnedSemaphorePermit {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return slot;
            }
            self.make_room(victims);
            let freed = Arc::clone(&self.slots).acquire_owned();
            if let Ok(Ok(slot)) = timeout(EVICTION_WAIT, freed).await {
                return slot;
            }
        }
    }

    /// Asks one connection to go; whether any can.
    fn make_room(&self, victims: &mut Vec<Arc<Connection>>) -> bool {
        let Some(victim) = self.connections.next_victim(victims) else {
            return false;
        };
        debug!(peer = %victim.peer(), "closed to make room");
        victim.evict();
        true
    }

    fn spawn(&self, stream: TcpStream, connection: Arc<Connection>, slot: OwnedSemaphorePermit) {
        // Without it small answers may wait for the peer's delayed ACK; a
        // socket that refuses is served all the same.
        stream.set_nodelay(true).ok();
        let service = PerConnection::new(self.endpoint.clone(), Arc::clone(&connection));
        let http = Arc::clone(&self.http);
        let limits = self.limits;
        let entry = Connections::enter(&self.connections, connection);
        tokio::spawn(async move {
            serve(stream, &entry.connection, service, &http, limits).await;
            drop(slot);
        });
    }

    /// Lets what was read be answered, closes the rest, and waits for it.
    async fn finish(&self) {
        self.connections.for_each(Connection::close);
        let slack = CLOSE_ANSWER_MAX + FLUSH_GRACE * 3;
        if timeout(slack, self.slots.acquire_many(self.all))
            .await
            .is_err()
        {
            debug!("connections were still open at the end");
        }
    }
}

/// Serves one connection until its end or a missed deadline.
async fn serve<E: Endpoint>(
    stream: TcpStream,
    connection: &Arc<Connection>,
    service: PerConnection<E>,
    builder: &auto::Builder<TokioExecutor>,
    limits: ConnectionLimits,
) {
    let io = TokioIo::new(WatchedIo::new(stream, Arc::clone(connection)));
    let mut http = pin!(builder.serve_connection(io, service));
    let mut timer = pin!(sleep_until(connection.accepted() + limits.shortest()));
    let mut signal = pin!(connection.signalled());
    let mut closing: Option<Closing> = None;
    loop {
        // The connection first: what has come in the meantime counts before
        // it is judged.
        tokio::select! { biased;
            end = http.as_mut() => return note_end(connection, end),
            () = signal.as_mut() => signal.set(connection.signalled()),
            () = timer.as_mut() => {}
        }
        let next = match &closing {
            Some(closing) => Next::Until(closing.end(connection)),
            None => Next::of(connection, &limits),
        };
        let until = match next {
            Next::Until(until) => until,
            Next::End => return,
            Next::Close => {
                // Not just dropped: an HTTP/2 peer should know that what it
                // sends from now on was not looked at.
                http.as_mut().graceful_shutdown();
                closing.insert(Closing::begin()).end(connection)
            }
        };
        if connection.must_make_room() || until <= Instant::now() {
            return;
        }
        timer.as_mut().reset(until);
    }
}

fn note_end(connection: &Connection, end: Result<(), tower::BoxError>) {
    if let Err(error) = end {
        debug!(peer = %connection.peer(), %error, "connection ended");
    }
}

/// What to do with a connection.
enum Next {
    /// Leave it alone until then.
    Until(Instant),
    /// Close it in good order.
    Close,
    /// Drop it.
    End,
}

impl Next {
    fn of(connection: &Connection, limits: &ConnectionLimits) -> Self {
        match connection.due(limits, Instant::now()) {
            Due::Over(Over::Idle) => Self::Close,
            Due::Over(over) => {
                debug!(peer = %connection.peer(), ?over, "connection missed a deadline");
                Self::End
            }
            Due::At(_) if connection.is_closing() => Self::Close,
            Due::At(at) => Self::Until(at),
        }
    }
}

/// A connection that is being closed in good order.
struct Closing {
    began: Instant,
}

impl Closing {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Until when it may go on: requests need their answer, an early answer
    /// needs to be read, any other just to get on the wire.
    fn end(&self, connection: &Connection) -> Instant {
        let hard = self.began + CLOSE_ANSWER_MAX + FLUSH_GRACE;
        if connection.has_requests() || connection.has_answered_early() {
            return hard;
        }
        let last = connection.last_answer().max(self.began);
        hard.min(last + FLUSH_GRACE)
    }
}

/// Whether an accept failed because the peer was gone already.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
