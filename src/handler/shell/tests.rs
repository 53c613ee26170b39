//! Against real commands.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::event::NewEvent;
use crate::handler::log::Outputs;
use crate::handler::testing::{context, delivery};

/// Longer than any of these commands takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn handler(command: &[&str], timeout: Duration) -> ShellHandler {
    let config = ShellConfig {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
    };
    let outputs = Outputs::default();
    let mut context = context(&outputs);
    context.timeout = timeout;
    ShellHandler::build(&config, &context).unwrap()
}

async fn run_delivery(handler: &ShellHandler, delivery: &Delivery) -> Result<Report, HandlerError> {
    let stop = CancellationToken::new();
    let handling = handler.handle(delivery, &stop);
    tokio::time::timeout(PATIENCE, handling)
        .await
        .expect("the handler has limits of its own")
}

async fn run(command: &[&str], body: &[u8]) -> Result<Report, HandlerError> {
    run_delivery(&handler(command, PATIENCE), &delivery(body)).await
}

async fn script(text: &str, body: &[u8]) -> Result<Report, HandlerError> {
    run(&["/bin/sh", "-c", text], body).await
}

fn report(result: &Result<Report, HandlerError>) -> &Value {
    let report = match result {
        Ok(report) => report,
        Err(error) => &error.report,
    };
    report.0.as_ref().expect("a report is kept")
}

fn stdout(result: &Result<Report, HandlerError>) -> &str {
    report(result)["stdout"].as_str().expect("a text")
}

