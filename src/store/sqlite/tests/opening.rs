//! What a start finds: locks, foreign and newer files, folders it cannot use.

use std::path::Path;

use super::*;
use crate::store::Archive;

fn refused(path: &Path, words: &[&str]) {
    let text = match open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(
        text.starts_with(&path.display().to_string())
            || text.contains("cannot be")
            || text.contains("is to be a folder"),
        "{text}"
    );
}

/// Asserts that a refusal leaves the folder as it is, but for the lock.
fn refused_untouched(path: &Path, words: &[&str]) {
    let before = std::fs::read(path).unwrap();
    let mut expected = files(path.parent().unwrap());
    refused(path, words);
    assert!(std::fs::read(path).unwrap() == before, "the bytes changed");
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    expected.push(lock.into());
    expected.sort();
    expected.dedup();
    assert_eq!(files(path.parent().unwrap()), expected);
}

/// A store that was closed in good order.
async fn closed_store(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("events.db");
    open(&path).unwrap().close().await;
    let mut left = files(folder.path());
    // A store that lived for a moment may have had no time for one.
    left.retain(|file| *file != folder.path().join("events.db-search"));
    let expected = ["events.db", "events.db.lock"].map(|name| folder.path().join(name));
    assert_eq!(left, expected, "no log and no journal");
    path
}

#[test]
fn a_second_holder_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    let store = open(&path).unwrap();
    let pid = std::process::id().to_string();
    refused(&path, &["in use by another", &pid, "stop that process"]);
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refused(&link, &["in use by another"]);
    drop(store);
    open_when_free(&path, SetClock::new(), 10).unwrap();
}

#[test]
fn a_lock_held_by_another_process_is_respected() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    let lock = folder.path().join("events.db.lock");
    let mut holder = Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", "echo held; read _"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("flock of util-linux is there");
    let mut said = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    refused(&path, &["in use by another"]);
    assert!(!path.exists());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    open_when_free(&path, SetClock::new(), 10).unwrap();
}

#[test]
fn what_is_no_database_is_refused_untouched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    for text in [
        "hello".to_owned(),
        "hello ".repeat(1000),
        "SQLite format 3\0".into(),
    ] {
        std::fs::write(&path, text).unwrap();
        refused_untouched(&path, &["no database of ims-receiver", "store.path"]);
    }
}

#[test]
fn the_database_of_another_program_is_refused_untouched() {
    let modes = ["PRAGMA journal_mode = delete", "PRAGMA journal_mode = wal"];
    for (mode, version) in modes.iter().zip([0, 70]) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("events.db");
        by_hand(
            &path,
            &format!("{mode}; PRAGMA user_version = {version}; CREATE TABLE bookmarks (a);"),
        );
        refused_untouched(&path, &["database of another program"]);
    }
}

#[test]
fn an_empty_file_and_an_empty_database_become_a_store() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    std::fs::write(&path, "").unwrap();
    open(&path).unwrap();
    let path = folder.path().join("vacuumed.db");
    by_hand(&path, "PRAGMA user_version = 0; VACUUM;");
    open(&path).unwrap();
}

#[tokio::test]
async fn a_store_of_the_release_before_is_taken_over_and_stays_open_to_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    let first = include_str!("../schema/0001.sql");
    by_hand(
        &path,
        &format!(
            "{first} PRAGMA application_id = {};
             PRAGMA user_version = 1;
             INSERT INTO meta (name, value) VALUES ('version', 1), ('oldest_reader', 1);
             INSERT INTO handlers (name) VALUES ('cms');",
            0x494d_5372
        ),
    );
    let store = open(&path).unwrap();
    let cms = crate::store::conformance::name("cms");
    let paused = store.set_paused(&cms, true, SetClock::new().now()).await;
    assert_eq!(paused, Ok(Some(true)));
    store.close().await;
    let after = Connection::open(&path).unwrap();
    let value = |name: &str| -> u32 {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        after.query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    assert_eq!((value("version"), value("oldest_reader")), (2, 1));
    // What the release before does with it.
    after
        .execute_batch("UPDATE handlers SET removed_at = 5, returned_at = 6 WHERE name = 'cms'")
        .unwrap();
}

