//! What an operator does at a terminal, against the running service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Folder, Service, accepted, body, output, wait_for};

/// A handler that gives up for good until the file `gate` is there.
pub fn gated(name: &str, gate: &Path) -> String {
    let command = format!("test -e '{}' || exit 100", gate.display());
    format!("[handlers.{name}]\nkind = \"shell\"\ncommand = [\"sh\", \"-c\", {command:?}]\n")
}

/// A folder with a gated handler `cms`, and its gate.
fn with_gate() -> (Folder, std::path::PathBuf) {
    let folder = Folder::new("");
    let gate = folder.path("gate");
    let handler = gated("cms", &gate);
    (folder.configured(&handler), gate)
}

pub fn command(folder: &Folder, service: &Service, arguments: &[&str]) -> Command {
    let mut command = folder.command();
    let url = format!("http://{}", service.admin);
    command.args(arguments).arg("--admin").arg(url);
    command
}

pub fn ask(folder: &Folder, service: &Service, arguments: &[&str]) -> (i32, String, String) {
    output(&mut command(folder, service, arguments))
}

/// The output of a command that has to succeed.
pub fn told(folder: &Folder, service: &Service, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = ask(folder, service, arguments);
    assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
    stdout
}

pub fn json(folder: &Folder, service: &Service, arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let stdout = told(folder, service, &all);
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{arguments:?}: {stdout}"))
}

fn ids(listed: &Value) -> Vec<&str> {
    let events = listed["events"].as_array().expect("a list").iter();
    events
        .map(|event| event["id"].as_str().expect("an id"))
        .collect()
}

/// Sends events with these numbers; answers their ids.
pub fn send(service: &Service, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let send = |number| accepted(service.ingest, &body(number)).0;
    numbers.into_iter().map(send).collect()
}

