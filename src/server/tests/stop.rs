//! How the public listener closes.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::harness::{Mode, SIGNED, Server, signed};

/// `run` returns in about 600 ms; a busy machine may add.
const CLOSE_MAX: Duration = Duration::from_secs(4);

#[tokio::test]
async fn idle_connections_and_unfinished_heads_are_closed_at_once() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    idle.send(signed("first")).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut half = server.connect().await;
    half.send("POST /ims HTTP/1.1\r\nHost").await;
    let mut silent = server.connect().await;
    // Answered after them, so they were accepted.
    assert_eq!(server.exchange(signed("second")).await.status, 200);

    let (start, address) = (Instant::now(), server.address);
    server.close.cancel();
    assert!(idle.rest().await.is_empty());
    assert!(half.rest().await.is_empty());
    assert!(silent.rest().await.is_empty());
    server.ended().await;
    assert!(start.elapsed() < CLOSE_MAX, "{:?}", start.elapsed());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_was_read_is_committed_and_answered() {
    let server = Server::start().await;
    server.store.set(Mode::Hang);
    let mut client = server.connect().await;
    client.send(signed("event")).await;
    server.store.until(|store| store.hangs() == 1).await;
    server.close.cancel();
    server.store.release();
    assert_eq!(client.answer().await.status, 200);
    assert!(client.rest().await.is_empty());
    server.ended().await;
}

#[tokio::test]
async fn a_store_that_hangs_and_an_unfinished_body_get_503() {
    let server = Server::with(|setup| setup.server.ack_deadline = Duration::from_secs(9)).await;
    server.store.set(Mode::Hang);
    let mut stored = server.connect().await;
    stored.send(signed("event")).await;
    server.store.until(|store| store.hangs() == 1).await;
    let mut unfinished = server.connect().await;
    let head = format!("POST /ims HTTP/1.1\r\nHost: x\r\n{SIGNED}Content-Length: 9\r\n");
    unfinished.send(head + "Expect: 100-continue\r\n\r\n").await;
    assert_eq!(unfinished.answer().await.status, 100, "it is being read");

    let start = Instant::now();
    server.close.cancel();
    unfinished.answer().await.is_problem(503);
    stored.answer().await.is_problem(503);
    let store = std::sync::Arc::clone(&server.store);
    server.ended().await;
    assert!(start.elapsed() < CLOSE_MAX, "{:?}", start.elapsed());
    store.release();
    store.until(|store| store.stored() == 1).await;
}

#[tokio::test]
async fn a_peer_that_keeps_its_side_open_does_not_hold_up_the_stop() {
    let server = Server::start().await;
    let mut refused = server.connect().await;
    refused
        .send("POST /ims HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        .await;
    refused.answer().await.is_problem(401);
    let start = Instant::now();
    server.close.cancel();
    server.ended().await;
    assert!(start.elapsed() < CLOSE_MAX, "{:?}", start.elapsed());
}
