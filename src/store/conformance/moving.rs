//! Promises of `import` and `size`.

use std::time::Duration;

use uuid::{Builder, Uuid};

use super::super::archive::Imported;
use super::super::{History, Purge, StoreError};
use super::{Engine, Harness, WINDOW, at, event, name, owed};
use crate::clock::Clock;
use crate::delivery::{Status, Verdict};
use crate::event::EventId;

fn imported(added: u64, known: u64) -> Result<Imported, StoreError> {
    Ok(Imported { added, known })
}

/// The id of an event that was received `seconds` before now.
fn id_of<E: Engine>(h: &Harness<E>, seconds: u64, number: u64) -> (EventId, jiff::Timestamp) {
    let received_at = h.now() - Duration::from_secs(seconds);
    let ms = received_at.as_millisecond().cast_unsigned();
    let mut random = [7; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let id = Builder::from_unix_timestamp_millis(ms, &random).into_uuid();
    (EventId(id), received_at)
}

/// What another store kept of an event with this body.
fn exported<E: Engine>(h: &Harness<E>, seconds: u64, number: u64, body: &str) -> History {
    let (id, received_at) = id_of(h, seconds, number);
    History {
        event: crate::event::Event {
            id,
            row: 99,
            received_at,
            content: event("one", body),
        },
        duplicates: 0,
        deliveries: Vec::new(),
    }
}

/// The same event under an id that is not here.
fn elsewhere(mut history: History) -> History {
    let mut bytes = history.event.id.0.into_bytes();
    bytes[15] ^= 1;
    history.event.id = EventId(Uuid::from_bytes(bytes));
    history
}

pub async fn an_import_brings_everything_back<E: Engine>(mut h: Harness<E>) {
    let handlers = ["dead", "done", "busy", "waiting", "untried"];
    let id = h.pending("a", &handlers).await;
    h.insert(event("one", "a"), vec![]).await;
    let later = h.now() + Duration::from_secs(600);
    for (handler, verdict) in [
        ("dead", Verdict::Dead),
        ("done", Verdict::Succeeded),
        ("waiting", Verdict::RetryAt(later)),
    ] {
        let key = h.claim(handler, 1).await[0].key();
        h.record(key, verdict).await.unwrap();
    }
    h.claim("busy", 1).await;
    // Duplicates are written a moment later.
    h.reopen().await;
    h.store
        .take_over(&super::roster(&[]), h.now())
        .await
        .unwrap();
    h.claim("busy", 1).await;
    let mut original = h.history(id).await;
    original.duplicates = 3;

    let copy = elsewhere(original.clone());
    assert_eq!(h.archive.import(vec![copy.clone()]).await, imported(1, 0));
    h.crash().await;
    let found = h.history(copy.event.id).await;
    assert_eq!(found.event.content, original.event.content);
    assert_eq!(found.event.received_at, original.event.received_at);
    assert_eq!(found.duplicates, 3);
    assert_eq!(found.deliveries.len(), original.deliveries.len());
    for (found, original) in found.deliveries.iter().zip(&original.deliveries) {
        let handler = original.handler.as_str();
        assert_eq!(found.handler, original.handler);
        let running = original.status == Status::Running;
        let expected = if running {
            Status::Pending
        } else {
            original.status
        };
        assert_eq!(found.status, expected, "{handler}");
        let due = if running {
            Some(h.now())
        } else {
            original.next_at
        };
        assert_eq!(found.next_at, due, "{handler}");
        assert_eq!(found.attempts, original.attempts, "{handler}");
        assert_eq!(found.failed, original.failed, "{handler}");
        assert_eq!(found.age_from, original.age_from, "{handler}");
        assert_eq!(found.reason, original.reason, "{handler}");
        assert_eq!(found.history, original.history, "{handler}");
    }
    let backlog = h.store.backlog().await.unwrap();
    let counts = |handler: &str| {
        (
            backlog[&name(handler)].unfinished,
            backlog[&name(handler)].dead,
        )
    };
    assert_eq!(counts("dead"), (0, 2));
    assert_eq!(counts("busy"), (2, 0));
    assert_eq!(counts("waiting"), (2, 0));
    let claimed = h.claim("busy", 9).await;
    let copied = claimed.iter().find(|one| one.event.id == copy.event.id);
    assert_eq!(copied.unwrap().attempt, 3, "its numbers go on");
}

pub async fn an_import_again_changes_nothing<E: Engine>(h: Harness<E>) {
    let mut there = exported(&h, 50, 1, "a");
    let id = h.pending("b", &["cms"]).await;
    let here = h.history(id).await;
    let key = h.claim("cms", 1).await[0].key();
    h.record(key, Verdict::Succeeded).await.unwrap();
    let all = vec![there.clone(), here, there.clone()];
    assert_eq!(h.archive.import(all.clone()).await, imported(1, 2));
    there.duplicates = 9;
    assert_eq!(h.archive.import(all).await, imported(0, 3));
    assert_eq!(h.stands(id, "cms").await.0, Status::Succeeded);
    assert_eq!(h.history(there.event.id).await.duplicates, 0);
}

pub async fn an_id_with_another_body_is_refused<E: Engine>(h: Harness<E>) {
    let first = exported(&h, 50, 1, "a");
    h.archive.import(vec![first.clone()]).await.unwrap();
    let mut other = exported(&h, 50, 1, "b");
    // Whatever it says of itself.
    other.event.content.fingerprint = first.event.content.fingerprint;
    let fresh = exported(&h, 50, 2, "c");
    let answer = h.archive.import(vec![fresh.clone(), other.clone()]).await;
    let Err(StoreError::Rejected(why)) = answer else {
        panic!("{answer:?}")
    };
    assert!(why.contains(&other.event.id.to_string()), "{why}");
    let found = h.store.history(fresh.event.id).await.unwrap();
    assert!(found.is_none(), "a commit is all or nothing");
    assert_eq!(
        &h.history(first.event.id).await.event.content.body[..],
        b"a"
    );
    // Within one import, too.
    let twice = vec![exported(&h, 50, 3, "d"), exported(&h, 50, 3, "e")];
    let answer = h.archive.import(twice).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
}

pub async fn a_refused_import_adds_nothing_of_it<E: Engine>(h: Harness<E>) {
    let first = exported(&h, 50, 1, "a");
    h.archive.import(vec![first.clone()]).await.unwrap();
    // More than go into one commit, before the one that is refused.
    let mut all: Vec<History> = (2..300).map(|n| exported(&h, 50, n, "fresh")).collect();
    all.push(exported(&h, 50, 1, "b"));
    let answer = h.archive.import(all.clone()).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    for one in &all[..298] {
        let found = h.store.history(one.event.id).await.unwrap();
        assert!(found.is_none(), "nothing of it");
    }
    all.pop();
    assert_eq!(h.archive.import(all).await, imported(298, 0));
}

/// An event with a pending delivery to each of these.
async fn owing<E: Engine>(
    h: &Harness<E>,
    number: u64,
    names: impl Iterator<Item = u32>,
) -> History {
    let mut event = exported(h, 50, number, &format!("event {number}"));
    let donor = h.pending("donor", &["donor"]).await;
    let delivery = h.history(donor).await.deliveries.remove(0);
    event.deliveries = names
        .map(|n| crate::store::DeliveryHistory {
            handler: name(&format!("h{n:05}")),
            ..delivery.clone()
        })
        .collect();
    event
}

pub async fn imports_bring_so_many_handlers<E: Engine>(h: Harness<E>) {
    // The donor's name is only known where it is configured.
    let first = owing(&h, 1, 0..500).await;
    let second = owing(&h, 2, 500..1000).await;
    let third = owing(&h, 3, 1000..1001).await;
    let all = vec![first.clone(), second.clone(), third.clone()];
    let Err(StoreError::Rejected(why)) = h.archive.import(all).await else {
        panic!("more than it takes")
    };
    assert!(
        why.contains("1001 handlers") && why.contains("1000"),
        "{why}"
    );
    assert!(h.store.history(first.event.id).await.unwrap().is_none());
    assert_eq!(h.archive.import(vec![first, second]).await, imported(2, 0));
    let answer = h.archive.import(vec![third]).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    // What is for known handlers comes in all the same.
    let known = owing(&h, 4, 0..1000).await;
    assert_eq!(h.archive.import(vec![known]).await, imported(1, 0));
    let backlog = h.store.backlog().await.unwrap();
    assert_eq!(backlog[&name("h00999")].unfinished, 2);
}

pub async fn an_id_has_to_say_when<E: Engine>(h: Harness<E>) {
    let mut moved = exported(&h, 50, 1, "a");
    moved.event.received_at = at(moved.event.received_at.as_millisecond() + 1);
    let mut random = exported(&h, 50, 1, "a");
    random.event.id = EventId(Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef));
    let mut future = exported(&h, 50, 1, "a");
    let ahead = h.now() + Duration::from_secs(1);
    let ms = ahead.as_millisecond().cast_unsigned();
    future.event.received_at = ahead;
    future.event.id = EventId(Builder::from_unix_timestamp_millis(ms, &[7; 10]).into_uuid());
    for bad in [moved, random, future] {
        let answer = h.archive.import(vec![bad.clone()]).await;
        assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
        assert!(h.store.history(bad.event.id).await.unwrap().is_none());
    }
}

