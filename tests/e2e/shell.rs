//! Commands of the user's.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Folder, Service, body, output, wait_for};

/// A folder whose one handler runs `script`, which may name the folder `{}`.
fn folder(script: &str, keys: &str) -> Folder {
    let folder = Folder::new("");
    let config = folder.path("receiver.toml");
    let script = script.replace("{}", &folder.path("").display().to_string());
    let mut text = fs::read_to_string(&config).expect("the configuration");
    text.push_str(&format!(
        "[handlers.hook]\nkind = \"shell\"\ncommand = {}\n{keys}\n",
        toml::Value::from(script)
    ));
    fs::write(config, text).expect("the configuration");
    folder
}

/// Sends one event; answers its id.
fn sent(service: &Service, body: &str) -> String {
    let (status, answer) = service.send(body).expect("an answer");
    assert_eq!(status, 200);
    answer["id"].as_str().expect("an id").to_owned()
}

/// The delivery of event `id`, once it has `status`.
fn delivery(service: &Service, id: &str, status: &str) -> Value {
    wait_for(&format!("the delivery is {status}"), || {
        let delivery = service.event(id)["deliveries"][0].clone();
        (delivery["status"] == status).then_some(delivery)
    })
}

/// A line that a command wrote.
fn line(file: &Path) -> String {
    wait_for("the command writes its line", || {
        let text = fs::read_to_string(file).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    })
}

fn gone(pid: &str) {
    assert!(pid.parse::<u32>().is_ok(), "{pid:?}");
    wait_for("the process is gone", || {
        (!Path::new("/proc").join(pid).exists()).then_some(())
    });
}

/// The states of the children of a process.
fn children(parent: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            // The name, in brackets, may hold anything.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?.to_owned();
            (fields.next()? == parent.to_string()).then_some(state)
        })
        .collect()
}

#[test]
fn a_command_gets_the_event_and_its_output_is_in_the_history() {
    let script =
        r#"cat; echo "$IMS_EVENT_ID $IMS_JOB_ID $MODEL" >&2; [ $IMS_ATTEMPT -gt 1 ] || exit 3"#;
    let folder = folder(
        script,
        "env = { MODEL = 'large' }\nretry = { initial = '10ms' }",
    );
    let service = folder.start();
    let id = sent(&service, &body(1));
    let delivery = delivery(&service, &id, "succeeded");
    let [first, second] = delivery["history"]
        .as_array()
        .expect("a history")
        .as_slice()
    else {
        panic!("{delivery}")
    };
    let report = |exit: u32| json!({"exit": exit, "stdout": body(1), "stderr": format!("{id} job-1 large\n")});
    assert_eq!(first["report"], report(3));
    assert_eq!(
        (&first["result"], &first["reason"]),
        (&"failed".into(), &"exit 3".into())
    );
    assert_eq!(second["report"], report(0));
    assert_eq!(
        (&second["result"], &second["reason"]),
        (&"succeeded".into(), &Value::Null)
    );
}

#[test]
fn exit_100_is_dead_at_once_and_a_timeout_is_repeated() {
    let service_folder = folder("exit 100", "");
    let service = service_folder.start();
    let id = sent(&service, &body(1));
    let dead = delivery(&service, &id, "dead");
    assert_eq!(
        (&dead["reason"], &dead["attempts"]),
        (&"exit 100".into(), &1.into())
    );

    let keys = "timeout = '200ms'\nretry = { initial = '10ms', attempts = 2 }";
    let service_folder = folder("echo so far; sleep 100", keys);
    let service = service_folder.start();
    let id = sent(&service, &body(1));
    let dead = delivery(&service, &id, "dead");
    assert_eq!(dead["attempts"], 2);
    let first = &dead["history"][0];
    assert_eq!(first["reason"], "timeout after 200ms");
    assert_eq!(first["report"]["stdout"], "so far\n");
    assert_eq!(first["report"]["signal"], 15);
}

