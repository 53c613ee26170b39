//! One trace per event, whatever lies between its attempts, and a collector
//! that nobody depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;

use crate::collector::{Collector, Span};
use crate::destination::{Answer, Destination, free_port};
use crate::harness::{Folder, KEY, Post, Service, accepted, body, exchange, wait_for};
use crate::mns;

const CALLER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// A folder whose handler `cms` forwards to `destination`.
fn forwarding(destination: &Destination) -> Folder {
    Folder::new(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/hook\"\n\
         retry = {{ initial = \"50ms\", max = \"100ms\" }}\n",
        destination.address
    ))
}

fn traced(destination: &Destination, collector: std::net::SocketAddr) -> Folder {
    forwarding(destination).configured(&format!(
        "[telemetry]\notlp_endpoint = \"http://{collector}\"\n"
    ))
}

/// Sends an event whose request belongs to a trace already; answers its id.
fn accepted_with(service: &Service, body: &str, traceparent: &str) -> String {
    let post = Post::of(body);
    let lines = format!(
        "traceparent: {traceparent}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = [post.head(&lines).as_bytes(), body.as_bytes()].concat();
    let (status, answer) = exchange(service.ingest, &request).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
    answer["id"].as_str().expect("an id").to_owned()
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let found = named
        .next()
        .unwrap_or_else(|| panic!("no {name}: {spans:#?}"));
    assert!(named.next().is_none(), "{name} twice: {spans:#?}");
    found
}

/// What each request to `destination` said of its trace: trace and span.
fn parents(destination: &Destination) -> Vec<(String, String)> {
    let received = destination.received();
    let parent = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!((parts[0], parts[3], parts.len()), ("00", "01", 4), "{text}");
        (parts[1].to_owned(), parts[2].to_owned())
    };
    received
        .iter()
        .map(|one| parent(one.header("traceparent").expect("it is passed on")))
        .collect()
}

#[test]
fn one_trace_holds_the_request_the_commit_and_every_attempt() {
    let collector = Collector::start();
    let destination = Destination::start(|received| match received.attempt() {
        1 => Answer::status(500),
        _ => Answer::status(200),
    });
    let folder = traced(&destination, collector.address).configured(
        "service_name = \"events-of-media\"\notlp_headers = { Authorization = \"Bearer c4nary-token\" }\n\
         [handlers.audit]\nkind = \"log\"\noutput = \"events.log\"\n",
    );
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(4711));
    let spans = collector.of_event(&id, 5);
    assert_eq!(spans.len(), 5, "{spans:#?}");

    let trace = id.replace('-', "");
    let root = only(&spans, "callback default");
    assert_eq!((root.kind, root.parent.as_str()), (SpanKind::Server, ""));
    assert_eq!(root.attribute("event_type"), "ProduceMediaComplete");
    assert_eq!(root.attribute("source"), "default");
    assert_eq!(root.attribute("duplicate"), "false");
    assert_eq!(root.attribute("body_bytes"), body(4711).len().to_string());
    assert!(root.began > 0 && root.ended >= root.began);
    let store = only(&spans, "store");
    assert!(store.began >= root.began && store.ended <= root.ended);
    for span in &spans {
        assert_eq!(span.trace, trace, "{span:#?}");
        assert!(span.id == root.id || span.parent == root.id, "{span:#?}");
    }
    let log = only(&spans, "deliver audit");
    assert_eq!((log.kind, log.failed), (SpanKind::Internal, false));
    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "deliver cms")
        .collect();
    let told: Vec<_> = attempts
        .iter()
        .map(|span| {
            (
                span.attribute("attempt"),
                span.attribute("result"),
                span.failed,
            )
        })
        .collect();
    assert_eq!(told, [("1", "failed", true), ("2", "succeeded", false)]);
    for span in &attempts {
        assert_eq!(span.kind, SpanKind::Client);
        assert_eq!(span.attribute("handler"), "cms");
        assert_eq!(span.attribute("event_type"), "ProduceMediaComplete");
        assert_eq!(span.attribute("source"), "default");
    }
    let passed_on: Vec<_> = attempts
        .iter()
        .map(|span| (trace.clone(), span.id.clone()))
        .collect();
    assert_eq!(parents(&destination), passed_on);
    assert_ne!(attempts[0].id, attempts[1].id);
    check_requests(&collector);
    wait_for("the spans are counted", || {
        (service.metric("ims_receiver_trace_spans_exported_total") == Some(5.0)).then_some(())
    });
    assert_eq!(
        service.metric("ims_receiver_trace_spans_dropped_total"),
        Some(0.0)
    );
    assert!(!service.log().join("\n").contains("c4nary"));
}

