//! Events on their way from one store to another, and what hostile or damaged
//! ones of them may not do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use ims_receiver::clock::{Clock, SystemClock};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Folder, Service, accepted, body, exchange, output, wait_for};
use crate::operator::{ask, command, gated, json as asked, send, told};

/// Posts these lines to the import; answers status and answer.
fn import(service: &Service, lines: &[Value]) -> (u16, Value) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let lines = lines.join("\n");
    let request = format!(
        "POST /api/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{lines}",
        lines.len()
    );
    let (status, answer) = exchange(service.admin, request.as_bytes()).expect("an answer");
    let answer = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    (status, answer)
}

/// When the events of these tests were received: young, so that all are kept.
static RECEIVED: LazyLock<Timestamp> = LazyLock::new(|| {
    let ms = SystemClock.now().as_millisecond() - 600_000;
    Timestamp::from_millisecond(ms).expect("a time of ours")
});

/// A line of an export with the number in its id.
fn line(number: u32) -> Value {
    let ms = RECEIVED.as_millisecond();
    let (high, low) = (ms >> 16, ms & 0xffff);
    json!({
        "id": format!("{high:08x}-{low:04x}-7000-8000-0000{number:08x}"), "source": "default",
        "type": "Moved", "event_time": null, "user_id": null, "outcome": "other",
        "media_id": null, "job_id": null, "received_at": RECEIVED.to_string(),
        "duplicates": 0, "verified": {"scheme": "none"}, "query": null, "headers": {},
        "peer": null, "notes": [], "body_base64": "e30=", "deliveries": [],
    })
}

fn delivery(handler: &str) -> Value {
    json!({
        "handler": handler, "status": "pending", "attempts": 1, "next_at": null,
        "reason": null, "failed": 0, "age_from": null, "history": [],
    })
}

fn attempt(number: u32) -> Value {
    json!({
        "attempt": number, "started_at": "2025-10-03T13:06:01Z", "ended_at": null,
        "result": "lost", "reason": null, "report": null,
    })
}

fn known(service: &Service, line: &Value) -> bool {
    let id = line["id"].as_str().expect("an id");
    service.get(&format!("/api/events/{id}")).0 == 200
}

#[test]
fn an_import_refuses_what_no_store_exports() {
    let folder = Folder::with_log();
    let service = folder.start();
    let fine = line(1);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut delivery = delivery("audit");
        change(&mut delivery);
        let mut line = line(2);
        line["deliveries"] = json!([delivery]);
        line
    };
    for (said, bad) in [
        (
            "`attempts` is 4294967295",
            with(&|d| d["attempts"] = json!(u32::MAX)),
        ),
        (
            "`attempts` is 1000001",
            with(&|d| d["attempts"] = json!(1_000_001)),
        ),
        (
            "`failed` is 4294967295",
            with(&|d| d["failed"] = json!(u32::MAX)),
        ),
        ("`failed` is 2", with(&|d| d["failed"] = json!(2))),
        ("`attempt` 0", with(&|d| d["history"] = json!([attempt(0)]))),
        ("`attempt` 2", with(&|d| d["history"] = json!([attempt(2)]))),
        (
            "`attempt` 1",
            with(&|d| d["history"] = json!([attempt(1), attempt(1)])),
        ),
        ("`notes`", {
            let mut line = line(2);
            line["notes"] = json!(vec!["odd"; 33]);
            line
        }),
        ("`deliveries`", {
            let mut line = line(2);
            line["deliveries"] = (0..513).map(|n| delivery(&format!("x{n}"))).collect();
            line
        }),
    ] {
        let (status, answer) = import(&service, &[fine.clone(), bad]);
        assert_eq!(status, 400, "{answer}");
        let detail = answer["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("line 2") && detail.contains(said),
            "{detail}"
        );
        assert!(
            !known(&service, &fine),
            "{said}: the request changes nothing"
        );
    }
    // An id that an earlier release took.
    let mut long = line(3);
    long["media_id"] = json!("m".repeat(600_000));
    let (status, answer) = import(&service, &[long.clone()]);
    assert_eq!((status, &answer["added"]), (200, &json!(1)), "{answer}");
    let event = service.event(long["id"].as_str().expect("an id"));
    assert_eq!(event["media_id"], Value::Null);
    let note = "`MediaId` is 600000 bytes long, more than 512";
    assert_eq!(event["notes"], json!([note]));
    // A conflict behind more than one commit takes.
    let mut all: Vec<Value> = (100..300).map(line).collect();
    let mut other = long.clone();
    other["body_base64"] = json!("eA==");
    all.push(other);
    let (status, answer) = import(&service, &all);
    assert_eq!(status, 409, "{answer}");
    assert!(all[..200].iter().all(|line| !known(&service, line)));
}

