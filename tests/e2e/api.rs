//! The admin API of the running service: watch, hold back, send again, move.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Folder, PATIENCE, Service, accepted, body, exchange, get, wait_at_most, wait_for,
};

/// POSTs to the admin listener; answers status and JSON.
pub fn post(to: SocketAddr, path: &str, kind: &str, body: &str) -> (u16, Value) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, body) = exchange(to, request.as_bytes()).expect("the admin listener answers");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn done(service: &Service, path: &str, body: Value) -> Value {
    let (status, answer) = post(service.admin, path, "application/json", &body.to_string());
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// The answer to a GET that has to succeed, as JSON.
fn asked(service: &Service, path: &str) -> Value {
    let (status, body) = service.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("it is JSON")
}

/// A viewer of the live tail.
struct Viewer(BufReader<TcpStream>);

impl Viewer {
    fn watch(admin: SocketAddr, query: &str) -> Self {
        let mut stream = TcpStream::connect(admin).expect("it is accepted");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let request = format!("GET /api/tail{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is taken");
        let mut viewer = Self(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            viewer.0.read_line(&mut head).expect("a head");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        viewer
    }

    /// The next event.
    fn event(&mut self) -> Value {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("an event in time");
            assert!(read > 0, "the tail ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("it is JSON");
            }
        }
    }
}

#[test]
fn an_event_is_seen_within_a_second_of_its_ack() {
    let folder = Folder::with_log();
    let service = folder.start();
    let mut viewer = Viewer::watch(service.admin, "?type=Produce*&media_id=media-2");
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        accepted(service.ingest, &body(1));
    }
    for round in 0..5 {
        // A new body each time, which this viewer wants.
        let wanted = body(2).replace("08:48:14Z", &format!("08:48:{}Z", 20 + round));
        let (id, _) = accepted(service.ingest, &wanted);
        let acked = Instant::now();
        assert_eq!(viewer.event()["id"], id.as_str());
        worst = worst.max(acked.elapsed());
    }
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    println!("the slowest of 5 events was shown {worst:?} after its ack");
}

#[test]
fn a_handler_is_held_back_across_a_restart_and_an_event_is_sent_again() {
    let folder = Folder::with_log();
    let service = folder.start();
    let first = accepted(service.ingest, &body(1)).0;
    service.succeeded(&first);
    let paused = done(&service, "/api/handlers/audit/pause", json!({}));
    assert_eq!(paused["changed"], true);
    let second = accepted(service.ingest, &body(2)).0;
    let again = done(
        &service,
        &format!("/api/events/{first}/redeliver"),
        json!({"handlers": ["audit"]}),
    );
    assert_eq!(again, json!({"events": 1, "deliveries": 1, "running": 0}));
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));

    let service = folder.start();
    let handler = |service: &Service| asked(service, "/api/handlers")["handlers"][0].clone();
    let held = handler(&service);
    assert_eq!(held["paused_at"], paused["paused_at"]);
    assert_eq!(held["pending"], 2);
    let list = asked(&service, "/api/events?status=pending");
    assert_eq!(list["events"].as_array().expect("a list").len(), 2);
    assert_eq!(
        folder.logged(),
        std::slice::from_ref(&first),
        "nothing since the pause"
    );

    let resumed = done(&service, "/api/handlers/audit/resume", json!({}));
    assert_eq!(resumed["changed"], true);
    let event = service.succeeded(&first);
    assert_eq!(event["deliveries"][0]["attempts"], 2, "{event:#}");
    service.succeeded(&second);
    assert_eq!(handler(&service)["paused_at"], Value::Null);

    let dry = json!({"type": ["*"], "dry_run": true});
    let dry = done(&service, "/api/redeliver", dry);
    assert_eq!((&dry["events"], &dry["deliveries"]), (&json!(2), &json!(2)));
    let all = json!({"media_id": "media-2", "rate": 1000});
    let all = done(&service, "/api/redeliver", all);
    assert_eq!(all["events"], 1);
    wait_for("the event is delivered again", || {
        let event = service.event(&second);
        let delivery = &event["deliveries"][0];
        (delivery["attempts"] == 2 && delivery["status"] == "succeeded").then_some(())
    });
    assert_eq!(service.event(&first)["deliveries"][0]["attempts"], 2);
}

/// What an event is, apart from what its store says of itself.
fn exported(service: &Service) -> BTreeMap<String, Value> {
    let (status, lines) = get(service.admin, "/api/export").expect("an answer");
    assert_eq!(status, 200);
    let mut events = BTreeMap::new();
    for line in lines.lines().filter(|line| line.starts_with("{\"id\"")) {
        let event: Value = serde_json::from_str(line).expect("a line is an event");
        let id = event["id"].as_str().expect("an id").to_owned();
        assert!(events.insert(id, event).is_none(), "each once");
    }
    events
}

