//! The search index: built, damaged, of another store, behind, ahead.

use super::*;
use crate::event::EventId;
use crate::store::Purge;
use crate::store::archive::{EventFilter, Page};
use crate::store::conformance::{Harness, event, until};
use jiff::Timestamp;

fn index_of(folder: &Path) -> PathBuf {
    folder.join("events.db-search")
}

/// A number out of the index's file.
fn ask(folder: &Path, sql: &str) -> i64 {
    let Ok(connection) = Connection::open(index_of(folder)) else {
        return -1;
    };
    connection
        .query_row(sql, [], |row| row.get(0))
        .unwrap_or(-1)
}

/// Stores `count` events, of a media id each; answers their ids.
async fn store(h: &Harness<Sqlite>, from: usize, count: usize) -> Vec<EventId> {
    let mut ids = Vec::new();
    for n in from..from + count {
        let mut sent = event("one", &format!("body {n}"));
        sent.media_id = Some(format!("m{n}"));
        ids.push(h.insert(sent, vec![]).await.id);
    }
    ids
}

async fn search(h: &Harness<Sqlite>, media_id: &str) -> Vec<EventId> {
    let filter = EventFilter {
        media_id: Some(media_id.to_owned()),
        ..EventFilter::default()
    };
    let (mut ids, mut after) = (Vec::new(), None);
    // Without the index a search may take more than one page's time.
    loop {
        let page = Page { limit: 10, after };
        let found = h.archive.events(&filter, page).await.unwrap();
        ids.extend(found.events.iter().map(|event| event.id));
        after = found.next;
        if after.is_none() {
            return ids;
        }
    }
}

/// Waits until the index knows so many events, and has closed its batch.
async fn indexed(h: &Harness<Sqlite>, events: i64) {
    let folder = h.engine.0.path();
    until("the index has them all", async || {
        ask(folder, "SELECT count(*) FROM by_kind") == events
            && ask(folder, "SELECT sum(events) FROM kinds") == events
    })
    .await;
}

/// Every event is found, by an index that knows all of them.
async fn whole(h: &Harness<Sqlite>, ids: &[EventId]) {
    indexed(h, ids.len() as i64).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(search(h, &format!("m{n}")).await, [*id]);
    }
}

#[tokio::test]
async fn an_index_that_was_removed_is_built_anew() {
    let mut h = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 50).await;
    whole(&h, &ids).await;
    h.store.close().await;
    std::fs::remove_file(index_of(h.engine.0.path())).unwrap();
    h.reopen().await;
    assert_eq!(search(&h, "m3").await, [ids[3]], "while it is built, too");
    whole(&h, &ids).await;
}

#[tokio::test]
async fn a_damaged_index_is_built_anew() {
    let mut h = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 50).await;
    for rubbish in [b"rubbish".to_vec(), vec![0x5a; 200_000], Vec::new()] {
        whole(&h, &ids).await;
        h.store.close().await;
        std::fs::write(index_of(h.engine.0.path()), rubbish).unwrap();
        h.reopen().await;
        assert_eq!(search(&h, "m3").await, [ids[3]]);
    }
    whole(&h, &ids).await;
    assert_eq!(h.store.health(), Ok(()));
}

#[tokio::test]
async fn an_index_that_is_damaged_while_it_is_used_is_built_anew() {
    let h = Harness::new(Sqlite::new());
    let mut ids = store(&h, 0, 300).await;
    whole(&h, &ids).await;
    // Beyond the first page, so that it opens; by another process, so that no
    // lock is lost; with what is no page, since random bytes now and then are
    // one that is empty, which nobody could tell from a sound one.
    let damaged = Command::new("sh")
        .arg("-c")
        .arg("head -c 163840 /dev/zero | tr '\\0' '\\377' | dd bs=4096 seek=1 conv=notrunc of=\"$0\"")
        .arg(index_of(h.engine.0.path()))
        .output()
        .unwrap();
    assert!(damaged.status.success());
    // A batch makes everybody read afresh. Whoever stumbles over the damage, the
    // answer is right, and the index is built anew.
    ids.extend(store(&h, 300, 20).await);
    let folder = h.engine.0.path();
    until("the damage is found and mended", async || {
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(search(&h, &format!("m{n}")).await, [*id]);
        }
        ask(folder, "SELECT count(*) FROM by_kind") == 320
            && ask(folder, "SELECT count(*) FROM by_key") == 640
    })
    .await;
    whole(&h, &ids).await;
    assert_eq!(h.store.health(), Ok(()));
}

