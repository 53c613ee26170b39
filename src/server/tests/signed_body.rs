//! A scheme that signs the body: what is refused before it, and what after.

use std::time::Duration;

use axum::http::HeaderName;

use super::harness::{Mode, NOW, Server};
use crate::ingest::SourceConfig;
use crate::request::SourceName;
use crate::signature::SchemeConfig;
use crate::signature::hmac_sha256::{Encoding, HmacConfig, sign};

const EVENT: &str = r#"{"EventType":"ProduceMediaComplete"}"#;
const KEY: &str = "relay-key";

async fn start() -> Server {
    Server::with(|setup| {
        setup.server.body_bytes_max = 100;
        setup.server.ack_deadline = Duration::from_millis(300);
        setup.sources.push(SourceConfig {
            name: SourceName::new("relay").unwrap(),
            path: "/relay".to_owned(),
            auth: SchemeConfig::HmacSha256(HmacConfig {
                keys: vec!["newer".into(), KEY.into()],
                header: HeaderName::from_static("x-signature"),
                prefix: "sha256=".to_owned(),
                encoding: Encoding::Hex,
                timestamp_header: Some(HeaderName::from_static("x-timestamp")),
                tolerance: Duration::from_secs(300),
            }),
            allow_from: None,
            keys_file: None,
        });
    })
    .await
}

/// The lines that sign `body`, sent so many seconds ago.
fn lines(body: &str, ago: i64) -> String {
    let time = (NOW - ago).to_string();
    let signature = sign(KEY, Some(&time), body.as_bytes(), Encoding::Hex);
    format!("X-Timestamp: {time}\r\nX-Signature: sha256={signature}\r\n")
}

fn post(lines: &str, length: usize, body: &str) -> String {
    format!("POST /relay HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_signed_body_is_stored_and_the_key_counted() {
    let server = start().await;
    let answer = server
        .exchange(post(&lines(EVENT, 7), EVENT.len(), EVENT))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let verified = server.store.last().verified;
    assert_eq!(
        serde_json::to_string(&verified).unwrap(),
        r#"{"scheme":"hmac_sha256","key":2}"#
    );
    let key = |key| format!(r#"ims_receiver_authentic_total{{source="relay",key="{key}"}}"#);
    assert_eq!(server.metric(&key(1)), Some(0.0));
    assert_eq!(server.metric(&key(2)), Some(1.0));
    let skew = r#"ims_receiver_timestamp_skew_seconds{source="relay"}"#;
    assert_eq!(server.metric(skew), Some(7.0));
}

#[tokio::test]
async fn chunks_are_signed_as_the_body_they_make() {
    let server = start().await;
    let (one, two) = EVENT.split_at(10);
    let request = format!(
        "POST /relay HTTP/1.1\r\nHost: x\r\n{}Transfer-Encoding: chunked\r\n\r\n\
         a\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        lines(EVENT, 0),
        two.len()
    );
    assert_eq!(server.exchange(request).await.status, 200);
    assert_eq!(&server.store.last().body[..], EVENT.as_bytes());
}

#[tokio::test]
async fn what_the_head_gives_away_is_refused_without_a_byte_of_the_body() {
    let server = start().await;
    let right = lines(EVENT, 0);
    let (time, signature) = right.split_once("\r\n").unwrap();
    for (lines, reason) in [
        (String::new(), "missing"),
        (signature.to_owned(), "missing"),
        (format!("{time}\r\n"), "missing"),
        (format!("{right}{signature}"), "repeated_header"),
        (format!("{right}{time}\r\n"), "repeated_header"),
        (self::lines(EVENT, 301), "stale"),
        (self::lines(EVENT, -301), "future"),
    ] {
        let series = format!(r#"ims_receiver_refusals_total{{source="relay",reason="{reason}"}}"#);
        let before = server.metric(&series).unwrap();
        // Announced larger than it may be: the signature comes first.
        server
            .exchange(post(&lines, 1000, ""))
            .await
            .is_problem(401);
        assert_eq!(server.metric(&series), Some(before + 1.0), "{lines}");
    }
    assert_eq!(server.store.stored(), 0);
}

#[tokio::test]
async fn a_mismatch_is_said_after_all_else_that_is_wrong_with_a_body() {
    let server = start().await;
    let forged = lines("another body", 0);
    let unreadable = format!("X-Timestamp: {NOW}\r\nX-Signature: sha256=xyz\r\n");
    let no_number = forged.replace(&NOW.to_string(), "soon");
    for lines in [&forged, &unreadable, &no_number] {
        server.exchange(post(lines, 1000, "")).await.is_problem(413);
        server.exchange(post(lines, 36, "{")).await.is_problem(408);
        let answer = server.exchange(post(lines, EVENT.len(), EVENT)).await;
        answer.is_problem(401);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let series = r#"ims_receiver_refusals_total{source="relay",reason="mismatch"}"#;
    assert_eq!(server.metric(series), Some(3.0));
    assert_eq!(server.store.stored(), 0);
    let acks = r#"ims_receiver_ack_seconds_count{source="relay"}"#;
    assert_eq!(server.metric(acks), Some(0.0), "nobody was verified");
}

#[tokio::test]
async fn bodies_in_flight_come_before_a_mismatch_and_the_store_after_it() {
    let server = Server::with(|setup| {
        setup.server.body_bytes_in_flight_max = 10;
        setup.sources.truncate(1);
        setup.sources[0].auth = SchemeConfig::HmacSha256(HmacConfig {
            keys: vec![KEY.into()],
            header: HeaderName::from_static("x-signature"),
            prefix: String::new(),
            encoding: Encoding::Base64,
            timestamp_header: None,
            tolerance: Duration::from_secs(300),
        });
    })
    .await;
    let post = |signature: &str, body: &str| {
        format!(
            "POST /ims HTTP/1.1\r\nHost: x\r\nX-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    server.exchange(post("wrong", EVENT)).await.is_problem(503);
    server.store.set(Mode::Fail);
    server.exchange(post("wrong", "{}")).await.is_problem(401);
    let right = sign(KEY, None, b"{}", Encoding::Base64);
    server.exchange(post(&right, "{}")).await.is_problem(503);
}

#[tokio::test]
async fn a_stranger_with_half_a_body_is_the_one_that_makes_room() {
    let server = Server::with(|setup| {
        setup.server.connections_max = 1;
        setup.server.ack_deadline = Duration::from_secs(60);
        setup.sources[0].auth = SchemeConfig::HmacSha256(HmacConfig {
            keys: vec![KEY.into()],
            header: HeaderName::from_static("x-signature"),
            prefix: String::new(),
            encoding: Encoding::Hex,
            timestamp_header: None,
            tolerance: Duration::from_secs(300),
        });
    })
    .await;
    let mut stranger = server.connect().await;
    let head = "POST /ims HTTP/1.1\r\nHost: x\r\nX-Signature: 00\r\nContent-Length: 9\r\n\r\n{";
    stranger.send(head).await;
    let signature = sign(KEY, None, EVENT.as_bytes(), Encoding::Hex);
    let genuine = format!(
        "POST /ims HTTP/1.1\r\nHost: x\r\nX-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{EVENT}",
        EVENT.len()
    );
    assert_eq!(server.exchange(genuine).await.status, 200);
    assert!(!stranger.hears_something().await, "it was closed");
}