pub async fn a_young_import_is_a_duplicate_at_once<E: Engine>(mut h: Harness<E>) {
    let young = exported(&h, 60, 1, "young");
    let old = exported(&h, WINDOW.as_secs() + 60, 2, "old");
    let id = young.event.id;
    h.archive.import(vec![young, old]).await.unwrap();
    for _ in 0..2 {
        let copy = h.insert(event("one", "young"), vec![]).await;
        assert_eq!((copy.id, copy.duplicate), (id, true));
        h.reopen().await;
    }
    assert!(!h.insert(event("one", "old"), vec![]).await.duplicate);
    // One that is in the window already answers for its body, not the import.
    let first = h.pending("here", &[]).await;
    let late = exported(&h, 0, 3, "here");
    h.archive.import(vec![late]).await.unwrap();
    assert_eq!(h.insert(event("one", "here"), vec![]).await.id, first);
    h.clock.shift(WINDOW.as_secs().cast_signed() - 30);
    assert!(!h.insert(event("one", "young"), vec![]).await.duplicate);
}

/// The suite's window holds a thousand bodies.
pub async fn old_imports_leave_the_window_alone<E: Engine>(mut h: Harness<E>) {
    let id = h.pending("fresh", &[]).await;
    let old = (0..1200)
        .map(|n| exported(&h, 100_000, n, &format!("old {n}")))
        .collect();
    assert_eq!(h.archive.import(old).await, imported(1200, 0));
    for _ in 0..2 {
        let copy = h.insert(event("one", "fresh"), vec![]).await;
        assert_eq!((copy.id, copy.duplicate), (id, true));
        h.reopen().await;
    }
}

