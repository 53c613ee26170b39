use std::collections::HashSet;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rand::Rng as _;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::harness::{Folder, Service, accepted, body, wait_at_most, wait_for};
use crate::mns_emulator::{Emulator, Fault, Happened, KEY_ID, KEY_SECRET, Op};
use crate::small_disk::{SmallDisk, is_whole};

pub const QUEUE: &str = "ice-callback-test";

/// A source that reads [`QUEUE`] at `endpoint`.
pub fn source(endpoint: &str, more: &str) -> String {
    format!(
        r#"
[sources.queue]
kind = "mns"
endpoint = "{endpoint}"
queue = "{QUEUE}"
{more}
[sources.queue.credentials]
access_key_id = "{KEY_ID}"
access_key_secret = "{KEY_SECRET}"
"#
    )
}

pub fn folder(emulator: &Emulator, more: &str) -> Folder {
    Folder::with_log().configured(&source(&emulator.url(), more))
}

pub fn emulator() -> Emulator {
    let emulator = Emulator::start(&[QUEUE]);
    emulator.strict();
    emulator
}

pub fn drained(emulator: &Emulator) {
    wait_at_most(Duration::from_secs(120), "the queue is empty", || {
        (emulator.left(QUEUE) == 0).then_some(())
    });
}

/// The lines of the log handler, once there are `count` different events.
pub fn logged(folder: &Folder, count: usize) -> Vec<Value> {
    wait_for("every event is handed over", || {
        let lines = folder.lines();
        let ids: HashSet<&str> = lines
            .iter()
            .filter_map(|l| l["event_id"].as_str())
            .collect();
        (ids.len() >= count).then(|| lines.clone())
    })
}

pub fn messages(service: &Service, result: &str) -> f64 {
    let labels = format!("source=\"queue\",result=\"{result}\"");
    let series = format!("ims_receiver_queue_messages_total{{{labels}}}");
    service.metric(&series).unwrap_or(0.0)
}

/// Warnings and errors about the queue.
pub fn complaints(service: &Service) -> Vec<Value> {
    let lines = service.log().into_iter();
    lines
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .filter(|line| line["fields"]["source"] == "queue" || line["source"] == "queue")
        .collect()
}

#[test]
fn events_are_stored_handed_over_and_deleted() {
    let emulator = emulator();
    let folder = folder(&emulator, "");
    let service = folder.start();
    let odd = "{\"EventType\":\"ProduceMediaComplete\",\r\n\t\"UserId\":1,\"EventTime\":\"t\",\"MessageBody\":{\"Status\":\"Success\",\"JobId\":\"测试<&>\\\"'\"}}";
    let large = format!("{}{}", body(3), " ".repeat(65_536 - body(3).len()));
    let sent = [
        (body(1), body(1)),
        (BASE64_STANDARD.encode(body(2)), body(2)),
        (odd.to_owned(), odd.to_owned()),
        (large.clone(), large),
        (
            "neither of the two".to_owned(),
            "neither of the two".to_owned(),
        ),
        ("{\"EventType\":".to_owned(), "{\"EventType\":".to_owned()),
        (String::new(), String::new()),
    ];
    for (text, _) in &sent {
        emulator.send(QUEUE, text);
    }
    drained(&emulator);
    let lines = logged(&folder, sent.len());
    assert_eq!(lines.len(), sent.len(), "each once");
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for line in &lines {
        assert_eq!(line["source"], "queue");
        let event = service.succeeded(line["event_id"].as_str().expect("an id"));
        assert_eq!(event["verified"], serde_json::json!({ "scheme": "mns" }));
        let id = event["headers"]["x-mns-message-id"]
            .as_str()
            .expect("an id");
        assert_eq!(id.len(), 32);
        bodies.push(stored_body(&folder, event["id"].as_str().expect("an id")));
    }
    for (_, expected) in &sent {
        assert!(
            bodies.iter().any(|body| body == expected.as_bytes()),
            "{expected:.80}"
        );
    }
    let malformed = lines
        .iter()
        .filter(|line| line["event_type"] == "malformed");
    assert_eq!(malformed.count(), 3);
    assert_eq!(messages(&service, "stored"), 7.0);
    let lag = service.metric("ims_receiver_queue_lag_seconds{source=\"queue\"}");
    assert!(lag.is_some_and(|lag| (0.0..60.0).contains(&lag)), "{lag:?}");
    assert_eq!(
        service.metric("ims_receiver_queue_delete_failures_total{source=\"queue\"}"),
        Some(0.0)
    );
    assert_eq!(complaints(&service), Vec::<Value>::new());
    assert_eq!(service.get("/readyz"), (200, "ready\n".to_owned()));
}