#[test]
fn imports_cannot_fill_the_list_of_handlers() {
    let folder = Folder::with_log();
    let service = folder.start();
    let owing = |number: u32, names: std::ops::Range<u32>| {
        let mut line = line(number);
        line["deliveries"] = names.map(|n| delivery(&format!("x{n:04}"))).collect();
        line
    };
    let (status, answer) = import(&service, &[owing(1, 0..10), owing(2, 10..500)]);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = import(&service, &[owing(3, 500..900), owing(4, 900..1000)]);
    assert_eq!(status, 409, "{answer}");
    let detail = answer["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("500 handlers that are new here"),
        "{detail}"
    );
    assert!(!known(&service, &line(3)));
    service.kill();
    let service = folder.start();
    let lines = service.log();
    let told: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("no longer configured"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("x0000, x0001") && told[0].contains("and 495 more"));
    let handlers = asked(&folder, &service, &["handlers", "list"]);
    assert_eq!(handlers["handlers"].as_array().expect("a list").len(), 501);
}

/// Two handlers, of which `cms` fails until the gate is there.
fn with_two_handlers() -> (Folder, std::path::PathBuf) {
    let folder = Folder::with_log();
    let gate = folder.path("gate");
    let handler = gated("cms", &gate);
    (folder.configured(&handler), gate)
}

