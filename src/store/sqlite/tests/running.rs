//! The engine at work: readers beside the writer, the log's size, one bad item
//! in a batch.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::conformance::{Harness, at, event, filled, handed, name, owed, resolved, until};
use crate::store::{Purge, StoreError};

fn wal_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("events.db-wal")).map_or(0, |file| file.len())
}

#[tokio::test]
async fn one_bad_item_fails_alone() {
    let h = Harness::new(Sqlite::new());
    by_hand(
        &h.engine.0.path().join("events.db"),
        "CREATE TRIGGER bad BEFORE INSERT ON events WHEN NEW.type = 'bad'
         BEGIN SELECT RAISE(ABORT, 'no such type'); END;",
    );
    let waiting = h.pending("waiting", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    // All in one batch or in several: the same must come out.
    let mut receipts = Vec::new();
    for n in 0..200 {
        let mut sent = event("one", &format!("{}", n / 2));
        if n / 2 == 50 {
            sent.event_type = "bad".into();
        }
        let (wanted, fate) = handed("log");
        receipts.push((n, fate, h.store.insert(sent, vec![wanted]).unwrap()));
    }
    h.record(key, crate::delivery::Verdict::Succeeded)
        .await
        .unwrap();
    for (n, mut fate, receipt) in receipts {
        let result = resolved(receipt).await;
        if n / 2 == 50 {
            assert!(matches!(result, Err(StoreError::Rejected(_))), "{result:?}");
        } else {
            let inserted = result.unwrap();
            assert_eq!(inserted.duplicate, n % 2 == 1);
            if n % 2 == 0 {
                assert_eq!(filled(&mut fate).event.id, inserted.id);
            }
        }
        assert!(
            n % 2 == 0 && n / 2 != 50
                || !matches!(
                    fate.try_recv(),
                    Ok(crate::store::conformance::SlotFate::Filled(_))
                )
        );
    }
    assert_eq!(h.store.health(), Ok(()));
    assert_eq!(
        h.stands(waiting, "cms").await.0,
        crate::delivery::Status::Succeeded
    );
    let backlog = h.store.backlog().await.unwrap();
    assert_eq!(
        backlog[&name("log")].unfinished,
        99,
        "what failed does not count"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_read_blocks_no_other() {
    let h = Harness::new(Sqlite::new());
    let bad = h.pending("bad", &["cms"]).await;
    h.pending("good", &["cms"]).await;
    by_hand(
        &h.engine.0.path().join("events.db"),
        "UPDATE events SET verified = '{\"scheme\":\"of-2030\"}' WHERE row = 1",
    );
    let claimed = h.claim("cms", 1).await;
    let claimed = if claimed.is_empty() {
        h.claim("cms", 1).await
    } else {
        claimed
    };
    assert_eq!(&claimed[0].event.content.body[..], b"good");
    assert!(h.claim("cms", 5).await.is_empty());
    by_hand(
        &h.engine.0.path().join("events.db"),
        "UPDATE events SET verified = '{\"scheme\":\"none\"}' WHERE row = 1",
    );
    assert_eq!(
        h.stands(bad, "cms").await,
        (crate::delivery::Status::Pending, 0)
    );
    h.clock.shift(3600);
    assert_eq!(
        h.claim("cms", 5).await.len(),
        1,
        "it goes on when it can be read"
    );
}

/// Stores `count` events of 20 kB each.
async fn store_large(h: &Harness<Sqlite>, from: usize, count: usize) {
    for chunk in (from..from + count).collect::<Vec<_>>().chunks(64) {
        let receipts: Vec<_> = chunk
            .iter()
            .map(|n| {
                let body = format!("{n} {}", "x".repeat(20_000));
                h.store.insert(event("one", &body), vec![]).unwrap()
            })
            .collect();
        for receipt in receipts {
            resolved(receipt).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_beside_busy_readers() {
    let h = Harness::new(Sqlite::new());
    let id = h.pending("a", &[]).await;
    let end = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, end) = (Arc::clone(&h.store), Arc::clone(&end));
            tokio::spawn(async move {
                while !end.load(Ordering::Relaxed) {
                    assert!(store.history(id).await.unwrap().is_some());
                }
            })
        })
        .collect();
    // 80 MB through a log whose copying starts at 16 MB.
    store_large(&h, 0, 4000).await;
    let size = wal_bytes(h.engine.0.path());
    end.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(size < 64 << 20, "the log has {size} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stays_holds_up_no_commit() {
    let h = Harness::new(Sqlite::new());
    h.pending("a", &[]).await;
    let path = h.engine.0.path().join("events.db");
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |reader: &Connection| -> i64 {
        reader
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(&reader), 1);
    let mut worst = Duration::ZERO;
    for n in 0..40 {
        let began = Instant::now();
        store_large(&h, n * 64, 64).await;
        worst = worst.max(began.elapsed());
    }
    assert!(worst < Duration::from_secs(5), "a commit took {worst:?}");
    assert_eq!(count(&reader), 1, "the reader sees its own moment");
    assert!(
        wal_bytes(h.engine.0.path()) > 16 << 20,
        "the log waits for it"
    );
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    // Once it is gone the log begins anew and does not grow beyond its size.
    until("the log starts again", async || {
        let before = wal_bytes(h.engine.0.path());
        store_large(&h, rand::random_range(10_000..1 << 40), 64).await;
        wal_bytes(h.engine.0.path()) <= before
    })
    .await;
    assert_eq!(h.store.health(), Ok(()));
}

#[tokio::test]
async fn another_program_with_the_file_locked_is_waited_for() {
    let h = Harness::new(Sqlite::new());
    let other = Connection::open(h.engine.0.path().join("events.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut receipt = h.store.insert(event("one", "a"), vec![]).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), &mut receipt).await;
    assert!(early.is_err(), "neither stored nor refused yet: {early:?}");
    other.execute_batch("ROLLBACK").unwrap();
    resolved(receipt).await.unwrap();
}

#[tokio::test]
async fn another_program_that_does_not_let_go_is_a_broken_store_that_heals() {
    let h = Harness::new(Sqlite::new());
    let other = Connection::open(h.engine.0.path().join("events.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (wanted, mut fate) = handed("cms");
    let receipt = h.store.insert(event("one", "a"), vec![wanted]).unwrap();
    let result = resolved(receipt).await;
    assert!(
        matches!(result, Err(StoreError::Unavailable(_))),
        "{result:?}"
    );
    assert!(matches!(
        fate.try_recv(),
        Ok(crate::store::conformance::SlotFate::Dropped)
    ));
    assert!(h.store.health().unwrap_err().contains("locked"));
    other.execute_batch("ROLLBACK").unwrap();
    until("healed", async || h.store.health().is_ok()).await;
    assert!(
        !h.insert(event("one", "a"), vec![owed("cms")])
            .await
            .duplicate
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_writer_and_retention_race_without_harm() {
    let h = Harness::new(Sqlite::new());
    let end = Arc::new(AtomicBool::new(false));
    let purge = Purge {
        finished_before: at(i64::from(u32::MAX) * 1000),
        dead_before: at(i64::from(u32::MAX) * 1000),
    };
    let (store, stop) = (Arc::clone(&h.store), Arc::clone(&end));
    let sweeper = tokio::spawn(async move {
        let mut removed = 0;
        while !stop.load(Ordering::Relaxed) {
            removed += store.purge(purge, 50).await.unwrap().removed;
            store.backlog().await.unwrap();
        }
        removed
    });
    let mut stored = 0;
    for round in 0..40 {
        let receipts: Vec<_> = (0..50)
            .map(|n| {
                let body = format!("{round} {n}");
                h.store
                    .insert(event("one", &body), vec![owed("cms")])
                    .unwrap()
            })
            .collect();
        for receipt in receipts {
            stored += u32::from(!resolved(receipt).await.unwrap().duplicate);
        }
        for delivery in h.claim("cms", 25).await {
            h.record(delivery.key(), crate::delivery::Verdict::Succeeded)
                .await
                .unwrap();
        }
        h.clock.shift(1000);
    }
    end.store(true, Ordering::Relaxed);
    let removed = sweeper.await.unwrap();
    assert_eq!(stored, 2000);
    assert!(removed > 0 && removed <= 1000, "{removed} removed");
    let backlog = h.store.backlog().await.unwrap();
    assert_eq!(backlog[&name("cms")].unfinished, 1000);
}

struct Panics;

impl crate::store::HandOver for Panics {
    fn fill(self: Box<Self>, _: crate::delivery::Delivery) {
        panic!("on purpose: a fault of the writer's thread");
    }
}

#[tokio::test]
async fn a_writer_that_panics_leaves_nobody_waiting() {
    let h = Harness::new(Sqlite::new());
    let wanted = crate::store::Wanted {
        handler: name("cms"),
        slot: Some(crate::store::Slot::new(Box::new(Panics))),
    };
    let receipt = h.store.insert(event("one", "a"), vec![wanted]).unwrap();
    let waited = tokio::time::timeout(DEADLINE, receipt).await.unwrap();
    assert!(
        waited.is_err(),
        "no answer is given: it is not known what holds"
    );
    until("the fault shows", async || h.store.health().is_err()).await;
    assert!(h.store.insert(event("one", "b"), vec![]).is_err());
    let claimed = h.store.claim(&[], h.now()).await;
    assert!(matches!(claimed, Err(StoreError::Unavailable(_))));
    h.store.close().await;
}
