use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::harness::{Folder, body, output, wait_for};
use crate::mns::QUEUE;
use crate::mns_emulator::{Emulator, KEY_ID, KEY_SECRET, Key};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mns_sdks");

/// The folder of the SDKs, which are installed where they are missing.
fn sdks() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mns-sdks");
        if !folder.join("installed").exists() {
            let install = Path::new(SCRIPTS).join("install");
            let (code, stdout, stderr) = output(Command::new(install).arg(&folder));
            assert_eq!(
                code, 0,
                "the SDKs need python3 with pip, and npm; tests/run installs both: {stdout}{stderr}"
            );
        }
        folder
    })
}

/// Lets an SDK do everything that it can, and our service read what it sent.
fn agrees(mut command: Command, token: Option<&str>) {
    let emulator = Emulator::start(&[]);
    emulator.strict();
    let key = Key {
        secret: KEY_SECRET.to_owned(),
        token: token.map(str::to_owned),
        expires: None,
    };
    emulator.set_key(KEY_ID, key);
    let bodies: Vec<String> = (0..20).map(body).collect();
    let task = serde_json::json!({
        "endpoint": emulator.url(),
        "queue": QUEUE,
        "id": KEY_ID,
        "secret": KEY_SECRET,
        "token": token,
        "bodies": bodies,
    });
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the interpreter starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all(task.to_string().as_bytes())
        .expect("it is read");
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&done.stdout), text(&done.stderr));
    assert!(
        done.status.success() && stdout.contains("done"),
        "{stdout}{stderr}"
    );
    assert_eq!(emulator.left(QUEUE), bodies.len());

    let token = token.map(|token| format!("security_token = \"{token}\"\n"));
    let source = format!(
        "[sources.queue]\nkind = \"mns\"\nendpoint = \"{}\"\nqueue = \"{QUEUE}\"\n[sources.queue.credentials]\naccess_key_id = \"{KEY_ID}\"\naccess_key_secret = \"{KEY_SECRET}\"\n{}",
        emulator.url(),
        token.unwrap_or_default(),
    );
    let folder = Folder::with_log().configured(&source);
    let service = folder.start();
    wait_for("the queue is empty", || {
        (emulator.left(QUEUE) == 0).then_some(())
    });
    let lines = wait_for("every event is handed over", || {
        Some(folder.lines()).filter(|lines| lines.len() == bodies.len())
    });
    let jobs: HashSet<&str> = lines
        .iter()
        .filter_map(|line| line["job_id"].as_str())
        .collect();
    assert_eq!(jobs.len(), bodies.len(), "{lines:#?}");
    assert!(
        lines
            .iter()
            .all(|line| line["event_type"] == "ProduceMediaComplete")
    );
    drop(service);
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command
        .arg(Path::new(SCRIPTS).join("drive.py"))
        .env("PYTHONPATH", sdks().join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command
        .arg(Path::new(SCRIPTS).join("drive.js"))
        .arg(sdks().join("node"));
    command
}

#[test]
fn the_official_python_sdk_agrees() {
    agrees(python(), None);
}

#[test]
fn the_official_node_sdk_agrees() {
    agrees(node(), None);
}

#[test]
fn both_agree_on_temporary_keys() {
    let token = "CAIS+token/with=signs";
    agrees(python(), Some(token));
    agrees(node(), Some(token));
}