#[test]
fn spoilt_rows_fail_neither_a_start_nor_the_others() {
    let (folder, gate) = with_two_handlers();
    let service = folder.start();
    let sent = send(&service, 1..=4);
    for id in &sent {
        service.finished(id);
    }
    service.kill();
    std::fs::write(&gate, "").expect("the gate");
    let path = folder.path("data/events.db");
    let store = rusqlite::Connection::open(&path).expect("a store");
    store
        .execute_batch(
            "UPDATE deliveries SET status = 1, worker = 1, due = 9223372036854775807,
                attempts = 4294967296 WHERE event = 1 AND handler = 'cms';
             UPDATE deliveries SET status = 0, due = 0, attempts = 4294967295,
                failed = 4294967295 WHERE event = 2 AND handler = 'cms';
             UPDATE events SET verified = '{' WHERE row = 3;
             UPDATE deliveries SET status = 0, due = 0 WHERE event = 3 AND handler = 'cms';
             UPDATE events SET media_id = hex(zeroblob(300000)) WHERE row = 4;",
        )
        .expect("it can be written");
    drop(store);
    let service = folder.start();
    let (new, _) = accepted(service.ingest, &body(5));
    service.succeeded(&new);
    for id in &sent[..2] {
        let delivery = wait_for("it is put aside", || {
            let event = service.event(id);
            let deliveries = event["deliveries"].as_array().expect("a list");
            let delivery = deliveries.iter().find(|one| one["handler"] == "cms");
            let delivery = delivery.expect("it is there").clone();
            let reason = delivery["reason"].as_str().unwrap_or_default();
            reason.contains("counts anew").then_some(delivery)
        });
        assert_eq!(delivery["status"], "pending");
    }
    let log = service.log();
    let logged = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!(logged("a delivery cannot be read and waits"), 3, "{log:#?}");

    let listed = wait_for("all are listed", || {
        let (status, listed) = service.get("/api/events");
        assert_eq!(status, 200, "{listed}");
        let listed: Value = serde_json::from_str(&listed).expect("it is JSON");
        (listed["events"].as_array().expect("a list").len() == 5).then_some(listed)
    });
    let media = listed["events"][1]["media_id"].as_str().expect("an id");
    assert!(media.len() < 520 && media.ends_with('…'), "{}", media.len());
    let exported = exported_ids(&folder, &service);
    assert!(exported.len() == 4, "all but one: {exported:?}");
    assert!(!exported.iter().any(|id| *id == sent[2]));
    let named = |line: &String| line.contains("an event cannot be read") && line.contains(&sent[2]);
    assert_eq!(service.log().iter().filter(|line| named(line)).count(), 1);
    let (status, _) = service.get("/");
    assert_eq!(status, 200);

    let (code, said, _) = output(folder.command().args(["store", "check"]));
    assert_eq!(code, 1, "{said}");
    for part in [
        "problem: 2 deliveries with a count",
        "events redeliver",
        &sent[0],
        "problem: 1 events that this release cannot read",
        &sent[2],
        "whole otherwise",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    for id in &sent[..2] {
        let redeliver = ["events", "redeliver", id, "--handler", "cms"];
        told(&folder, &service, &redeliver);
        let event = service.succeeded(id);
        let deliveries = event["deliveries"].as_array().expect("a list");
        let cms = deliveries.iter().find(|one| one["handler"] == "cms");
        assert_eq!(cms.expect("it is there")["attempts"], 2);
    }
}

/// The ids of an export.
fn exported_ids(folder: &Folder, service: &Service) -> Vec<String> {
    let exported = told(folder, service, &["events", "export"]);
    let id = |line: &str| -> String {
        let event: Value = serde_json::from_str(line).expect("a line is JSON");
        event["id"].as_str().expect("an id").to_owned()
    };
    exported.lines().map(id).collect()
}

/// Sends a child the signal of Ctrl-C; answers exit code, stdout and stderr.
fn interrupted(mut child: Child) -> (Option<i32>, String, String) {
    let mut kill = Command::new("kill");
    let done = kill.args(["-INT", &child.id().to_string()]).status();
    assert!(done.expect("kill runs").success());
    wait_for("it ends", || child.try_wait().expect("a child"));
    let output = child.wait_with_output().expect("it has ended");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn an_interrupted_import_says_how_far_it_came_and_is_repeated() {
    let folder = Folder::with_log();
    let service = folder.start();
    let lines: Vec<Value> = (0..1010).map(line).collect();
    let text =
        |lines: &[Value]| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
    let mut child = command(&folder, &service, &["events", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A request takes a thousand lines; the rest waits for more that never comes.
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(text(&lines).as_bytes()).expect("it reads");
    wait_for("the first part is stored", || {
        known(&service, &lines[999]).then_some(())
    });
    let mut open = Some(stdin);
    let (code, stdout, stderr) = interrupted(child);
    drop(open.take());
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("events added, 0 known already"), "{stdout}");
    assert!(
        stdout.replace(',', "").contains("1000 events added"),
        "{stdout}"
    );
    let again = "Interrupted: the same command again does the rest.";
    assert!(stderr.contains(again), "{stderr}");
    assert!(!known(&service, &lines[1000]));

    let file = folder.path("all.ndjson");
    std::fs::write(&file, text(&lines)).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let rest = asked(&folder, &service, &["events", "import", file]);
    assert_eq!((&rest["added"], &rest["known"]), (&json!(10), &json!(1000)));
}

#[test]
fn an_interrupted_export_leaves_no_file() {
    let folder = Folder::with_log();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut child = folder.command();
    child
        .args([
            "events",
            "export",
            "--output",
            "all.ndjson",
            "--admin",
            &url,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = child.spawn().expect("the program starts");
    // A service that stops in the middle of an export.
    let (mut peer, _) = listener.accept().expect("it asks");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    let line = format!("{{\"x\":\"{}\"}}\n", "y".repeat(3 << 20));
    let size = line.len() + 10;
    write!(
        peer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: {size}\r\n\r\n{line}"
    )
    .expect("it reads");
    let files = || -> Vec<String> {
        let files = std::fs::read_dir(folder.path("")).expect("a folder");
        let names = files.map(|file| file.expect("a file"));
        let begun = |name: &String| name.contains("export") || name.contains("all.ndjson");
        let large = names.filter(|file| file.metadata().is_ok_and(|file| file.len() > 0));
        large
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(begun)
            .collect()
    };
    wait_for("it writes", || (!files().is_empty()).then_some(()));
    let (code, stdout, stderr) = interrupted(child);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(
        stderr.contains("Interrupted: all.ndjson was not written."),
        "{stderr}"
    );
    assert_eq!(files(), [""; 0], "nothing half is left");
    drop(peer);
}

#[test]
fn a_line_that_no_request_takes_is_named_with_what_to_do() {
    let folder = Folder::with_log();
    let service = folder.start();
    let mut large = line(2);
    large["body_base64"] = json!("A".repeat(9 << 20));
    let file = folder.path("large.ndjson");
    std::fs::write(&file, format!("{}\n{large}\n", line(1))).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let (code, _, said) = ask(&folder, &service, &["events", "import", file]);
    assert_eq!(code, 64, "{said}");
    for part in ["line 2 is longer than the 8 MiB", "sed 2d", "store backup"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
}