fn database(folder: &Folder) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(folder.path("data/events.db"), flags);
    let connection = connection.expect("a database");
    let patience = connection.busy_timeout(Duration::from_secs(30));
    patience.expect("it takes a patience");
    connection
}

fn stored_body(folder: &Folder, id: &str) -> Vec<u8> {
    let id: Vec<u8> = uuid::Uuid::parse_str(id)
        .expect("an id")
        .as_bytes()
        .to_vec();
    let sql = "SELECT body FROM events WHERE id = ?1";
    let found = database(folder).query_row(sql, [id], |row| row.get(0));
    found.expect("it is stored")
}

#[test]
fn a_copy_is_known_whichever_way_it_came() {
    let emulator = emulator();
    let folder = folder(&emulator, "");
    let service = folder.start();
    let (by_http, _) = accepted(service.ingest, &body(1));
    emulator.send(QUEUE, &body(1));
    emulator.send(QUEUE, &BASE64_STANDARD.encode(body(1)));
    drained(&emulator);
    emulator.send(QUEUE, &body(2));
    drained(&emulator);
    let (by_queue, known) = accepted(service.ingest, &body(2));
    assert!(known);
    emulator.fault(Op::Receive, Fault::Twice, 1);
    emulator.send(QUEUE, &body(3));
    drained(&emulator);
    let lines = logged(&folder, 3);
    assert_eq!(lines.len(), 3, "each was delivered once: {lines:#?}");
    let ids: Vec<&str> = lines
        .iter()
        .filter_map(|l| l["event_id"].as_str())
        .collect();
    assert!(ids.contains(&by_http.as_str()) && ids.contains(&by_queue.as_str()));
    assert!(messages(&service, "duplicate") >= 2.0);
}

#[test]
fn an_idle_queue_costs_one_request_in_the_wait() {
    const WAITS: u64 = 5;
    const OTHER: &str = "ice-callback-other";
    let emulator = Emulator::start(&[QUEUE, OTHER]);
    emulator.strict();
    let more = "wait = \"1s\"";
    let other = source(&emulator.url(), more)
        .replace("sources.queue", "sources.other")
        .replace(QUEUE, OTHER);
    let folder = folder(&emulator, more).configured(&other);
    let _service = folder.start();
    wait_for("both poll", || {
        (emulator.requests(Op::Receive) >= 2).then_some(())
    });
    let (before, since) = (emulator.requests(Op::Receive), Instant::now());
    wait_for("they have polled on", || {
        (emulator.requests(Op::Receive) >= before + 2 * WAITS).then_some(())
    });
    // The first of these may have begun just before its queue was looked at.
    let least = Duration::from_secs(WAITS - 1);
    assert!(since.elapsed() >= least, "{:?}", since.elapsed());
    assert_eq!(emulator.requests(Op::Attributes), 2);
    for op in [Op::Delete, Op::Change, Op::Peek, Op::Send, Op::Manage] {
        assert_eq!(emulator.requests(op), 0, "{op:?}");
    }
}

#[test]
fn empty_answers_that_come_too_early_are_not_repeated_at_once() {
    let emulator = emulator();
    emulator.fault(Op::Receive, Fault::EmptyAtOnce, 1000);
    let folder = folder(&emulator, "");
    let service = folder.start();
    std::thread::sleep(Duration::from_secs(5));
    let polls = emulator.requests(Op::Receive);
    assert!((2..=7).contains(&polls), "{polls}");
    let series = "ims_receiver_queue_polls_total{source=\"queue\",result=\"empty_early\"}";
    assert!(service.metric(series) >= Some(2.0));
    emulator.calm();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
}