/// Where spans go, as whom, and what they never hold.
fn check_requests(collector: &Collector) {
    for batch in collector.batches() {
        assert_eq!(batch.path, "/v1/traces");
        assert_eq!(batch.headers["content-type"], "application/x-protobuf");
        assert_eq!(batch.headers["authorization"], "Bearer c4nary-token");
        assert_eq!(batch.resource["service.name"], "events-of-media");
        assert_eq!(batch.resource["service.version"], env!("CARGO_PKG_VERSION"));
        let raw = String::from_utf8_lossy(&batch.raw).into_owned();
        for hidden in ["media-4711", "job-4711", KEY, "c4nary", "1833220977561234"] {
            assert!(!raw.contains(hidden), "{hidden} is in a span");
        }
    }
}

#[test]
fn a_copy_is_a_request_of_its_own_in_the_same_trace() {
    let collector = Collector::start();
    let destination = Destination::start(|_| Answer::status(200));
    let folder = traced(&destination, collector.address);
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    let (same, duplicate) = accepted(service.ingest, &body(1));
    assert_eq!((&same, duplicate), (&id, true));
    let spans = collector.of_event(&id, 5);
    let requests: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "callback default")
        .collect();
    assert_eq!(requests.len(), 2, "{spans:#?}");
    assert_eq!(requests[1].attribute("duplicate"), "true");
    assert_eq!(requests[1].trace, requests[0].trace);
    assert_eq!(requests[1].parent, requests[0].id);
}

#[test]
fn a_request_that_belongs_to_a_trace_keeps_it() {
    let collector = Collector::start();
    let destination = Destination::start(|_| Answer::status(200));
    // Whoever calls decides, not the ratio.
    let folder = traced(&destination, collector.address).configured("sample_ratio = 0.0\n");
    let service = folder.start();
    let untraced = accepted(service.ingest, &body(1)).0;
    let left_out = accepted_with(
        &service,
        &body(2),
        &format!("00-{}-{CALLER_SPAN}-00", CALLER.replace('4', "5")),
    );
    service.succeeded(&untraced);
    service.succeeded(&left_out);
    let id = accepted_with(&service, &body(3), &format!("00-{CALLER}-{CALLER_SPAN}-01"));
    let spans = collector.of_event(&id, 3);
    let root = only(&spans, "callback default");
    assert_eq!(root.parent, CALLER_SPAN);
    let attempt = only(&spans, "deliver cms");
    assert_eq!(attempt.parent, root.id);
    assert!(spans.iter().all(|span| span.trace == CALLER), "{spans:#?}");

    let received = destination.received();
    let told: Vec<String> = received
        .iter()
        .map(|one| {
            let parent = one.header("traceparent").expect("it is passed on");
            format!("{} {}", one.id(), &parent[..36])
        })
        .collect();
    assert!(told.contains(&format!("{id} 00-{CALLER}-")), "{told:?}");
    assert!(told.contains(&format!("{untraced} 00-{}-", untraced.replace('-', ""))));
    let flags = |id: &str| {
        let one = received.iter().find(|one| one.id() == id);
        let parent = one.and_then(|one| one.header("traceparent"));
        parent.expect("it is passed on")[53..].to_owned()
    };
    assert_eq!(flags(&id), "01");
    assert_eq!(flags(&untraced), "00");
    assert_eq!(flags(&left_out), "00");
    assert_eq!(collector.spans().len(), 3, "nothing of the other two");
}

#[test]
fn the_trace_goes_on_after_a_kill() {
    let collector = Collector::start();
    let works = Arc::new(AtomicBool::new(false));
    let works_now = Arc::clone(&works);
    let destination = Destination::start(move |_| {
        let works = works_now.load(Ordering::SeqCst);
        Answer::status(if works { 200 } else { 503 })
    });
    let folder = traced(&destination, collector.address);
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    let before = collector.of_event(&id, 4);
    service.kill();
    works.store(true, Ordering::SeqCst);
    let service = folder.start();
    service.succeeded(&id);
    let spans = wait_for("the last attempt is told", || {
        let spans = collector.of_event(&id, before.len() + 1);
        let done = |span: &Span| {
            span.attributes
                .get("result")
                .is_some_and(|r| r == "succeeded")
        };
        spans.iter().any(done).then_some(spans)
    });
    let root = only(&spans, "callback default");
    for span in spans.iter().filter(|span| span.name == "deliver cms") {
        assert_eq!(span.trace, id.replace('-', ""), "{span:#?}");
        assert_eq!(span.parent, root.id, "{span:#?}");
    }
    let last = parents(&destination).pop().expect("an attempt");
    let told = spans.iter().find(|span| span.id == last.1);
    let told = told.expect("the destination was told the attempt's own span");
    assert_eq!(told.attribute("result"), "succeeded");
}

