//! Disks that are full, and files that change under the running service.

use std::process::Stdio;

use super::*;
use crate::delivery::{Status, Verdict};
use crate::store::StoreError;
use crate::store::conformance::{
    Harness, SlotFate, event, filled, handed, resolved, settlement, until,
};

/// A file system of its own, small enough to fill.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(kilobytes: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .expect("mount of util-linux is there");
        assert!(
            mounted.status.success(),
            "a full disk is tested on a small tmpfs, which needs the right to mount: run as root or under `unshare -Urm`: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("events.db")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        let zeros = vec![0; 4096];
        while std::io::Write::write_all(&mut ballast, &zeros).is_ok() {}
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a store that is about to end may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

impl Engine for SmallDisk {
    fn open(&self, clock: Arc<dyn Clock>, entries_max: u32) -> Opened {
        both_sides(open_when_free(&self.path(), clock, entries_max).unwrap())
    }

    fn lose_power(&mut self) {
        unreachable!("no test of the full disk does");
    }
}

fn is_whole(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_heals_by_itself() {
    let mut h = Harness::new(SmallDisk::mount(32 * 1024));
    let kept = h.pending("kept", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    h.engine.fill();
    let body = |n: u32| format!("{n} {}", "x".repeat(100_000));
    let mut stored = vec![kept];
    let mut refused = 0;
    for n in 0..60 {
        let (wanted, mut fate) = handed("log");
        match resolved(
            h.store
                .insert(event("one", &body(n)), vec![wanted])
                .unwrap(),
        )
        .await
        {
            Ok(inserted) => {
                assert_eq!(filled(&mut fate).event.id, inserted.id);
                stored.push(inserted.id);
            }
            Err(StoreError::Unavailable(_)) => {
                refused += 1;
                assert!(matches!(fate.try_recv(), Ok(SlotFate::Dropped)));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0);
    until("the fault shows", async || h.store.health().is_err()).await;
    let outcome = h
        .store
        .record(key.clone(), settlement(Verdict::Succeeded, h.now()))
        .await;
    let waits = matches!(outcome, Err(StoreError::Unavailable(_)));
    assert!(waits || outcome == Ok(()), "{outcome:?}");
    let backlog = h.store.backlog().await.unwrap();
    let waiting = backlog.get("log").map_or(0, |log| log.unfinished);
    assert_eq!(waiting, stored.len() as u64 - 1);

    std::fs::remove_file(h.engine.ballast()).unwrap();
    until("healed without traffic", async || h.store.health().is_ok()).await;
    if waits {
        h.record(key, Verdict::Succeeded).await.unwrap();
    }
    assert_eq!(h.stands(kept, "cms").await.0, Status::Succeeded);
    for n in 0..60 {
        let again = h.insert(event("one", &body(n)), vec![]).await;
        assert_eq!(again.duplicate, stored.contains(&again.id), "{n}");
    }
    h.reopen().await;
    for id in stored {
        assert!(h.store.history(id).await.unwrap().is_some());
    }
    h.store.close().await;
    is_whole(&h.engine.path());
}

/// Lets the writer notice what happened to its file, by traffic.
async fn goes_on(h: &Harness<Sqlite>, body: &str) {
    until("the store goes on", async || {
        let receipt = h.store.insert(event("one", body), vec![]);
        match receipt {
            Ok(receipt) => resolved(receipt).await.is_ok() && h.store.health().is_ok(),
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_removed_is_noticed() {
    let mut h = Harness::new(Sqlite::new());
    let folder = h.engine.0.path().to_owned();
    let (wanted, mut fate) = handed("cms");
    let lost = h.insert(event("one", "a"), vec![wanted]).await.id;
    let key = filled(&mut fate).key();
    for file in ["events.db", "events.db-wal", "events.db-shm"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    until("a new file", async || folder.join("events.db").exists()).await;
    goes_on(&h, "b").await;
    assert!(h.store.history(lost).await.unwrap().is_none());
    assert_eq!(
        h.record(key, Verdict::Succeeded).await,
        Err(StoreError::NotOurs)
    );
    assert!(
        h.store
            .backlog()
            .await
            .unwrap()
            .values()
            .all(|b| b.unfinished == 0)
    );
    // The window is of the new file as well.
    assert!(!h.insert(event("one", "a"), vec![]).await.duplicate);
    assert!(h.insert(event("one", "b"), vec![]).await.duplicate);
    // No later start gets this worker's number.
    let worker = h.store.worker();
    h.crash().await;
    assert!(h.store.worker().0 > worker.0);
    assert!(h.insert(event("one", "b"), vec![]).await.duplicate);
}

#[tokio::test]
async fn a_log_that_was_removed_is_saved_into_the_database() {
    let h = Harness::new(Sqlite::new());
    let folder = h.engine.0.path().to_owned();
    let id = h.pending("a", &["cms"]).await;
    std::fs::remove_file(folder.join("events.db-wal")).unwrap();
    until("a new log", async || folder.join("events.db-wal").exists()).await;
    goes_on(&h, "b").await;
    assert_eq!(h.stands(id, "cms").await, (Status::Pending, 0));
    assert!(h.insert(event("one", "a"), vec![]).await.duplicate);
}

#[tokio::test]
async fn a_file_overwritten_with_rubbish_crashes_nothing() {
    let h = Harness::new(Sqlite::new());
    let path = h.engine.0.path().join("events.db");
    h.pending("a", &["cms"]).await;
    let rubbish = h.engine.0.path().join("rubbish");
    std::fs::write(&rubbish, vec![0x5a; 64 * 1024]).unwrap();
    let original = h.engine.0.path().join("original");
    std::fs::rename(&path, &original).unwrap();
    std::fs::rename(&rubbish, &path).unwrap();
    until("the fault shows", async || h.store.health().is_err()).await;
    let refused = resolved(h.store.insert(event("one", "b"), vec![]).unwrap()).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(h.store.claim(&[], h.now()).await.is_err());
    assert_eq!(
        std::fs::read(&path).unwrap(),
        vec![0x5a; 64 * 1024],
        "left as it is"
    );
    // Put back where it was, it is taken up again, without traffic.
    std::fs::rename(&original, &path).unwrap();
    until("healed", async || h.store.health().is_ok()).await;
    assert!(h.insert(event("one", "a"), vec![]).await.duplicate);
    h.store.close().await;
    is_whole(&path);
}

/// Has the next commit reach the disk and yet end in an I/O error.
fn fail_next_commit(store: &SqliteStore) {
    store
        .shared
        .commit_fault
        .store(true, std::sync::atomic::Ordering::Release);
}

#[tokio::test]
async fn commits_of_unknown_end_leave_nothing_stuck() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    let clock = SetClock::new();
    let lock = StoreLock::take(&path).unwrap();
    let store = Arc::new(SqliteStore::open(config(&path, clock.clone(), 1000), lock).unwrap());
    let h = Harness {
        engine: Sqlite(folder),
        clock,
        store: Arc::clone(&store) as Arc<dyn Store>,
        archive: Arc::clone(&store) as _,
    };
    let unavailable = |error: &StoreError| matches!(error, StoreError::Unavailable(_));

    fail_next_commit(&store);
    let (wanted, mut fate) = handed("cms");
    let result = resolved(store.insert(event("one", "a"), vec![wanted]).unwrap()).await;
    assert!(unavailable(result.as_ref().unwrap_err()), "{result:?}");
    assert!(matches!(fate.try_recv(), Ok(SlotFate::Dropped)));
    assert!(store.health().is_err());
    // The repeat finds it; nobody has its attempt, so it is due.
    let repeat = h.insert(event("one", "a"), vec![]).await;
    assert!(repeat.duplicate);
    assert_eq!(h.stands(repeat.id, "cms").await, (Status::Pending, 0));
    assert_eq!(store.backlog().await.unwrap()["cms"].unfinished, 1);

    fail_next_commit(&store);
    let claimed = store
        .claim(&[(crate::store::conformance::name("cms"), 1)], h.now())
        .await;
    assert!(unavailable(&claimed.unwrap_err()));
    let delivery = h.claim("cms", 1).await.remove(0);
    assert_eq!(delivery.attempt, 1);

    fail_next_commit(&store);
    let outcome = h.record(delivery.key(), Verdict::Succeeded).await;
    assert!(unavailable(&outcome.unwrap_err()));
    let again = h.record(delivery.key(), Verdict::Succeeded).await;
    assert_eq!(again, Err(StoreError::NotOurs), "it was written");
    assert_eq!(h.stands(repeat.id, "cms").await, (Status::Succeeded, 1));
    assert_eq!(store.backlog().await.unwrap()["cms"].unfinished, 0);
    until("healed", async || store.health().is_ok()).await;
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_go_of_its_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.db");
    let store = open(&path).unwrap();
    let receipt = store.insert(event("one", "a"), vec![]).unwrap();
    drop(store);
    let id = resolved(receipt).await.unwrap().id;
    let store = open_when_free(&path, SetClock::new(), 10).unwrap();
    assert!(store.history(id).await.unwrap().is_some());
}