#[test]
fn an_export_put_into_a_new_store_gives_the_same_events() {
    let first = Folder::with_log();
    let service = first.start();
    for number in 0..250 {
        accepted(service.ingest, &body(number));
    }
    accepted(service.ingest, &body(7));
    let odd = accepted(service.ingest, "\u{feff}no json").0;
    service.succeeded(&odd);
    let known = wait_for("every delivery is finished, the duplicate counted", || {
        let events = exported(&service);
        let finished = events
            .values()
            .all(|event| event["deliveries"][0]["status"] == "succeeded");
        let counted = events.values().filter(|event| event["duplicates"] == 1);
        (finished && counted.count() == 1).then_some(events)
    });
    assert_eq!(known.len(), 251);

    let second = Folder::with_log();
    let copy = second.start();
    let lines: String = known.values().map(|event| format!("{event}\n")).collect();
    let put = || post(copy.admin, "/api/import", "application/x-ndjson", &lines);
    assert_eq!(put(), (200, json!({"added": 251, "known": 0})));
    assert_eq!(
        put(),
        (200, json!({"added": 0, "known": 251})),
        "idempotent"
    );
    let copied = wait_for("the index is filled", || {
        let events = exported(&copy);
        (events.len() == known.len()).then_some(events)
    });
    assert_eq!(copied, known);
    let found = asked(&copy, "/api/events?media_id=media-7");
    assert_eq!(found["events"].as_array().expect("a list").len(), 1);
    assert!(
        second.logged().is_empty(),
        "what was done is not done again"
    );
}

#[test]
fn a_hundred_viewers_and_a_stalled_one_cost_neither_memory_nor_acks() {
    const EVENTS: u64 = 3_000;
    let folder = Folder::new("");
    let service = folder.start();
    let flood = |from: u64| {
        let start = Instant::now();
        for number in from..from + EVENTS {
            accepted(service.ingest, &body(number));
        }
        start.elapsed()
    };
    let without = flood(0);
    let before = service.resident();
    let stalled: Vec<Viewer> = (0..2).map(|_| Viewer::watch(service.admin, "")).collect();
    let viewers: Vec<_> = (0..98)
        .map(|_| {
            let mut viewer = Viewer::watch(service.admin, "?q=ProduceMediaComplete");
            std::thread::spawn(move || {
                let last = format!("media-{}", 2 * EVENTS - 1);
                while viewer.event()["media_id"] != last.as_str() {}
            })
        })
        .collect();
    let with = flood(EVENTS);
    for viewer in viewers {
        viewer.join().expect("every viewer sees the last event");
    }
    let grown = service.resident().saturating_sub(before);
    println!("{EVENTS} acks took {without:?} alone, {with:?} with 100 viewers; {grown} MiB more");
    assert!(grown < 32, "{grown} MiB");
    // The viewers' own work is on the same machine; a stall would show as far
    // more than this.
    assert!(
        with < without * 4 + Duration::from_secs(2),
        "{without:?} {with:?}"
    );
    drop(stalled);
}

#[test]
fn the_api_answers_while_handlers_drain() {
    let folder =
        Folder::new("[handlers.slow]\nkind = \"shell\"\ncommand = [\"/bin/sleep\", \"60\"]\n")
            .set("dispatch.drain", "12s");
    let service = folder.start();
    let id = accepted(service.ingest, &body(1)).0;
    wait_for("the command runs", || {
        let event = service.event(&id);
        (event["deliveries"][0]["status"] == "running").then_some(())
    });
    let mut viewer = Viewer::watch(service.admin, "");
    service.signal("-TERM");
    wait_for("it says that it stops", || {
        service.get("/readyz").1.contains("stopping").then_some(())
    });
    let found = asked(&service, "/api/events?media_id=media-1");
    assert_eq!(found["events"][0]["id"], id.as_str());
    let last = accepted(service.ingest, &body(2)).0;
    assert_eq!(viewer.event()["id"], last.as_str());
    assert_eq!(service.wait(), Some(0));
    let mut rest = Vec::new();
    // However the connection ended: it did.
    let _ = viewer.0.read_to_end(&mut rest);
}

#[test]
fn the_numbers_tell_what_was_answered() {
    let folder = Folder::with_log();
    let service = folder.start();
    for number in 0..20 {
        accepted(service.ingest, &body(number));
    }
    let unsigned = "POST /ims/callback HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(
        exchange(service.ingest, unsigned.as_bytes()).map(|a| a.0),
        Some(401)
    );
    let stats = wait_at_most(PATIENCE, "the numbers are there", || {
        let stats = asked(&service, "/api/stats");
        let sum = |list: &str, key: &str| -> u64 {
            let list = stats[list].as_array().expect("a list");
            list.iter().filter_map(|one| one[key].as_u64()).sum()
        };
        let told = (
            sum("acks", "acked"),
            sum("acks", "refused"),
            sum("events", "events"),
        );
        (told == (20, 1, 20)).then_some(stats)
    });
    assert_eq!(stats["ready"], true);
    assert_eq!(stats["sources"][0]["refusals"], 1);
    assert!(stats["sources"][0]["last_event_at"].is_string());
    let minute = stats["acks"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["acked"] != 0);
    let latency = |key: &str| minute.and_then(|one| one[key].as_f64()).expect("a latency");
    assert!(latency("p50_ms") > 0.0 && latency("p50_ms") <= latency("max_ms"));
    assert!(stats["store"]["disk_free_bytes"].as_u64() > Some(0));
}
