//! Disks that fill up under load, and stores that cannot be used as they are.

use std::collections::HashSet;
use std::fs::{Permissions, create_dir, metadata, set_permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Folder, Refused, Service, accepted, body, bytes, output, send, wait_for};
use crate::small_disk::{SmallDisk, is_whole};

/// An event of about 20 kB.
fn large(number: u64) -> String {
    format!("{}{}", body(number), " ".repeat(20_000))
}

/// What was acknowledged and what was refused, by number.
#[derive(Default)]
struct Sent {
    acked: HashSet<String>,
    refused: Vec<u64>,
}

impl Sent {
    /// Sends events from `first` on, four at a time, until 40 were refused.
    fn until_full(&mut self, to: SocketAddr, first: u64) {
        let mut next = first;
        let mut refused = 0;
        while refused < 40 {
            assert!(next < first + 4000, "the disk never filled up");
            let senders: Vec<_> = (next..next + 4)
                .map(|number| std::thread::spawn(move || (number, send(to, &large(number)))))
                .collect();
            next += 4;
            for sender in senders {
                let (number, answer) = sender.join().expect("a sender does not panic");
                match answer.expect("the service answers, full or not") {
                    (200, answer) => {
                        let id = answer["id"].as_str().expect("an id");
                        self.acked.insert(id.to_owned());
                    }
                    (503, _) => {
                        self.refused.push(number);
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn all_are_there(service: &Service, folder: &Folder, acked: &HashSet<String>) {
    for id in acked {
        service.succeeded(id);
    }
    let logged: HashSet<String> = folder.logged().into_iter().collect();
    assert!(acked.is_subset(&logged), "every one was handed over");
}

#[test]
fn a_full_disk_is_503_and_heals_by_itself() {
    let disk = SmallDisk::mount(24 * 1024);
    let store = disk.path("events.db");
    let folder = Folder::with_log().set("store.path", store.display());
    disk.take(16 * 1024);
    let service = folder.start();
    let mut sent = Sent::default();
    sent.until_full(service.ingest, 0);
    assert!(sent.acked.len() > 50, "{} fitted", sent.acked.len());
    wait_for("the service says that it is not ready", || {
        (service.get("/readyz").0 == 503).then_some(())
    });

    disk.make_room();
    wait_for("the store heals without traffic", || {
        (service.get("/readyz").0 == 200).then_some(())
    });
    for number in sent.refused.drain(..) {
        sent.acked
            .insert(accepted(service.ingest, &large(number)).0);
    }
    all_are_there(&service, &folder, &sent.acked);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    is_whole(&store);
}

/// A running service whose disk its own events have filled.
struct Filled {
    disk: SmallDisk,
    store: PathBuf,
    folder: Folder,
    service: Service,
    sent: Sent,
}

fn filled() -> Filled {
    let disk = SmallDisk::mount(12 * 1024);
    disk.take(4 * 1024);
    let store = disk.path("events.db");
    let folder = Folder::with_log().set("store.path", store.display());
    let service = folder.start();
    let mut sent = Sent::default();
    sent.until_full(service.ingest, 0);
    disk.fill();
    Filled {
        disk,
        store,
        folder,
        service,
        sent,
    }
}

#[test]
fn a_kill_and_a_start_on_a_full_disk_lose_nothing() {
    let Filled {
        disk,
        store,
        folder,
        service,
        sent,
    } = filled();
    service.kill();

    // Whether the log still has room for a start is chance here.
    let started = folder.try_start();
    if let Err(refused) = &started {
        says_that_it_is_full(refused, &store);
    }
    disk.make_room();
    let service = started.unwrap_or_else(|_| folder.start());
    wait_for("the store is healthy", || {
        (service.get("/readyz").0 == 200).then_some(())
    });
    all_are_there(&service, &folder, &sent.acked);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    is_whole(&store);
}

#[test]
fn a_start_without_any_room_says_so() {
    let disk = SmallDisk::mount(2 * 1024);
    let store = disk.path("events.db");
    let folder = Folder::with_log().set("store.path", store.display());
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    disk.fill();
    let refused = folder.try_start().err().expect("its log has no room");
    // A supervisor that takes 64 for final tries again.
    assert_eq!(refused.code, Some(1));
    says_that_it_is_full(&refused, &store);
    disk.make_room();
    folder.start().succeeded(&id);
}

fn says_that_it_is_full(refused: &Refused, store: &Path) {
    let path = store.display().to_string();
    for word in [&*path, "room", "start again"] {
        assert!(refused.output.contains(word), "{refused:#?}");
    }
    assert!(!refused.output.contains("backup"), "{refused:#?}");
}

#[test]
fn a_stop_on_a_full_disk_ends_and_loses_nothing() {
    let Filled {
        disk,
        store,
        folder,
        service,
        sent,
    } = filled();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    disk.make_room();
    let service = folder.start();
    all_are_there(&service, &folder, &sent.acked);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    is_whole(&store);
}

/// Asserts that `serve` refuses the store and says why and what to do.
fn refused(folder: &Folder, words: &[&str]) {
    let (code, stdout, stderr) = output(folder.command().arg("serve"));
    assert_eq!(code, 64, "{stdout}{stderr}");
    assert!(!stdout.contains("listening"), "{stdout}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
}

/// The same, with every byte of `store` and of what lies beside it unchanged.
fn refused_untouched(folder: &Folder, store: &Path, words: &[&str]) {
    let here = || -> Vec<(PathBuf, Vec<u8>)> {
        let parent = store.parent().expect("a folder");
        let entries = std::fs::read_dir(parent).expect("a folder");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("it can be read").path())
            // The lock is taken before the store is looked at.
            .filter(|path| path.is_file() && !path.to_string_lossy().ends_with(".lock"))
            .map(|path| (path.clone(), bytes(&path)))
            .collect();
        files.sort();
        files
    };
    let before = here();
    refused(folder, words);
    assert!(here() == before, "something was changed");
}

#[test]
fn a_database_of_a_newer_version_is_refused_untouched() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let store = folder.path("data/events.db");
    let set_version = |version: u32| {
        let connection = rusqlite::Connection::open(&store).expect("a database");
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = delete; PRAGMA user_version = {version};"
            ))
            .expect("it can be written");
    };
    set_version(99);
    let path = store.display().to_string();
    refused_untouched(
        &folder,
        &store,
        &[&path, "newer ims-receiver", "start that newer release"],
    );
    set_version(2);
    folder.start().succeeded(&id);
}

#[test]
fn what_is_no_database_is_refused_untouched() {
    for content in [
        &b"this is no database at all"[..],
        b"SQLite format 3\0 and nothing else",
        &[0; 4096],
    ] {
        let folder = Folder::with_log();
        create_dir(folder.path("data")).expect("a folder");
        let store = folder.path("data/events.db");
        std::fs::write(&store, content).expect("a file");
        let path = store.display().to_string();
        refused_untouched(&folder, &store, &[&path, "no database", "`store.path`"]);
    }
}

#[test]
fn a_directory_in_place_of_the_store_is_refused() {
    let folder = Folder::with_log();
    let store = folder.path("data/events.db");
    std::fs::create_dir_all(&store).expect("a folder");
    let path = store.display().to_string();
    refused(&folder, &[&path, "directory", "`store.path`"]);
    assert!(store.read_dir().expect("a folder").next().is_none());
}

#[test]
fn a_read_only_file_system_is_refused_untouched() {
    let disk = SmallDisk::mount(4096);
    let store = disk.path("events.db");
    let folder = Folder::with_log().set("store.path", store.display());
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    disk.make_read_only();
    let path = disk.path("").display().to_string();
    let path = path.trim_end_matches('/');
    refused_untouched(&folder, &store, &[path, "cannot be written", "Read-only"]);
}

/// Root may write everywhere, so the service runs as somebody else here.
#[test]
fn a_folder_of_another_user_is_refused_by_name() {
    const NOBODY: u32 = 65_534;
    let readable = |path: &Path, mode| {
        set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    };
    let folder = Folder::with_log();
    readable(&folder.path(""), 0o755);
    readable(&folder.path("receiver.toml"), 0o644);
    // The build's own folder may be closed to others.
    let program = folder.path("ims-receiver");
    std::fs::copy(folder.command().get_program(), &program).expect("a copy");
    readable(&program, 0o755);
    create_dir(folder.path("data")).expect("a folder");
    readable(&folder.path("data"), 0o755);
    let store = folder.path("data/events.db");
    std::fs::write(&store, "").expect("a file");
    let given = folder.command();
    let mut command = std::process::Command::new(&program);
    command
        .args(given.get_args())
        .arg("serve")
        .uid(NOBODY)
        .gid(NOBODY);
    let (code, stdout, stderr) = output(&mut command);
    assert_eq!(code, 64, "{stdout}{stderr}");
    let data = folder.path("data").display().to_string();
    let owner =
        "belongs to user 0 and group 0 with mode 755, and this is user 65534 of group 65534";
    let chown = format!("`chown 65534:65534 {data}`");
    for word in [&*data, "cannot be written", owner, &chown, "`store.path`"] {
        assert!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
    assert_eq!(metadata(&store).expect("a file").len(), 0);
    let entries = folder.path("data").read_dir().expect("a folder");
    assert_eq!(entries.count(), 1, "nothing was put beside it");
}

/// Every file and folder below `folder`, with its rights.
fn rights_below(folder: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("it can be read").path();
        let rights = metadata(&path).expect("it is there").permissions().mode();
        found.push((path.clone(), rights & 0o777));
        if path.is_dir() {
            rights_below(&path, found);
        }
    }
}

#[test]
fn what_is_made_is_for_the_service_alone_whatever_its_umask_was() {
    let folder = Folder::new("[handlers.audit]\nkind = \"log\"\noutput = \"logs/events.log\"\n");
    create_dir(folder.path("logs")).expect("a folder");
    let service = folder.start_under("000");
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    let mut found = Vec::new();
    rights_below(&folder.path("data"), &mut found);
    rights_below(&folder.path("logs"), &mut found);
    let name = |path: &Path| path.file_name().expect("a name").to_owned();
    let names: Vec<_> = found.iter().map(|(path, _)| name(path)).collect();
    for expected in [
        "events.db",
        "events.db-wal",
        "events.db-shm",
        "events.db.lock",
        "events.log",
    ] {
        assert!(names.contains(&expected.into()), "{expected} {names:?}");
    }
    let data = metadata(folder.path("data")).expect("a folder");
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
    for (path, rights) in found {
        assert_eq!(rights, 0o600, "{}", path.display());
    }
}

/// The warnings about the place of the store.
fn doubts(service: &Service) -> Vec<String> {
    let log = service.log().into_iter();
    log.filter(|line| line.contains("\"WARN\"") && line.contains("store.path: lies "))
        .collect()
}

#[test]
fn a_store_in_memory_is_warned_about() {
    let disk = SmallDisk::mount(4096);
    let folder = Folder::with_log().set("store.path", disk.path("data/events.db").display());
    let doubts = doubts(&folder.start());
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert!(doubts[0].contains("in memory"), "{doubts:?}");
}

/// Layers over a small disk, until they are dropped.
struct Layers(SmallDisk);

impl Layers {
    fn mount() -> Self {
        let disk = SmallDisk::mount(16_384);
        for name in ["lower", "upper", "work", "merged"] {
            create_dir(disk.path(name)).expect("a folder");
        }
        let option = |name: &str| format!("{name}dir={}", disk.path(name).display());
        let options = ["lower", "upper", "work"].map(option).join(",");
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(disk.path("merged"));
        let (code, _, stderr) = output(&mut mount);
        assert_eq!(code, 0, "this takes the right to mount: {stderr}");
        Self(disk)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let _ = umount.arg("-l").arg(self.0.path("merged")).status();
    }
}

#[test]
fn a_store_in_a_containers_own_layer_is_warned_about() {
    let layers = Layers::mount();
    let store = layers.0.path("merged/data/events.db");
    let folder = Folder::with_log().set("store.path", store.display());
    let service = folder.start();
    let doubts = doubts(&service);
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert!(doubts[0].contains("container's own layer"), "{doubts:?}");
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
}
