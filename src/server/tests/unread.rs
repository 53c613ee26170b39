//! Peers that ask and do not take their answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use hyper::Request;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{PATIENCE, Server, Setup, signed};
use super::http2::PREFACE;
use crate::server::connection::WRITE_STALL_MAX;

/// Where it stands in for all deadlines, so that a test ends soon.
const KEEP_ALIVE: Duration = Duration::from_millis(1200);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(6);
/// More than the buffers of the system and of hyper hold on both ends.
const TAKEN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An empty frame of SETTINGS.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

fn quick(setup: &mut Setup) {
    setup.server.keep_alive = KEEP_ALIVE;
}

#[track_caller]
fn is_about(waited: Duration, expected: Duration) {
    assert!(waited < expected + SLACK, "{waited:?}");
    assert!(waited > expected - expected / 8, "{waited:?}");
}

/// A client that takes `window` bytes of each answer.
async fn narrow(server: &Server, window: u32) -> (SendRequest<Bytes>, Connection<TcpStream>) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = h2::client::Builder::new()
        .initial_window_size(window)
        .handshake(stream);
    handshake.await.unwrap()
}

fn get() -> Request<()> {
    Request::get("http://x/nowhere").body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_pipelines_and_reads_nothing_is_closed_and_costs_little() {
    let server = Server::start().await;
    let requests = signed("event").repeat(100);
    let mut client = server.connect().await;
    let start = Instant::now();
    let taken = client.flood(requests.as_bytes()).await;
    is_about(start.elapsed(), WRITE_STALL_MAX);
    assert!(taken < TAKEN_BYTES_MAX, "{taken}");
    assert_eq!(server.exchange(signed("event")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_whose_answers_nobody_reads_end_the_connection() {
    let server = Server::with(quick).await;
    let mut client = server.connect().await;
    client.send([PREFACE, SETTINGS].concat()).await;
    let start = Instant::now();
    let taken = client.flood(&PING.repeat(1000)).await;
    assert!(start.elapsed() < WRITE_STALL_MAX, "{:?}", start.elapsed());
    assert!(taken < TAKEN_BYTES_MAX, "{taken}");
}

#[tokio::test]
async fn answers_that_no_window_lets_go_end_the_connection() {
    let server = Server::start().await;
    let (requests, connection) = narrow(&server, 0).await;
    let running = tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let start = Instant::now();
    let (answer, _) = requests.send_request(get(), true).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("the head comes");
    // Kept, since to drop it is to reset its stream.
    let unread = answer.unwrap();
    assert_eq!(unread.status(), 404);
    let end = timeout(WRITE_STALL_MAX + SLACK, running).await;
    let _ = end.expect("closed").unwrap();
    is_about(start.elapsed(), WRITE_STALL_MAX);
}

/// hyper lets go of an answer whose first byte has passed, so the rest counts
/// as idle.
#[tokio::test]
async fn answers_that_a_window_lets_go_in_part_end_the_connection() {
    let server = Server::with(quick).await;
    let (requests, connection) = narrow(&server, 1).await;
    let running = tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let start = Instant::now();
    let (answer, _) = requests.send_request(get(), true).unwrap();
    let unread = answer.await.unwrap();
    assert_eq!(unread.status(), 404);
    let end = timeout(KEEP_ALIVE + SLACK, running).await;
    let _ = end.expect("closed").unwrap();
    is_about(start.elapsed(), KEEP_ALIVE);
}

#[tokio::test]
async fn only_so_many_answers_wait_for_a_window() {
    const STREAMS_MAX: usize = 32;
    let server = Server::start().await;
    let (mut requests, connection) = narrow(&server, 0).await;
    let running = tokio::spawn(connection);
    let mut unread = Vec::new();
    // One too many has to wait until an answer is taken or given up.
    let waiting = loop {
        requests = requests.ready().await.unwrap();
        let (mut answer, _) = requests.send_request(get(), true).unwrap();
        match timeout(Duration::from_millis(500), &mut answer).await {
            Ok(answer) => unread.push(answer.unwrap()),
            Err(_) => break answer,
        }
    };
    assert_eq!(unread.len(), STREAMS_MAX);
    unread.pop();
    let answer = timeout(PATIENCE, waiting).await.expect("its turn");
    assert_eq!(answer.unwrap().status(), 404);
    running.abort();
}