#[tokio::test]
async fn a_newer_version_is_refused_untouched() {
    let folder = TempDir::new().unwrap();
    let path = closed_store(&folder).await;
    by_hand(&path, "PRAGMA user_version = 99;");
    refused_untouched(&path, &["newer ims-receiver", "99", "not touched"]);
    // Admitted by its words, but not by what was written together with them.
    by_hand(&path, "UPDATE meta SET value = 98 WHERE name = 'version';");
    refused_untouched(&path, &["newer ims-receiver"]);
    by_hand(
        &path,
        "UPDATE meta SET value = 99 WHERE name = 'version';
         UPDATE meta SET value = 90 WHERE name = 'oldest_reader';",
    );
    refused_untouched(&path, &["newer ims-receiver"]);
}

#[tokio::test]
async fn a_newer_version_that_admits_this_one_opens() {
    let folder = TempDir::new().unwrap();
    let path = closed_store(&folder).await;
    by_hand(
        &path,
        "PRAGMA user_version = 99;
         UPDATE meta SET value = 99 WHERE name = 'version';
         ALTER TABLE events ADD COLUMN added_later TEXT;",
    );
    open(&path).unwrap().close().await;
    let version: u32 = Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 99, "it stays what it is");
}

#[tokio::test]
async fn a_newer_version_that_is_only_in_the_log_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = closed_store(&folder).await;
    let newer = Connection::open(&path).unwrap();
    newer
        .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 99;")
        .unwrap();
    let header = std::process::Command::new("head")
        .args(["-c", "100"])
        .arg(&path)
        .output()
        .unwrap()
        .stdout;
    assert_eq!(header[63], 2, "the database itself does not know yet");
    refused(&path, &["newer ims-receiver"]);
    drop(newer);
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(
        &file.join("data/events.db"),
        &["data: is to be a folder", "file is a file", "store.path"],
    );
    refused(
        Path::new("/proc/nowhere/events.db"),
        &["cannot be written", "user"],
    );
    let directory = folder.path().join("directory.db");
    std::fs::create_dir(&directory).unwrap();
    refused(&directory, &["directory"]);
}

#[test]
fn what_may_not_be_written_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    drop(open(&path).unwrap());
    drop(open_when_free(&path, SetClock::new(), 10).unwrap());
    drop(take_when_free(&path));
    let mut rights = std::fs::metadata(&path).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(&path, rights).unwrap();
    refused(&path, &["cannot be written", "user"]);
}

fn take_when_free(path: &Path) -> StoreLock {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match StoreLock::take(path) {
            Ok(lock) => return lock,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_folder_is_made_and_commits_are_synced() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/b/events.db");
    let lock = StoreLock::take(&path).unwrap();
    let connection = super::super::open::open_writer(&lock).unwrap();
    let pragma = |name: &str| -> String {
        connection
            .pragma_query_value(None, name, |row| {
                row.get_ref(0).map(|value| match value {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str().unwrap().to_owned(),
                })
            })
            .unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("synchronous"), "2", "full");
    assert_eq!(pragma("wal_autocheckpoint"), "0");
    assert_eq!(pragma("temp_store"), "2", "in memory: there may be no /tmp");
    assert_eq!(pragma("journal_size_limit"), (64 << 20).to_string());
    assert_eq!(pragma("user_version"), "2");
    assert_eq!(pragma("application_id"), 0x494d_5372.to_string());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(path.parent().unwrap())
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
    let reader = super::super::open::open_reader(&path).unwrap();
    let temp_store: u32 = reader
        .pragma_query_value(None, "temp_store", |row| row.get(0))
        .unwrap();
    assert_eq!(temp_store, 2);
}