#[tokio::test]
async fn the_index_of_another_store_is_not_believed() {
    let mut h = Harness::new(Sqlite::new());
    let other = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 40).await;
    let others = store(&other, 0, 40).await;
    whole(&other, &others).await;
    other.store.close().await;
    h.store.close().await;
    std::fs::copy(index_of(other.engine.0.path()), index_of(h.engine.0.path())).unwrap();
    h.reopen().await;
    whole(&h, &ids).await;
}

#[tokio::test]
async fn an_older_backup_of_the_store_gets_an_index_of_its_own() {
    let mut h = Harness::new(Sqlite::new());
    let mut ids = store(&h, 0, 30).await;
    h.store.close().await;
    let path = h.engine.0.path().join("events.db");
    let backup = std::fs::read(&path).unwrap();
    h.reopen().await;
    let later = store(&h, 30, 30).await;
    indexed(&h, 60).await;
    h.store.close().await;
    std::fs::write(&path, backup).unwrap();
    h.reopen().await;
    // The rows of what is lost are given to others.
    ids.extend(store(&h, 60, 30).await);
    indexed(&h, 60).await;
    for n in 30..60 {
        assert!(search(&h, &format!("m{n}")).await.is_empty());
    }
    assert!(later.iter().all(|id| !ids.contains(id)));
    for (n, id) in (60..90).zip(&ids[30..]) {
        assert_eq!(search(&h, &format!("m{n}")).await, [*id]);
    }
}

#[tokio::test]
async fn a_file_of_another_version_or_after_a_loss_of_power_is_built_anew() {
    let mut h = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 20).await;
    for change in [
        "PRAGMA user_version = 99",
        "UPDATE meta SET value = 'another start' WHERE name = 'boot';
         UPDATE meta SET value = 0 WHERE name = 'clean'",
        "DROP TABLE by_key",
    ] {
        whole(&h, &ids).await;
        h.store.close().await;
        let path = index_of(h.engine.0.path());
        by_hand(&path, "CREATE TABLE was_here (x)");
        by_hand(&path, change);
        h.reopen().await;
        whole(&h, &ids).await;
        // What could not be believed is gone as a whole.
        let left = "SELECT count(*) FROM sqlite_schema WHERE name = 'was_here'";
        until(change, async || {
            // A table that is missing shows when a search wants it.
            assert_eq!(search(&h, "m3").await, [ids[3]]);
            ask(h.engine.0.path(), left) == 0
        })
        .await;
        whole(&h, &ids).await;
    }
}

#[tokio::test]
async fn an_index_that_proves_itself_is_kept() {
    let mut h = Harness::new(Sqlite::new());
    let mut ids = store(&h, 0, 50).await;
    whole(&h, &ids).await;
    for crash in [false, true] {
        by_hand(
            &index_of(h.engine.0.path()),
            "CREATE TABLE IF NOT EXISTS was_here (x)",
        );
        if crash {
            h.crash().await;
        } else {
            h.reopen().await;
        }
        ids.extend(store(&h, ids.len(), 10).await);
        whole(&h, &ids).await;
        let left = "SELECT count(*) FROM sqlite_schema WHERE name = 'was_here'";
        assert_eq!(ask(h.engine.0.path(), left), 1, "not built anew");
    }
}

#[tokio::test]
async fn a_place_where_no_index_can_be_only_makes_searches_slower() {
    let engine = Sqlite::new();
    std::fs::create_dir(index_of(engine.0.path())).unwrap();
    let h = Harness::new(engine);
    let ids = store(&h, 0, 60).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(search(&h, &format!("m{n}")).await, [*id]);
    }
    assert_eq!(h.store.health(), Ok(()));
    h.store.close().await;
}

