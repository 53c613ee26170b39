//! The store's file, looked after from outside: checked, copied while the
//! service works, made smaller, and kept in its bounds.

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::harness::{Folder, Service, accepted, body, bytes, output, wait_for};
use crate::small_disk::SmallDisk;

fn stop(service: Service) {
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
}

/// Runs `store` with these arguments; answers exit code, stdout and stderr.
fn store(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    output(folder.command().arg("store").args(arguments))
}

/// A stopped store with this many finished events.
fn filled(folder: &Folder, events: u64) -> Vec<String> {
    let service = folder.start();
    let ids: Vec<String> = (0..events)
        .map(|number| accepted(service.ingest, &body(number)).0)
        .collect();
    for id in &ids {
        service.succeeded(id);
    }
    stop(service);
    ids
}

fn files(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("it can be read").file_name();
        name.to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Four senders without pause, until they are ended.
struct Load {
    end: Arc<AtomicBool>,
    acked: Arc<Mutex<HashSet<String>>>,
    senders: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(service: &Service) -> Self {
        let (end, acked, next) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<HashSet<String>>>::default(),
            Arc::new(AtomicU64::new(1_000_000)),
        );
        let to = service.ingest;
        let sender = |_| {
            let (end, acked, next) = (Arc::clone(&end), Arc::clone(&acked), Arc::clone(&next));
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (id, _) = accepted(to, &body(number));
                    acked.lock().expect("plain insert").insert(id);
                }
            })
        };
        Self {
            senders: (0..4).map(sender).collect(),
            end,
            acked,
        }
    }

    fn acked(&self) -> HashSet<String> {
        self.acked.lock().expect("plain read").clone()
    }

    fn end(self) -> HashSet<String> {
        self.end.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.join().expect("a sender does not panic");
        }
        let acked = self.acked.lock().expect("plain read");
        acked.clone()
    }
}

#[test]
fn a_backup_under_load_holds_what_was_acked_before_and_is_whole() {
    let folder = Folder::with_log();
    let service = folder.start();
    let load = Load::start(&service);
    wait_for("some events are stored", || {
        (load.acked().len() > 300).then_some(())
    });
    let before = load.acked();
    let backup = folder.path("backup.db");
    let started = Instant::now();
    let (code, stdout, stderr) = store(&folder, &["backup", backup.to_str().expect("UTF-8")]);
    let took = started.elapsed();
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("checked"), "{stdout}");
    let after = load.end();
    assert!(after.len() > before.len(), "there was load");
    println!(
        "{} events before, {} after {took:?}",
        before.len(),
        after.len()
    );
    let mode = std::fs::metadata(&backup)
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let beside = files(&folder.path(""));
    assert!(
        !beside.iter().any(|name| name.starts_with("backup.db.")),
        "{beside:?}"
    );
    let (code, stdout, stderr) = store(&folder, &["check"]);
    assert_eq!(code, 0, "beside the service: {stdout}{stderr}");
    stop(service);

    // Another service goes on with the copy.
    let copy = Folder::with_log().set("store.path", backup.display());
    let (code, stdout, stderr) = store(&copy, &["check"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("no problem found"), "{stdout}");
    let restored = copy.start();
    for id in &before {
        restored.succeeded(id);
    }
    stop(restored);
}

#[test]
fn a_backup_overwrites_nothing_and_says_what_is_wrong() {
    let folder = Folder::with_log();
    let backup = folder.path("backup.db");
    let target = backup.to_str().expect("UTF-8");
    let (code, _, stderr) = store(&folder, &["backup", target]);
    assert_eq!(code, 64, "{stderr}");
    assert!(stderr.contains("no store yet"), "{stderr}");
    assert!(!folder.path("data").exists(), "nothing is made");
    filled(&folder, 1);
    std::fs::write(&backup, "mine").expect("a file");
    let (code, _, stderr) = store(&folder, &["backup", target]);
    assert_eq!(code, 64, "{stderr}");
    assert!(stderr.contains("is there already"), "{stderr}");
    assert_eq!(bytes(&backup), b"mine");
    let nowhere = folder.path("no/such/folder/backup.db");
    let (code, _, stderr) = store(&folder, &["backup", nowhere.to_str().expect("UTF-8")]);
    assert_eq!(code, 64, "{stderr}");
    // One that was interrupted is no obstacle.
    std::fs::remove_file(&backup).expect("a file");
    std::fs::write(folder.path("backup.db.part"), "half").expect("a file");
    assert_eq!(store(&folder, &["backup", target]).0, 0);
    assert!(!folder.path("backup.db.part").exists());
    // A disk without room for it stays as it is.
    let disk = SmallDisk::mount(64);
    let (code, _, stderr) = store(
        &folder,
        &["backup", disk.path("b.db").to_str().expect("UTF-8")],
    );
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("free"), "{stderr}");
    assert!(files(&disk.path("")).is_empty());
}

