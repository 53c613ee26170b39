//! Keys that change under a running service, in each of the ways in which
//! such files change.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Folder, Post, Service, body, output, wait_for};

const OLD: &str = "OldKeyOldKeyOldKey1";
const NEW: &str = "NewKeyNewKeyNewKey2";

/// What the contract promises.
const IN_FORCE: Duration = Duration::from_secs(10);

/// A folder with a source whose keys are in `file`.
fn folder(file: &str) -> Folder {
    Folder::new(&format!(
        r#"
[sources.keyed]
kind = "http"
path = "/keyed"
callback_urls = ["https://callbacks.example.com/keyed"]
auth = {{ scheme = "ims", keys_file = "{file}" }}
[handlers.audit]
kind = "log"
output = "events.log"
"#
    ))
}

fn status(service: &Service, key: &str, number: u64) -> u16 {
    let body = body(number);
    let post = Post {
        path: "/keyed",
        url: "https://callbacks.example.com/keyed",
        key,
        ..Post::of(&body)
    };
    post.send(service.ingest).expect("an answer").0
}

/// Waits until `key` is accepted, or is not any more; in the promised time.
fn comes_to(service: &Service, key: &str, expected: u16) {
    let since = Instant::now();
    wait_for("the keys in force are others", || {
        (status(service, key, 1) == expected).then_some(())
    });
    assert!(since.elapsed() < IN_FORCE, "{:?}", since.elapsed());
}

/// The lines of the service's log with this message.
fn said(service: &Service, message: &str) -> Vec<Value> {
    let log = service.log();
    assert!(
        !log.iter()
            .any(|line| line.contains(OLD) || line.contains(NEW)),
        "no key is ever told: {log:#?}"
    );
    log.iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == message)
        .collect()
}

const CHANGED: &str = "the keys changed";
const BROKEN: &str = "the file of keys cannot be used; the keys in force stay";
const MENDED: &str = "the file of keys can be used again";

#[test]
fn keys_rotate_step_by_step_and_each_is_counted() {
    let folder = folder("keys");
    let file = folder.path("keys");
    fs::write(&file, OLD).expect("a file");
    let service = folder.start();
    assert_eq!(status(&service, OLD, 1), 200);
    assert_eq!(status(&service, NEW, 2), 401);

    fs::write(&file, format!("{NEW}\n{OLD}\n")).expect("a file");
    comes_to(&service, NEW, 200);
    assert_eq!(status(&service, OLD, 3), 200, "both are good meanwhile");
    let changed = wait_for("the change is told", || said(&service, CHANGED).pop());
    assert_eq!(changed["source"], "keyed");
    assert_eq!(changed["file"], "keys");
    assert_eq!(changed["level"], "INFO");
    let numbers = ["keys", "added", "removed"].map(|name| changed[name].as_u64());
    assert_eq!(numbers, [Some(2), Some(1), Some(0)], "{changed}");
    let series = |key| format!("ims_receiver_authentic_total{{source=\"keyed\",key=\"{key}\"}}");
    assert_eq!(
        service.metric(&series(2)),
        Some(1.0),
        "a position that the start did not know"
    );
    let before = service.metric(&series(1)).expect("it is counted");
    assert_eq!(status(&service, NEW, 4), 200);
    assert_eq!(service.metric(&series(1)), Some(before + 1.0));

    fs::write(&file, NEW).expect("a file");
    comes_to(&service, OLD, 401);
    assert_eq!(status(&service, NEW, 5), 200);
    assert_eq!(said(&service, CHANGED).len(), 2);
    assert_eq!(said(&service, BROKEN).len(), 0);
}

/// Puts `keys` where a secret of Kubernetes has them: in a dated folder that
/// the link `..data` names.
fn publish(volume: &Path, version: &str, keys: &str) {
    let dated = volume.join(version);
    fs::create_dir(&dated).expect("a folder");
    fs::write(dated.join("keys"), keys).expect("a file");
    let next = volume.join("..data_tmp");
    symlink(version, &next).expect("a link");
    fs::rename(next, volume.join("..data")).expect("it takes the place of the other");
}

