use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::extract::{Request as Incoming, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use super::*;
use crate::clock::ManualClock;

/// Every request that a test's receiver got.
type Seen = Arc<Mutex<Vec<(Instant, HeaderMap, Bytes)>>>;

/// A receiver that answers its requests in turn by `answers`, the last one
/// for all that follow; `None` never answers.
async fn receiver(answers: &'static [Option<u16>]) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let keep = move |State(seen): State<Seen>, request: Incoming| async move {
        let arrived = Instant::now();
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push((arrived, head.headers, body));
            seen.len() - 1
        };
        let answer = answers.get(number).or(answers.last()).copied().flatten();
        match answer {
            Some(200) => r#"{"id":"1","duplicate":false}"#.into_response(),
            Some(status) => StatusCode::from_u16(status).unwrap().into_response(),
            None => std::future::pending::<Response>().await,
        }
    };
    let router = axum::Router::new().fallback(keep).with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

/// A clock that moves on by a second whenever it is asked.
#[derive(Debug)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn now(&self) -> jiff::Timestamp {
        let now = self.0.now();
        self.0.advance(Duration::from_secs(1));
        now
    }
}

/// The tests' rule: the same shape, ten times as fast.
const RULE: SenderRule = SenderRule {
    try_timeout: Duration::from_millis(300),
    pause: Duration::from_millis(100),
};

fn sender(address: SocketAddr) -> Sender {
    let start = jiff::Timestamp::from_second(1_519_375_990).unwrap();
    Sender::new(SenderConfig {
        target: format!("http://{address}/ims/callback"),
        callback_url: Some("https://www.example.com/your/callback".to_owned()),
        key: Some("test123".into()),
        ca_file: None,
        rule: RULE,
        clock: Arc::new(Ticking(ManualClock::new(start))),
    })
    .unwrap()
}

#[test]
fn the_rule_is_that_of_ims() {
    let rule = SenderRule::default();
    assert_eq!(TRIES, 3);
    assert_eq!(rule.try_timeout, Duration::from_secs(3));
    assert_eq!(rule.pause, Duration::from_secs(1));
}

#[tokio::test]
async fn only_200_counts_and_each_try_is_signed_anew() {
    let (address, seen) = receiver(&[Some(204), Some(503), Some(200)]).await;
    let outcome = sender(address).send_one(Bytes::from_static(b"{}")).await;
    assert!(outcome.acked);
    assert_eq!(outcome.tries(), 3);
    assert_eq!(
        outcome.failures,
        [
            TryFailure::Status(StatusCode::NO_CONTENT),
            TryFailure::Status(StatusCode::SERVICE_UNAVAILABLE)
        ]
    );
    assert_eq!(&outcome.answer[..], br#"{"id":"1","duplicate":false}"#);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    let first = &seen[0].1;
    assert_eq!(first["x-ice-timestamp"], "1519375990");
    assert_eq!(first["x-ice-signature"], "c72b60894140fa98920f1279219b7ed4");
    for (number, (_, headers, body)) in seen.iter().enumerate() {
        assert_eq!(&body[..], b"{}");
        let timestamp = (1_519_375_990 + number).to_string();
        assert_eq!(headers["x-ice-timestamp"], timestamp);
    }
    let signatures: HashSet<_> = seen.iter().map(|(_, h, _)| &h["x-ice-signature"]).collect();
    assert_eq!(signatures.len(), 3);
    for pair in seen.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= RULE.pause);
    }
}

#[tokio::test]
async fn after_three_tries_of_full_length_the_event_is_lost() {
    let (address, seen) = receiver(&[None]).await;
    let started = Instant::now();
    let outcome = sender(address).send_one(Bytes::from_static(b"{}")).await;
    assert!(!outcome.acked);
    assert_eq!(outcome.failures, vec![TryFailure::TimedOut; 3]);
    assert!(started.elapsed() >= 3 * RULE.try_timeout + 2 * RULE.pause);
    let seen = seen.lock().unwrap();
    for pair in seen.windows(2) {
        // The pause begins where the failed try ended.
        assert!(pair[1].0 - pair[0].0 >= RULE.try_timeout);
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_a_failure_with_its_reason() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let outcome = sender(address).send_one(Bytes::from_static(b"{}")).await;
    let refused = TryFailure::Unreachable(format!("connection refused ({address})"));
    assert_eq!(outcome.failures, vec![refused; 3]);
}

#[tokio::test]
async fn without_a_key_nothing_is_signed() {
    let (address, seen) = receiver(&[Some(200)]).await;
    let sender = Sender::new(SenderConfig {
        target: format!("http://{address}/"),
        callback_url: None,
        key: None,
        ca_file: None,
        rule: RULE,
        clock: Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
    })
    .unwrap();
    assert!(sender.send_one(Bytes::new()).await.acked);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1.get("x-ice-signature"), None);
    assert_eq!(seen[0].1.get("x-ice-timestamp"), None);
}