#[test]
fn a_check_changes_nothing_and_counts() {
    let folder = Folder::with_log();
    let (code, _, stderr) = store(&folder, &["check"]);
    assert_eq!(code, 64, "{stderr}");
    filled(&folder, 20);
    let path = folder.path("data/events.db");
    let before = (bytes(&path), files(&folder.path("data")));
    let (code, stdout, stderr) = store(&folder, &["check"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains("20 events; deliveries: 0 pending, 0 running, 20 succeeded"),
        "{stdout}"
    );
    assert!(before == (bytes(&path), files(&folder.path("data"))));
}

/// Asserts that a check finds damage, names it and says what to do.
fn damaged(folder: &Folder, words: &[&str]) {
    let (code, stdout, stderr) = store(folder, &["check"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    for word in ["problem: ", "last good backup", "move "]
        .iter()
        .chain(words)
    {
        assert!(stdout.contains(word), "no {word:?} in: {stdout}");
    }
    let backup = folder.path("backup.db");
    let (code, _, stderr) = store(folder, &["backup", backup.to_str().expect("UTF-8")]);
    assert_ne!(code, 0, "{stderr}");
    assert!(!backup.exists(), "no damaged backup is kept");
}

#[test]
fn a_check_finds_flipped_bytes_wherever_they_are() {
    let folder = Folder::with_log();
    let ids = filled(&folder, 30);
    let path = folder.path("data/events.db");
    let good = bytes(&path);
    // In a body, which no page of SQLite vouches for.
    let mut bad = good.clone();
    let mark = b"\"media-17\"";
    let at = bad
        .windows(mark.len())
        .rposition(|window| window == mark)
        .expect("the body is there");
    bad[at + 1] ^= 1;
    std::fs::write(&path, &bad).expect("a file");
    damaged(&folder, &["is not what was received", &ids[17]]);
    // In the header of every page but the first.
    let mut bad = good.clone();
    for page in bad.chunks_mut(4096).skip(1) {
        page[0] ^= 0x40;
        page[5] ^= 0xff;
    }
    std::fs::write(&path, &bad).expect("a file");
    damaged(&folder, &[]);
    // In the first bytes of all.
    let mut bad = good.clone();
    bad[3] ^= 1;
    std::fs::write(&path, &bad).expect("a file");
    damaged(&folder, &["first bytes"]);
    std::fs::write(&path, &good).expect("a file");
    assert_eq!(store(&folder, &["check"]).0, 0);
}

#[test]
fn a_check_knows_the_laws_of_this_program() {
    for (sql, words) in [
        (
            "DELETE FROM events WHERE row = 3",
            "deliveries without their event",
        ),
        (
            "UPDATE deliveries SET status = 7 WHERE event = 2",
            "contradict each other",
        ),
        (
            "UPDATE deliveries SET due = 5 WHERE event = 2",
            "contradict each other",
        ),
        (
            "UPDATE deliveries SET attempts = 0 WHERE event = 2",
            "a number that it never had",
        ),
        (
            "DELETE FROM deliveries WHERE event = 2",
            "attempts without their delivery",
        ),
        (
            "UPDATE attempts SET result = 9 WHERE event = 4",
            "a result that there is not",
        ),
        (
            "UPDATE events SET received_at = received_at + 1 WHERE row = 5",
            "does not say when",
        ),
        (
            "UPDATE events SET id = (SELECT id FROM events WHERE row = 1) WHERE row = 2",
            "share their id",
        ),
        (
            "INSERT INTO duplicates VALUES (77, 1)",
            "duplicates without their event",
        ),
    ] {
        let folder = Folder::with_log();
        filled(&folder, 6);
        let connection =
            rusqlite::Connection::open(folder.path("data/events.db")).expect("a store");
        assert_eq!(
            connection.execute(sql, []).expect("it can be written"),
            1,
            "{sql}"
        );
        drop(connection);
        damaged(&folder, &[words]);
    }
}

#[test]
fn compacting_gives_space_back_and_keeps_everything() {
    let folder = Folder::with_log();
    let ids = filled(&folder, 400);
    let path = folder.path("data/events.db");
    {
        // What retention would have removed.
        let connection = rusqlite::Connection::open(&path).expect("a store");
        for table in ["attempts", "deliveries", "duplicates"] {
            let sql = format!("DELETE FROM {table} WHERE event <= 390");
            connection.execute(&sql, []).expect("it can be written");
        }
        connection
            .execute("DELETE FROM events WHERE row <= 390", [])
            .expect("it can be written");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).expect("root may");
    let before = std::fs::metadata(&path).expect("it is there");
    let service = folder.start();
    let (code, _, stderr) = store(&folder, &["compact"]);
    assert_eq!(code, 64, "{stderr}");
    assert!(
        stderr.contains("in use by another ims-receiver"),
        "{stderr}"
    );
    stop(service);

    let (code, stdout, stderr) = store(&folder, &["compact"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains(" before, ") && stdout.contains(" now"),
        "{stdout}"
    );
    let after = std::fs::metadata(&path).expect("it is there");
    assert!(
        after.len() * 3 < before.len(),
        "{} of {}",
        after.len(),
        before.len()
    );
    let of = |file: &std::fs::Metadata| (file.uid(), file.gid(), file.mode());
    assert_eq!(of(&after), of(&before), "the service can still use it");
    let mut left = files(&folder.path("data"));
    left.retain(|file| file != "events.db-search");
    assert_eq!(left, ["events.db", "events.db.lock"]);
    assert_eq!(store(&folder, &["check"]).0, 0);
    let service = folder.start();
    for id in &ids[390..] {
        service.succeeded(id);
    }
    assert_eq!(
        accepted(service.ingest, &body(395)),
        (ids[395].clone(), true)
    );
    stop(service);
}

#[test]
fn compacting_without_room_or_beside_a_shell_changes_nothing() {
    let disk = SmallDisk::mount(3 * 1024);
    let path = disk.path("events.db");
    let folder = Folder::with_log().set("store.path", path.display());
    let (code, _, stderr) = store(&folder, &["compact"]);
    assert_eq!(code, 64, "{stderr}");
    assert!(!path.exists());
    let ids = filled(&folder, 50);
    let shell = rusqlite::Connection::open(&path).expect("a store");
    let count = || {
        shell.query_row("SELECT count(*) FROM events", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    assert_eq!(count(), Ok(50));
    let (code, _, stderr) = store(&folder, &["compact"]);
    assert_eq!(code, 64, "{stderr}");
    assert!(stderr.contains("another program has it open"), "{stderr}");
    drop(shell);
    disk.fill();
    let (code, _, stderr) = store(&folder, &["compact"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("make room first"), "{stderr}");
    disk.make_room();
    assert_eq!(store(&folder, &["check"]).0, 0);
    let service = folder.start();
    for id in &ids {
        service.succeeded(id);
    }
    stop(service);
}

/// Makes the events of these rows two days older, as time would.
fn age(path: &Path, rows: std::ops::Range<i64>) {
    const TWO_DAYS: i64 = 2 * 24 * 3600 * 1000;
    let connection = rusqlite::Connection::open(path).expect("a store");
    for row in rows {
        let (id, at): ([u8; 16], i64) = connection
            .query_row(
                "SELECT id, received_at FROM events WHERE row = ?1",
                [row],
                |found| Ok((found.get(0)?, found.get(1)?)),
            )
            .expect("it is there");
        let at = at - TWO_DAYS;
        let mut aged = id;
        aged[..6].copy_from_slice(&at.to_be_bytes()[2..]);
        connection
            .execute(
                "UPDATE events SET id = ?2, received_at = ?3 WHERE row = ?1",
                rusqlite::params![row, aged, at],
            )
            .expect("it can be written");
    }
}

#[test]
fn a_disk_that_gets_full_costs_old_events_first_and_is_told_once() {
    let disk = SmallDisk::mount(16 * 1024);
    let path = disk.path("events.db");
    let folder = Folder::with_log()
        .set("store.path", path.display())
        .set("store.disk_free_min", 12 << 20);
    let service = folder.start();
    let large = |number| format!("{}{}", body(number), " ".repeat(20_000));
    for number in 0..100 {
        let (id, _) = accepted(service.ingest, &large(number));
        service.succeeded(&id);
    }
    stop(service);
    age(&path, 1..51);
    // Less is free than should be by 2 MiB and a little, which all of the old
    // ones together do not give back.
    let free = rustix::fs::statvfs(&path).expect("a disk");
    let free = free.f_bavail * free.f_frsize;
    disk.take(usize::try_from(free.saturating_sub(10 << 20) / 1024).expect("a number"));
    let service = folder.start();
    wait_for("the old ones are gone", || {
        let early = "ims_receiver_early_purged_events_total{cause=\"disk_free_min\"}";
        (service.metric(early) == Some(50.0)).then_some(())
    });
    let told = |words: &str| {
        let log = service.log();
        log.iter().filter(|line| line.contains(words)).count()
    };
    assert_eq!(told("the disk is nearly full"), 1, "{:#?}", service.log());
    assert!(told(&path.display().to_string()) >= 1);
    disk.make_room();
    wait_for("the end is told as well", || {
        (told("the disk has room again") == 1).then_some(())
    });
    assert_eq!(told("the disk is nearly full"), 1);
    stop(service);
    let (code, stdout, _) = store(&folder, &["check"]);
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("50 events; "), "{stdout}");
}
