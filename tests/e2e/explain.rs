//! `explain`, beside a running service that gets the same bytes.

use std::io::Write as _;
use std::process::Stdio;

use ims_receiver::signature::hmac_sha256::{self, Encoding};
use ims_receiver::signature::ims::sign;

use crate::harness::{Folder, KEY, URL, body, exchange, output, signed};

const RELAY_KEY: &str = "RelayKey001RelayKey001";

/// Two sources, and handlers that want different things.
fn folder() -> Folder {
    let folder = Folder::new(&format!(
        r#"
[sources.relay]
kind = "http"
path = "/relay"
auth = {{ scheme = "hmac_sha256", keys = ["{RELAY_KEY}"], header = "X-Signature", timestamp_header = "X-Sent" }}
allow_from = ["192.0.2.0/24"]
[handlers.audit]
kind = "log"
[handlers.types]
kind = "log"
events = ["MediaConvert*"]
[handlers.sources]
kind = "log"
sources = ["relay"]
[handlers.outcomes]
kind = "log"
outcome = ["failed"]
"#
    ));
    let path = folder.path("receiver.toml");
    let config = std::fs::read_to_string(&path).expect("the configuration");
    let server = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nbody_bytes_max = 1000\n";
    std::fs::write(&path, config.replace("[server]\n", server)).expect("a file");
    folder
}

/// The exit code, and what was printed.
fn explain(folder: &Folder, source: &str, capture: &[u8], at: &str) -> (i32, String) {
    let file = folder.path("capture.http");
    std::fs::write(&file, capture).expect("a file");
    let mut command = folder.command();
    command.args(["explain", "--source", source, "--at", at]);
    let (code, stdout, stderr) = output(command.arg("--request").arg(file));
    assert_eq!(stderr, "", "{stdout}");
    (code, stdout)
}

/// The text of the first line with this label.
fn line<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let mut lines = text.lines();
    lines.find_map(|line| Some(line.strip_prefix(label)?.strip_prefix(' ')?.trim()))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("ASCII")
}

fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    since.as_secs()
}