#[test]
fn a_message_of_a_queue_is_the_root_of_its_trace() {
    let collector = Collector::start();
    let emulator = mns::emulator();
    let folder = mns::folder(&emulator, "").configured(&format!(
        "[telemetry]\notlp_endpoint = \"http://{}\"\n",
        collector.address
    ));
    let _service = folder.start();
    emulator.send(mns::QUEUE, &body(1));
    let lines = mns::logged(&folder, 1);
    let id = lines[0]["event_id"].as_str().expect("an id");
    let spans = collector.of_event(id, 3);
    let root = only(&spans, "message queue");
    assert_eq!(
        (root.kind, root.parent.as_str()),
        (SpanKind::Consumer, ""),
        "{spans:#?}"
    );
    assert_eq!(root.attribute("source"), "queue");
    assert_eq!(only(&spans, "store").parent, root.id);
    assert_eq!(only(&spans, "deliver audit").parent, root.id);
    assert!(spans.iter().all(|span| span.trace == id.replace('-', "")));
}

/// Warnings about the collector.
fn complaints(service: &Service) -> Vec<String> {
    let mut log = service.log();
    log.retain(|line| line.contains("the collector takes no spans"));
    log
}

#[test]
fn a_dead_collector_costs_nothing_but_its_spans() {
    let closed = free_port();
    let address = closed.local_addr().expect("it is bound");
    drop(closed);
    let destination = Destination::start(|_| Answer::status(200));
    let folder = traced(&destination, address);
    let service = folder.start();
    for number in 0..20 {
        let (id, _) = accepted(service.ingest, &body(number));
        service.succeeded(&id);
    }
    let dropped = "ims_receiver_trace_spans_dropped_total";
    wait_for("the spans are given up", || {
        (service.metric(dropped) >= Some(60.0)).then_some(())
    });
    // The log has a thread of its own.
    wait_for("the log tells of it", || {
        (!complaints(&service).is_empty()).then_some(())
    });
    let complaints_now = complaints(&service);
    assert_eq!(complaints_now.len(), 1, "{complaints_now:#?}");
    assert!(
        complaints_now[0].contains("connection refused"),
        "{complaints_now:?}"
    );

    let listener = std::net::TcpListener::bind(address).expect("the port is still free");
    let collector = Collector::on(listener);
    let (id, _) = accepted(service.ingest, &body(100));
    assert_eq!(collector.of_event(&id, 3).len(), 3);
    wait_for("the log says so", || {
        let log = service.log();
        log.iter()
            .any(|line| line.contains("the collector takes spans again"))
            .then_some(())
    });
}

#[test]
fn a_collector_that_never_answers_holds_up_no_stop() {
    // It accepts into the kernel's queue, and nobody ever reads.
    let silent = free_port();
    let address = silent.local_addr().expect("it is bound");
    let destination = Destination::start(|_| Answer::status(200));
    let folder = traced(&destination, address);
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    let asked = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn a_stop_sends_the_last_spans() {
    let collector = Collector::start();
    let destination = Destination::start(|_| Answer::status(200));
    let folder = traced(&destination, collector.address);
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let mut spans = collector.spans();
    spans.retain(|span| span.attribute("event_id") == id);
    assert_eq!(spans.len(), 3, "{spans:#?}");
}

#[test]
fn without_traces_the_callers_own_is_passed_on_unchanged() {
    let destination = Destination::start(|_| Answer::status(200));
    let service = forwarding(&destination).start();
    let traceparent = format!("00-{CALLER}-{CALLER_SPAN}-01");
    for (number, sent, expected) in [
        (1, traceparent.as_str(), Some(traceparent.as_str())),
        (2, "no-trace-at-all", None),
    ] {
        let id = accepted_with(&service, &body(number), sent);
        service.succeeded(&id);
        let received = destination.received();
        let one = received.iter().find(|one| one.id() == id);
        assert_eq!(one.expect("it was sent").header("traceparent"), expected);
    }
    let (id, _) = accepted(service.ingest, &body(3));
    service.succeeded(&id);
    let received = destination.received();
    let one = received.iter().find(|one| one.id() == id);
    assert_eq!(one.expect("it was sent").header("traceparent"), None);
}
