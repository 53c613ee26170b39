//! Connections that say little or nothing, and how many there may be.

use std::time::Duration;

use futures_util::StreamExt;

use super::harness::{Mode, PATIENCE, SIGNED, Server, Setup, signed};
use super::http2::PREFACE;

const HEAD_DEADLINE: Duration = Duration::from_millis(400);
const KEEP_ALIVE: Duration = Duration::from_millis(1200);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(4);

fn quick(setup: &mut Setup) {
    setup.server.head_deadline = HEAD_DEADLINE;
    setup.server.keep_alive = KEEP_ALIVE;
}

#[track_caller]
fn is_about(waited: Duration, expected: Duration) {
    let early = expected - expected / 8;
    assert!((early..expected + SLACK).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn silent_connections_are_closed_in_time_and_disturb_nobody() {
    let server = Server::with(quick).await;
    let mut silent = Vec::new();
    for start in [
        &b""[..],
        b"P",
        b"POST /ims HTTP/1.1\r\nHost: x\r\nX-",
        b"PRI * HTTP/2.0\r\n\r\n",
    ] {
        for _ in 0..25 {
            let mut client = server.connect().await;
            client.send(start).await;
            silent.push(tokio::spawn(client.silent_until_closed()));
        }
    }
    for number in 0..50 {
        let answer = server.exchange(signed(&format!("event {number}"))).await;
        assert_eq!(answer.status, 200);
    }
    for client in silent {
        is_about(client.await.unwrap(), HEAD_DEADLINE);
    }
}

#[tokio::test]
async fn an_http2_preface_and_then_nothing_is_closed_in_time() {
    let server = Server::with(quick).await;
    for frames in [&b""[..], SETTINGS] {
        let mut client = server.connect().await;
        client.send([PREFACE, frames].concat()).await;
        let start = std::time::Instant::now();
        client.rest().await;
        is_about(start.elapsed(), HEAD_DEADLINE);
    }
}

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test]
async fn pings_do_not_put_the_first_head_off() {
    let server = Server::with(quick).await;
    let mut client = server.connect().await;
    client.send([PREFACE, SETTINGS].concat()).await;
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
    let start = std::time::Instant::now();
    // Each ping is answered, so that this is no busy loop.
    while client.try_send(&ping).await && client.hears_something().await {
        assert!(start.elapsed() < HEAD_DEADLINE + SLACK, "kept open");
    }
    is_about(start.elapsed(), HEAD_DEADLINE);
}

#[tokio::test]
async fn a_dribbled_head_is_cut_off() {
    let server = Server::with(quick).await;
    let mut client = server.connect().await;
    let start = std::time::Instant::now();
    let mut tick = tokio::time::interval(HEAD_DEADLINE / 20);
    client.send("POST /ims HTTP/1.1\r\nX: ").await;
    while client.try_send(b"x").await {
        tick.tick().await;
        assert!(start.elapsed() < HEAD_DEADLINE + SLACK, "kept open");
    }
    is_about(start.elapsed(), HEAD_DEADLINE);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_its_time() {
    let server = Server::with(quick).await;
    let mut client = server.connect().await;
    client.send(signed("first")).await;
    assert_eq!(client.answer().await.status, 200);
    is_about(client.silent_until_closed().await, KEEP_ALIVE);
}

#[tokio::test]
async fn a_later_head_has_its_own_deadline() {
    let server = Server::with(|setup| {
        setup.server.head_deadline = HEAD_DEADLINE;
    })
    .await;
    let mut client = server.connect().await;
    client.send(signed("first")).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("POST /ims").await;
    is_about(client.silent_until_closed().await, HEAD_DEADLINE);
}

/// Whatever comes in one piece with the end of another request.
#[tokio::test]
async fn a_pipelined_head_has_its_deadline_too() {
    let server = Server::with(|setup| {
        setup.server.head_deadline = HEAD_DEADLINE;
    })
    .await;
    let chunked = format!(
        "POST /ims HTTP/1.1\r\nHost: x\r\n{SIGNED}Transfer-Encoding: chunked\r\n\r\n\
         5\r\nfirst\r\n0\r\n\r\n"
    );
    let get = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    for whole in [signed("first"), chunked, get] {
        for pieces in [
            vec![whole.clone() + "POST /ims"],
            vec![whole.clone() + "\r\nPOST /ims HTTP/1.1\r\nHost: x\r\nX-"],
            vec![whole.clone(), whole.clone() + &whole + "P"],
            vec![whole[..20].to_owned(), whole[20..].to_owned() + "POST"],
            vec![
                whole[..whole.len() - 3].to_owned(),
                whole[whole.len() - 3..].to_owned() + "POST",
            ],
        ] {
            let mut client = server.connect().await;
            let answers = pieces.concat().matches("HTTP/1.1\r\nHost: x\r\n").count();
            let unfinished = usize::from(pieces.concat().ends_with("X-"));
            for piece in &pieces {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            for _ in 0..answers - unfinished {
                assert_eq!(client.answer().await.status, 200, "{pieces:?}");
            }
            is_about(client.silent_until_closed().await, HEAD_DEADLINE);
        }
    }
}

#[tokio::test]
async fn after_pipelined_requests_a_connection_is_idle() {
    let server = Server::with(quick).await;
    let mut client = server.connect().await;
    client.send(signed("first") + &signed("second")).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 200);
    is_about(client.silent_until_closed().await, KEEP_ALIVE);
}

#[tokio::test]
async fn the_longest_wait_without_a_verified_request_makes_room() {
    let server = Server::with(|setup| setup.server.connections_max = 3).await;
    let mut genuine = server.connect().await;
    genuine.send(signed("first")).await;
    assert_eq!(genuine.answer().await.status, 200);
    let mut refused = server.connect().await;
    refused.send("GET /ims HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(refused.answer().await.status, 405);
    let mut silent = server.connect().await;
    silent.send("PO").await;

    // The fourth: the refused one never had a verified request and waits
    // longest. The fifth: the silent one.
    let mut fourth = server.connect().await;
    fourth.send(signed("second")).await;
    assert_eq!(fourth.answer().await.status, 200);
    assert!(refused.rest().await.is_empty());
    let mut fifth = server.connect().await;
    fifth.send(signed("third")).await;
    assert_eq!(fifth.answer().await.status, 200);
    assert!(silent.rest().await.is_empty());

    genuine.send(signed("fourth")).await;
    assert_eq!(genuine.answer().await.status, 200, "kept");
}

#[tokio::test]
async fn who_is_at_work_is_never_closed_to_make_room() {
    let server = Server::with(|setup| {
        setup.server.connections_max = 2;
        setup.server.ack_deadline = Duration::from_secs(8);
    })
    .await;
    server.store.set(Mode::Hang);
    let mut working = Vec::new();
    for number in 0..2 {
        let mut client = server.connect().await;
        client.send(signed(&format!("event {number}"))).await;
        server
            .store
            .until(|store| store.hangs() == number + 1)
            .await;
        working.push(client);
    }
    let mut waiting = server.connect().await;
    waiting.send(signed("event 2")).await;
    server.store.set(Mode::Work);
    server.store.release();
    for client in &mut working {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(waiting.answer().await.status, 200, "one of them went");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_connections_keeps_nobody_out() {
    let server = Server::with(|setup| setup.server.connections_max = 100).await;
    let mut flood = Vec::new();
    for number in 0..400 {
        let mut client = server.connect().await;
        client.try_send(b"POST /ims HTTP/1.1\r\n").await;
        flood.push(client);
        if number % 20 == 0 {
            let answer = server.exchange(signed(&format!("event {number}"))).await;
            assert_eq!(answer.status, 200);
        }
    }
    let closed = futures_util::stream::iter(flood)
        .map(|mut client| async move { client.rest().await })
        .buffer_unordered(400)
        .take(300);
    let closed = tokio::time::timeout(PATIENCE, closed.count()).await;
    assert_eq!(closed, Ok(300), "no more than the limit are open");
}
