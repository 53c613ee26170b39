//! Against real servers on the loopback interface.

use std::net::SocketAddr;
use std::sync::Mutex;

use axum::body::{Body, Bytes};
use axum::extract::{Request as Incoming, State};
use axum::http::{StatusCode, request};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::handler::log::Outputs;
use crate::handler::testing::{context, delivery};

mod tls;

/// What a test server got, newest last.
type Seen = Arc<Mutex<Vec<(request::Parts, Bytes)>>>;

/// A server that keeps what it gets and answers with `answer`.
async fn server<F>(answer: F) -> (SocketAddr, Seen)
where
    F: Fn() -> Response + Clone + Send + Sync + 'static,
{
    let seen = Seen::default();
    let keep = |State(seen): State<Seen>, request: Incoming| async move {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        seen.lock().unwrap().push((head, body));
        answer()
    };
    let router = axum::Router::new().fallback(keep).with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

/// A server that treats each connection by hand.
async fn by_hand<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads a request's head, and what comes with it.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.unwrap();
        assert!(count > 0, "the head was cut short");
        head.extend_from_slice(&some[..count]);
    }
    String::from_utf8(head).unwrap()
}

fn config(url: impl Into<String>) -> ForwardConfig {
    ForwardConfig {
        url: SecretString::from(url.into()),
        bearer_token: None,
        headers: Vec::new(),
        ca_file: None,
    }
}

fn handler(config: &ForwardConfig) -> ForwardHandler {
    ForwardHandler::build(config, &context(&Outputs::default())).unwrap()
}

async fn forward(config: &ForwardConfig) -> Result<Report, HandlerError> {
    forward_delivery(config, &delivery(b"{}")).await
}

async fn forward_delivery(
    config: &ForwardConfig,
    delivery: &Delivery,
) -> Result<Report, HandlerError> {
    let handler = handler(config);
    let stop = CancellationToken::new();
    let handling = handler.handle(delivery, &stop);
    tokio::time::timeout(Duration::from_secs(20), handling)
        .await
        .expect("the handler has limits of its own")
}

fn report(result: &Result<Report, HandlerError>) -> &Value {
    let report = match result {
        Ok(report) => report,
        Err(error) => &error.report,
    };
    report.0.as_ref().expect("a report is kept")
}

#[tokio::test]
async fn the_request_is_repeated_byte_for_byte_with_its_fields() {
    let (address, seen) = server(|| "thanks".into_response()).await;
    let body = b"\xef\xbb\xbf{ \"a\":\t1.0,\"\xff\": 2 }\r\n\0";
    let mut delivery = delivery(body);
    let event = Arc::make_mut(&mut delivery.event);
    event.content.head.headers = vec![
        ("content-type".into(), "text/json; charset=gbk".into()),
        ("content-encoding".into(), "identity".into()),
        ("user-agent".into(), "theirs".into()),
    ];
    let mut config = config(format!("http://{address}/hooks/media?room=7#part"));
    config.headers = vec![("X-Team".into(), "media".into())];
    config.bearer_token = Some("s3cr3t".into());

    let result = forward_delivery(&config, &delivery).await;
    assert_eq!(report(&result), &json!({"status": 200, "body": "thanks"}));
    result.unwrap();

    let seen = seen.lock().unwrap();
    let [(head, received)] = &seen[..] else {
        panic!("{} requests", seen.len());
    };
    assert_eq!(&received[..], &body[..]);
    assert_eq!(head.method, "POST");
    assert_eq!(head.uri, "/hooks/media?room=7");
    let expected = [
        ("content-type", "text/json; charset=gbk"),
        ("content-encoding", "identity"),
        ("content-length", "25"),
        ("x-ims-event-id", "019ab2f6-2a41-7000-8000-000000000001"),
        ("x-ims-event-type", "ProduceMediaComplete"),
        ("x-ims-source", "default"),
        ("x-ims-attempt", "3"),
        ("x-team", "media"),
        ("authorization", "Bearer s3cr3t"),
        ("user-agent", USER_AGENT),
    ];
    for (name, value) in expected {
        assert_eq!(head.headers[name], value, "{name}");
        assert_eq!(head.headers.get_all(name).iter().count(), 1, "{name}");
    }
}

