//! The admin API over a store in memory: what is asked for, and what is
//! answered to what cannot be read.

use std::time::Duration;

use serde_json::{Value, json};

use super::admin::{LOCAL, Listener, history, now};
use super::archive::{event, id};
use crate::delivery::Status;
use crate::request::HandlerName;
use crate::store::archive::{HandlerState, Redeliver, Redelivery};
use crate::store::{Backlog, History};

fn ids(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().unwrap();
    let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    events.iter().map(id).collect()
}

#[tokio::test]
async fn a_list_shows_events_and_goes_on_where_it_ended() {
    let admin = Listener::open_all().await;
    for number in 1..=3 {
        admin.archive.store(event(number, "{\"a\":\"Needle\"}"));
    }
    admin.archive.store(event(4, "{}"));
    let found = admin.json("/api/events?limit=2&q=needle").await;
    assert_eq!(ids(&found), [id(3).to_string(), id(2).to_string()]);
    let next = found["next"].as_str().unwrap();
    let path = format!("/api/events?limit=2&q=needle&cursor={next}");
    let rest = admin.json(&path).await;
    assert_eq!(ids(&rest), [id(1).to_string()]);
    assert_eq!(rest["next"], Value::Null);
    let expected = json!({
        "id": id(1).to_string(), "source": "default", "type": "SnapshotComplete",
        "event_time": "t", "user_id": null, "outcome": "succeeded",
        "media_id": "m1", "job_id": null, "received_at": "1970-01-01T00:16:41.000Z",
        "duplicates": 1, "body_bytes": 14, "notes": ["odd"],
        "deliveries": [{"handler": "cms", "status": "dead", "attempts": 3,
            "next_at": null, "reason": "status 500"}],
    });
    assert_eq!(rest["events"][0], expected);
    let none = admin.json("/api/events?status=pending").await;
    assert_eq!(ids(&none), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let admin = Listener::open_all().await;
    for (path, part) in [
        (
            "/api/events?limit=0",
            "`limit`: write a number from 1 to 500",
        ),
        ("/api/events?limit=501", "`limit`"),
        ("/api/events?limit=5&limit=5", "`limit`: is given twice"),
        ("/api/events?cursor=x", "`cursor`"),
        (
            "/api/events?colour=red",
            "`colour`: is no parameter here; there are type",
        ),
        ("/api/tail?status=done", "`done` is none of pending"),
        ("/api/export?since=now", "`since`"),
        ("/api/stats?minutes=1441", "`minutes`"),
        ("/api/refusals?reason=x", "`x` is none of missing"),
        (
            "/api/handlers?x=1",
            "`x`: is no parameter here; there are none",
        ),
    ] {
        let answer = admin.get(path, LOCAL).await;
        answer.is_problem(400);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{path}: {detail}");
    }
    let one = "/api/events/0199aa00-0000-7000-8000-000000000001/redeliver";
    for (path, body, part) in [
        (
            "/api/redeliver",
            "",
            "\\\"type\\\": [\\\"*\\\"] says everything",
        ),
        ("/api/redeliver", "{\"limit\":5}", "says everything"),
        ("/api/redeliver", "{\"typ\":\"x\"}", "unknown field `typ`"),
        (
            "/api/redeliver",
            "{\"type\":\"*\",\"limit\":10001}",
            "`limit`",
        ),
        ("/api/redeliver", "{\"type\":\"*\",\"rate\":0}", "`rate`"),
        ("/api/redeliver", "{\"type\":\"*\",\"rate\":1e9}", "`rate`"),
        (
            "/api/redeliver",
            "{\"type\":\"*\",\"cursor\":\"x\"}",
            "`cursor`",
        ),
        (
            "/api/redeliver",
            "{\"type\":\"*\",\"first_due\":\"9999-01-01T00:00:00Z\"}",
            "`first_due`",
        ),
        (
            "/api/redeliver",
            "{\"type\":\"*\",\"handlers\":[\"x\"]}",
            "`x` is not configured; there are audit, cms",
        ),
        (
            "/api/redeliver",
            "{\"status\":[\"gone\"]}",
            "`gone` is none of",
        ),
        (one, "{\"handlers\":[]}", "`handlers`: is empty"),
        (one, "{\"handlers\":[\"x\"]}", "not configured"),
        (one, "[", "the body: "),
        (
            "/api/handlers/cms/pause",
            "{\"for\":\"1h\"}",
            "unknown field `for`",
        ),
    ] {
        let answer = admin.post(path, LOCAL, body).await;
        answer.is_problem(400);
        assert!(answer.body.contains(part), "{body}: {answer:?}");
    }
    assert!(admin.archive.redelivered.lock().unwrap().is_empty());
    assert!(admin.lanes.0.lock().unwrap().is_empty());
    let large = "x".repeat(64 * 1024 + 1);
    admin
        .post("/api/redeliver", LOCAL, &large)
        .await
        .is_problem(413);
}

#[tokio::test]
async fn a_redelivery_says_what_is_meant() {
    let admin = Listener::open_all().await;
    let answer = admin
        .post(
            "/api/redeliver",
            LOCAL,
            r#"{"status":["dead"],"type":"Snap*","since":"2d","handlers":["cms"],"rate":4,"limit":9}"#,
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown: Value = serde_json::from_str(&answer.body).unwrap();
    let expected = json!({"events": 1, "deliveries": 2, "running": 3,
        "next": id(7).to_string(), "next_due": "2026-11-24T12:00:00.000Z"});
    assert_eq!(shown, expected);
    let asked: Redeliver = admin.archive.redelivered.lock().unwrap().remove(0);
    let Redelivery::Matching(filter, page) = asked.events else {
        panic!("{asked:?}");
    };
    assert_eq!(filter.statuses.as_deref(), Some(&[Status::Dead][..]));
    assert_eq!(filter.since, Some(now() - Duration::from_secs(2 * 86_400)));
    assert!(filter.types.unwrap().is_match("Snapshot"));
    assert_eq!((page.limit, page.after), (9, None));
    assert_eq!(asked.spacing, Duration::from_millis(250));
    assert_eq!(asked.first_due, now());
    assert!(!asked.dry_run);

    let next = format!(
        r#"{{"type":["*"],"dry_run":true,"cursor":"{}","first_due":"2026-11-24T13:00:00.000Z"}}"#,
        id(7)
    );
    assert_eq!(admin.post("/api/redeliver", LOCAL, &next).await.status, 200);
    let asked: Redeliver = admin.archive.redelivered.lock().unwrap().remove(0);
    let Redelivery::Matching(_, page) = asked.events else {
        panic!("{asked:?}");
    };
    assert_eq!((page.limit, page.after), (1_000, Some(id(7))));
    assert!(asked.dry_run && asked.handlers.is_none());
    assert_eq!(asked.first_due, now() + Duration::from_secs(3_600));
    assert_eq!(asked.spacing, Duration::from_millis(20));
}

#[tokio::test]
async fn one_event_goes_again_to_those_who_had_it_and_are_still_there() {
    let admin = Listener::start(None, None).await;
    let store = admin.open();
    let mut known = history("{}").await;
    let mut gone = known.deliveries[0].clone();
    gone.handler = HandlerName::new("gone").unwrap();
    known.deliveries.push(gone);
    let path = format!("/api/events/{}/redeliver", known.event.id);
    admin.post(&path, LOCAL, "").await.is_problem(404);
    store
        .histories
        .lock()
        .unwrap()
        .insert(known.event.id, known);
    let answer = admin.post(&path, LOCAL, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(shown, json!({"events": 1, "deliveries": 2, "running": 3}));
    let asked: Redeliver = admin.archive.redelivered.lock().unwrap().remove(0);
    let names: Vec<_> = asked
        .handlers
        .unwrap()
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(names, ["cms"]);
    let both = r#"{"handlers":["cms","audit","cms"]}"#;
    assert_eq!(admin.post(&path, LOCAL, both).await.status, 200);
    let asked: Redeliver = admin.archive.redelivered.lock().unwrap().remove(0);
    assert_eq!(asked.handlers.unwrap().len(), 2, "each once");
}

#[tokio::test]
async fn a_handler_is_held_back_in_the_store_and_in_memory() {
    let admin = Listener::open_all().await;
    let pause = admin.post("/api/handlers/cms/pause", LOCAL, "{}").await;
    let expected = r#"{"name":"cms","paused_at":"2026-11-24T12:00:00.000Z","changed":true}"#;
    assert_eq!(pause.body, expected);
    let again = admin.post("/api/handlers/cms/pause", LOCAL, "").await;
    assert_eq!(again.body, expected.replace("true", "false"));
    let shown = admin.json("/api/handlers").await;
    let cms = &shown["handlers"][1];
    assert_eq!(cms["name"], "cms");
    assert_eq!(cms["paused_at"], "2026-11-24T12:00:00.000Z");
    assert_eq!(cms["kind"], "log");
    assert_eq!(cms["configured"], true);
    let resume = admin.post("/api/handlers/cms/resume", LOCAL, "").await;
    assert_eq!(
        resume.body,
        r#"{"name":"cms","paused_at":null,"changed":true}"#
    );
    admin
        .post("/api/handlers/other/pause", LOCAL, "")
        .await
        .is_problem(404);
    let told = admin.lanes.0.lock().unwrap().clone();
    assert_eq!(told, ["pause cms", "pause cms", "resume cms"]);
}

#[tokio::test]
async fn only_what_waits_for_a_handler_that_is_gone_is_discarded() {
    let admin = Listener::open_all().await;
    let gone = HandlerState {
        backlog: Backlog {
            unfinished: 12,
            ..Backlog::default()
        },
        ..HandlerState::default()
    };
    let name = HandlerName::new("gone").unwrap();
    admin.archive.handlers.lock().unwrap().insert(name, gone);
    let shown = admin.json("/api/handlers").await;
    let expected = json!({"name": "gone", "kind": null, "configured": false, "paused_at": null,
        "pending": 12, "dead": 0, "oldest_pending_at": null, "succeeded": 0, "failed": 0});
    assert_eq!(shown["handlers"][2], expected);
    let answer = admin.post("/api/handlers/gone/discard", LOCAL, "").await;
    assert_eq!(answer.body, r#"{"name":"gone","discarded":12}"#);
    let configured = admin.post("/api/handlers/cms/discard", LOCAL, "").await;
    configured.is_problem(409);
    let unknown = admin.post("/api/handlers/never/discard", LOCAL, "").await;
    unknown.is_problem(404);
}

#[tokio::test]
async fn a_body_is_handed_out_as_bytes_and_nothing_else() {
    let admin = Listener::start(None, None).await;
    let known = history("<script>alert(1)</script>").await;
    let id = known.event.id;
    admin.open().histories.lock().unwrap().insert(id, known);
    let answer = admin.get(&format!("/api/events/{id}/body"), LOCAL).await;
    assert_eq!(answer.body, "<script>alert(1)</script>");
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("application/octet-stream"));
    let disposition = answer.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment; "), "{disposition}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn the_numbers_are_there_before_anything_happened() {
    let admin = Listener::open_all().await;
    let stats = admin.json("/api/stats?minutes=1440").await;
    assert_eq!(stats["now"], "2026-11-24T12:00:00.000Z");
    assert_eq!(stats["ready"], false);
    assert_eq!(stats["reasons"], json!(["starting"]));
    let minute = json!([{"minute": "2026-11-24T12:00:00.000Z", "acked": 0, "refused": 0,
        "unavailable": 0, "p50_ms": null, "p99_ms": null, "max_ms": null}]);
    assert_eq!(stats["acks"], minute, "since the start");
    let source = json!([{"name": "default", "kind": "http", "last_event_at": null, "refusals": 0,
        "skew_seconds": null, "lag_seconds": null}]);
    assert_eq!(stats["sources"], source);
    let size = json!({"file_bytes": 4, "used_bytes": 3, "wal_bytes": 2, "disk_free_bytes": 1,
        "disk_free_min_bytes": 1_u64 << 30});
    assert_eq!(stats["store"], size);
    admin.archive.store(event(1, "{}"));
    let stats = admin.json("/api/stats").await;
    assert_eq!(
        stats["sources"][0]["last_event_at"],
        Value::Null,
        "looked up once"
    );
}

/// Exports `known` and answers the lines.
async fn exported(admin: &Listener, known: &[History]) -> String {
    for one in known {
        let mut summary = event(1, "");
        summary.0.id = one.event.id;
        admin.archive.store(summary);
    }
    let mut client = super::harness::Client::connect(admin.address).await;
    let request = format!("GET /api/export HTTP/1.1\r\n{LOCAL}Connection: close\r\n\r\n");
    client.send(request).await;
    let answer = client.rest().await;
    let text = String::from_utf8(answer.to_vec()).unwrap();
    assert!(text.contains("application/x-ndjson"), "{text}");
    // Chunks are whole lines.
    let lines = text.lines().filter(|line| line.starts_with("{\"id\""));
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn an_export_put_back_is_the_same_events() {
    let admin = Listener::start(None, None).await;
    let store = admin.open();
    let body = r#"{"EventType":"ProduceMediaComplete","MessageBody":{"JobId":"j","n":1e400}}"#;
    let first = history(body).await;
    let mut second = history("no json").await;
    second.event.id = "0199aa00-0000-7000-8000-000000000002".parse().unwrap();
    second.deliveries[0].age_from = Some(now());
    second.deliveries[0].failed = 1;
    let known = [first, second];
    for one in &known {
        let mut histories = store.histories.lock().unwrap();
        histories.insert(one.event.id, one.clone());
    }
    let lines = exported(&admin, &known).await;
    let post = |lines: &str| {
        let length = lines.len();
        format!(
            "POST /api/import HTTP/1.1\r\n{LOCAL}Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{lines}"
        )
    };
    let answer = admin.ask(&post(&format!("\n{lines}\n"))).await;
    assert_eq!(answer.body, r#"{"added":2,"known":0}"#);
    let mut imported = admin.archive.imported.lock().unwrap().clone();
    imported.sort_by_key(|one| one.event.id);
    for (mut expected, found) in known.into_iter().zip(imported) {
        // To the millisecond, as the store keeps it.
        expected.event.received_at = found.event.received_at;
        expected.event.row = 0;
        // What is known of the moment only is not kept with an event.
        let kept = |one: &History| serde_json::to_string(&one.event.content.verified).unwrap();
        assert_eq!(kept(&found), kept(&expected));
        expected.event.content.verified = found.event.content.verified.clone();
        assert_eq!(found.event, expected.event);
        assert_eq!(found.duplicates, expected.duplicates);
        let deliveries = |one: &History| format!("{:?}", one.deliveries);
        assert_eq!(deliveries(&found), deliveries(&expected));
    }
    let again = admin.ask(&post(&lines)).await;
    assert_eq!(again.body, r#"{"added":0,"known":2}"#);

    let broken = lines.replacen("\"duplicates\":2", "\"duplicates\":-2", 1);
    let refused = admin.ask(&post(&broken)).await;
    refused.is_problem(400);
    assert!(refused.body.contains("line 1: "), "{refused:?}");
    let other = lines.replace("\"body_base64\":\"bm8g", "\"body_base64\":\"bW8g");
    admin.ask(&post(&other)).await.is_problem(409);
    for (from, to) in [
        ("0199aa00-0000-7", "0199aa00-0000-4"),
        ("\"handler\":\"cms\"", "\"handler\":\"A B\""),
        ("\"body_base64\":\"", "\"body_base64\":\"*"),
        ("\"scheme\":\"ims\"", "\"scheme\":\"magic\""),
    ] {
        let refused = admin.ask(&post(&lines.replace(from, to))).await;
        refused.is_problem(400);
        assert!(refused.body.contains("line "), "{to}: {refused:?}");
    }
}