#[test]
fn a_secret_of_kubernetes_is_followed_through_its_links() {
    let folder = folder("secret/keys");
    let volume = folder.path("secret");
    fs::create_dir(&volume).expect("a folder");
    publish(&volume, "..2026_11_24_01", OLD);
    symlink("..data/keys", volume.join("keys")).expect("a link");
    let service = folder.start();
    assert_eq!(status(&service, OLD, 1), 200);

    publish(&volume, "..2026_11_24_02", NEW);
    fs::remove_dir_all(volume.join("..2026_11_24_01")).expect("it is left");
    comes_to(&service, NEW, 200);
    assert_eq!(status(&service, OLD, 2), 401);
    assert_eq!(said(&service, BROKEN).len(), 0);
}

/// A folder mounted over another one until it is dropped.
struct Over<'a>(&'a Path);

impl<'a> Over<'a> {
    fn mount(what: &Path, over: &'a Path) -> Self {
        let mut mount = Command::new("mount");
        let (code, _, stderr) = output(mount.arg("--bind").args([what, over]));
        assert_eq!(
            code, 0,
            "this takes the right to mount: run as root or under `unshare -Urm`: {stderr}"
        );
        Self(over)
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn what_is_mounted_over_the_file_is_read() {
    let folder = folder("secret/keys");
    for (name, key) in [("secret", OLD), ("other", NEW)] {
        fs::create_dir(folder.path(name)).expect("a folder");
        fs::write(folder.path(name).join("keys"), key).expect("a file");
    }
    let service = folder.start();
    assert_eq!(status(&service, OLD, 1), 200);
    let secret = folder.path("secret");
    let mounted = Over::mount(&folder.path("other"), &secret);
    comes_to(&service, NEW, 200);
    drop(mounted);
    comes_to(&service, OLD, 200);
    assert_eq!(status(&service, NEW, 2), 401);
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_keys_in_force() {
    let folder = folder("keys");
    let file = folder.path("keys");
    fs::write(&file, OLD).expect("a file");
    let service = folder.start();
    let broken = |count: usize, words: &str| {
        let lines = wait_for("the fault is told", || {
            let lines = said(&service, BROKEN);
            (lines.len() >= count).then_some(lines)
        });
        assert_eq!(lines.len(), count, "{lines:#?}");
        let last = &lines[count - 1];
        assert_eq!(
            (&last["source"], &last["level"]),
            (&"keyed".into(), &"WARN".into())
        );
        assert_eq!(last["file"], "keys");
        let error = last["error"].as_str().expect("a text");
        assert!(error.contains(words), "{last}");
        assert!(last["hint"].is_string(), "{last}");
        assert_eq!(status(&service, OLD, 10 + count as u64), 200);
    };
    fs::write(&file, "\n").expect("a file");
    broken(1, "nothing but blank lines");
    fs::write(&file, format!("{NEW}\n{NEW} {OLD}\n")).expect("a file");
    broken(2, "line 2 has a blank");
    assert_eq!(
        status(&service, NEW, 2),
        401,
        "not even the line that is whole"
    );
    fs::remove_file(&file).expect("it is there");
    broken(3, "No such file");
    fs::create_dir(&file).expect("a folder");
    broken(4, "directory");
    fs::remove_dir(&file).expect("it is there");
    fs::write(&file, OLD).expect("a file");
    wait_for("the mending is told", || said(&service, MENDED).pop());
    fs::write(&file, NEW).expect("a file");
    comes_to(&service, NEW, 200);
    assert_eq!(said(&service, BROKEN).len(), 4, "each was told once");
}

#[test]
fn keys_that_cannot_be_read_again_are_said_wherever_one_looks() {
    let folder = folder("keys");
    let file = folder.path("keys");
    fs::write(&file, OLD).expect("a file");
    let service = folder.start();
    let doctor = || {
        let mut command = folder.command();
        let url = format!("http://{}", service.admin);
        output(command.args(["doctor", "--admin", &url]))
    };
    let series = "ims_receiver_keys_unusable{source=\"keyed\"}";
    assert_eq!(service.metric(series), Some(0.0));
    let (code, well, _) = doctor();
    assert_eq!(code, 0, "{well}");
    assert!(service.get("/").1.contains("All is well"));

    // As after a copy that the service's user may not read.
    fs::remove_file(&file).expect("it is there");
    wait_for("the metric says it", || {
        (service.metric(series) == Some(1.0)).then_some(())
    });
    let words = "the keys cannot be read again since 20";
    let (code, told, _) = doctor();
    assert_eq!(code, 1, "{told}");
    let todo = told.split("What to do\n").nth(1).expect("what to do");
    for part in ["Mend the file of keys", words, "create the file"] {
        assert!(todo.contains(part), "no {part} in {told}");
    }
    let (code, ready) = service.get("/readyz");
    assert_eq!(code, 200, "the old keys work: {ready}");
    assert!(
        ready.contains(&format!("sources.keyed: {words}")),
        "{ready}"
    );
    let page = service.get("/").1;
    assert!(page.contains("Needs attention") && page.contains(words));
    let stats: Value = serde_json::from_str(&service.get("/api/stats").1).expect("JSON");
    assert!(
        stats["reasons"][0]
            .as_str()
            .expect("a text")
            .contains(words)
    );
    assert_eq!(status(&service, OLD, 77), 200);

    fs::write(&file, OLD).expect("a file");
    wait_for("it is mended", || {
        (service.metric(series) == Some(0.0)).then_some(())
    });
    assert_eq!(doctor().0, 0);
    assert!(!service.get("/readyz").1.contains("keyed"));

    // Two lines that ran into one, since the first did not end.
    fs::write(&file, format!("{NEW}{OLD}")).expect("a file");
    let long = wait_for("the long key is told", || {
        let lines = said(&service, "a key is longer than IMS takes (32 characters)");
        lines.into_iter().next()
    });
    assert_eq!(long["characters"], 38);
    let hint = long["hint"].as_str().expect("a text");
    assert!(hint.contains("do two stand on one line"), "{long}");
}

/// The recipe of the README keeps owner, group, mode and the file itself, which
/// may be mounted on its own.
#[test]
fn the_recipe_for_another_key_writes_into_the_file() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("it is there");
    let section = readme
        .split("## Change the key")
        .nth(1)
        .expect("the section");
    let recipe = section
        .split("```sh")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the recipe");
    let removal = section
        .split("then remove\n   that line: `")
        .nth(1)
        .and_then(|rest| rest.split('`').next())
        .expect("how the old key goes");
    let folder = folder("ims-keys");
    let file = folder.path("ims-keys");
    // Without an end of its line, as some editors leave it.
    fs::write(&file, OLD).expect("a file");
    chown(&file, None, Some(1234)).expect("this runs as root");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("our file");
    let service = folder.start();
    let identity = || {
        let of = fs::metadata(&file).expect("it is there");
        (of.ino(), of.uid(), of.gid(), of.mode() & 0o777)
    };
    let before = identity();
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(folder.path(""));
        let (code, _, said) = output(&mut shell);
        assert_eq!(code, 0, "{said}");
        fs::read_to_string(&file).expect("text")
    };
    let keys = run(recipe);
    let lines: Vec<&str> = keys.lines().collect();
    assert_eq!((lines.len(), lines[0].len(), lines[1]), (2, 32, OLD));
    assert_eq!(identity(), before);
    let copy = fs::metadata(folder.path("ims-keys.old")).expect("the copy");
    assert_eq!(copy.mode() & 0o777, 0o640);
    comes_to(&service, lines[0], 200);
    assert_eq!(status(&service, OLD, 2), 200);
    assert_eq!(run(removal), format!("{}\n", lines[0]));
    assert_eq!(identity(), before);
    assert!(!folder.path("ims-keys.old").exists());
    comes_to(&service, OLD, 401);
}
