//! Promises of `insert`, of receipts and slots, and of `close`.

use std::collections::HashSet;
use std::time::Duration;

use super::super::{Full, StoreError};
use super::{Engine, Harness, SlotFate, WINDOW, event, filled, handed, owed, resolved, until};
use crate::delivery::{Status, Verdict};

pub async fn the_receipt_resolves_after_the_commit<E: Engine>(mut h: Harness<E>) {
    let inserted = h.insert(event("one", "a"), vec![owed("cms")]).await;
    assert!(!inserted.duplicate);
    // What a loss of power at this very moment leaves is all that counts.
    h.crash().await;
    let history = h.history(inserted.id).await;
    assert_eq!(&history.event.content.body[..], b"a");
    assert_eq!(h.stands(inserted.id, "cms").await, (Status::Pending, 0));
}

pub async fn every_field_comes_back<E: Engine>(h: Harness<E>) {
    let sent = event("one", "a\0\u{fffd}b");
    let id = h.insert(sent.clone(), vec![]).await.id;
    let history = h.history(id).await;
    assert_eq!(history.event.content, sent);
    assert_eq!(history.event.id, id);
    assert_eq!(history.event.received_at, h.now());
    assert_eq!(history.duplicates, 0);
    assert!(history.deliveries.is_empty());
}

pub async fn a_copy_is_counted_on_the_first_event<E: Engine>(mut h: Harness<E>) {
    let first = h.insert(event("one", "a"), vec![]).await;
    for _ in 0..3 {
        let copy = h.insert(event("one", "a"), vec![]).await;
        assert_eq!((copy.id, copy.duplicate), (first.id, true));
    }
    let asked = std::time::Instant::now();
    until("three duplicates", async || {
        h.history(first.id).await.duplicates == 3
    })
    .await;
    assert!(asked.elapsed() < Duration::from_millis(2500));
    h.insert(event("one", "a"), vec![]).await;
    h.reopen().await;
    assert_eq!(h.history(first.id).await.duplicates, 4);
}

pub async fn copies_at_the_same_time_become_one_event<E: Engine>(h: Harness<E>) {
    let mut slots = Vec::new();
    let mut receipts = Vec::new();
    for n in 0..60 {
        let (wanted, fate) = handed("cms");
        slots.push(fate);
        let body = format!("body {}", n % 20);
        receipts.push(h.store.insert(event("one", &body), vec![wanted]).unwrap());
    }
    let mut ids = HashSet::new();
    let mut new = 0;
    for receipt in receipts {
        let inserted = resolved(receipt).await.unwrap();
        ids.insert(inserted.id);
        new += u32::from(!inserted.duplicate);
    }
    assert_eq!((ids.len(), new), (20, 20));
    let filled = slots
        .iter_mut()
        .map(|fate| fate.try_recv())
        .filter(|fate| matches!(fate, Ok(SlotFate::Filled(_))))
        .count();
    assert_eq!(filled, 20);
}

pub async fn a_copy_after_a_restart_is_a_duplicate<E: Engine>(mut h: Harness<E>) {
    let first = h.insert(event("one", "a"), vec![]).await;
    h.clock.shift(1800);
    h.reopen().await;
    let copy = h.insert(event("one", "a"), vec![]).await;
    assert_eq!((copy.id, copy.duplicate), (first.id, true));
}

pub async fn a_copy_after_a_crash_is_a_duplicate<E: Engine>(mut h: Harness<E>) {
    let first = h.insert(event("one", "a"), vec![]).await;
    h.crash().await;
    let copy = h.insert(event("two", "a"), vec![]).await;
    assert_eq!((copy.id, copy.duplicate), (first.id, true));
}

pub async fn a_copy_after_the_window_is_a_new_event<E: Engine>(mut h: Harness<E>) {
    let first = h.insert(event("one", "a"), vec![]).await;
    h.clock.shift(WINDOW.as_secs().cast_signed() - 1);
    assert!(h.insert(event("one", "a"), vec![]).await.duplicate);
    h.clock.shift(2);
    let second = h.insert(event("one", "a"), vec![]).await;
    assert!(!second.duplicate && second.id != first.id);
    h.reopen().await;
    let third = h.insert(event("one", "a"), vec![]).await;
    assert_eq!((third.id, third.duplicate), (second.id, true));
}

pub async fn a_duplicate_does_not_renew_the_window<E: Engine>(h: Harness<E>) {
    h.insert(event("one", "a"), vec![]).await;
    let half = WINDOW.as_secs().cast_signed() / 2;
    h.clock.shift(half);
    assert!(h.insert(event("one", "a"), vec![]).await.duplicate);
    h.clock.shift(half + 1);
    assert!(!h.insert(event("one", "a"), vec![]).await.duplicate);
}

pub async fn the_window_holds_its_number_of_bodies<E: Engine>(mut h: Harness<E>) {
    let receipts: Vec<_> = (0..1001)
        .map(|n| {
            h.store
                .insert(event("one", &format!("{n}")), vec![])
                .unwrap()
        })
        .collect();
    for receipt in receipts {
        assert!(!resolved(receipt).await.unwrap().duplicate);
    }
    assert!(h.insert(event("one", "1"), vec![]).await.duplicate);
    h.reopen().await;
    assert!(h.insert(event("one", "1"), vec![]).await.duplicate);
    assert!(!h.insert(event("one", "0"), vec![]).await.duplicate);
}