/// The environment in what `env -0` wrote.
fn variables(written: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8(written.to_vec()).unwrap();
    let variables = text.split_terminator('\0');
    variables
        .map(|variable| variable.split_once('=').expect("a name and a value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn is_there(pid: &str) -> bool {
    assert!(pid.parse::<u32>().is_ok(), "{pid:?}");
    Path::new("/proc").join(pid).exists()
}

/// Waits until no process `pid` is left, not even an ended one.
async fn gone(pid: &str) {
    let waiting = async {
        while is_there(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{pid} is still there");
}

/// Waits for a file to hold a whole line; answers it.
async fn line_in(file: &Path) -> String {
    let reading = async {
        loop {
            let text = fs::read_to_string(file).unwrap_or_default();
            if let Some(line) = text.strip_suffix('\n') {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    read.expect("the command writes its line")
}

#[tokio::test]
async fn the_body_is_on_stdin_byte_for_byte_and_output_is_kept() {
    let body = b"\xef\xbb\xbf{ \"a\":\t1.0,\"\xff\": 2 }\r\n\0";
    let result = script("od -An -v -tx1 | tr -d ' \\n'; echo oh >&2", body).await;
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({"exit": 0, "stdout": hex, "stderr": "oh\n"});
    assert_eq!(report(&result), &expected);
    result.unwrap();
}

#[tokio::test]
async fn the_environment_is_the_event_and_little_else() {
    let mut handler = handler(&["env", "-0"], PATIENCE);
    let own = [("QUEUE", "night; rm -rf /"), ("LANG", "x")];
    let own = own.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    handler.environment.extend(own);
    let result = run_delivery(&handler, &delivery(b"{}")).await;
    let mut found = variables(stdout(&result).as_bytes());
    assert_eq!(found.remove("PATH"), std::env::var("PATH").ok());
    assert_eq!(found.remove("HOME"), std::env::var("HOME").ok());
    let expected = [
        ("IMS_ATTEMPT", "3"),
        ("IMS_EVENT_ID", "019ab2f6-2a41-7000-8000-000000000001"),
        ("IMS_EVENT_TIME", "2026-11-24T06:31:05Z"),
        ("IMS_EVENT_TYPE", "ProduceMediaComplete"),
        ("IMS_JOB_ID", "j-1"),
        ("IMS_MEDIA_ID", "m-1"),
        ("IMS_OUTCOME", "succeeded"),
        ("IMS_SOURCE", "default"),
        ("IMS_USER_ID", "42"),
        ("LANG", "x"),
        ("QUEUE", "night; rm -rf /"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, BTreeMap::from(expected));
}

#[tokio::test]
async fn what_the_event_lacks_is_empty_and_set() {
    let mut delivery = delivery(b"{}");
    let event = &mut Arc::make_mut(&mut delivery.event).content;
    event.media_id = None;
    event.user_id = None;
    let text = r#"set -u; echo "[$IMS_MEDIA_ID$IMS_USER_ID]""#;
    let handler = handler(&["/bin/sh", "-c", text], PATIENCE);
    let result = run_delivery(&handler, &delivery).await;
    assert_eq!(stdout(&result), "[]\n");
}

type Field = fn(&mut NewEvent, String);

/// Every field of the sender's that reaches the environment.
const FIELDS: [(&str, Field); 5] = [
    ("IMS_EVENT_TYPE", |event, text| event.event_type = text),
    ("IMS_EVENT_TIME", |event, text| {
        event.event_time = Some(text)
    }),
    ("IMS_USER_ID", |event, text| event.user_id = Some(text)),
    ("IMS_MEDIA_ID", |event, text| event.media_id = Some(text)),
    ("IMS_JOB_ID", |event, text| event.job_id = Some(text)),
];

#[tokio::test]
async fn hostile_fields_are_data_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let touch = format!("touch {}", canary.display());
    let big = |text: &str| text.repeat((1 << 20) / text.len());
    let texts = [
        format!("$({touch})"),
        format!("`{touch}`; {touch} & {touch} | {touch}"),
        format!("'\"\n{touch}\r\n\\"),
        format!("() {{ :; }}; {touch}"),
        "-rf".to_owned(),
        "--help".to_owned(),
        "a\0b\u{1b}[2J\u{7f}\u{202e}ü".to_owned(),
        "* ? [a] ~ {a,b} $HOME !!".to_owned(),
        big("x"),
        big("\0"),
        big("ü'"),
        big(&format!("\n$({touch})")),
    ];
    let environment = folder.path().join("environment");
    // A script such as users write: its values in quotes, after `--`.
    let text = format!(
        r#"env -0 > '{}'; for value in "$IMS_EVENT_TYPE" "$IMS_EVENT_TIME" "$IMS_USER_ID" "$IMS_MEDIA_ID" "$IMS_JOB_ID"; do basename -- "$value" >/dev/null; done"#,
        environment.display()
    );
    let handler = handler(&["/bin/sh", "-c", &text], PATIENCE);
    for text in &texts {
        for (name, set) in FIELDS {
            check_field(&handler, &environment, name, set, text).await;
        }
        let mut delivery = delivery(text.as_bytes());
        let event = &mut Arc::make_mut(&mut delivery.event).content;
        for (_, set) in FIELDS {
            set(event, text.clone());
        }
        run_delivery(&handler, &delivery).await.unwrap();
    }
    assert!(!canary.exists(), "something was executed");
}

async fn check_field(
    handler: &ShellHandler,
    environment: &Path,
    name: &str,
    set: Field,
    text: &str,
) {
    let mut delivery = delivery(b"{}");
    set(
        &mut Arc::make_mut(&mut delivery.event).content,
        text.to_owned(),
    );
    let result = run_delivery(handler, &delivery).await;
    let shown: String = text.chars().take(40).collect();
    let found = variables(&fs::read(environment).unwrap());
    let value = &found[name];
    let meant = text.replace('\0', "\u{fffd}");
    assert!(meant.starts_with(value), "{name} {shown:?}");
    let cut = value.len() < meant.len();
    assert_eq!(cut, text.len() > 4096, "{name} {shown:?}");
    assert!(!cut || value.len() > 4090, "{name} {shown:?}");
    let mut notes = Vec::new();
    if text.contains('\0') {
        notes.push(format!("NUL in {name} was replaced"));
    }
    if cut {
        notes.push(format!("{name} was cut to 4096 bytes"));
    }
    let noted = report(&result).get("notes").cloned();
    assert_eq!(noted.unwrap_or(json!([])), json!(notes), "{shown:?}");
    result.unwrap();
}

#[tokio::test]
async fn exit_codes_decide() {
    for (code, retry) in [
        (1, Retry::WithBackoff),
        (3, Retry::WithBackoff),
        (99, Retry::WithBackoff),
        (100, Retry::Never),
        (101, Retry::WithBackoff),
        (255, Retry::WithBackoff),
    ] {
        let result = script(&format!("echo a; echo b >&2; exit {code}"), b"{}").await;
        let expected = json!({"exit": code, "stdout": "a\n", "stderr": "b\n"});
        assert_eq!(report(&result), &expected);
        let error = result.unwrap_err();
        assert_eq!(
            (error.retry, error.reason.as_str()),
            (retry, &*format!("exit {code}"))
        );
    }
    script("exit 0", b"{}").await.unwrap();
}

#[tokio::test]
async fn a_signal_is_named() {
    for signal in [6, 9, 15] {
        let result = script(&format!("kill -{signal} $$"), b"{}").await;
        assert_eq!(report(&result)["signal"], signal);
        assert_eq!(report(&result)["exit"], Value::Null);
        let error = result.unwrap_err();
        assert_eq!(error.retry, Retry::WithBackoff);
        assert_eq!(error.reason.as_str(), format!("signal {signal}"));
    }
}

#[tokio::test]
async fn what_does_not_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
    let bare = file("bare", "echo hello\n", 0o755);
    let itself = folder.path().display().to_string();
    for (program, reason) in [
        (
            "/no/such/command",
            "could not start: No such file or directory (/no/such/command)".to_owned(),
        ),
        (
            "no-such-command",
            "could not start: No such file or directory (no-such-command is nowhere in PATH)"
                .to_owned(),
        ),
        (
            &plain,
            format!("could not start: Permission denied ({plain})"),
        ),
        (
            &itself,
            format!("could not start: Permission denied ({itself})"),
        ),
        (
            &lost,
            format!(
                "could not start: No such file or directory ({lost} is there, but not the interpreter in its first line)"
            ),
        ),
        (
            &bare,
            format!(
                "could not start: Exec format error ({bare}; a script begins with a line such as #!/bin/sh)"
            ),
        ),
    ] {
        let error = run(&[program, "-x"], b"{}").await.unwrap_err();
        assert_eq!(error.reason.as_str(), reason);
        assert_eq!(error.retry, Retry::WithBackoff);
    }
}

#[tokio::test]
async fn a_large_body_never_blocks() {
    let body = vec![b'x'; 8 << 20];
    let started = Instant::now();
    let note = "of 8388608 bytes on stdout the last 4096 are kept";
    let echoed = run(&["cat"], &body).await;
    assert_eq!(stdout(&echoed), "x".repeat(4096));
    assert_eq!(report(&echoed)["notes"], json!([note]));
    echoed.unwrap();
    for text in [
        "exec 0<&-; echo closed",
        "echo not read",
        "head -c 10 >/dev/null",
        "exec 0<&-; sleep 0.3",
        "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2",
    ] {
        script(text, &body).await.unwrap();
    }
    let failed = script("exec 0<&-; exit 7", &body).await.unwrap_err();
    assert_eq!(failed.reason.as_str(), "exit 7");
    assert!(
        started.elapsed() < PATIENCE / 2,
        "nothing waited for a timeout"
    );
}

#[tokio::test]
async fn a_gigabyte_of_output_is_read_and_not_kept() {
    let text = "head -c 1000000000 /dev/zero; echo the end";
    let result = script(text, b"{}").await;
    assert!(stdout(&result).ends_with("\0the end\n"));
    assert_eq!(stdout(&result).len(), 4096);
    let note = "of 1000000008 bytes on stdout the last 4096 are kept";
    assert_eq!(report(&result)["notes"], json!([note]));
    result.unwrap();
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_gets_term_and_exit_0_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let ended = folder.path().join("ended");
    let text = format!(
        "trap 'echo > {}; exit 0' TERM; sleep 1000 & echo $$ $!; wait",
        ended.display()
    );
    let handler = handler(&["/bin/sh", "-c", &text], Duration::from_millis(500));
    let started = Instant::now();
    let result = run_delivery(&handler, &delivery(b"{}")).await;
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "no KILL was needed"
    );
    assert!(ended.exists(), "the command could tidy up");
    let pids = stdout(&result).trim().to_owned();
    assert_eq!(report(&result)["exit"], 0);
    assert_eq!(report(&result).get("notes"), None);
    let error = result.unwrap_err();
    assert_eq!(error.retry, Retry::WithBackoff);
    assert_eq!(error.reason.as_str(), "timeout after 500ms");
    for pid in pids.split(' ') {
        gone(pid).await;
    }
}

#[tokio::test]
async fn whoever_ignores_term_is_killed_after_five_seconds() {
    // The one ignores it itself; the other's child does, after it has gone.
    for text in [
        "trap '' TERM; echo $$; while :; do sleep 0.1; done",
        "(trap '' TERM; exec sleep 1000) & echo $!; wait",
    ] {
        let handler = handler(&["/bin/sh", "-c", text], Duration::from_millis(300));
        let started = Instant::now();
        let result = run_delivery(&handler, &delivery(b"{}")).await;
        let took = started.elapsed();
        assert!(took >= KILLED_AT && took < KILLED_AT * 2, "{took:?}");
        let note = "TERM was not enough, KILL followed after 5s";
        assert_eq!(report(&result)["notes"], json!([note]));
        gone(stdout(&result).trim()).await;
        assert_eq!(result.unwrap_err().reason.as_str(), "timeout after 300ms");
    }
}

const KILLED_AT: Duration = Duration::from_millis(5300);

#[tokio::test]
async fn a_process_left_in_the_background_does_not_hold_the_attempt() {
    for (text, held) in [
        ("sleep 1000 & echo $!", true),
        ("sleep 1000 >/dev/null & echo $!", true),
        ("sleep 1000 <&0 & echo $!", true),
        ("sleep 1000 >/dev/null 2>&1 & echo $!", false),
        ("setsid sleep 1000 >/dev/null 2>&1 & echo $!", false),
    ] {
        let started = Instant::now();
        // Nobody reads this body, and the process left behind could.
        let result = script(text, &vec![b'x'; 1 << 20]).await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{text} {took:?}");
        let pid = stdout(&result).trim();
        assert!(is_there(pid), "it is left alone: {text}");
        let killed = std::process::Command::new("kill")
            .args(["-9", pid])
            .status();
        assert!(killed.unwrap().success());
        let notes = report(&result).get("notes").map(Value::to_string);
        assert_eq!(
            notes.is_some_and(|n| n.contains("held its output")),
            held,
            "{text}"
        );
        result.unwrap();
    }
}

#[tokio::test]
async fn a_stop_sends_term_and_the_attempt_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let (ready, ended) = (folder.path().join("ready"), folder.path().join("ended"));
    let text = format!(
        "trap 'echo > {}; exit 0' TERM; echo $$ > {}; while :; do sleep 0.1; done",
        ended.display(),
        ready.display()
    );
    let handler = handler(&["/bin/sh", "-c", &text], PATIENCE);
    let (stop, delivery) = (CancellationToken::new(), delivery(b"{}"));
    let stopping = async {
        let pid = line_in(&ready).await;
        stop.cancel();
        pid
    };
    let (result, pid) = tokio::join!(handler.handle(&delivery, &stop), stopping);
    assert!(ended.exists(), "the command could tidy up");
    assert_eq!(
        result.unwrap_err().reason.as_str(),
        "ended with the service"
    );
    gone(&pid).await;
}

#[tokio::test]
async fn a_dropped_attempt_kills_its_group_and_leaves_no_zombie() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let text = format!(
        "trap '' TERM; sleep 1000 & echo $$ $! > {}; wait",
        ready.display()
    );
    let handler = handler(&["/bin/sh", "-c", &text], PATIENCE);
    let (stop, delivery) = (CancellationToken::new(), delivery(b"{}"));
    let pids = tokio::select! {
        _ = handler.handle(&delivery, &stop) => panic!("it never ends by itself"),
        pids = line_in(&ready) => pids,
    };
    for pid in pids.split(' ') {
        gone(pid).await;
    }
}

#[tokio::test]
async fn attempts_dropped_while_they_start_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let marked = folder.path().join("marked").display().to_string();
    // Its name stands in the command line, by which it is found.
    let handler = handler(&["/bin/sh", "-c", "sleep 1000; :", &marked], PATIENCE);
    let stop = CancellationToken::new();
    for micros in (0..3000).step_by(100) {
        let delivery = delivery(b"{}");
        let handling = handler.handle(&delivery, &stop);
        let _ = tokio::time::timeout(Duration::from_micros(micros), handling).await;
    }
    let left = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let is_ours = |line: &Vec<u8>| {
            line.windows(marked.len())
                .any(|part| part == marked.as_bytes())
        };
        lines.filter(is_ours).count()
    };
    let waiting = async {
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{} are left", left());
}

#[tokio::test]
async fn an_ended_command_is_reaped() {
    for text in ["echo $$", "echo $$; exit 1", "echo $$; kill -9 $$"] {
        let result = script(text, b"{}").await;
        assert!(!is_there(stdout(&result).trim()), "{text}");
    }
}

#[tokio::test]
async fn it_leads_a_group_of_its_own() {
    // Field 5 is the group.
    let result = script("cut -d' ' -f1,5 /proc/$$/stat", b"{}").await;
    let (pid, group) = stdout(&result).trim().split_once(' ').unwrap();
    assert_eq!(pid, group);
}

#[tokio::test]
async fn it_is_nicer_than_the_service() {
    let ours = rustix::process::getpriority_process(None).unwrap();
    let result = run(&["nice"], b"{}").await;
    let nice: i32 = stdout(&result).trim().parse().unwrap();
    assert_eq!(nice, (ours + 10).min(19));
}

#[tokio::test]
async fn fifty_at_once_all_get_their_own_body() {
    let handler = handler(&["cat"], PATIENCE);
    let bodies: Vec<String> = (0..50).map(|number| format!("body {number}")).collect();
    let deliveries: Vec<Delivery> = bodies.iter().map(|b| delivery(b.as_bytes())).collect();
    let runs = deliveries.iter().map(|one| run_delivery(&handler, one));
    for (body, result) in bodies
        .iter()
        .zip(futures_util::future::join_all(runs).await)
    {
        assert_eq!(stdout(&result), body);
    }
}

#[test]
fn the_environment_is_never_shown() {
    let config = ShellConfig {
        command: vec!["true".to_owned()],
        env: vec![("TOKEN".to_owned(), "s3cret".into())],
    };
    let outputs = Outputs::default();
    let handler = ShellHandler::build(&config, &context(&outputs)).unwrap();
    let shown = format!("{config:?} {handler:?}");
    assert!(
        shown.contains("true") && !shown.contains("s3cret"),
        "{shown}"
    );
}