#[tokio::test]
async fn many_are_counted_by_try_and_each_sample_is_another_event() {
    let (address, seen) = receiver(&[Some(500), Some(500), Some(200)]).await;
    let load = Load {
        count: Some(50),
        rate: None,
        concurrency: 2,
    };
    let bodies = Bodies::of_all_types();
    let mut ended = 0;
    let stop = CancellationToken::new();
    let summary = sender(address)
        .send_many(load, &bodies, &stop, |_| ended += 1)
        .await;
    assert_eq!(ended, 50);
    assert_eq!((summary.acked(), summary.lost, summary.sent()), (50, 0, 50));
    assert_eq!(summary.acked_by_try[0] + summary.acked_by_try[1], 50);
    assert_eq!(summary.failures.get("status 500"), Some(&2));
    let text = summary.to_string();
    assert!(text.starts_with("acked 50 (first try 4"), "{text}");
    let seen = seen.lock().unwrap();
    let distinct: HashSet<_> = seen.iter().map(|(_, _, body)| body).collect();
    assert_eq!(distinct.len(), 50, "repeats carry the same body");
}

#[tokio::test]
async fn a_rate_is_kept_by_the_clock_and_concurrency_bounds_it() {
    let (address, _) = receiver(&[Some(200)]).await;
    let load = Load {
        count: Some(40),
        rate: Some(200.0),
        concurrency: 64,
    };
    let stop = CancellationToken::new();
    let bodies = Bodies::Fixed(Bytes::from_static(b"{}"));
    let summary = sender(address)
        .send_many(load, &bodies, &stop, |_| {})
        .await;
    assert_eq!(summary.acked(), 40);
    assert!(
        summary.elapsed >= Duration::from_millis(195),
        "{:?}",
        summary.elapsed
    );

    let (silent, seen) = receiver(&[None]).await;
    let load = Load {
        count: Some(4),
        rate: Some(1000.0),
        concurrency: 2,
    };
    let summary = sender(silent).send_many(load, &bodies, &stop, |_| {}).await;
    assert_eq!(summary.lost, 4);
    assert_eq!(seen.lock().unwrap().len(), 12);
    let one_event = 3 * RULE.try_timeout + 2 * RULE.pause;
    assert!(summary.elapsed >= 2 * one_event, "two at a time");
    assert!(summary.behind >= one_event);
}

#[tokio::test]
async fn a_stop_ends_an_endless_load_after_those_under_way() {
    let (address, seen) = receiver(&[Some(200)]).await;
    let load = Load {
        count: None,
        rate: None,
        concurrency: 4,
    };
    let stop = CancellationToken::new();
    let bodies = Bodies::Fixed(Bytes::from_static(b"{}"));
    let mut ended = 0;
    let summary = sender(address)
        .send_many(load, &bodies, &stop, |_| {
            ended += 1;
            if ended == 20 {
                stop.cancel();
            }
        })
        .await;
    assert_eq!(summary.acked(), seen.lock().unwrap().len() as u64);
    assert!((20..=24).contains(&summary.acked()), "{}", summary.acked());
}

#[test]
fn a_target_that_is_no_web_address_is_refused() {
    for target in [
        "127.0.0.1:8080/x",
        "localhost:1",
        "ftp://x/",
        "",
        "/ims/callback",
    ] {
        let config = SenderConfig {
            target: target.to_owned(),
            callback_url: None,
            key: None,
            ca_file: None,
            rule: RULE,
            clock: Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
        };
        let refused = Sender::new(config);
        assert!(matches!(refused, Err(SenderError::Target)), "{target}");
    }
}