const USER_AGENT: &str = concat!("ims-receiver/", env!("CARGO_PKG_VERSION"));

#[tokio::test]
async fn an_empty_body_has_its_length_too() {
    let (address, seen) = server(|| ().into_response()).await;
    let config = config(format!("http://{address}/"));
    forward_delivery(&config, &delivery(b"")).await.unwrap();
    let seen = seen.lock().unwrap();
    let lengths: Vec<_> = seen[0].0.headers.get_all("content-length").iter().collect();
    assert_eq!(lengths, ["0"]);
}

#[tokio::test]
async fn the_content_type_is_json_unless_something_else_was_sent_or_configured() {
    let (address, seen) = server(|| ().into_response()).await;
    let mut config = config(format!("http://{address}/"));
    forward(&config).await.unwrap();
    config.headers = vec![("Content-Type".into(), "application/ims+json".into())];
    forward(&config).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0.headers["content-type"], "application/json");
    assert_eq!(seen[1].0.headers["content-type"], "application/ims+json");
}

#[tokio::test]
async fn user_and_password_of_the_url_become_a_header_and_stay_secret() {
    let (address, seen) = server(|| ().into_response()).await;
    let config = config(format!(
        "http://rob%6ft:p%40ss%20word@{address}/?token=t0k3n"
    ));
    forward(&config).await.unwrap();
    let debug = format!("{:?} {config:?}", handler(&config));
    for secret in ["robot", "rob%6ft", "p@ss", "p%40ss", "t0k3n"] {
        assert!(!debug.contains(secret), "{debug}");
    }
    let seen = seen.lock().unwrap();
    let expected = format!("Basic {}", "cm9ib3Q6cEBzcyB3b3Jk");
    assert_eq!(seen[0].0.headers["authorization"], expected);
    assert_eq!(seen[0].0.headers["host"], address.to_string());
}