/// A head and a body for the relay, signed at `time`.
fn relayed(body: &str, time: u64, further: &str) -> String {
    let time = time.to_string();
    let signature = hmac_sha256::sign(RELAY_KEY, Some(&time), body.as_bytes(), Encoding::Hex);
    format!(
        "POST /relay HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Sent: {time}\r\n\
         X-Signature: {signature}\r\n{further}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The same request in chunks.
fn in_chunks(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").expect("a blank line");
    let (head, _) = head.rsplit_once("\r\n").expect("the length is last");
    let (one, two) = body.split_at(body.len() / 3);
    format!(
        "{head}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x};x=y\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    )
}

#[test]
fn an_accepted_request_is_told_with_every_handler() {
    let folder = folder();
    let (code, said) = explain(&folder, "default", &signed(&body(7)), "now");
    assert_eq!(code, 0, "{said}");
    for (label, words) in [
        ("source", "default"),
        ("request", "POST /ims/callback, 6 header fields, "),
        ("judged at", "(now)"),
        (
            "signature",
            "authentic, by key 1 of 1 and URL 1, https://callbacks",
        ),
        ("type", "ProduceMediaComplete"),
        ("event time", "2026-11-24T08:48:14Z"),
        ("user id", "1833220977561234"),
        ("media id", "media-7"),
        ("job id", "job-7"),
        ("outcome", "succeeded"),
        ("answer", "200"),
    ] {
        let found = line(&said, label).unwrap_or_else(|| panic!("no {label}: {said}"));
        assert!(found.contains(words), "{label}: {found}");
    }
    let handlers: Vec<&str> = said
        .lines()
        .filter_map(|line| Some(line.strip_prefix("handler ")?.trim()))
        .collect();
    assert_eq!(
        handlers,
        [
            "audit gets it",
            "outcomes does not: handlers.outcomes.outcome excludes it",
            "sources does not: handlers.sources.sources excludes it",
            "types does not: handlers.types.events excludes it",
        ]
    );
    assert!(!said.contains('\u{1b}'), "no colour into a pipe: {said:?}");
    assert!(!folder.path("data").exists(), "nothing is stored");
}

#[test]
fn the_service_answers_as_explained() {
    let folder = folder();
    let service = folder.start();
    let genuine = text(signed(&body(1)));
    let large = "x".repeat(1001);
    let relay = relayed(&body(2), now(), "X-Forwarded-For: 192.0.2.7\r\n");
    let far = "X-Forwarded-For: 198.51.100.7\r\n";
    let hidden = "X-Forwarded-For: unknown\r\n";
    let cases = [
        ("default", genuine.clone(), 200),
        ("default", in_chunks(&text(signed(&body(3)))), 200),
        ("default", text(signed("no json")), 200),
        ("default", text(signed("")), 200),
        ("default", genuine.replace("job-1", "job-9"), 200),
        (
            "default",
            genuine.replace("SIGNATURE: ", "SIGNATURE: 0"),
            401,
        ),
        (
            "default",
            genuine.replace("X-ICE-TIMESTAMP", "X-ICE-TIME"),
            401,
        ),
        (
            "default",
            genuine.replace("Host: ", "X-ICE-TIMESTAMP: 1\r\nHost: "),
            401,
        ),
        ("default", genuine.replace("POST", "PUT"), 405),
        (
            "default",
            genuine.replace("/ims/callback ", "/ims/callback/ "),
            404,
        ),
        (
            "default",
            genuine.replace("Host: ", &format!("X: {}\r\nHost: ", "x".repeat(17_000))),
            431,
        ),
        ("default", text(signed(&large)), 413),
        ("default", in_chunks(&text(signed(&large))), 413),
        ("relay", relay.clone(), 200),
        (
            "relay",
            in_chunks(&relayed(&body(4), now(), "X-Forwarded-For: 192.0.2.7\r\n")),
            200,
        ),
        ("relay", relay.replace("job-2", "job-9"), 401),
        ("relay", relay.replace("192.0.2.7", "10.0.0.1"), 403),
        ("relay", relayed(&body(5), now(), far), 403),
        ("relay", relayed(&body(5), now(), hidden), 403),
        (
            "relay",
            relayed(&body(5), now() - 1000, "X-Forwarded-For: 192.0.2.7\r\n"),
            401,
        ),
        (
            "relay",
            relayed(&large, now(), "X-Forwarded-For: 192.0.2.7\r\n"),
            413,
        ),
    ];
    for (source, request, status) in cases {
        let (code, said) = explain(&folder, source, request.as_bytes(), "now");
        let answer = line(&said, "answer").expect("an answer");
        assert!(answer.starts_with(&status.to_string()), "{status} {said}");
        assert_eq!(code, i32::from(status != 200), "{said}");
        let (answered, _) = exchange(service.ingest, request.as_bytes()).expect("an answer");
        assert_eq!(answered, status, "{said}");
    }
}

#[test]
fn the_time_to_judge_by_can_be_chosen() {
    let folder = folder();
    let signature = sign(URL, "1795500000", KEY);
    let capture = format!(
        "POST /ims/callback HTTP/1.1\nHost: x\nX-ICE-TIMESTAMP: 1795500000\n\
         X-ICE-SIGNATURE: {signature}\nContent-Length: 2\n\n{{}}\n"
    );
    for (at, code, words) in [
        ("sent", 0, "the clocks agree"),
        ("1795500300", 0, "its timestamp is 300 s behind"),
        ("2026-11-24T06:00:01Z", 0, "its timestamp is 1 s behind"),
        ("2026-11-24T14:00:00+08:00", 0, "the clocks agree"),
        (
            "1795500301",
            1,
            "refused as stale: the timestamp is 301 s behind",
        ),
        (
            "1795499000",
            1,
            "refused as future: the timestamp is 1000 s ahead",
        ),
    ] {
        let (found, said) = explain(&folder, "default", capture.as_bytes(), at);
        assert_eq!(found, code, "{said}");
        assert!(said.contains(words), "{at}: {said}");
        assert_eq!(said.contains("--at sent judges it"), code == 1, "{said}");
        // The line end that an editor added is none of the body.
        assert!(
            said.contains("2 bytes of body announced; the 1 after"),
            "{said}"
        );
    }
    let unstamped = capture.replace("X-ICE-TIMESTAMP: 1795500000\n", "");
    let (code, said) = explain(&folder, "default", unstamped.as_bytes(), "sent");
    assert_eq!(code, 1);
    assert!(said.contains("it does not say when it was sent"), "{said}");
    assert!(
        said.contains("wanted once each: X-ICE-SIGNATURE and"),
        "{said}"
    );
    for at in ["soon", "", "2026-11-24", "99999999999999"] {
        let mut command = folder.command();
        command.args([
            "explain",
            "--source",
            "default",
            "--request",
            "-",
            "--at",
            at,
        ]);
        assert_eq!(output(&mut command).0, 64, "{at}");
    }
}

#[test]
fn a_mismatch_is_told_with_what_was_tried() {
    let folder = folder();
    let forged = text(signed(&body(1))).replace("SIGNATURE: ", "SIGNATURE: 0");
    let (_, of_url) = explain(&folder, "default", forged.as_bytes(), "now");
    let said = &of_url;
    assert!(said.contains("refused as mismatch"), "{said}");
    assert!(
        said.contains(&format!("tried 1 key, each over {URL}")),
        "{said}"
    );
    let forged = relayed(&body(1), now(), "").replace("job-1", "job-2");
    let (_, of_body) = explain(&folder, "relay", forged.as_bytes(), "now");
    let said = &of_body;
    assert!(
        said.contains("each over x-sent, a dot, and the body"),
        "{said}"
    );
    assert!(
        said.contains("unknown, so allow_from is not judged"),
        "{said}"
    );
    for said in [&of_url, &of_body] {
        assert!(!said.contains(KEY) && !said.contains(RELAY_KEY), "{said}");
    }
}

#[test]
fn what_is_cut_short_or_no_request_is_said_so() {
    let folder = folder();
    let genuine = text(signed(&body(1)));
    let chunked = in_chunks(&genuine);
    let head_end = genuine.find("\r\n\r\n").expect("a blank line");
    let whole = genuine.len();
    for (capture, words) in [
        (&genuine[..whole - 1], "bytes of its body are there"),
        (&genuine[..head_end + 4], "is cut short: 0 of"),
        (
            &genuine[..head_end + 2],
            "is cut short: its head has no end",
        ),
        (&genuine[..30], "is cut short: its head has no end"),
        (&chunked[..chunked.len() - 5], "its chunks break off"),
        (&chunked[..chunked.len() - 1], "its chunks break off"),
        ("", "is none of HTTP/1.1: there is nothing in it"),
        ("hello\r\n\r\n", "is none of HTTP/1.1: "),
        ("\u{0}\u{1b}[2J\r\n\r\n", "is none of HTTP/1.1: "),
    ] {
        let (code, said) = explain(&folder, "default", capture.as_bytes(), "now");
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(words), "{words} {said}");
        let answer = line(&said, "answer");
        assert_eq!(answer, Some("none: there is no whole request"), "{said}");
        let proved = said.contains("authentic, by key");
        assert_eq!(proved, capture.len() >= head_end + 4, "{said}");
    }
}

#[test]
fn the_senders_text_moves_no_cursor_and_breaks_no_line() {
    let folder = folder();
    let body =
        r#"{"EventType":"a\u001b[2J\nanswer      200","EventTime":"\u202e","MessageBody":{}}"#;
    let (code, said) = explain(&folder, "default", &signed(body), "now");
    assert_eq!(code, 0);
    assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
    let answers = said.lines().filter(|line| line.starts_with("answer"));
    assert_eq!(answers.count(), 1, "{said}");
}

#[test]
fn standard_input_is_read_and_what_cannot_be_is_bad_usage() {
    let folder = folder();
    let mut child = folder
        .command()
        .args(["explain", "--source", "default", "--request", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(&signed(&body(1))).expect("it reads");
    drop(stdin);
    let said = child.wait_with_output().expect("it ends");
    assert!(said.status.success());
    assert!(text(said.stdout).contains("audit gets it"));

    for (source, file, words) in [
        (
            "nobody",
            "capture.http",
            "receiver.toml has no source \"nobody\"; those of kind \"http\" are default, relay",
        ),
        ("default", "no-such-file", "no-such-file"),
        ("default", ".", "directory"),
    ] {
        std::fs::write(folder.path("capture.http"), signed(&body(1))).expect("a file");
        let mut command = folder.command();
        command.args(["explain", "--source", source, "--request", file]);
        let (code, stdout, stderr) = output(&mut command);
        assert_eq!((code, stdout.as_str()), (64, ""), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn colour_is_for_terminals() {
    let folder = folder();
    std::fs::write(folder.path("capture.http"), signed(&body(1))).expect("a file");
    let program = env!("CARGO_BIN_EXE_ims-receiver");
    let config = folder.path("receiver.toml");
    let capture = folder.path("capture.http");
    let command = format!(
        "{program} --config {} explain --source default --request {}",
        config.display(),
        capture.display()
    );
    for (variable, coloured) in [("TERM", true), ("NO_COLOR", false)] {
        // `script` gives it a terminal.
        let (_, said, stderr) = output(
            std::process::Command::new("script")
                .args(["-qec", &command, "/dev/null"])
                .env_remove("NO_COLOR")
                .env("TERM", "xterm")
                .env(variable, "xterm"),
        );
        assert!(said.contains("audit gets it"), "{said} {stderr}");
        assert_eq!(said.contains("\u{1b}[32m"), coloured, "{said:?}");
    }
}
