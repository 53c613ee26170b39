//! The live tail, and what it costs others.

use prometheus_client::encoding::text::encode;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::admin::{LOCAL, Listener};
use super::archive::{event, id};
use super::harness::{Client, PATIENCE};

/// A viewer, whose answer has begun.
async fn viewer(admin: &Listener, query: &str) -> Client {
    let mut client = Client::connect(admin.address).await;
    let request = format!("GET /api/tail{query} HTTP/1.1\r\n{LOCAL}\r\n");
    client.send(request).await;
    let head = client.hears("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/event-stream"), "{head}");
    client
}

/// The data of the next message of this kind.
async fn next(client: &mut Client, kind: &str) -> Value {
    client.hears(&format!("event: {kind}\n")).await;
    let message = client.hears("\n\n").await;
    let data = message.lines().find_map(|line| line.strip_prefix("data: "));
    serde_json::from_str(data.unwrap()).unwrap()
}

#[tokio::test]
async fn viewers_see_what_their_filter_lets_through_from_now_on() {
    let admin = Listener::open_all().await;
    admin.archive.store(event(1, "before"));
    let mut all = viewer(&admin, "").await;
    let mut some = viewer(&admin, "?q=NEEDLE&status=dead").await;
    admin.archive.store(event(2, "hay"));
    admin.archive.store(event(3, "a needle"));
    assert_eq!(next(&mut all, "event").await["id"], id(2).to_string());
    assert_eq!(next(&mut all, "event").await["id"], id(3).to_string());
    let found = next(&mut some, "event").await;
    assert_eq!(found["id"], id(3).to_string());
    assert_eq!(found["deliveries"][0]["status"], "dead");
}

#[tokio::test]
async fn a_stalled_viewer_is_told_what_it_missed_and_holds_up_nobody() {
    let admin = Listener::open_all().await;
    let mut stalled = viewer(&admin, "").await;
    let mut quick = viewer(&admin, "?media_id=m99999").await;
    // More than its queue, its socket and the kernel take together.
    let note = "n".repeat(16 * 1024);
    for number in 1..=999 {
        let mut one = event(number, "{}");
        one.0.notes = vec![note.clone()];
        admin.archive.store(one);
    }
    admin.archive.store(event(99_999, "{}"));
    assert_eq!(next(&mut quick, "event").await["media_id"], "m99999");
    let missed = next(&mut stalled, "skipped").await["events"].as_u64();
    assert!(missed.is_some_and(|missed| missed > 500), "{missed:?}");
    // Once it reads again, it is shown what comes.
    admin.archive.store(event(100_000, "{}"));
    while next(&mut stalled, "event").await["media_id"] != "m100000" {}
}

#[tokio::test]
async fn what_the_tail_leaves_out_is_told() {
    let admin = Listener::open_all().await;
    let mut client = viewer(&admin, "").await;
    let batch: Vec<_> = (1..=1_010).map(|number| event(number, "{}")).collect();
    admin.archive.events.lock().unwrap().extend(batch);
    assert_eq!(next(&mut client, "skipped").await["events"], 10);
    assert_eq!(next(&mut client, "event").await["id"], id(11).to_string());
}

#[tokio::test]
async fn nobody_reads_the_store_while_nobody_watches() {
    let admin = Listener::open_all().await;
    let viewers = || {
        let mut page = String::new();
        encode(&mut page, &admin.registry).unwrap();
        let mut lines = page.lines();
        let line = lines.find_map(|line| line.strip_prefix("ims_receiver_tail_viewers "));
        line.unwrap().to_owned()
    };
    assert_eq!(*admin.archive.tail_reads.lock().unwrap(), 0);
    for round in 1..=2 {
        let mut client = viewer(&admin, "").await;
        admin.archive.store(event(round, "{}"));
        next(&mut client, "event").await;
        assert_eq!(viewers(), "1");
        drop(client);
        let deadline = Instant::now() + PATIENCE;
        let mut number = 1_000 * round;
        // The end of a connection shows when something is written to it.
        while viewers() != "0" {
            assert!(Instant::now() < deadline, "still there");
            number += 1;
            admin.archive.store(event(number, "{}"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn viewers_are_bounded_and_leave_room_for_questions() {
    let admin = Listener::open_all().await;
    let mut viewers = Vec::new();
    for _ in 0..128 {
        viewers.push(viewer(&admin, "").await);
    }
    let refused = admin.get("/api/tail", LOCAL).await;
    refused.is_problem(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(admin.get("/api/stats", LOCAL).await.status, 200);
    admin.archive.store(event(1, "{}"));
    for client in &mut viewers {
        assert_eq!(next(client, "event").await["id"], id(1).to_string());
    }
}