#[test]
fn a_key_that_may_not_read_attributes_reads_the_queue() {
    let emulator = emulator();
    emulator.fault(Op::Attributes, Fault::Refused(403, "AccessDenied"), 100);
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
    assert_eq!(complaints(&service), Vec::<Value>::new());
}

#[test]
fn what_is_no_answer_of_mns_is_said_and_loses_nothing() {
    for (fault, words) in [
        (Fault::Html(502), ["502", "<!DOCTYPE html>"]),
        (Fault::HtmlAsSuccess, ["200", "document type"]),
        (Fault::Bomb, ["200", "document type"]),
        (Fault::Truncated, ["200", "cut short"]),
        (
            Fault::Garbage(format!("<{}/>", "x".repeat(1_000_000))),
            ["200", "was not expected"],
        ),
        (Fault::ResetBefore, ["closed", "127.0.0.1"]),
        (
            Fault::Refused(500, "InternalError"),
            ["InternalError", "500"],
        ),
        (
            Fault::Refused(429, "TooManyRequests"),
            ["TooManyRequests", "429"],
        ),
    ] {
        let emulator = emulator();
        emulator.visibility(QUEUE, 1);
        emulator.fault(Op::Receive, fault, 6);
        emulator.send(QUEUE, &body(1));
        let folder = folder(&emulator, "");
        let service = folder.start();
        let line = wait_for("it complains", || complaints(&service).pop());
        for word in words {
            assert!(line.to_string().contains(word), "no {word:?} in {line}");
        }
        assert!(line.to_string().len() < 1500, "{}", line.to_string().len());
        emulator.calm();
        drained(&emulator);
        assert_eq!(logged(&folder, 1).len(), 1, "{words:?}");
        assert_eq!(complaints(&service).len(), 1, "{:#?}", complaints(&service));
    }
}

#[test]
fn a_message_that_is_not_what_its_md5_says_is_left_to_come_again() {
    let emulator = emulator();
    emulator.visibility(QUEUE, 1);
    emulator.fault(Op::Receive, Fault::WrongMd5, 2);
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
    assert_eq!(logged(&folder, 1).len(), 1);
    assert_eq!(
        (messages(&service, "corrupt"), messages(&service, "stored")),
        (2.0, 1.0)
    );
    let received = |one: &&Happened| matches!(one, Happened::Received { .. });
    assert_eq!(emulator.log().iter().filter(received).count(), 3);
}

#[test]
fn a_clock_that_is_an_hour_off_is_corrected() {
    let emulator = emulator();
    emulator.advance(Duration::from_secs(3600));
    let folder = folder(&emulator, "wait = \"1s\"");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
    wait_for("it has polled on", || {
        (emulator.requests(Op::Receive) > 3).then_some(())
    });
    let expired =
        |one: &&Happened| matches!(one, Happened::Failed { code, .. } if code == "TimeExpired");
    assert_eq!(emulator.log().iter().filter(expired).count(), 1);
    assert_eq!(complaints(&service), Vec::<Value>::new());
}

#[test]
fn deletes_that_fail_are_repeated_and_counted() {
    let emulator = emulator();
    emulator.fault(Op::Delete, Fault::Partial, 1);
    emulator.fault(Op::Delete, Fault::Refused(500, "InternalError"), 1);
    for number in 0..16 {
        emulator.send(QUEUE, &body(number));
    }
    let folder = folder(&emulator, "");
    let service = folder.start();
    drained(&emulator);
    assert_eq!(logged(&folder, 16).len(), 16);
    let failures = "ims_receiver_queue_delete_failures_total{source=\"queue\"}";
    assert_eq!(
        service.metric(failures),
        Some(0.0),
        "they were repeated in time"
    );

    emulator.visibility(QUEUE, 4);
    emulator.fault(Op::Delete, Fault::Refused(500, "InternalError"), 3);
    emulator.send(QUEUE, &body(99));
    drained(&emulator);
    assert_eq!(service.metric(failures), Some(1.0));
    assert_eq!(logged(&folder, 17).len(), 17);
}