#[tokio::test]
async fn what_is_removed_leaves_the_index() {
    let h = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 50).await;
    whole(&h, &ids).await;
    h.clock.shift(20_000);
    let purge = Purge {
        finished_before: h.clock.now(),
        dead_before: Timestamp::UNIX_EPOCH,
    };
    while h.store.purge(purge, 1000).await.unwrap().more {}
    let folder = h.engine.0.path();
    until("no entry is left", async || {
        ask(folder, "SELECT count(*) FROM by_kind") == 0
            && ask(folder, "SELECT count(*) FROM by_key") == 0
            && ask(folder, "SELECT sum(events) FROM kinds") == 0
    })
    .await;
}

#[tokio::test]
async fn entries_that_lead_nowhere_go_when_a_search_finds_them() {
    let h = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 50).await;
    whole(&h, &ids).await;
    // As after a crash between the removal and its news.
    by_hand(
        &h.engine.0.path().join("events.db"),
        "DELETE FROM events WHERE row <= 10",
    );
    let folder = h.engine.0.path();
    until("their entries are gone", async || {
        for n in 0..10 {
            assert!(search(&h, &format!("m{n}")).await.is_empty());
        }
        // Those by media id; each event has one by its job id, too.
        ask(folder, "SELECT count(*) FROM by_key") == 90
    })
    .await;
    assert_eq!(search(&h, "m10").await, [ids[10]]);
}

#[tokio::test]
async fn more_types_than_have_numbers_are_all_found() {
    let h = Harness::new(Sqlite::new());
    let mut ids = Vec::new();
    for n in 0..60 {
        let mut sent = event("one", &format!("{n}"));
        sent.event_type = format!("Type{n}");
        ids.push(h.insert(sent, vec![]).await.id);
    }
    indexed(&h, 60).await;
    let kinds = ask(h.engine.0.path(), "SELECT count(*) FROM kinds");
    assert!(kinds < 30, "{kinds} kinds");
    for (n, id) in ids.iter().enumerate() {
        let glob = globset::Glob::new(&format!("Type{n}")).unwrap();
        let filter = EventFilter {
            types: Some(globset::GlobSet::new([glob]).unwrap()),
            ..EventFilter::default()
        };
        let page = Page {
            limit: 10,
            after: None,
        };
        let found = h.archive.events(&filter, page).await.unwrap();
        let found: Vec<_> = found.events.iter().map(|event| event.id).collect();
        assert_eq!(found, [*id], "Type{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_starts_again_beside_searches_without_pause() {
    let h = Harness::new(Sqlite::new());
    store(&h, 0, 200).await;
    let end = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let searches: Vec<_> = (0..4)
        .map(|_| {
            let (archive, end) = (Arc::clone(&h.archive), Arc::clone(&end));
            tokio::spawn(async move {
                let filter = EventFilter {
                    text: Some("nowhere".into()),
                    ..EventFilter::default()
                };
                let page = Page {
                    limit: 10,
                    after: None,
                };
                let mut searches = 0;
                while !end.load(std::sync::atomic::Ordering::Relaxed) {
                    archive.events(&filter, page).await.unwrap();
                    searches += 1;
                }
                searches
            })
        })
        .collect();
    // 160 MB through a log whose copying starts at 16 MB.
    for n in 0..8000 {
        let body = format!("{n} {}", "x".repeat(20_000));
        h.insert(event("one", &body), vec![]).await;
    }
    end.store(true, std::sync::atomic::Ordering::Relaxed);
    for search in searches {
        assert!(search.await.unwrap() > 0);
    }
    let log = std::fs::metadata(h.engine.0.path().join("events.db-wal")).unwrap();
    assert!(log.len() < 96 << 20, "the log has {} bytes", log.len());
}

#[tokio::test]
async fn two_names_of_one_store_share_one_index() {
    let mut h = Harness::new(Sqlite::new());
    let ids = store(&h, 0, 20).await;
    whole(&h, &ids).await;
    h.store.close().await;
    let folder = h.engine.0.path();
    let other = TempDir::new().unwrap();
    let link = other.path().join("events.db");
    std::os::unix::fs::symlink(folder.join("events.db"), &link).unwrap();
    let by_link = open(&link).unwrap();
    by_link.close().await;
    assert!(!index_of(other.path()).exists());
    h.reopen().await;
    whole(&h, &ids).await;
}
