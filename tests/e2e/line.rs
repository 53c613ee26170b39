//! From a signed request to the handler's line and the event's history.

use std::collections::HashSet;

use crate::harness::{Folder, body, exchange, signed, wait_for};

#[test]
fn an_event_is_stored_delivered_and_explained() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (status, answer) = service.send(&body(1)).expect("an answer");
    assert_eq!((status, &answer["duplicate"]), (200, &false.into()));
    let id = answer["id"].as_str().expect("an id").to_owned();
    wait_for("the line is written", || {
        (folder.logged() == [id.clone()]).then_some(())
    });
    let event = wait_for("the outcome is recorded", || {
        let event = service.event(&id);
        (event["deliveries"][0]["status"] == "succeeded").then_some(event)
    });
    assert_eq!(event["type"], "ProduceMediaComplete");
    assert_eq!(event["outcome"], "succeeded");
    assert_eq!(event["job_id"], "job-1");
    assert_eq!(event["verified"]["scheme"], "ims");
    assert_eq!(event["verified"]["key"], 1);
    assert_eq!(event["body"]["UserId"], 1_833_220_977_561_234_u64);
    assert_eq!(event["deliveries"][0]["history"][0]["result"], "succeeded");
    let head = service.head(&format!("/api/events/{id}"));
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    let (status, metrics) = service.get("/metrics");
    assert_eq!(status, 200);
    let counted = r#"ims_receiver_requests_total{source="default",status="200"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn a_copy_is_counted_and_not_delivered_again_even_after_a_kill() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (_, first) = service.send(&body(1)).expect("an answer");
    let (status, copy) = service.send(&body(1)).expect("an answer");
    assert_eq!((status, &copy["duplicate"]), (200, &true.into()));
    assert_eq!(copy["id"], first["id"]);
    wait_for("the line is written", || {
        (!folder.logged().is_empty()).then_some(())
    });
    service.kill();
    let service = folder.start();
    let (status, copy) = service.send(&body(1)).expect("an answer");
    assert_eq!((status, &copy["id"]), (200, &first["id"]));
    let id = first["id"].as_str().expect("an id");
    wait_for("duplicates are counted", || {
        (service.event(id)["duplicates"].as_u64() >= Some(1)).then_some(())
    });
    let distinct: HashSet<String> = folder.logged().into_iter().collect();
    assert_eq!(distinct.len(), 1);
}

#[test]
fn strangers_are_refused_before_their_body_comes() {
    let folder = Folder::with_log();
    let service = folder.start();
    let genuine = String::from_utf8(signed(&body(1))).expect("ASCII");
    let forged = genuine.replace("X-ICE-SIGNATURE: ", "X-ICE-SIGNATURE: 0");
    let (status, _) = exchange(service.ingest, forged.as_bytes()).expect("an answer");
    assert_eq!(status, 401);
    let announced = "POST /ims/callback HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n";
    let (status, _) = exchange(service.ingest, announced.as_bytes()).expect("an answer");
    assert_eq!(status, 401);
    let elsewhere = genuine.replace("/ims/callback", "/ims/callback/");
    assert_eq!(
        exchange(service.ingest, elsewhere.as_bytes())
            .expect("an answer")
            .0,
        404
    );
    let get = "GET /ims/callback HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(
        exchange(service.ingest, get.as_bytes())
            .expect("an answer")
            .0,
        405
    );
    assert!(folder.logged().is_empty());
}

#[test]
fn what_is_no_event_is_kept_as_malformed() {
    let folder = Folder::with_log();
    let service = folder.start();
    for odd in [
        "",
        "no json",
        "[]",
        r#"{"EventType":""}"#,
        "\u{0}",
        &"[".repeat(5000),
    ] {
        let (status, answer) = service.send(odd).expect("an answer");
        assert_eq!(status, 200, "{odd:?}");
        let event = service.event(answer["id"].as_str().expect("an id"));
        assert_eq!(event["type"], "malformed", "{odd:?}");
    }
}