#[test]
fn a_delete_whose_answer_is_lost_is_a_delete() {
    let emulator = emulator();
    emulator.fault(Op::Delete, Fault::ResetAfter, 1);
    let folder = folder(&emulator, "wait = \"1s\"");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
    emulator.send(QUEUE, &body(2));
    drained(&emulator);
    assert_eq!(logged(&folder, 2).len(), 2);
    assert_eq!(complaints(&service), Vec::<Value>::new());
}

#[test]
fn a_page_instead_of_a_delete_deletes_nothing_and_is_repeated() {
    let emulator = emulator();
    emulator.fault(Op::Delete, Fault::HtmlAsSuccess, 1);
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
    assert_eq!(emulator.receives_of(&body(1)), 1, "it did not come again");
    assert_eq!(complaints(&service), Vec::<Value>::new());
}

#[test]
fn a_batch_that_is_refused_as_a_whole_is_deleted_one_by_one() {
    let emulator = emulator();
    emulator.fault(Op::Delete, Fault::Refused(400, "ReceiptHandleError"), 1);
    for number in 0..16 {
        emulator.send(QUEUE, &body(number));
    }
    let folder = folder(&emulator, "");
    let service = folder.start();
    drained(&emulator);
    for number in 0..16 {
        assert_eq!(emulator.receives_of(&body(number)), 1, "{number}");
    }
    assert_eq!(complaints(&service), Vec::<Value>::new());
}

#[test]
fn a_message_without_a_body_does_not_hold_up_its_batch() {
    let emulator = emulator();
    emulator.fault(Op::Receive, Fault::OddMessage, 1);
    emulator.send(QUEUE, &body(1));
    let folder = folder(&emulator, "");
    let service = folder.start();
    drained(&emulator);
    assert_eq!(emulator.receives_of(&body(1)), 1);
    let counts = (messages(&service, "corrupt"), messages(&service, "stored"));
    assert_eq!(counts, (1.0, 1.0));
    let line = complaints(&service).pop().expect("it is told");
    assert!(line.to_string().contains("no body"), "{line}");
}

#[test]
fn a_message_that_comes_too_often_is_told_and_never_dropped() {
    let emulator = emulator();
    emulator.visibility(QUEUE, 1);
    emulator.fault(Op::Receive, Fault::WrongMd5, 3);
    let folder = folder(&emulator, "max_receives = 2");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    drained(&emulator);
    logged(&folder, 1);
    let series = "ims_receiver_queue_received_too_often_total{source=\"queue\"}";
    assert_eq!(service.metric(series), Some(2.0));
    let told = |line: &&Value| line.to_string().contains("again and again");
    assert_eq!(complaints(&service).iter().filter(told).count(), 1);
}

#[test]
fn a_store_that_takes_long_keeps_its_messages_invisible() {
    let emulator = emulator();
    emulator.visibility(QUEUE, 1);
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(0));
    drained(&emulator);
    let blocker = Connection::open(folder.path("data/events.db")).expect("a database");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    emulator.send(QUEUE, &body(1));
    wait_for("the message is kept invisible", || {
        let changed = |one: &&Happened| matches!(one, Happened::Changed { .. });
        (emulator.log().iter().filter(changed).count() >= 1).then_some(())
    });
    assert_eq!(emulator.left(QUEUE), 1);
    blocker
        .execute_batch("ROLLBACK")
        .expect("the lock is given back");
    drained(&emulator);
    logged(&folder, 2);
    let received = |one: &&Happened| matches!(one, Happened::Received { .. });
    assert_eq!(
        emulator.log().iter().filter(received).count(),
        2,
        "none came twice"
    );
    drop(service);
}

