//! Bodies, framings and heads that are not as they should be: a clear answer
//! each, what was accepted kept byte for byte, and the next event is served.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::destination::{Answer, Destination};
use crate::harness::{Folder, PATIENCE, Post, accepted, body, exchange, output, wait_for};

/// A body, the type it is stored under, and what a note says of it.
type Odd = (&'static str, Vec<u8>, &'static str, &'static str);

fn odd_bodies() -> Vec<Odd> {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(
            r#"{{"EventType":"Deep","UserId":1,"EventTime":"t","MessageBody":{{}},"x":{open}{close}}}"#
        )
    };
    let long = format!(r#"{{"EventType":"{}"}}"#, "a".repeat(200_000));
    vec![
        ("not JSON", b"plain text".into(), "malformed", "no JSON"),
        ("empty", b"".into(), "malformed", "empty"),
        ("no object", b"[1]".into(), "malformed", "an array"),
        ("a NUL", b"{\"EventType\":\"A\0\"}".into(), "malformed", "no JSON"),
        ("invalid UTF-8", b"{\"EventType\":\"A\xff\"}".into(), "malformed", "not UTF-8"),
        ("too deep", nested(129).into(), "malformed", "deeper than 128"),
        ("cut short", b"{\"EventType\":\"A\"".into(), "malformed", "no JSON"),
        ("a long type", long.into(), "malformed", "200000 bytes long"),
        (
            "a BOM",
            b"\xef\xbb\xbf{\"EventType\":\"Bom\",\"UserId\":1,\"EventTime\":\"t\",\"MessageBody\":{}}".into(),
            "Bom",
            "byte order mark",
        ),
        (
            "a name twice",
            br#"{"EventType":"First","EventType":"Second","UserId":1,"EventTime":"t","MessageBody":{}}"#.into(),
            "Second",
            "more than once",
        ),
        (
            "UserId as text",
            br#"{"EventType":"Text","UserId":"183322","EventTime":"t","MessageBody":{}}"#.into(),
            "Text",
            "`UserId` is a string",
        ),
        (
            "no MessageBody",
            br#"{"EventType":"Bare","UserId":1,"EventTime":"t"}"#.into(),
            "Bare",
            "`MessageBody` is missing",
        ),
        (
            "MessageBody as text",
            br#"{"EventType":"Quoted","UserId":1,"EventTime":"t","MessageBody":"{}"}"#.into(),
            "Quoted",
            "`MessageBody` is a string",
        ),
    ]
}

#[test]
fn odd_bodies_are_kept_as_they_came_and_handed_over() {
    let destination = Destination::start(|_| Answer::status(200));
    let folder = Folder::new("");
    let config = folder.path("receiver.toml");
    let handlers = format!(
        "[handlers.audit]\nkind = \"log\"\noutput = \"events.log\"\n\
         [handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/\"\n",
        destination.address
    );
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, text + &handlers).expect("the configuration");
    let service = folder.start();
    for (count, (what, body, event_type, note)) in odd_bodies().into_iter().enumerate() {
        let (status, answer) = Post::of(&body).send(service.ingest).expect("an answer");
        assert_eq!(status, 200, "{what}");
        assert_eq!(answer["duplicate"], false, "{what}");
        let event = service.succeeded(answer["id"].as_str().expect("an id"));
        assert_eq!(event["type"], event_type, "{what}");
        let notes = event["notes"].to_string();
        assert!(notes.contains(note), "{what}: {notes}");
        let received = destination.received();
        assert_eq!(received.len(), count + 1, "{what}");
        assert!(received[count].body == body, "{what} was changed");
    }
    let log = std::fs::read_to_string(folder.path("events.log")).expect("the log");
    assert_eq!(log.lines().count(), odd_bodies().len(), "one line each");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).expect("each line is JSON");
    }
}

