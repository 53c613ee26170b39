//! A destination for `forward`, in a thread of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;

use crate::load::{Times, number_in};

type Arrivals = Arc<Mutex<Option<Arc<Times>>>>;

/// A service that takes whatever is forwarded to it.
pub struct Destination {
    pub address: SocketAddr,
    arrivals: Arrivals,
}

impl Destination {
    /// Starts one that answers each request with 204 after `delay`.
    pub fn start(delay: Duration) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let arrivals = Arrivals::default();
        let router = Router::new()
            .route("/", post(take))
            .with_state((Arc::clone(&arrivals), delay));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Ends with the process.
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).await
            })
        });
        Ok(Self { address, arrivals })
    }

    /// Notes arrivals in `times` from now on.
    pub fn note_in(&self, times: &Arc<Times>) {
        *self.arrivals.lock().expect("a plain store cannot panic") = Some(Arc::clone(times));
    }
}

async fn take(State((arrivals, delay)): State<(Arrivals, Duration)>, body: Bytes) -> StatusCode {
    let times = arrivals.lock().expect("a plain store cannot panic").clone();
    if let (Some(times), Some(number)) = (times, number_in(&body)) {
        times.note(number);
    }
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    StatusCode::NO_CONTENT
}

/// An address at which nobody listens: connections are refused at once.
pub fn dead_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
