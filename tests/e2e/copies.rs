//! One event that comes many times, at once, one after another, by two
//! sources, and around a store that fails.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};

use serde_json::Value;

use crate::destination::{Answer, Destination};
use crate::harness::{Folder, Post, Service, accepted, body, exchange_whole, signed, wait_for};
use crate::small_disk::{SmallDisk, is_whole};

const EVENTS: u64 = 100;

/// A second handler beside the one of [`Folder::with_log`].
fn with_two_handlers() -> (Folder, Destination) {
    let destination = Destination::start(|_| Answer::status(204));
    let folder = Folder::with_log();
    let config = folder.path("receiver.toml");
    let mut text = std::fs::read_to_string(&config).expect("the configuration");
    text.push_str(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/\"\n",
        destination.address
    ));
    std::fs::write(config, text).expect("the configuration");
    (folder, destination)
}

/// Sends the same request on three connections at the same moment.
fn three_at_once(to: SocketAddr, request: &[u8]) -> [(u16, String, String); 3] {
    let ready = Arc::new(Barrier::new(3));
    let senders = [(); 3].map(|()| {
        let (ready, request) = (Arc::clone(&ready), request.to_vec());
        std::thread::spawn(move || {
            ready.wait();
            exchange_whole(to, &request).expect("an answer")
        })
    });
    senders.map(|sender| sender.join().expect("a sender does not panic"))
}

/// Sends the same body on three connections at once, and answers the id that
/// all of them got and how many were told that the event was new.
fn three_accepted(to: SocketAddr, body: &str) -> (String, usize) {
    let answers = three_at_once(to, &signed(body)).map(|(status, _, answer)| {
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).expect("it is JSON")
    });
    let id = answers[0]["id"].as_str().expect("an id").to_owned();
    assert!(answers.iter().all(|one| one["id"] == id), "{answers:?}");
    let new = answers.iter().filter(|one| one["duplicate"] == false);
    (id, new.count())
}

/// Asserts that each handler saw each event once, at its first attempt.
fn each_saw_each_once(
    service: &Service,
    folder: &Folder,
    destination: &Destination,
    ids: &[String],
) {
    for id in ids {
        let event = service.succeeded(id);
        let deliveries = event["deliveries"].as_array().expect("a list");
        assert_eq!(deliveries.len(), 2, "{event:#}");
        assert!(deliveries.iter().all(|one| one["attempts"] == 1));
    }
    let mut logged = folder.logged();
    let received = destination.received();
    let mut forwarded: Vec<String> = received.iter().map(|one| one.id().to_owned()).collect();
    logged.sort();
    forwarded.sort();
    let mut expected = ids.to_vec();
    expected.sort();
    assert_eq!(logged, expected);
    assert_eq!(forwarded, expected);
}

#[test]
fn each_handler_sees_an_event_once_however_often_it_comes() {
    let (folder, destination) = with_two_handlers();
    let service = folder.start();
    let mut ids = Vec::new();
    for number in 0..EVENTS {
        let (id, new) = three_accepted(service.ingest, &body(number));
        assert_eq!(new, 1, "one of three copies is the event");
        for _ in 0..3 {
            assert_eq!(accepted(service.ingest, &body(number)), (id.clone(), true));
        }
        ids.push(id);
    }
    each_saw_each_once(&service, &folder, &destination, &ids);
    let copies = r#"ims_receiver_duplicates_total{source="default"}"#;
    assert_eq!(service.metric(copies), Some(5.0 * EVENTS as f64));

    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let service = folder.start();
    for (number, id) in (0..).zip(&ids) {
        assert_eq!(
            three_accepted(service.ingest, &body(number)),
            (id.clone(), 0)
        );
        assert_eq!(accepted(service.ingest, &body(number)), (id.clone(), true));
    }
    each_saw_each_once(&service, &folder, &destination, &ids);
    let counted = |event: &Value| event["duplicates"] == 9;
    wait_for("copies before and after the stop are counted", || {
        ids.iter()
            .all(|id| counted(&service.event(id)))
            .then_some(())
    });
}

#[test]
fn a_store_that_fails_refuses_all_copies_and_takes_the_event_once() {
    let disk = SmallDisk::mount(4096);
    let store = disk.path("events.db");
    let (folder, destination) = with_two_handlers();
    let folder = folder.set("store.path", store.display());
    let service = folder.start();
    let (before, _) = accepted(service.ingest, &body(0));
    service.succeeded(&before);

    disk.fill();
    // Larger than what SQLite may still have room for in its own files.
    let large = format!("{}{}", body(1), " ".repeat(600_000));
    for _ in 0..3 {
        for (status, head, answer) in three_at_once(service.ingest, &signed(&large)) {
            assert_eq!(status, 503, "{answer}");
            assert!(head.contains("retry-after: 1"), "{head}");
            assert!(head.contains("application/problem+json"), "{head}");
        }
    }
    wait_for("the service says that it is not ready", || {
        (service.get("/readyz").0 == 503).then_some(())
    });
    assert_eq!(folder.logged(), std::slice::from_ref(&before));

    disk.make_room();
    wait_for("the store heals without traffic", || {
        (service.get("/readyz").0 == 200).then_some(())
    });
    let (id, new) = three_accepted(service.ingest, &large);
    assert_eq!(new, 1, "nothing of what was refused was kept");
    assert_eq!(accepted(service.ingest, &large), (id.clone(), true));
    assert_eq!(accepted(service.ingest, &body(0)), (before.clone(), true));
    each_saw_each_once(&service, &folder, &destination, &[before, id]);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    is_whole(&store);
}

/// Two jobs report to two URLs, and one handler cares for the second only.
#[test]
fn a_body_of_two_sources_is_delivered_once_to_who_wants_the_second() {
    let destination = Destination::start(|_| Answer::status(204));
    let url = "https://callbacks.example.com/second";
    let folder = Folder::new(&format!(
        r#"
[sources.second]
kind = "http"
path = "/second"
callback_urls = ["{url}"]
auth = {{ scheme = "ims", keys = ["SecondKeySecondKey"] }}
[handlers.cms]
kind = "forward"
url = "http://{}/"
sources = ["second"]
"#,
        destination.address
    ));
    let body = body(1);
    let first = Post::of(&body);
    let second = Post {
        path: "/second",
        url,
        key: "SecondKeySecondKey",
        content_type: "text/second",
        ..first
    };
    let service = folder.start();
    let (_, answer) = first.send(service.ingest).expect("an answer");
    assert_eq!(answer["duplicate"], false);
    let id = answer["id"].as_str().expect("an id").to_owned();
    let event = service.event(&id);
    assert_eq!(event["deliveries"].as_array().map(Vec::len), Some(0));

    let copy = serde_json::json!({ "id": id, "duplicate": true });
    for _ in 0..3 {
        let answer = second.send(service.ingest);
        assert_eq!(answer, Some((200, copy.clone())));
    }
    let event = service.succeeded(&id);
    assert_eq!(event["source"], "default");
    assert_eq!(event["deliveries"].as_array().map(Vec::len), Some(1));

    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let service = folder.start();
    for post in [second, first] {
        assert_eq!(post.send(service.ingest), Some((200, copy.clone())));
    }
    service.succeeded(&id);
    let received = destination.received();
    assert_eq!(received.len(), 1, "delivered once");
    assert_eq!(received[0].id(), id);
    assert_eq!(received[0].body, body);
    assert_eq!(received[0].header("x-ims-source"), Some("default"));
    assert_eq!(received[0].header("content-type"), Some("application/json"));
}