#[tokio::test]
async fn fields_with_control_characters_are_encoded_and_noted() {
    let (address, seen) = server(|| StatusCode::BAD_REQUEST.into_response()).await;
    let mut delivery = delivery(b"{}");
    let event = Arc::make_mut(&mut delivery.event);
    event.content.event_type = "a\r\nX-Evil: 1\u{0}ü".to_owned();
    event.content.head.headers = vec![("content-type".into(), "a\u{fffd}\u{7f}".into())];
    let result = forward_delivery(&config(format!("http://{address}/")), &delivery).await;
    let notes = &report(&result)["notes"];
    assert_eq!(
        notes,
        &json!([
            "content-type as received cannot be repeated",
            "x-ims-event-type was percent-encoded"
        ])
    );
    let seen = seen.lock().unwrap();
    let headers = &seen[0].0.headers;
    assert_eq!(headers["x-ims-event-type"], "a%0D%0AX-Evil:%201%00%C3%BC");
    assert_eq!(headers.get("x-evil"), None);
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn every_2xx_is_success_and_410_is_the_end() {
    for (status, expected) in [
        (200, None),
        (204, None),
        (299, None),
        (400, Some(Retry::WithBackoff)),
        (404, Some(Retry::WithBackoff)),
        (410, Some(Retry::Never)),
        (500, Some(Retry::WithBackoff)),
        (503, Some(Retry::WithBackoff)),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let (address, _) = server(move || status.into_response()).await;
        let result = forward(&config(format!("http://{address}/"))).await;
        assert_eq!(report(&result)["status"], status.as_u16());
        match expected {
            None => assert!(result.is_ok(), "{status}"),
            Some(retry) => {
                let error = result.unwrap_err();
                assert_eq!(error.retry, retry);
                let reason = format!("status {}", status.as_u16());
                assert_eq!(error.reason.as_str(), reason);
            }
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, seen_elsewhere) = server(|| ().into_response()).await;
    for status in [301, 302, 303, 307, 308] {
        let status = StatusCode::from_u16(status).unwrap();
        let location = format!("http://{elsewhere}/");
        let (address, _) =
            server(move || (status, [("location", location.clone())]).into_response()).await;
        let error = forward(&config(format!("http://{address}/")))
            .await
            .unwrap_err();
        assert_eq!(error.retry, Retry::WithBackoff);
        let reason = format!("status {} (redirects are not followed)", status.as_u16());
        assert_eq!(error.reason.as_str(), reason);
    }
    assert_eq!(seen_elsewhere.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn retry_after_is_honoured_in_both_forms_but_not_for_410() {
    for (status, value, expected) in [
        (429, "120", Retry::After(Duration::from_secs(120))),
        (
            // The tests' clock stands at 06:31:06.120.
            503,
            "Tue, 24 Nov 2026 06:32:07 GMT",
            Retry::After(Duration::from_millis(60_880)),
        ),
        (503, "gibberish", Retry::WithBackoff),
        (410, "120", Retry::Never),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = move || (status, [("retry-after", value)]).into_response();
        let (address, _) = server(answer).await;
        let error = forward(&config(format!("http://{address}/")))
            .await
            .unwrap_err();
        assert_eq!(error.retry, expected, "{status} {value}");
    }
}

#[tokio::test]
async fn an_answer_is_kept_to_one_kibibyte_with_whole_characters() {
    let body = format!("x\u{0}\u{1b}{}", "ü".repeat(2000));
    let (address, _) =
        server(move || (StatusCode::IM_A_TEAPOT, body.clone()).into_response()).await;
    let result = forward(&config(format!("http://{address}/"))).await;
    let kept = report(&result)["body"].as_str().unwrap();
    assert!(kept.len() <= 1024 && kept.len() > 1020, "{}", kept.len());
    assert!(kept.starts_with("x\u{0}\u{1b}üü") && kept.ends_with('ü'));
}

#[tokio::test]
async fn a_destination_that_echoes_our_secrets_does_not_spread_them() {
    let echo = |request: Incoming| async move {
        let said = format!("{:?} {}", request.headers(), request.uri());
        (StatusCode::BAD_GATEWAY, said)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(echo);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = config(format!("http://{address}/?key=qu3ry-s3cret"));
    config.bearer_token = Some("b34rer-s3cret".into());
    config.headers = vec![("X-Key".into(), "h34der-s3cret".into())];
    let error = forward(&config).await.unwrap_err();
    let said = format!("{:?} {}", error.report, error.reason);
    assert!(said.contains("***"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_its_status_counts() {
    let endless = || {
        let chunks = futures_util::stream::repeat_with(|| {
            Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 4096]))
        });
        Body::from_stream(chunks).into_response()
    };
    let (address, _) = server(endless).await;
    let started = Instant::now();
    let result = forward(&config(format!("http://{address}/"))).await;
    assert_eq!(report(&result)["body"], "x".repeat(1024));
    result.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "read by size, not by time"
    );
}

#[tokio::test]
async fn a_body_that_stalls_or_breaks_off_does_not_change_the_status() {
    let stalling = by_hand(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nhalf";
        stream.write_all(answer).await.unwrap();
        // Keeps the connection open until the other side leaves.
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await;
    let breaking = by_hand(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nhalf";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    for address in [stalling, breaking] {
        let result = forward(&config(format!("http://{address}/"))).await;
        assert_eq!(report(&result), &json!({"status": 201, "body": "half"}));
        result.unwrap();
    }
}

#[tokio::test]
async fn reasons_say_what_happened_and_never_the_credentials() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let reset = by_hand(|mut stream| async move {
        read_head(&mut stream).await;
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    })
    .await;
    let closed = by_hand(|mut stream| async move {
        read_head(&mut stream).await;
        stream.shutdown().await.unwrap();
    })
    .await;
    let babbling = by_hand(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"+OK ready\r\n\r\n").await.unwrap();
    })
    .await;
    // A label over 63 bytes fails in the resolver, without asking anybody.
    let unknown = format!("{}.localhost:80", "a".repeat(64));
    for (authority, expected) in [
        (
            refused.to_string(),
            format!("connection refused ({refused})"),
        ),
        (reset.to_string(), format!("connection reset ({reset})")),
        (
            closed.to_string(),
            format!("connection closed before the answer ({closed})"),
        ),
        (
            babbling.to_string(),
            format!("the answer is not HTTP ({babbling})"),
        ),
        (unknown, "dns: ".to_owned()),
    ] {
        let config = config(format!("http://us3r:p4ssw0rd@{authority}/?t0k3n=s3cret"));
        let error = forward(&config).await.unwrap_err();
        assert_eq!(error.retry, Retry::WithBackoff);
        let reason = error.reason.as_str();
        assert!(reason.starts_with(&expected), "{reason:?} for {expected:?}");
        let mut all = format!("{error:?}");
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            all.push_str(&next.to_string());
            cause = next;
        }
        for secret in ["us3r", "p4ssw0rd", "t0k3n", "s3cret"] {
            assert!(!all.contains(secret), "{all}");
        }
    }
}

#[tokio::test]
async fn a_connect_that_nobody_answers_ends_before_the_attempt() {
    // A full backlog drops further connects on the floor.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    loop {
        let connect = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(stream) => fill.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(fill.len() < 100, "the backlog never fills");
    }
    let outputs = Outputs::default();
    let context = BuildContext {
        timeout: Duration::from_millis(500),
        ..context(&outputs)
    };
    let handler = ForwardHandler::build(&config(format!("http://{address}/")), &context).unwrap();
    let error = handler
        .handle(&delivery(b"{}"), &CancellationToken::new())
        .await
        .unwrap_err();
    let expected = format!("connecting timed out after 0.5 s ({address})");
    assert_eq!(error.reason.as_str(), expected);
}

