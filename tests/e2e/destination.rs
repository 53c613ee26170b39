//! A service of the user's that events are forwarded to.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::serve::Listener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// A request as it came in.
#[derive(Clone)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn id(&self) -> &str {
        self.header("x-ims-event-id").expect("every request has it")
    }

    pub fn attempt(&self) -> u32 {
        let attempt = self.header("x-ims-attempt").expect("every request has it");
        attempt.parse().expect("a number")
    }
}

/// What is answered, and how long that takes.
pub struct Answer {
    pub after: Duration,
    pub status: u16,
    pub header: Option<(&'static str, String)>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            after: Duration::ZERO,
            status,
            header: None,
        }
    }

    /// A 200 that is worked for.
    pub fn after(after: Duration) -> Self {
        Self {
            after,
            ..Self::status(200)
        }
    }

    /// A status with a field in its head.
    pub fn with(status: u16, name: &'static str, value: impl Into<String>) -> Self {
        Self {
            header: Some((name, value.into())),
            ..Self::status(status)
        }
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    /// Ids whose request got its whole answer, repeats included.
    answered: Vec<String>,
}

/// A running destination; dropping it breaks its connections and closes its
/// port.
pub struct Destination {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Destination {
    /// On a free port.
    pub fn start(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(free_port(), answer)
    }

    pub fn on(
        listener: TcpListener,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::run(listener, None, Arc::new(answer))
    }

    pub fn with_tls(
        tls: TlsAcceptor,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::run(free_port(), Some(tls), Arc::new(answer))
    }

    fn run(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        answer: Arc<dyn Fn(&Received) -> Answer + Send + Sync>,
    ) -> Self {
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let stop = CancellationToken::new();
        let router = axum::Router::new().fallback({
            let seen = Arc::clone(&seen);
            move |request: Request| receive(request, Arc::clone(&seen), Arc::clone(&answer))
        });
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let serving = async {
                let tcp = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let ended = match tls {
                    None => axum::serve(tcp, router).into_future().await,
                    Some(tls) => axum::serve(Tls { tcp, tls }, router).into_future().await,
                };
                ended.expect("it serves until it is dropped");
            };
            // What is under way is dropped with the runtime.
            runtime.block_on(stopped.run_until_cancelled(serving));
        });
        Self {
            address,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Every request so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.seen.lock().expect("plain read").received.clone()
    }

    /// How many requests got their whole answer.
    pub fn answers(&self) -> usize {
        self.seen.lock().expect("plain read").answered.len()
    }

    /// The events whose request got its whole answer.
    pub fn answered(&self) -> HashSet<String> {
        let seen = self.seen.lock().expect("plain read");
        seen.answered.iter().cloned().collect()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the destination does not panic");
            }
        }
    }
}

/// A listener on a free port of the loopback interface.
pub fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

async fn receive(
    request: Request,
    seen: Arc<Mutex<Seen>>,
    answer: Arc<dyn Fn(&Received) -> Answer + Send + Sync>,
) -> Response<Body> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::new(Body::empty());
    };
    let received = Received {
        headers: head.headers,
        body,
        at,
    };
    let id = received.id().to_owned();
    let answer = answer(&received);
    seen.lock().expect("plain push").received.push(received);
    // Dropped here when the other side hangs up before that.
    tokio::time::sleep(answer.after).await;
    let mut response = Response::builder().status(answer.status);
    if let Some((name, value)) = answer.header {
        response = response.header(name, value);
    }
    let success = StatusCode::from_u16(answer.status).is_ok_and(|status| status.is_success());
    if success {
        seen.lock().expect("plain push").answered.push(id);
    }
    response.body(Body::empty()).expect("a response")
}

struct Tls {
    tcp: tokio::net::TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // A client that does not trust us breaks off here.
            if let Ok((stream, peer)) = self.tcp.accept().await
                && let Ok(stream) = self.tls.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