#[test]
fn a_change_of_visibility_whose_answer_is_lost_costs_a_duplicate_at_most() {
    let emulator = emulator();
    emulator.visibility(QUEUE, 1);
    emulator.fault(Op::Change, Fault::ResetAfter, 1);
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(0));
    drained(&emulator);
    let blocker = Connection::open(folder.path("data/events.db")).expect("a database");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    emulator.send(QUEUE, &body(1));
    wait_for("the handle that is known is dead", || {
        let refused = |one: &&Happened| matches!(one, Happened::Failed { op: Op::Change, code } if code == "ReceiptHandleError");
        emulator.log().iter().find(refused).map(|_| ())
    });
    blocker
        .execute_batch("ROLLBACK")
        .expect("the lock is given back");
    drained(&emulator);
    assert_eq!(logged(&folder, 2).len(), 2, "each once");
    assert!(emulator.receives_of(&body(1)) >= 2);
    let failures = "ims_receiver_queue_delete_failures_total{source=\"queue\"}";
    assert!(service.metric(failures) >= Some(1.0));
    assert_eq!(messages(&service, "stored"), 2.0);
}

#[test]
fn a_full_disk_deletes_nothing_and_uses_up_few_receives() {
    const MESSAGES: u64 = 300;
    let disk = SmallDisk::mount(48 * 1024);
    let store = disk.path("events.db");
    let emulator = emulator();
    emulator.visibility(QUEUE, 1);
    let folder = folder(&emulator, "wait = \"1s\"").set("store.path", store.display());
    disk.take(42 * 1024);
    let service = folder.start();
    for number in 0..MESSAGES {
        let text = format!("{}{}", body(number), " ".repeat(50_000));
        emulator.send(QUEUE, &text);
    }
    wait_for("the store is full", || {
        (service.get("/readyz").0 == 503).then_some(())
    });
    std::thread::sleep(Duration::from_secs(6));
    assert!(emulator.left(QUEUE) > 50, "{}", emulator.left(QUEUE));
    let receives = emulator.most_receives(QUEUE);
    assert!(receives <= 5, "a message was received {receives} times");
    disk.make_room();
    drained(&emulator);
    let lines = logged(&folder, usize::try_from(MESSAGES).expect("few"));
    let ids: HashSet<&str> = lines
        .iter()
        .filter_map(|l| l["event_id"].as_str())
        .collect();
    assert_eq!(ids.len() as u64, MESSAGES);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    is_whole(&store);
}

#[test]
fn a_stop_finishes_what_it_holds_and_waits_for_no_poll() {
    let emulator = emulator();
    emulator.silent();
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(0));
    drained(&emulator);
    let since = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );

    for round in 1..=5 {
        let service = folder.start();
        for number in 0..500 {
            emulator.send(QUEUE, &body(1000 * round + number));
        }
        service.signal("-TERM");
        assert_eq!(service.wait(), Some(0));
    }
    let _service = folder.start();
    drained(&emulator);
    let lines = logged(&folder, 2501);
    assert_eq!(lines.len(), 2501, "each once");
}

#[test]
fn a_stop_takes_what_a_poll_was_handed() {
    let emulator = emulator();
    let slow = Duration::from_millis(300);
    emulator.fault(Op::Receive, Fault::Slow(slow), 1);
    let folder = folder(&emulator, "");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    wait_for("it is handed out", || {
        (emulator.receives_of(&body(1)) == 1).then_some(())
    });
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    assert_eq!(emulator.left(QUEUE), 0, "it is stored and deleted");
    let sql = "SELECT count(*) FROM events";
    let stored = database(&folder).query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(stored.expect("a number"), 1);
}

/// The number that [`body`] put into an event, whichever form it came in.
fn plain(text: &str) -> String {
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) => String::from_utf8(bytes).expect("it is one of ours"),
        Err(_) => text.to_owned(),
    }
}