pub async fn events_after_an_import_are_as_ever<E: Engine>(mut h: Harness<E>) {
    let before = h.pending("before", &["cms"]).await;
    h.archive
        .import(vec![exported(&h, 100_000, 1, "old")])
        .await
        .unwrap();
    let between = h.pending("between", &["cms"]).await;
    assert!(before < between);
    h.archive
        .import(vec![exported(&h, 100_000, 2, "older")])
        .await
        .unwrap();
    h.reopen().await;
    // A clock that was set back does not lead below what is there.
    h.clock.shift(-50);
    let after = h.pending("after", &["cms"]).await;
    assert!(between < after);
    let last = h.history(between).await.event.received_at;
    assert!(h.history(after).await.event.received_at >= last);
    h.clock.shift(60);
    assert_eq!(h.claim("cms", 9).await.len(), 3);
}

pub async fn the_oldest_may_be_an_imported_one<E: Engine>(mut h: Harness<E>) {
    h.pending("here", &["cms"]).await;
    let mut old = exported(&h, 5000, 1, "old");
    let pending = h.insert(event("two", "donor"), vec![owed("cms")]).await.id;
    old.deliveries = h.history(pending).await.deliveries;
    let expected = Some(old.event.received_at);
    h.archive.import(vec![old]).await.unwrap();
    for _ in 0..2 {
        let backlog = h.store.backlog().await.unwrap();
        assert_eq!(backlog[&name("cms")].oldest, expected);
        assert_eq!(backlog[&name("cms")].unfinished, 3);
        h.reopen().await;
    }
}

pub async fn what_is_removed_leaves_room<E: Engine>(h: Harness<E>) {
    let empty = h.archive.size().await.unwrap();
    assert!(
        empty.used_bytes > 0 && empty.disk_free_bytes > 0,
        "{empty:?}"
    );
    for n in 0..50 {
        h.pending(&format!("{n}{}", " ".repeat(10_000)), &[]).await;
    }
    let full = h.archive.size().await.unwrap();
    let grown = full.used_bytes - empty.used_bytes;
    assert!((500_000..1_000_000).contains(&grown), "{grown}");
    h.clock.shift(100_000);
    let purge = Purge {
        finished_before: h.clock.now(),
        dead_before: h.clock.now(),
    };
    assert_eq!(h.store.purge(purge, 100).await.unwrap().removed, 50);
    let after = h.archive.size().await.unwrap();
    assert!(after.used_bytes < empty.used_bytes + 50_000, "{after:?}");
}