#[test]
fn what_cannot_work_is_refused_with_its_key_and_without_its_value() {
    type Change<'a> = &'a dyn Fn(&mut ForwardConfig);
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing here\n").unwrap();
    let with = |change: Change<'_>| {
        let mut config = config("https://cms.internal/");
        change(&mut config);
        let outputs = Outputs::default();
        ForwardHandler::build(&config, &context(&outputs))
            .unwrap_err()
            .to_string()
    };
    let cases: [(&str, Change<'_>); 7] = [
        ("url", &|c| c.url = "s3cret/path".into()),
        ("url", &|c| c.url = "ftp://s3cret.example/".into()),
        ("headers", &|c| {
            c.headers = vec![("X-Key".into(), "s3cret\r\nX: 1".into())];
        }),
        ("headers", &|c| {
            c.headers = vec![("X Key".into(), "s3cret".into())];
        }),
        ("bearer_token", &|c| {
            c.bearer_token = Some("s3cret\n".into())
        }),
        ("ca_file", &|c| c.ca_file = Some(empty.clone())),
        ("ca_file", &|c| {
            c.ca_file = Some(folder.path().join("none.pem"))
        }),
    ];
    for (key, change) in cases {
        let text = with(change);
        let start = format!("handlers.audit.{key}: ");
        assert!(text.starts_with(&start), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[tokio::test]
async fn connections_are_reused() {
    let connections = Arc::new(Mutex::new(0));
    let count = Arc::clone(&connections);
    let address = by_hand(move |mut stream| {
        *count.lock().unwrap() += 1;
        async move {
            loop {
                let mut some = [0; 4096];
                match stream.read(&mut some).await {
                    Ok(read) if read > 0 && some[..read].ends_with(b"{}") => {}
                    Ok(read) if read > 0 => continue,
                    _ => return,
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let handler = handler(&config(format!("http://{address}/")));
    for _ in 0..10 {
        handler
            .handle(&delivery(b"{}"), &CancellationToken::new())
            .await
            .unwrap();
    }
    assert_eq!(*connections.lock().unwrap(), 1);
}