#[test]
fn faults_of_every_kind_and_twenty_kills_lose_nothing() {
    const MESSAGES: u64 = 1000;
    const KILLS: u32 = 20;
    let emulator = emulator();
    emulator.visibility(QUEUE, 2);
    let folder = folder(&emulator, "wait = \"1s\"\npollers = 2");
    folder.start().kill();
    let store = folder.path("data/events.db");
    emulator.before_delete(move |text| {
        // A look from outside, at the moment of the delete.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(&store, flags).expect("a database");
        let patience = connection.busy_timeout(Duration::from_secs(30));
        patience.expect("it takes a patience");
        let sql = "SELECT count(*) FROM events WHERE body = ?1";
        let count = connection.query_row(sql, [plain(text).as_bytes()], |row| row.get::<_, i64>(0));
        count.expect("it can be read") == 1
    });
    emulator.chaos(250);
    let mut sent = 0;
    for round in 0..KILLS {
        let service = folder.start();
        let until = MESSAGES * u64::from(round + 1) / u64::from(KILLS);
        while sent < until {
            let text = body(sent);
            let text = if sent % 2 == 0 {
                text
            } else {
                BASE64_STANDARD.encode(text)
            };
            emulator.send(QUEUE, &text);
            sent += 1;
        }
        let life = rand::rng().random_range(20..600);
        std::thread::sleep(Duration::from_millis(life));
        service.kill();
    }
    // The faults go on for a while without kills.
    let service = folder.start();
    std::thread::sleep(Duration::from_secs(5));
    emulator.calm();
    drained(&emulator);
    assert_eq!(
        emulator.early(),
        Vec::<String>::new(),
        "deleted before its commit"
    );
    let lines = logged(&folder, usize::try_from(MESSAGES).expect("few"));
    let jobs: HashSet<&str> = lines
        .iter()
        .filter_map(|line| line["job_id"].as_str())
        .collect();
    assert_eq!(
        jobs.len() as u64,
        MESSAGES,
        "each handler ran for each event"
    );
    let sql = "SELECT count(*) FROM events";
    let stored = database(&folder).query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(stored.expect("a number"), 1000, "each event once");
    let deleted: HashSet<String> = emulator
        .log()
        .into_iter()
        .filter_map(|one| match one {
            Happened::Deleted { body } => Some(plain(&body)),
            _ => None,
        })
        .collect();
    assert_eq!(deleted.len() as u64, MESSAGES);
    wait_for("nothing is left unfinished", || {
        let idle =
            |name: &str| service.metric(&format!("{name}{{handler=\"audit\"}}")) == Some(0.0);
        (idle("ims_receiver_pending_deliveries") && idle("ims_receiver_dead_deliveries"))
            .then_some(())
    });
}

#[test]
fn several_queues_are_read_beside_each_other() {
    let emulator = Emulator::start(&[QUEUE, "ice-callback-other"]);
    let other = source(&emulator.url(), "")
        .replace("sources.queue", "sources.other")
        .replace(QUEUE, "ice-callback-other");
    let folder = folder(&emulator, "").configured(&other);
    let _service = folder.start();
    emulator.send(QUEUE, &body(1));
    emulator.send("ice-callback-other", &body(2));
    let lines = logged(&folder, 2);
    let mut sources: Vec<&str> = lines.iter().filter_map(|l| l["source"].as_str()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["other", "queue"]);
    wait_for("both are empty", || {
        (emulator.left(QUEUE) + emulator.left("ice-callback-other") == 0).then_some(())
    });
}

#[test]
fn what_comes_back_too_often_goes_where_the_queue_says() {
    let emulator = Emulator::start(&[QUEUE, "dead-letters"]);
    emulator.visibility(QUEUE, 1);
    emulator.dead_letter(QUEUE, "dead-letters", 2);
    emulator.fault(Op::Receive, Fault::WrongMd5, 2);
    emulator.send(QUEUE, &body(1));
    let folder = folder(&emulator, "");
    let service = folder.start();
    drained(&emulator);
    assert_eq!(emulator.left("dead-letters"), 1);
    assert_eq!(messages(&service, "stored"), 0.0);
}