#[test]
fn nothing_that_is_open_reaches_a_command() {
    // 3 is the folder that `ls` reads.
    let folder = folder("ls /proc/self/fd; ls -l /proc/self/fd | grep -c socket", "");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    // The listener as systemd passes it on, and two descriptors that nobody
    // told the service about, as a supervisor or `flock` leaves them open.
    let pass_on =
        r#"exec 3<&0 4<&0 9</etc/passwd 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#;
    let inner = folder.command();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", pass_on, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(folder.path(""))
        .stdin(Stdio::from(OwnedFd::from(listener)));
    let service = folder.start_as(&mut command);
    assert_eq!(service.ingest, address);
    let id = sent(&service, &body(1));
    // `grep` counts none and fails.
    let seen = wait_for("an attempt is recorded", || {
        let attempt = service.event(&id)["deliveries"][0]["history"][0].clone();
        attempt["report"]["stdout"].as_str().map(str::to_owned)
    });
    assert_eq!(seen, "0\n1\n2\n3\n0\n");
}

#[test]
fn hostile_events_are_data() {
    let script = r#"printf '%s\n' -- "$IMS_EVENT_TYPE" "$IMS_USER_ID" "$IMS_EVENT_TIME" "$IMS_JOB_ID" "$IMS_MEDIA_ID" >/dev/null"#;
    let folder = folder(script, "");
    let canary = folder.path("canary");
    let service = folder.start();
    let touch = format!("touch {}", canary.display());
    let nul = "a\0b".repeat(100);
    let inject = format!("$({touch})\n`{touch}`;{touch}&");
    for text in [&inject, "--help", "-n", "'\"\r\n", &nul] {
        let kind: String = text.chars().take(120).collect();
        let event = json!({
            "EventType": kind, "UserId": text, "EventTime": text,
            "MessageBody": {"Status": "Success", "JobId": text, "MediaId": text},
        });
        let id = sent(&service, &event.to_string());
        let done = delivery(&service, &id, "succeeded");
        let notes = done["history"][0]["report"]["notes"].to_string();
        assert_eq!(notes.contains("NUL in IMS_JOB_ID"), text == nul, "{notes}");
    }
    // A megabyte is no id; the body on stdin still has it.
    let long = "$(id)".repeat(200_000);
    for (name, event) in [
        (
            "JobId",
            json!({"EventType": "X", "MessageBody": {"JobId": long}}),
        ),
        (
            "MediaId",
            json!({"EventType": "X", "MessageBody": {"MediaId": long}}),
        ),
        ("UserId", json!({"EventType": "X", "UserId": long})),
        ("EventTime", json!({"EventType": "X", "EventTime": long})),
    ] {
        let id = sent(&service, &event.to_string());
        delivery(&service, &id, "succeeded");
        let notes = service.event(&id)["notes"].to_string();
        assert!(notes.contains(name), "{notes}");
    }
    assert!(!canary.exists(), "something was executed");
}

#[test]
fn no_zombie_is_left_however_commands_end() {
    let script = r#"case $IMS_JOB_ID in *0) exit 0;; *1) exit 1;; *2) kill -9 $$;; *3) sleep 100;; *4) sleep 0.2 & exit 0;; *5) setsid sleep 0.2 & exit 0;; *) exec 0<&- 1>&- 2>&-;; esac"#;
    let folder = folder(
        script,
        "timeout = '500ms'\nretry = { initial = '1h', max = '1h' }",
    );
    let service = folder.start();
    let ids: Vec<String> = (0..40)
        .map(|number| sent(&service, &body(number)))
        .collect();
    for id in &ids {
        wait_for("it was tried", || {
            let event = service.event(id);
            event["deliveries"][0]["history"][0]["result"]
                .as_str()
                .map(|_| ())
        });
    }
    wait_for("no child is left", || {
        children(service.pid()).is_empty().then_some(())
    });
}