#[test]
fn events_are_found_paged_and_shown() {
    let folder = Folder::with_log();
    let service = folder.start();
    let sent = send(&service, 1..=5);
    for id in &sent {
        service.succeeded(id);
    }
    let all = wait_for("all are found", || {
        let all = json(&folder, &service, &["events", "list"]);
        (ids(&all).len() == 5).then_some(all)
    });
    let newest_first: Vec<&str> = sent.iter().rev().map(String::as_str).collect();
    assert_eq!(ids(&all), newest_first);
    assert!(all["next"].is_null());

    let one = json(
        &folder,
        &service,
        &["events", "list", "--media-id", "media-3"],
    );
    assert_eq!(ids(&one), [&sent[2]]);
    let none = ["events", "list", "--job-id", "job-3", "--outcome", "failed"];
    assert!(ids(&json(&folder, &service, &none)).is_empty());
    let globs = [
        "events",
        "list",
        "--type",
        "{Produce,Snapshot}*",
        "--since",
        "1h",
    ];
    assert_eq!(ids(&json(&folder, &service, &globs)).len(), 5);

    let (code, page, said) = ask(&folder, &service, &["events", "list", "--limit", "2"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(page.lines().count(), 3, "{page}");
    assert!(
        page.contains(&sent[4]) && page.contains("audit succeeded"),
        "{page}"
    );
    let cursor = said.split("--cursor ").nth(1).expect("how to go on");
    let cursor = cursor.split(' ').next().expect("an id");
    let rest = json(&folder, &service, &["events", "list", "--cursor", cursor]);
    assert_eq!(ids(&rest), &newest_first[2..]);

    let shown = told(&folder, &service, &["events", "show", &sent[2]]);
    for part in [
        "media-3",
        "verified    ims",
        "audit attempt 1 succeeded",
        "\"JobId\": \"job-3\"",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert_eq!(
        told(&folder, &service, &["events", "show", &sent[2], "--body"]),
        body(3)
    );
    let document = json(&folder, &service, &["events", "show", &sent[2]]);
    assert_eq!(document, service.event(&sent[2]));

    let unknown = "019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f";
    let (code, _, said) = ask(&folder, &service, &["events", "show", unknown]);
    assert_eq!(code, 1);
    assert!(said.contains("there is no event 019ab3f2"), "{said}");
    assert_eq!(ask(&folder, &service, &["events", "show", "x"]).0, 64);
    assert_eq!(
        ask(&folder, &service, &["events", "list", "--status", "x"]).0,
        64
    );
    // What only the service can judge is bad usage all the same.
    let (code, _, said) = ask(&folder, &service, &["events", "list", "--type", "["]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("type"), "{said}");
}

#[test]
fn hostile_texts_do_not_drive_the_terminal() {
    let folder = Folder::with_log();
    let service = folder.start();
    let hostile = r#"{"EventType":"Produce\u001b]0;x\u0007","EventTime":"\u001b[2J","MessageBody":{"MediaId":"m\u001b[31m\r\n\u202e","JobId":"a\u009bb","Status":"Success"}}"#;
    let (id, _) = accepted(service.ingest, hostile);
    service.succeeded(&id);
    let listed = wait_for("it is found", || {
        let listed = told(&folder, &service, &["events", "list"]);
        listed.contains(&id).then_some(listed)
    });
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let shown = told(&folder, &service, &["events", "show", &id]);
    for text in [listed, shown] {
        let driving = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(driving), "{text:?}");
        assert!(text.contains("\\u{1b}"), "{text:?}");
    }
    // JSON on a terminal means what it means in a pipe, and drives nothing.
    for arguments in [
        &["events", "list", "--json"][..],
        &["events", "show", &id, "--json"],
        &["events", "export", "--output", "-"],
    ] {
        let piped = told(&folder, &service, arguments);
        assert!(piped.contains('\u{9b}'), "a program gets it as it is");
        let inner = command(&folder, &service, arguments);
        let mut quiet = Command::new("sh");
        // Without the progress, which moves the cursor.
        quiet.args(["-c", "exec \"$@\" 2>/dev/null", "sh"]);
        quiet.arg(inner.get_program()).args(inner.get_args());
        let (code, shown) = on_terminal(&quiet, "", &[]);
        assert_eq!(code, 0, "{shown}");
        let driving = |c: char| (c.is_control() && !matches!(c, '\n' | '\r')) || c == '\u{202e}';
        assert!(!shown.contains(driving), "{arguments:?}: {shown:?}");
        assert!(shown.contains("\\u009b"), "{arguments:?}: {shown:?}");
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
        assert_eq!(read(&shown), read(&piped), "{arguments:?}");
    }
}

#[test]
fn dead_deliveries_are_counted_confirmed_and_sent_again() {
    let (folder, gate) = with_gate();
    let service = folder.start();
    let sent = send(&service, 1..=3);
    for id in &sent {
        assert_eq!(service.finished(id)["deliveries"][0]["status"], "dead");
    }
    let redeliver = [
        "events",
        "redeliver",
        "--status",
        "dead",
        "--handler",
        "cms",
    ];
    let with = |more: &[&'static str]| [&redeliver[..], more].concat();
    let planned = wait_for("all are found", || {
        let planned = json(&folder, &service, &with(&["--dry-run"]));
        (planned["deliveries"] == 3).then_some(planned)
    });
    assert_eq!(planned["dry_run"], true);
    // Nobody can be asked here.
    let (code, _, said) = ask(&folder, &service, &redeliver);
    assert_eq!(code, 64, "{said}");
    assert!(
        said.contains("3 deliveries of 3 events") && said.contains("--yes"),
        "{said}"
    );
    let (code, _, said) = ask(&folder, &service, &["events", "redeliver", "--yes"]);
    assert_eq!(code, 64, "everything is not redelivered by mistake: {said}");
    for id in &sent {
        assert_eq!(service.event(id)["deliveries"][0]["attempts"], 1);
    }

    std::fs::write(&gate, "").expect("the gate");
    let one = told(&folder, &service, &["events", "redeliver", &sent[0]]);
    assert_eq!(
        one,
        format!("{}: 1 delivery of 1 event is due again\n", sent[0])
    );
    let event = service.succeeded(&sent[0]);
    assert_eq!(event["deliveries"][0]["attempts"], 2);
    // The search for statuses follows what happens.
    let rest = wait_for("one less is dead", || {
        let rest = json(&folder, &service, &with(&["--dry-run"]));
        (rest["deliveries"] == 2).then_some(rest)
    });
    assert_eq!(rest["complete"], true);
    let done = json(&folder, &service, &with(&["--yes", "--rate", "1000"]));
    assert_eq!(
        (&done["events"], &done["deliveries"]),
        (&2.into(), &2.into())
    );
    for id in &sent {
        service.succeeded(id);
    }
    let unknown = "019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f";
    let (code, _, said) = ask(&folder, &service, &["events", "redeliver", unknown]);
    assert_eq!(code, 1, "{said}");
}

/// Runs a command on a terminal of its own, with this typed.
fn on_terminal(command: &Command, typed: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().expect("UTF-8"));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(quoted).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script
        .args([
            "-qec",
            &format!("stty rows 40 cols 100; {line}"),
            "/dev/null",
        ])
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = script.spawn().expect("script is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(typed.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().expect("it was not killed"), text)
}

#[test]
fn on_a_terminal_the_number_is_typed_and_colours_are_shown() {
    let (folder, gate) = with_gate();
    let service = folder.start();
    let sent = send(&service, 1..=2);
    for id in &sent {
        service.finished(id);
    }
    let listed = wait_for("both are found", || {
        let list = command(&folder, &service, &["events", "list", "--status", "dead"]);
        let (code, listed) = on_terminal(&list, "", &[]);
        assert_eq!(code, 0, "{listed}");
        sent.iter().all(|id| listed.contains(id)).then_some(listed)
    });
    assert!(listed.contains("\u{1b}[31mdead"), "{listed:?}");
    let list = command(&folder, &service, &["events", "list"]);
    let (_, plain) = on_terminal(&list, "", &[("NO_COLOR", "1")]);
    assert!(!plain.contains("\u{1b}[3"), "{plain:?}");
    for line in plain.lines() {
        assert!(line.trim_end().chars().count() <= 100, "{line:?}");
    }

    std::fs::write(&gate, "").expect("the gate");
    let redeliver = command(
        &folder,
        &service,
        &["events", "redeliver", "--status", "dead"],
    );
    let (code, refused) = on_terminal(&redeliver, "yes\n", &[]);
    assert_eq!(code, 1, "{refused}");
    assert!(refused.contains("Type 2 to go on"), "{refused}");
    assert!(refused.contains("Nothing was changed"), "{refused}");
    let (code, done) = on_terminal(&redeliver, "2\n", &[]);
    assert_eq!(code, 0, "{done}");
    assert!(
        done.contains("2 deliveries of 2 events are due again"),
        "{done}"
    );
    for id in &sent {
        service.succeeded(id);
    }
}

/// A port that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn a_tail_goes_on_over_a_restart_and_misses_nothing() {
    // Fixed ports, as in life: what asks again has to find the service.
    let folder = Folder::with_log().set("admin.listen", free_address());
    let service = folder.start();
    let mut tail = folder.command();
    tail.args(["events", "tail", "--json", "--count", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut tail = tail.spawn().expect("the program starts");
    let mut lines = BufReader::new(tail.stdout.take().expect("it is piped")).lines();
    let mut next = || -> String {
        let line = lines.next().expect("a line").expect("UTF-8");
        let event: Value = serde_json::from_str(&line).expect("it is JSON");
        event["id"].as_str().expect("an id").to_owned()
    };
    // It watches once an event comes through; those before are not for it.
    wait_for("somebody watches", || {
        let viewers = service.metric("ims_receiver_tail_viewers");
        (viewers >= Some(1.0)).then_some(())
    });
    let first = send(&service, [1]);
    assert_eq!(next(), first[0]);
    service.kill();
    let service = folder.start();
    // Whether it is back by now or not, this one is shown.
    let second = send(&service, [2, 3]);
    assert_eq!(next(), second[0]);
    assert_eq!(next(), second[1]);
    assert!(tail.wait().expect("it ends").success());
}

#[test]
fn an_export_is_imported_as_it_was() {
    let (folder, _gate) = with_gate();
    let service = folder.start();
    let mut sent = send(&service, 1..=20);
    sent.push(accepted(service.ingest, "no JSON \u{1}").0);
    // What is sent over several lines is one line of an export.
    let spread = body(21).replace(',', ",\r\n  ");
    sent.push(accepted(service.ingest, &spread).0);
    accepted(service.ingest, &body(1));
    for id in &sent {
        service.finished(id);
    }
    wait_for("the copy is counted", || {
        (service.event(&sent[0])["duplicates"] == 1).then_some(())
    });
    let file = folder.path("all.ndjson");
    let name = file.to_str().expect("UTF-8");
    let (code, stdout, said) = ask(&folder, &service, &["events", "export", "--output", name]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{said}");
    assert!(said.contains("22 events in "), "{said}");
    let mode = std::fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "events are nobody else's business");
    let exported = std::fs::read_to_string(&file).expect("it is UTF-8");
    assert_eq!(exported.lines().count(), 22);
    assert_eq!(told(&folder, &service, &["events", "export"]), exported);
    let (code, _, said) = ask(&folder, &service, &["events", "export", "--output", name]);
    assert_eq!(code, 64, "it is not replaced: {said}");

    let (other, _gate) = with_gate();
    let target = other.start();
    let imported = json(&other, &target, &["events", "import", name]);
    assert_eq!(
        (&imported["added"], &imported["known"]),
        (&22.into(), &0.into())
    );
    for id in &sent {
        assert_eq!(target.event(id), service.event(id));
        let raw = ["events", "show", id, "--body"];
        assert_eq!(told(&other, &target, &raw), told(&folder, &service, &raw));
    }
    let again = json(&other, &target, &["events", "import", name]);
    assert_eq!((&again["added"], &again["known"]), (&0.into(), &22.into()));
    let list = ["events", "list", "--type", "malformed"];
    wait_for("the other one finds them too", || {
        let found = json(&other, &target, &list);
        (ids(&found) == [&sent[20]]).then_some(())
    });

    // A line that is cut, and one that is an event but for its id.
    let mut lines: Vec<String> = exported.lines().map(str::to_owned).collect();
    lines[6] = lines[6].replace(r#""received_at":"#, r#""received":"#);
    for (text, line) in [
        (lines.join("\n"), "line 7"),
        (exported[..exported.len() - 10].to_owned(), "line 22"),
    ] {
        let bad = folder.path("bad.ndjson");
        std::fs::write(&bad, text).expect("a file");
        let bad = bad.to_str().expect("UTF-8");
        let (code, _, said) = ask(&other, &target, &["events", "import", bad]);
        assert_ne!(code, 0);
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn handlers_are_listed_held_back_and_given_up() {
    let (folder, gate) = with_gate();
    std::fs::write(&gate, "").expect("the gate");
    let service = folder.start();
    let paused = told(&folder, &service, &["handlers", "pause", "cms"]);
    assert!(paused.starts_with("cms is now paused"), "{paused}");
    let sent = send(&service, 1..=2);
    service.kill();
    let service = folder.start();
    let listed = wait_for("both wait", || {
        let listed = json(&folder, &service, &["handlers", "list"]);
        (listed["handlers"][0]["pending"] == 2).then_some(listed)
    });
    assert!(
        listed["handlers"][0]["paused_at"].is_string(),
        "over a restart: {listed}"
    );
    let table = told(&folder, &service, &["handlers", "list"]);
    assert!(table.contains("cms") && table.contains("paused"), "{table}");
    assert_eq!(
        service.event(&sent[0])["deliveries"][0]["status"],
        "pending"
    );
    let resumed = told(&folder, &service, &["handlers", "resume", "cms"]);
    assert_eq!(resumed, "cms goes on.\n");
    for id in &sent {
        service.succeeded(id);
    }
    let (code, _, said) = ask(&folder, &service, &["handlers", "pause", "nobody"]);
    assert_eq!(code, 1);
    assert!(said.contains("no handler nobody"), "{said}");

    // Given up is only what waits for a handler that is gone.
    told(&folder, &service, &["handlers", "pause", "cms"]);
    let waiting = send(&service, [3]);
    let (code, _, said) = ask(&folder, &service, &["handlers", "discard", "cms", "--yes"]);
    assert_eq!(code, 1);
    assert!(said.contains("cms is configured"), "{said}");
    service.kill();
    let config = folder.path("receiver.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let without = text.split("[handlers.cms]").next().expect("the rest");
    std::fs::write(&config, without).expect("the configuration");
    let service = folder.start();
    // Nobody else would tell what is left for it.
    let left = |name: &str| service.metric(&format!("ims_receiver_{name}{{handler=\"cms\"}}"));
    wait_for("what waits for it is measured", || {
        (left("pending_deliveries") == Some(1.0)).then_some(())
    });
    assert!(left("oldest_pending_seconds").is_some());
    let (code, _, said) = ask(&folder, &service, &["handlers", "discard", "cms"]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("gives up 1 delivery"), "{said}");
    assert_eq!(
        service.event(&waiting[0])["deliveries"][0]["status"],
        "pending"
    );
    let discarded = told(&folder, &service, &["handlers", "discard", "cms", "--yes"]);
    assert!(
        discarded.starts_with("1 delivery for cms given up"),
        "{discarded}"
    );
    let delivery = &service.event(&waiting[0])["deliveries"][0];
    assert_eq!(delivery["status"], "dead");
    assert_eq!(delivery["reason"], "discarded");
    wait_for("it is dead and not pending", || {
        let gauges = (left("pending_deliveries"), left("dead_deliveries"));
        (gauges == (Some(0.0), Some(1.0))).then_some(())
    });
}

#[test]
fn one_event_is_sent_again_to_those_that_failed_and_mistyped_names_are_told() {
    let folder = Folder::with_log();
    let gate = folder.path("gate");
    let folder = folder.configured(&gated("cms", &gate));
    let service = folder.start();
    let sent = send(&service, [1]);
    let id = sent[0].as_str();
    service.finished(id);
    let attempts = || -> Vec<(String, u64)> {
        let event = service.event(id);
        let deliveries = event["deliveries"].as_array().expect("a list").iter();
        let row = |one: &Value| (one["handler"].to_string(), one["attempts"].as_u64());
        deliveries
            .map(row)
            .map(|(name, attempts)| (name, attempts.expect("a number")))
            .collect()
    };
    let before = attempts();
    assert_eq!(before.len(), 2, "{before:?}");
    std::fs::write(&gate, "").expect("a file");
    let again = ["events", "redeliver", id, "--status", "pending"];
    assert!(told(&folder, &service, &again).contains("0 deliveries"));
    let again = ["events", "redeliver", id, "--status", "dead"];
    let said = told(&folder, &service, &again);
    assert!(
        said.contains("1 delivery of 1 event is due again"),
        "{said}"
    );
    service.succeeded(id);
    let changed: Vec<String> = before
        .iter()
        .zip(attempts())
        .filter(|(before, after)| *before != after)
        .map(|(before, _)| before.0.clone())
        .collect();
    assert_eq!(changed, ["\"cms\""], "the other handler ran once");

    // Who did what is in the log.
    let line = wait_for("it is logged", || {
        let log = service.log();
        log.into_iter()
            .filter(|line| line.contains("redelivery was asked for"))
            .find(|line| line.contains("\"handlers\":\"cms\""))
    });
    let filter = format!("\"filter\":\"id={id}\"");
    assert!(
        line.contains("\"peer\":\"127.0.0.1:") && line.contains(&filter),
        "{line}"
    );
    told(&folder, &service, &["handlers", "pause", "cms"]);
    wait_for("the pause is logged", || {
        let log = service.log();
        let paused = |line: &&String| line.contains("a handler was paused");
        let line = log.iter().find(paused)?.clone();
        line.contains("\"peer\":\"127.0.0.1:").then_some(())
    });

    for (option, words) in [
        (
            "--handler",
            "No handler `cmss` is configured or in the store; there are audit, cms.",
        ),
        (
            "--source",
            "No source `cmss` is configured; there are default.",
        ),
    ] {
        let (code, _, said) = ask(&folder, &service, &["events", "list", option, "cmss"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(words), "{said}");
    }
    let again = ["events", "redeliver", "--handler", "cmss", "--yes"];
    let (code, _, said) = ask(&folder, &service, &again);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("No handler `cmss`"), "{said}");
}

#[test]
fn the_doctor_sees_what_is_wrong_and_says_what_to_do() {
    let (folder, _gate) = with_gate();
    let folder = folder
        .set("admin.listen", free_address())
        .set("server.listen", free_address());
    let doctor = |more: &[&str]| {
        let mut command = folder.command();
        command.arg("doctor").args(more);
        output(&mut command)
    };
    let (code, down, _) = doctor(&[]);
    assert_eq!(code, 1);
    for part in [
        "connection refused",
        "What to do\n 1. Start the service",
        "no problems",
    ] {
        assert!(down.contains(part), "no {part} in {down}");
    }
    let service = folder.start();
    let (code, well, _) = doctor(&[]);
    assert_eq!(code, 0, "{well}");
    assert!(well.ends_with("Nothing needs attention.\n"), "{well}");
    // Nothing came yet, so that nothing is praised.
    for part in [
        "no signed callback to answer",
        "no signed request to compare it with yet",
    ] {
        assert!(well.contains(part), "no {part} in {well}");
    }

    let dead = send(&service, [1]);
    service.finished(&dead[0]);
    told(&folder, &service, &["handlers", "pause", "cms"]);
    let forged = body(2).replace("Produce", "Prodnce");
    let post = crate::harness::Post {
        key: "AnotherKey0000000000",
        ..crate::harness::Post::of(&forged)
    };
    wait_for("the dead delivery is seen", || {
        let (code, told, _) = doctor(&[]);
        assert_eq!(code, 1, "{told}");
        told.contains("exit 100").then_some(())
    });
    let (status, _) = post.send(service.ingest).expect("an answer");
    assert_eq!(status, 401);
    let (code, told, _) = wait_for("the refusal is seen", || {
        let told = doctor(&[]);
        told.1.contains("refused as mismatch").then_some(told)
    });
    assert_eq!(code, 1);
    let todo = told.split("What to do\n").nth(1).expect("what to do");
    for part in [
        "ims-receiver events redeliver --handler cms --status dead",
        "ims-receiver handlers resume cms",
        "Compare source default",
    ] {
        assert!(todo.contains(part), "no {part} in {told}");
    }
    assert!(
        !told.contains(crate::harness::KEY) && !told.contains("AnotherKey"),
        "{told}"
    );
    let (code, document, _) = doctor(&["--json"]);
    assert_eq!(code, 1);
    let document: Value = serde_json::from_str(&document).expect("it is JSON");
    assert_eq!(document["healthy"], false);
    let todo = document["what_to_do"].as_array().expect("a list");
    assert_eq!(todo.len(), 3, "{document:#}");
    // What can be seen without the service, out of the store at rest.
    service.kill();
    let (code, told, _) = doctor(&[]);
    assert_eq!(code, 1);
    for part in [
        "the newest came",
        "cms: 1 dead delivery",
        "What to do\n 1. Start the service",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    let service = folder.start();
    // A broken configuration is no reason to see less of what runs.
    let config = folder.path("receiver.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, text + "[handlers.x]\nkind = \"lgo\"\n").expect("it is written");
    let url = format!("http://{}", service.admin);
    let (code, told, _) = doctor(&["--admin", &url]);
    assert_eq!(code, 1);
    assert!(
        told.contains("handlers.x.kind: ") && told.contains("cms: 1 dead delivery"),
        "{told}"
    );
}

#[test]
fn a_service_that_does_not_answer_or_let_us_in_is_explained() {
    let folder = Folder::with_log();
    let address = free_address();
    let url = format!("http://{address}");
    let list = |folder: &Folder, more: &[&str]| {
        let mut command = folder.command();
        command.args(["events", "list"]).args(more);
        output(&mut command)
    };
    let (code, _, said) = list(&folder, &["--admin", &url]);
    assert_eq!(code, 1);
    for part in [&url, "connection refused", "is the service running?"] {
        assert!(said.contains(part), "{said}");
    }
    let folder = folder.set("admin.token", "right-token-0123456789");
    let service = folder.start();
    let url = format!("http://{}", service.admin);
    let wrong = folder.path("wrong");
    std::fs::write(&wrong, "wrong-token-0123456789\n").expect("a file");
    let file = wrong.to_str().expect("UTF-8");
    let (code, _, said) = list(&folder, &["--admin", &url, "--token-file", file]);
    assert_eq!(code, 1);
    assert!(said.contains(file) && said.contains("401"), "{said}");
    assert!(!said.contains("wrong-token"), "{said}");
    // The configuration's own token opens its own address.
    assert_eq!(list(&folder, &["--admin", &url]).0, 0);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (code, _, said) = output(
        Command::new(env!("CARGO_BIN_EXE_ims-receiver"))
            .current_dir(&elsewhere)
            .args(["events", "list", "--admin", &url]),
    );
    assert_eq!(code, 1);
    assert!(said.contains("--token-file FILE"), "{said}");
    let (code, _, said) = output(
        Command::new(env!("CARGO_BIN_EXE_ims-receiver"))
            .current_dir(&elsewhere)
            .args(["events", "list"]),
    );
    // Unless this machine has a configuration of its own.
    assert!(
        code == 64 || Path::new("/etc/ims-receiver/receiver.toml").exists(),
        "{said}"
    );
    assert!(code != 64 || said.contains("--admin URL"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let folder = Folder::with_log();
    let service = folder.start();
    send(&service, 1..=50);
    wait_for("they are found", || {
        let found = json(&folder, &service, &["events", "list"]);
        (ids(&found).len() == 50).then_some(())
    });
    for arguments in [
        &["events", "list"][..],
        &["handlers", "list"],
        &["events", "export"],
        &["doctor"],
    ] {
        let mut child = command(&folder, &service, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut said = String::new();
        let mut stderr = child.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut said).expect("UTF-8");
        let code = child.wait().expect("it ends").code();
        assert!(code.is_some(), "{arguments:?} was killed");
        assert_eq!(said, "", "{arguments:?}");
    }
}
