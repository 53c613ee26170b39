//! The callback endpoint over HTTP/2 with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{Mode, PATIENCE, Server};

/// What a client with prior knowledge sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client whose connection runs in a task until `hang_up`.
struct Client {
    requests: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            connection.await.ok();
        });
        Self {
            requests,
            connection,
        }
    }

    async fn begin(&self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let requests = timeout(PATIENCE, self.requests.clone().ready()).await;
        let mut requests = requests.expect("ready in time").unwrap();
        requests.send_request(request, end).unwrap()
    }

    /// Sends a whole request.
    async fn exchange(&self, request: Request<()>, body: &str) -> (StatusCode, Bytes) {
        let (answer, mut stream) = self.begin(request, false).await;
        stream
            .send_data(Bytes::copy_from_slice(body.as_bytes()), true)
            .ok();
        read(answer).await
    }
}

async fn read(answer: ResponseFuture) -> (StatusCode, Bytes) {
    let read = async {
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend_from_slice(&data);
        }
        (head.status, Bytes::from(bytes))
    };
    timeout(PATIENCE, read).await.expect("answered in time")
}

fn post(path: &str) -> hyper::http::request::Builder {
    Request::post(format!("http://x{path}"))
}

fn signed() -> hyper::http::request::Builder {
    post("/ims?from=h2")
        .header("x-ice-timestamp", "1519375990")
        .header("x-ice-signature", "c72b60894140fa98920f1279219b7ed4")
}

#[tokio::test]
async fn the_table_holds_for_http2() {
    let server = Server::with(|setup| setup.server.body_bytes_max = 1000).await;
    let client = Client::connect(&server).await;
    let long = "x".repeat(17 * 1024);
    for (request, body, status) in [
        (signed().body(()), "event", 200),
        (signed().body(()), "", 200),
        (post("/nowhere").body(()), "event", 404),
        (Request::get("http://x/ims").body(()), "", 405),
        (post("/ims").body(()), "event", 401),
        (signed().header("x-ice-timestamp", "1").body(()), "", 401),
        (signed().header("x", &long).body(()), "", 431),
        (Request::get("http://x/healthz").body(()), "", 200),
    ] {
        let (found, _) = client.exchange(request.unwrap(), body).await;
        assert_eq!(found, status);
    }
    let (status, body) = client.exchange(signed().body(()).unwrap(), "event").await;
    assert_eq!(status, 200);
    assert!(body.ends_with(br#""duplicate":true}"#), "{body:?}");
    let large = "x".repeat(1001);
    let (status, _) = client.exchange(signed().body(()).unwrap(), &large).await;
    assert_eq!(status, 413);
    assert_eq!(server.store.stored(), 2);
    assert_eq!(server.store.last().head.query.as_deref(), Some("from=h2"));
}

#[tokio::test]
async fn a_refusal_waits_for_no_body_and_resets_the_stream() {
    let server = Server::start().await;
    let client = Client::connect(&server).await;
    let request = post("/ims").header("content-length", "10000000").body(());
    let (answer, mut stream) = client.begin(request.unwrap(), false).await;
    assert_eq!(read(answer).await.0, 401);
    let reset = std::future::poll_fn(|cx| stream.poll_reset(cx));
    let reset = timeout(PATIENCE, reset).await.expect("reset in time");
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
    let (status, _) = client.exchange(signed().body(()).unwrap(), "next").await;
    assert_eq!(status, 200, "the connection goes on");
}

#[tokio::test]
async fn announced_bodies_over_the_limit_and_late_ones_are_answered_early() {
    let server = Server::with(|setup| setup.server.ack_deadline = Duration::from_millis(200)).await;
    let client = Client::connect(&server).await;
    let request = signed().header("content-length", "10000000").body(());
    let (answer, _stream) = client.begin(request.unwrap(), false).await;
    assert_eq!(read(answer).await.0, 413);
    let (answer, _stream) = client.begin(signed().body(()).unwrap(), false).await;
    assert_eq!(read(answer).await.0, 408);
    server.store.set(Mode::Hang);
    let (status, _) = client.exchange(signed().body(()).unwrap(), "event").await;
    assert_eq!(status, 503);
}

/// hyper takes a stream that the client resets without an error for a whole
/// body.
#[tokio::test]
async fn a_stream_that_is_reset_is_no_whole_body() {
    let server = Server::start().await;
    let client = Client::connect(&server).await;
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let (_answer, mut stream) = client.begin(signed().body(()).unwrap(), false).await;
        stream
            .send_data(Bytes::from_static(b"half an ev"), false)
            .unwrap();
        stream.send_reset(reason);
        // Answered on the same connection, so the reset was read before.
        let (status, _) = client
            .exchange(post("/nowhere").body(()).unwrap(), "")
            .await;
        assert_eq!(status, 404);
    }
    let counted = async {
        let series = r#"ims_receiver_requests_total{source="default",status="400"}"#;
        while server.metric(series) != Some(2.0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted)
        .await
        .expect("both come to an end");
    assert_eq!(server.store.stored(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_after_the_last_byte_change_nothing() {
    let server = Server::start().await;
    server.store.set(Mode::Hang);
    for number in 0..100 {
        let client = Client::connect(&server).await;
        let body = format!("event {number}");
        let request = signed().header("content-length", body.len().to_string());
        let (_answer, mut stream) = client.begin(request.body(()).unwrap(), false).await;
        stream.send_data(Bytes::from(body), true).unwrap();
        server
            .store
            .until(|store| store.hangs() == number + 1)
            .await;
        client.connection.abort();
    }
    server.store.release();
    server.store.until(|store| store.stored() == 100).await;
    let counted = async {
        let series = r#"ims_receiver_events_total{source="default",type="malformed""#;
        while server.metric(series) != Some(100.0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("all were finished");
}

#[tokio::test]
async fn endless_continuations_are_cut_off() {
    let server = Server::with(|setup| {
        setup.server.head_deadline = Duration::from_millis(400);
    })
    .await;
    let mut client = server.connect().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, 0, 1, 0, 0, 0, 0, 1];
    let continuation = [0, 0, 0, 9, 0, 0, 0, 0, 1];
    client.send([PREFACE, &settings, &headers].concat()).await;
    let start = std::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while client.try_send(&continuation).await {
        tick.tick().await;
        assert!(start.elapsed() < Duration::from_secs(5), "kept open");
    }
}

#[tokio::test]
async fn an_idle_connection_gets_its_time_in_spite_of_pings() {
    let keep_alive = Duration::from_millis(1200);
    let server = Server::with(|setup| {
        setup.server.head_deadline = Duration::from_millis(300);
        setup.server.keep_alive = keep_alive;
    })
    .await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (requests, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let running = tokio::spawn(async move { connection.await.is_ok() });
    let mut requests = requests.ready().await.unwrap();
    let (answer, mut stream) = requests
        .send_request(signed().body(()).unwrap(), false)
        .unwrap();
    stream
        .send_data(Bytes::from_static(b"event"), true)
        .unwrap();
    assert_eq!(read(answer).await.0, 200);
    let start = std::time::Instant::now();
    while pings.ping(h2::Ping::opaque()).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "kept open for ever");
    }
    let waited = start.elapsed();
    assert!(waited > keep_alive - keep_alive / 8, "{waited:?}");
    timeout(PATIENCE, running).await.expect("closed").unwrap();
}