#[test]
fn a_stop_gives_commands_time_to_tidy_up() {
    let script = "echo $$ >> {}/started; [ $IMS_ATTEMPT -gt 1 ] && exit 0; trap 'echo tidied; exit 0' TERM; while :; do sleep 0.1; done";
    let folder = folder(script, "");
    let service = folder.start();
    let id = sent(&service, &body(1));
    let pid = line(&folder.path("started"));
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    gone(&pid);
    let service = folder.start();
    assert_eq!(service.taken_over(), 0);
    let done = delivery(&service, &id, "succeeded");
    let first = &done["history"][0];
    assert_eq!(
        (&first["result"], &first["reason"]),
        (&"stopped".into(), &"stopped with the service".into())
    );
    assert_eq!(first["report"]["exit"], 0);
    assert_eq!(first["report"]["stdout"], "tidied\n");
    assert_eq!(done["attempts"], 2);
}

#[test]
fn at_the_end_of_the_drain_commands_are_killed() {
    let folder = folder(
        "trap '' TERM; echo $$ > {}/started; while :; do sleep 0.1; done",
        "",
    );
    let service = folder.start();
    sent(&service, &body(1));
    let pid = line(&folder.path("started"));
    let stopped = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let took = stopped.elapsed();
    // The folder's `drain` is 3 s, less than KILL would take otherwise.
    let fits = Duration::from_millis(2900)..Duration::from_millis(4500);
    assert!(fits.contains(&took), "{took:?}");
    gone(&pid);
}

#[test]
fn a_second_signal_kills_commands_as_well() {
    let folder = folder(
        "trap '' TERM; echo $$ > {}/started; while :; do sleep 0.1; done",
        "",
    );
    let service = folder.start();
    sent(&service, &body(1));
    let pid = line(&folder.path("started"));
    service.signal("-TERM");
    wait_for("it is stopping", || {
        let log = service.log();
        log.iter()
            .any(|line| line.contains("stopping: "))
            .then_some(())
    });
    let again = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(1));
    assert!(again.elapsed() < Duration::from_secs(1), "at once");
    gone(&pid);
}

#[test]
fn a_command_that_is_not_there_is_a_warning_and_a_reason() {
    let folder = Folder::new(
        "[handlers.hook]\nkind = \"shell\"\ncommand = [\"./hook\"]\nretry = { initial = \"50ms\", max = \"50ms\" }\n",
    );
    let (code, stdout, _) = output(folder.command().arg("check"));
    assert_eq!(code, 0);
    let warning = "warning: handlers.hook.command: ./hook cannot be run: No such file or directory";
    assert!(stdout.contains(warning), "{stdout}");
    let service = folder.start();
    let id = sent(&service, &body(1));
    let reason = wait_for("an attempt failed", || {
        let attempt = service.event(&id)["deliveries"][0]["history"][0].clone();
        attempt["reason"].as_str().map(str::to_owned)
    });
    assert_eq!(
        reason,
        "could not start: No such file or directory (./hook)"
    );
    // Installed while the service runs.
    let hook = folder.path("hook");
    fs::write(folder.path("new"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(folder.path("new"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(folder.path("new"), hook).expect("a rename");
    delivery(&service, &id, "succeeded");
}

#[test]
fn a_listener_is_free_as_soon_as_the_service_has_ended() {
    // A command that outlives its service must not hold the port.
    let folder = folder("setsid sleep 5 >/dev/null 2>&1 & exit 0", "");
    let service = folder.start();
    let id = sent(&service, &body(1));
    delivery(&service, &id, "succeeded");
    let address = service.ingest;
    service.kill();
    TcpListener::bind(address).expect("the port is free");
}

#[test]
fn whoever_started_the_service_may_ignore_the_end_of_children() {
    let folder = folder("exit 3", "");
    let inner = folder.command();
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("--ignore-signal=CHLD")
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(folder.path(""));
    let service = folder.start_as(&mut command);
    let id = sent(&service, &body(1));
    let reason = wait_for("an attempt failed", || {
        let attempt = service.event(&id)["deliveries"][0]["history"][0].clone();
        attempt["reason"].as_str().map(str::to_owned)
    });
    assert_eq!(reason, "exit 3");
}
