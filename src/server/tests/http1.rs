//! The table of the callback endpoint, over HTTP/1.1.

use std::time::Duration;

use super::harness::{FakeStore, Mode, SIGNED, Server, signed};
use crate::server::Unready;

const EVENT: &str = r#"{"EventType":"ProduceMediaComplete"}"#;

/// A signed head for /ims with these further lines.
fn head(lines: &str) -> String {
    format!("POST /ims HTTP/1.1\r\nHost: x\r\n{SIGNED}{lines}\r\n")
}

#[tokio::test]
async fn an_authentic_event_is_answered_after_it_is_stored() {
    let server = Server::start().await;
    let answer = server.exchange(signed(EVENT)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let id = "00000000-0000-0000-0000-000000000001";
    assert_eq!(answer.body, format!(r#"{{"id":"{id}","duplicate":false}}"#));
    assert_eq!(&server.store.last().body[..], EVENT.as_bytes());

    let again = server.exchange(signed(EVENT)).await;
    assert_eq!(again.body, format!(r#"{{"id":"{id}","duplicate":true}}"#));
    assert_eq!(server.store.stored(), 1);
}

#[tokio::test]
async fn what_is_no_event_is_stored_as_it_came() {
    let server = Server::start().await;
    for (count, body) in ["", "no json", r#"{"EventType":"New"}"#, "\0"]
        .iter()
        .enumerate()
    {
        assert_eq!(server.exchange(signed(body)).await.status, 200, "{body:?}");
        assert_eq!(server.store.stored(), count + 1);
    }
}

#[tokio::test]
async fn the_path_is_compared_byte_for_byte() {
    let server = Server::start().await;
    for target in [
        "/",
        "/ims/",
        "//ims",
        "/IMS",
        "/%69ms",
        "/ims/../ims",
        "/other",
    ] {
        let request = format!("POST {target} HTTP/1.1\r\nHost: x\r\n{SIGNED}\r\n");
        server.exchange(request).await.is_problem(404);
    }
    let request = format!("POST /ims?a=%20b&a HTTP/1.1\r\nHost: x\r\n{SIGNED}\r\n");
    assert_eq!(server.exchange(request).await.status, 200);
    assert_eq!(server.store.last().head.query.as_deref(), Some("a=%20b&a"));
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let server = Server::start().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "post"] {
        let answer = server
            .exchange(format!("{method} /ims HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        answer.is_problem(405);
        assert_eq!(answer.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn the_peer_is_judged_before_the_signature() {
    let server = Server::with(|setup| {
        setup.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        setup.sources[0].allow_from = Some(vec!["203.0.113.0/24".parse().unwrap()]);
    })
    .await;
    for (line, status) in [
        ("", 403),
        ("X-Forwarded-For: 198.51.100.1\r\n", 403),
        ("X-Forwarded-For: 203.0.113.7, unknown\r\n", 403),
        (
            "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7\r\n",
            200,
        ),
        ("X-Forwarded-For: ::ffff:203.0.113.7\r\n", 200),
    ] {
        let answer = server.exchange(head(line)).await;
        assert_eq!(answer.status, status, "{line}");
    }
    let forged = "POST /ims HTTP/1.1\r\nHost: x\r\n\r\n";
    server.exchange(forged).await.is_problem(403);
    let refusals = r#"ims_receiver_refusals_total{source="default",reason="peer"}"#;
    assert_eq!(server.metric(refusals), Some(4.0));
    assert_eq!(
        server.store.last().head.peer,
        Some("203.0.113.7".parse().unwrap())
    );
}

#[tokio::test]
async fn every_wrong_signature_is_401_without_a_reason() {
    let server = Server::start().await;
    let time = "X-ICE-TIMESTAMP: 1519375990\r\n";
    let sign = "X-ICE-SIGNATURE: c72b60894140fa98920f1279219b7ed4\r\n";
    for (lines, reason) in [
        (String::new(), "missing"),
        (time.to_owned(), "missing"),
        (sign.to_owned(), "missing"),
        (format!("{time}{sign}{sign}"), "repeated_header"),
        (format!("{time}{time}{sign}"), "repeated_header"),
        (format!("{time}X-ICE-SIGNATURE: 00\r\n"), "mismatch"),
        (format!("X-ICE-TIMESTAMP: now\r\n{sign}"), "mismatch"),
    ] {
        let series =
            format!(r#"ims_receiver_refusals_total{{source="default",reason="{reason}"}}"#);
        let before = server.metric(&series).unwrap();
        let request = format!("POST /ims HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        let answer = server.exchange(request).await;
        answer.is_problem(401);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(server.metric(&series), Some(before + 1.0), "{reason}");
    }
    assert_eq!(server.store.stored(), 0);
}

#[tokio::test]
async fn a_refusal_waits_for_no_byte_of_the_body() {
    let server = Server::start().await;
    for lines in [
        "Content-Length: 10000000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 10\r\nExpect: 100-continue\r\n",
    ] {
        let mut client = server.connect().await;
        client
            .send(format!("POST /ims HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
            .await;
        let answer = client.answer().await;
        answer.is_problem(401);
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

/// A plain client writes all of its body before it reads; a socket closed
/// under it would cost it the answer.
#[tokio::test]
async fn a_refused_client_may_go_on_writing_for_a_while() {
    let server = Server::start().await;
    for path in ["/ims", "/nowhere"] {
        let mut client = server.connect().await;
        let length = 200 * 1024;
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).await;
        let answer = client.answer().await;
        assert!(matches!(answer.status, 401 | 404), "{answer:?}");
        for _ in 0..100 {
            assert!(client.try_send(&[b'x'; 2048]).await, "no broken pipe");
            tokio::task::yield_now().await;
        }
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_its_answer() {
    let server = Server::start().await;
    server.store.set(Mode::Hang);
    let mut clients = Vec::new();
    for number in 0..50 {
        let mut client = server.connect().await;
        client.send(signed(&format!("event {number}"))).await;
        client.finish_writing().await;
        clients.push(client);
        let stored = move |store: &FakeStore| store.hangs() == number + 1;
        server.store.until(stored).await;
    }
    server.store.release();
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn what_is_thrown_away_is_bounded() {
    let server = Server::start().await;
    let mut silent = server.connect().await;
    silent
        .send("POST /ims HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        .await;
    silent.answer().await.is_problem(401);
    let waited = silent.silent_until_closed().await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn expect_100_continue_is_answered_for_the_genuine() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send(head("Content-Length: 2\r\nExpect: 100-continue\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send("{}").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn bodies_over_the_limit_are_413() {
    let server = Server::with(|setup| setup.server.body_bytes_max = 1000).await;
    let mut announced = server.connect().await;
    announced.send(head("Content-Length: 1001\r\n")).await;
    let answer = announced.answer().await;
    answer.is_problem(413);
    assert_eq!(answer.header("connection"), Some("close"));

    let mut real = server.connect().await;
    real.send(head("Transfer-Encoding: chunked\r\n")).await;
    real.send(format!("3e9\r\n{}", "x".repeat(1001))).await;
    real.answer().await.is_problem(413);

    assert_eq!(server.exchange(signed(&"x".repeat(1000))).await.status, 200);
    assert_eq!(server.store.stored(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let server = Server::with(|setup| setup.server.ack_deadline = Duration::from_millis(200)).await;
    let mut client = server.connect().await;
    client.send(head("Content-Length: 10\r\n")).await;
    client.send("12345").await;
    let answer = client.answer().await;
    answer.is_problem(408);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(server.store.stored(), 0);
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_not_stored() {
    let server = Server::start().await;
    for (lines, part) in [
        ("Content-Length: 10\r\n", "12345"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n12345\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n12345\r\nzz\r\n"),
    ] {
        let mut client = server.connect().await;
        client.send(head(lines)).await;
        client.send(part).await;
        client.finish_writing().await;
        client.answer().await.is_problem(400);
    }
    assert_eq!(server.store.stored(), 0);
}

#[tokio::test]
async fn a_store_that_fails_is_full_or_hangs_is_503() {
    let server = Server::with(|setup| setup.server.ack_deadline = Duration::from_millis(200)).await;
    for mode in [Mode::Fail, Mode::Full, Mode::Hang] {
        server.store.set(mode);
        let answer = server.exchange(signed(EVENT)).await;
        answer.is_problem(503);
        assert_eq!(answer.header("retry-after"), Some("1"), "{mode:?}");
    }
    // What hung was queued all the same; its repeat is a duplicate.
    server.store.set(Mode::Work);
    server.store.release();
    let repeat = server.exchange(signed(EVENT)).await;
    assert!(repeat.body.contains(r#""duplicate":true"#), "{repeat:?}");
}

#[tokio::test]
async fn bodies_in_flight_are_counted_together_until_the_store_answers() {
    let server = Server::with(|setup| {
        setup.server.body_bytes_in_flight_max = 1000;
        setup.server.ack_deadline = Duration::from_millis(300);
    })
    .await;
    server.store.set(Mode::Hang);
    server
        .exchange(signed(&"a".repeat(600)))
        .await
        .is_problem(503);
    server.store.set(Mode::Work);
    let answer = server.exchange(signed(&"b".repeat(600))).await;
    answer.is_problem(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(server.exchange(signed(&"c".repeat(300))).await.status, 200);

    server.store.release();
    let mut client = server.connect().await;
    let answered = async {
        loop {
            client.send(signed(&"b".repeat(600))).await;
            let answer = client.answer().await;
            if answer.status == 200 {
                break;
            }
            client = server.connect().await;
        }
    };
    let in_time = tokio::time::timeout(super::harness::PATIENCE, answered).await;
    in_time.expect("the share is given back");
}

#[tokio::test]
async fn a_length_beside_a_transfer_encoding_is_ignored() {
    let server = Server::start().await;
    let (chunked, length) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n");
    for (count, lines) in [format!("{chunked}{length}"), format!("{length}{chunked}")]
        .iter()
        .enumerate()
    {
        let mut client = server.connect().await;
        let body = format!("body number {count}");
        let bytes = body.len();
        client.send(head(lines)).await;
        client
            .send(format!("{bytes:x}\r\n{body}\r\n0\r\n\r\n"))
            .await;
        client.send(signed("smuggled")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{lines}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(&server.store.last().body[..], body.as_bytes());
        assert!(client.rest().await.is_empty(), "closed after the answer");
        assert_eq!(server.store.stored(), count + 1);
    }
    let two = head("Content-Length: 3\r\nContent-Length: 4\r\n");
    assert_eq!(server.exchange(two).await.status, 400);
}

/// Whatever a proxy in front could take for another length than we do.
#[tokio::test]
async fn an_ambiguous_length_is_refused_and_nothing_after_it_is_read() {
    let server = Server::start().await;
    for lines in [
        "Content-Length : 2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "X: y\r\n Content-Length: 2\r\n",
        "X: y\rContent-Length: 2\r\n",
        "X: \0\r\nContent-Length: 2\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
    ] {
        let mut client = server.connect().await;
        client
            .send(head(lines) + "0\r\n\r\n" + &signed("smuggled"))
            .await;
        assert_eq!(client.answer().await.status, 400, "{lines:?}");
        assert!(client.rest().await.is_empty(), "{lines:?}");
    }
    let old = head("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(server.exchange(old).await.status, 400);
    assert_eq!(server.store.stored(), 0);
}

#[tokio::test]
async fn large_heads_are_431() {
    let server = Server::start().await;
    let answer = server
        .exchange(head(&format!("X: {}\r\n", "x".repeat(17 * 1024))))
        .await;
    answer.is_problem(431);
    let fits = head(&format!("X: {}\r\n", "x".repeat(15 * 1024)));
    assert_eq!(server.exchange(fits).await.status, 200);

    let mut far = server.connect().await;
    far.send(head(&format!("X: {}\r\n", "x".repeat(100 * 1024))))
        .await;
    assert_eq!(far.answer().await.status, 431);
    let mut many = server.connect().await;
    many.send(head(&"X: y\r\n".repeat(101))).await;
    assert_eq!(many.answer().await.status, 431);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for count in 1..=20 {
        client.send(signed(&format!("event {count}"))).await;
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(server.store.stored(), count);
    }
    client
        .send(signed("pipelined 1") + &signed("pipelined 2"))
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(server.store.stored(), 22);
}

#[tokio::test]
async fn slow_bytes_within_the_deadlines_are_a_request() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for byte in signed(EVENT).as_bytes() {
        client.send([*byte]).await;
    }
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_after_the_last_byte_change_nothing() {
    let server = Server::start().await;
    server.store.set(Mode::Hang);
    for number in 0..200 {
        let mut client = server.connect().await;
        client.send(signed(&format!("event {number}"))).await;
        drop(client);
    }
    server.store.until(|store| store.hangs() == 200).await;
    server.store.release();
    server.store.until(|store| store.stored() == 200).await;
    let events = r#"ims_receiver_events_total{source="default",type="malformed""#;
    let counted = async {
        while server.metric(events) != Some(200.0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::harness::PATIENCE, counted)
        .await
        .expect("counted");
}

#[tokio::test]
async fn the_health_path_says_whether_it_is_ready() {
    let server = Server::start().await;
    let get = |method: &str| {
        format!("{method} /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    };
    assert_eq!(server.exchange(get("GET")).await.status, 200);
    let mut head = server.connect().await;
    head.send(get("HEAD")).await;
    assert!(head.rest().await.starts_with(b"HTTP/1.1 200 "));
    let answer = server.exchange(get("POST")).await;
    answer.is_problem(405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));

    server.store.set(Mode::Fail);
    server.exchange(get("GET")).await.is_problem(503);
    server.store.set(Mode::Work);
    server.readiness.set(Unready::Stopping);
    server.exchange(get("GET")).await.is_problem(503);
    assert_eq!(
        server.exchange(signed(EVENT)).await.status,
        200,
        "still accepted"
    );
}

#[tokio::test]
async fn requests_are_counted_by_source_and_status() {
    let server = Server::start().await;
    let zero = r#"ims_receiver_requests_total{source="default",status="401"}"#;
    assert_eq!(server.metric(zero), Some(0.0), "zeros are visible");
    server.exchange(signed(EVENT)).await;
    server.exchange(signed(EVENT)).await;
    server.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    for (series, value) in [
        (r#"requests_total{source="default",status="200"}"#, 2.0),
        (r#"requests_total{source="",status="404"}"#, 1.0),
        (r#"ack_seconds_count{source="default"}"#, 2.0),
        (
            r#"events_total{source="default",type="ProduceMediaComplete",outcome="other"}"#,
            1.0,
        ),
        (r#"duplicates_total{source="default"}"#, 1.0),
        (r#"authentic_total{source="default",key="1"}"#, 2.0),
        (r#"timestamp_skew_seconds{source="default"}"#, 0.0),
        (
            r#"last_event_timestamp_seconds{source="default"}"#,
            1_519_375_990.0,
        ),
    ] {
        let found = server.metric(&format!("ims_receiver_{series}"));
        assert_eq!(found, Some(value), "{series}");
    }
}