pub async fn a_duplicate_creates_only_what_is_missing<E: Engine>(h: Harness<E>) {
    let (wanted, mut fate) = handed("first");
    let id = h.insert(event("one", "a"), vec![wanted]).await.id;
    h.record(filled(&mut fate).key(), Verdict::Succeeded)
        .await
        .unwrap();
    let (again, mut dropped) = handed("second");
    let copy = h
        .insert(event("two", "a"), vec![owed("first"), again])
        .await;
    assert_eq!((copy.id, copy.duplicate), (id, true));
    assert!(matches!(dropped.try_recv(), Ok(SlotFate::Dropped)));
    assert_eq!(h.stands(id, "first").await, (Status::Succeeded, 1));
    assert_eq!(h.stands(id, "second").await, (Status::Pending, 0));
    h.insert(event("two", "a"), vec![owed("second")]).await;
    let claimed = h.claim("second", 10).await;
    assert_eq!(claimed.len(), 1);
    // It is a delivery of the first event, its source included.
    assert_eq!(claimed[0].event.content.source.as_str(), "one");
    assert!(h.claim("first", 10).await.is_empty());
}

pub async fn a_slot_is_filled_before_the_receipt<E: Engine>(h: Harness<E>) {
    let (wanted, mut fate) = handed("cms");
    let id = h
        .insert(event("one", "a"), vec![wanted, owed("log")])
        .await
        .id;
    let delivery = filled(&mut fate);
    assert_eq!(
        (delivery.event.id, delivery.attempt, delivery.failed),
        (id, 1, 0)
    );
    assert_eq!(delivery.worker, h.store.worker());
    assert_eq!(delivery.age_from, delivery.event.received_at);
    assert_eq!(*delivery.event, h.history(id).await.event);
    assert_eq!(h.stands(id, "cms").await, (Status::Running, 1));
    assert_eq!(h.stands(id, "log").await, (Status::Pending, 0));
    assert!(h.claim("cms", 5).await.is_empty());
}

pub async fn a_duplicate_drops_its_slots<E: Engine>(h: Harness<E>) {
    h.insert(event("one", "a"), vec![owed("cms")]).await;
    let (wanted, mut fate) = handed("cms");
    assert!(h.insert(event("one", "a"), vec![wanted]).await.duplicate);
    assert!(matches!(fate.try_recv(), Ok(SlotFate::Dropped)));
}

pub async fn a_dropped_receipt_undoes_nothing<E: Engine>(h: Harness<E>) {
    let (wanted, mut fate) = handed("cms");
    drop(h.store.insert(event("one", "a"), vec![wanted]).unwrap());
    let fate = tokio::time::timeout(super::DEADLINE, fate.recv()).await;
    let Ok(Some(SlotFate::Filled(delivery))) = fate else {
        panic!("not handed over: {fate:?}");
    };
    assert_eq!(h.stands(delivery.event.id, "cms").await.0, Status::Running);
    assert!(h.insert(event("one", "a"), vec![]).await.duplicate);
}

pub async fn too_much_is_refused_at_once<E: Engine>(h: Harness<E>) {
    // Bodies share one buffer here; their length is what is counted.
    let mut large = event("one", &"x".repeat(1 << 20));
    let mut receipts = Vec::new();
    let mut refused = 0;
    for n in 0..400u32 {
        large.fingerprint[..4].copy_from_slice(&n.to_le_bytes());
        match h.store.insert(large.clone(), vec![]) {
            Ok(receipt) => receipts.push(receipt),
            Err(Full) => refused += 1,
        }
    }
    assert!(refused > 0 && receipts.len() >= 63, "{refused} refused");
    for receipt in receipts {
        assert!(!resolved(receipt).await.unwrap().duplicate);
    }
    assert!(!h.insert(event("one", "small"), vec![]).await.duplicate);
}

pub async fn closing_commits_what_waits<E: Engine>(mut h: Harness<E>) {
    let receipts: Vec<_> = (0..2000)
        .map(|n| {
            h.store
                .insert(event("one", &format!("{n}")), vec![])
                .unwrap()
        })
        .collect();
    h.reopen().await;
    for receipt in receipts {
        let id = resolved(receipt).await.unwrap().id;
        assert!(h.store.history(id).await.unwrap().is_some());
    }
}

pub async fn after_closing_nothing_is_taken<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    h.store.close().await;
    h.store.close().await;
    assert_eq!(h.store.insert(event("one", "b"), vec![]).err(), Some(Full));
    let unavailable = |error| matches!(error, Some(StoreError::Unavailable(_)));
    assert!(unavailable(h.record(key, Verdict::Succeeded).await.err()));
    assert!(unavailable(h.store.claim(&[], h.now()).await.err()));
    assert!(unavailable(h.store.history(id).await.err()));
    assert!(unavailable(h.store.backlog().await.err()));
    assert!(h.store.health().is_err());
}

pub async fn ids_and_times_never_run_backwards<E: Engine>(mut h: Harness<E>) {
    let mut last = None;
    for round in 0..3 {
        // The clock stands still for more events than a millisecond has numbers.
        let receipts: Vec<_> = (0..4500)
            .map(|n| {
                let body = format!("{round} {n}");
                h.store.insert(event("one", &body), vec![]).unwrap()
            })
            .collect();
        for receipt in receipts {
            let id = resolved(receipt).await.unwrap().id;
            assert!(last < Some(id), "{last:?} before {id}");
            last = Some(id);
        }
        let before = h.history(last.unwrap()).await.event.received_at;
        h.clock.shift(-100);
        let later = h.insert(event("one", &format!("{round}")), vec![]).await.id;
        assert!(last < Some(later));
        last = Some(later);
        assert!(h.history(later).await.event.received_at >= before);
        h.reopen().await;
    }
}