#[test]
fn numbers_of_any_size_keep_every_digit() {
    let folder = Folder::with_log();
    let service = folder.start();
    let digits = "9".repeat(400);
    let body = format!(
        r#"{{"EventType":"Huge","UserId":{digits},"EventTime":"t","MessageBody":{{"JobId":12345678901234567890.50e+400}}}}"#
    );
    let (id, _) = accepted(service.ingest, &body);
    let (_, shown) = service.get(&format!("/api/events/{id}"));
    for part in [
        &format!(r#""user_id":"{digits}""#),
        r#""job_id":"12345678901234567890.50e+400""#,
        &format!(r#""body":{body}"#),
    ] {
        assert!(shown.contains(part), "no {part} in: {shown}");
    }
    wait_for("the log has the body as it came", || {
        let log = std::fs::read_to_string(folder.path("events.log")).ok()?;
        log.contains(&body).then_some(())
    });
}

/// Sends all of it, then reads to the end of the connection.
fn talk(to: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    for part in parts {
        stream.write_all(part).expect("it is read");
    }
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    answer
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn framings_of_every_kind_are_read_or_refused() {
    let folder = Folder::with_log();
    let service = folder.start();
    let to = service.ingest;
    let event = body(1);
    let post = Post::of(&event);
    let chunked = format!("{:x}\r\n{event}\r\n0\r\n\r\n", event.len());
    let first = talk(
        to,
        &[
            post.head("Transfer-Encoding: chunked\r\n\r\n").as_bytes(),
            chunked.as_bytes(),
        ],
    );
    assert_eq!(status(&first), Some(200), "{first}");
    assert!(first.contains(r#""duplicate":false"#), "{first}");

    // The length is ignored, and what follows the last chunk is no request.
    let both = talk(
        to,
        &[
            post.head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")
                .as_bytes(),
            chunked.as_bytes(),
            &Post::of(&body(2)).bytes(),
        ],
    );
    assert_eq!(status(&both), Some(200), "{both}");
    assert!(both.contains(r#""duplicate":true"#), "{both}");
    assert_eq!(both.matches("HTTP/1.1").count(), 1, "{both}");

    for (what, lines, sent) in [
        (
            "too short",
            format!("Content-Length: {}\r\n\r\n", event.len() + 5),
            event.as_str(),
        ),
        (
            "two lengths",
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\n".into(),
            "abc",
        ),
        ("no number", "Content-Length: many\r\n\r\n".into(), "abc"),
        ("negative", "Content-Length: -3\r\n\r\n".into(), "abc"),
        (
            "no chunk",
            "Transfer-Encoding: chunked\r\n\r\n".into(),
            "zz\r\nabc",
        ),
        (
            "half a chunk",
            "Transfer-Encoding: chunked\r\n\r\n".into(),
            "5\r\nab",
        ),
    ] {
        let answer = talk(to, &[post.head(&lines).as_bytes(), sent.as_bytes()]);
        assert_eq!(status(&answer), Some(400), "{what}: {answer}");
    }
    let large = talk(
        to,
        &[post.head("Content-Length: 1048577\r\n\r\n").as_bytes()],
    );
    assert_eq!(status(&large), Some(413), "{large}");

    // None of these became an event.
    let (id, duplicate) = accepted(to, &event);
    assert!(duplicate);
    service.succeeded(&id);
    let (_, new) = accepted(to, &body(3));
    assert!(!new);
    wait_for("both events are written", || {
        (folder.logged().len() == 2).then_some(())
    });
}

#[test]
fn only_the_genuine_are_told_to_go_on() {
    let folder = Folder::with_log();
    let service = folder.start();
    let event = body(1);
    let lines = format!(
        "Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        event.len()
    );
    let genuine = Post::of(&event).head(&lines);
    let mut stream = TcpStream::connect(service.ingest).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(genuine.as_bytes()).expect("it is read");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).expect("it is answered");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(event.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    assert_eq!(status(&answer), Some(200), "{answer}");

    let forged = Post {
        key: "AnotherKeyAnotherKey",
        ..Post::of(&event)
    };
    let answer = talk(service.ingest, &[forged.head(&lines).as_bytes()]);
    assert_eq!(status(&answer), Some(401), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
}

#[test]
fn heads_that_are_too_much_are_refused() {
    let folder = Folder::with_log();
    let service = folder.start();
    let event = body(1);
    let post = Post::of(&event);
    let end = "Content-Length: 0\r\n\r\n";
    let signature = post.head("");
    let signature = signature
        .lines()
        .find(|line| line.starts_with("X-ICE-SIGNATURE"))
        .expect("it is signed");
    for (what, lines, expected) in [
        ("a second signature", format!("{signature}\r\n{end}"), 401),
        (
            "a second timestamp",
            format!("X-Ice-Timestamp: 1\r\n{end}"),
            401,
        ),
        (
            "17 KiB",
            format!("X: {}\r\n{end}", "x".repeat(17 << 10)),
            431,
        ),
        ("1 MiB", format!("X: {}\r\n{end}", "x".repeat(1 << 20)), 431),
        (
            "5,000 fields",
            format!("{}{end}", "X: y\r\n".repeat(5000)),
            431,
        ),
    ] {
        // Far too large a head breaks the connection while it is written.
        let mut stream = TcpStream::connect(service.ingest).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let _ = stream.write_all(post.head(&lines).as_bytes());
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("it is answered");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status(&format!("{answer} ")), Some(expected), "{what}");
    }
    assert!(folder.logged().is_empty());
    assert!(!accepted(service.ingest, &event).1);
}

#[test]
fn slow_bytes_end_at_the_deadlines() {
    let folder = Folder::with_log()
        .set("server.head_deadline", "500ms")
        .set("server.ack_deadline", "500ms");
    let service = folder.start();
    let started = Instant::now();
    let late = Post::of("").head("Content-Length: 10\r\n\r\n12345");
    let (code, _) = exchange(service.ingest, late.as_bytes()).expect("an answer");
    assert_eq!(code, 408);

    // A byte now and then does not put the head off.
    let mut dribble = TcpStream::connect(service.ingest).expect("a connection");
    let mut sent = 0;
    for byte in Post::of("").head("").as_bytes() {
        if dribble.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(sent < 100, "{sent} bytes of a head were waited for");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!accepted(service.ingest, &body(1)).1);
}

/// One file with a mistake of every kind: each is named, by `check` and by
/// `serve`.
#[test]
fn every_kind_of_mistake_in_a_configuration_is_named_at_once() {
    let folder = Folder::new(
        r#"
[handlers.misspelt]
kind = "log"
timout = "5s"
[handlers.mistyped]
kind = "forward"
url = 5
[handlers.missing]
kind = "forward"
[handlers.contradictory]
kind = "forward"
url = "http://127.0.0.1:1/"
url_file = "url"
[handlers.out-of-range]
kind = "log"
concurrency = 0
"#,
    )
    .set("server.ack_deadline", "4s");
    let check = output(folder.command().arg("check"));
    let serve = output(folder.command().arg("serve"));
    for (code, stdout, stderr) in [check, serve] {
        let said = format!("{stdout}{stderr}");
        assert_eq!(code, 64, "{said}");
        for key in [
            "handlers.misspelt.timout",
            "handlers.mistyped.url",
            "handlers.missing.url",
            "handlers.contradictory.url",
            "handlers.out-of-range.concurrency",
            "server.ack_deadline",
        ] {
            let start = format!("{key}: ");
            let named = said.lines().filter(|line| line.starts_with(&start));
            assert_eq!(named.count(), 1, "{key} in: {said}");
        }
    }
    assert!(!folder.path("data").exists(), "nothing was made");
}
