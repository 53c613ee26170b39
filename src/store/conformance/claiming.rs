//! Promises of `claim`, `take_over`, `enrol` and `due`.

use std::time::Duration;

use super::super::StoreError;
use super::{DEADLINE, Engine, Harness, event, filled, handed, name, owed, roster};
use crate::delivery::{AttemptResult, Status, Verdict};

fn bodies(deliveries: &[crate::delivery::Delivery]) -> Vec<String> {
    let body = |delivery: &crate::delivery::Delivery| {
        String::from_utf8_lossy(&delivery.event.content.body).into_owned()
    };
    deliveries.iter().map(body).collect()
}

pub async fn the_oldest_due_come_first<E: Engine>(h: Harness<E>) {
    for body in ["c", "a", "b"] {
        h.pending(body, &["cms"]).await;
    }
    let first = h.claim("cms", 3).await;
    let now = h.now();
    for (delivery, seconds) in first.iter().zip([30, 10, 20]) {
        let at = now + Duration::from_secs(seconds);
        h.record(delivery.key(), Verdict::RetryAt(at))
            .await
            .unwrap();
    }
    h.clock.shift(60);
    assert_eq!(bodies(&h.claim("cms", 2).await), ["a", "b"]);
    assert_eq!(bodies(&h.claim("cms", 2).await), ["c"]);
}

pub async fn only_free_places_of_named_handlers<E: Engine>(h: Harness<E>) {
    for n in 0..5 {
        h.pending(&format!("{n}"), &["a", "b", "c"]).await;
    }
    let free = [(name("a"), 2), (name("b"), 0), (name("unknown"), 9)];
    let claimed = h.store.claim(&free, h.now()).await.unwrap();
    assert_eq!(claimed.deliveries.len(), 2);
    for delivery in &claimed.deliveries {
        assert_eq!(delivery.handler.as_str(), "a");
        assert_eq!(delivery.worker, h.store.worker());
        assert_eq!(h.stands(delivery.event.id, "a").await, (Status::Running, 1));
        assert_eq!(h.stands(delivery.event.id, "b").await, (Status::Pending, 0));
    }
    assert!(claimed.next_due.contains_key("b") && !claimed.next_due.contains_key("c"));
    assert!(!claimed.next_due.contains_key("unknown"));
    assert_eq!(h.claim("a", 9).await.len(), 3);
}

pub async fn claims_say_what_is_due_next<E: Engine>(h: Harness<E>) {
    h.pending("a", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    let none = h.store.claim(&[(name("cms"), 1)], h.now()).await.unwrap();
    assert!(none.next_due.is_empty(), "what runs is not due");
    let at = h.now() + Duration::from_secs(30);
    h.record(key, Verdict::RetryAt(at)).await.unwrap();
    let claimed = h.store.claim(&[(name("cms"), 1)], h.now()).await.unwrap();
    assert!(claimed.deliveries.is_empty());
    assert_eq!(claimed.next_due.get("cms"), Some(&at));
}

pub async fn nothing_is_claimed_before_its_time<E: Engine>(h: Harness<E>) {
    h.pending("a", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    let at = h.now() + Duration::from_secs(30);
    h.record(key, Verdict::RetryAt(at)).await.unwrap();
    h.clock.shift(29);
    assert!(h.claim("cms", 1).await.is_empty());
    h.clock.shift(1);
    assert_eq!(h.claim("cms", 1).await.len(), 1);
}

pub async fn attempts_and_failures_are_counted_apart<E: Engine>(h: Harness<E>) {
    h.pending("a", &["cms"]).await;
    let verdicts = [
        (Verdict::Stopped, 1, 0),
        (Verdict::RetryAt(h.now()), 2, 0),
        (Verdict::Returned, 3, 1),
        (Verdict::Stopped, 3, 1),
        (Verdict::RetryAt(h.now()), 4, 1),
        (Verdict::Dead, 5, 2),
    ];
    for (verdict, attempt, failed) in verdicts {
        let delivery = h.claim("cms", 1).await.remove(0);
        assert_eq!(
            (delivery.attempt, delivery.failed),
            (attempt, failed),
            "{verdict:?}"
        );
        h.record(delivery.key(), verdict).await.unwrap();
    }
    assert!(h.claim("cms", 1).await.is_empty());
}

pub async fn a_clock_set_back_delays_no_delivery<E: Engine>(h: Harness<E>) {
    h.insert(event("one", "a"), vec![]).await;
    h.clock.shift(-7200);
    h.pending("b", &["cms"]).await;
    assert_eq!(h.claim("cms", 1).await.len(), 1);
    let copy = h.insert(event("two", "a"), vec![owed("cms")]).await;
    assert!(
        copy.duplicate,
        "the window does not forget when time stands still"
    );
    assert_eq!(h.claim("cms", 1).await.len(), 1);
}

pub async fn pending_deliveries_wake_the_claimer<E: Engine>(h: Harness<E>) {
    let due = h.store.due();
    let woken = async || {
        tokio::time::timeout(DEADLINE, due.notified())
            .await
            .unwrap()
    };
    h.pending("a", &["cms"]).await;
    woken().await;
    h.insert(event("two", "a"), vec![owed("log")]).await;
    woken().await;
    for verdict in [
        Verdict::Stopped,
        Verdict::Returned,
        Verdict::RetryAt(h.now()),
    ] {
        let key = h.claim("cms", 1).await[0].key();
        h.record(key, verdict).await.unwrap();
        woken().await;
    }
}

pub async fn age_counts_from_the_arrival_or_the_return<E: Engine>(mut h: Harness<E>) {
    h.store
        .enrol(&roster(&["cms", "log"]), h.now())
        .await
        .unwrap();
    let arrived = h.now();
    h.pending("a", &["cms", "log"]).await;
    h.clock.shift(100);
    h.reopen().await;
    h.store.enrol(&roster(&["log"]), h.now()).await.unwrap();
    h.clock.shift(100);
    h.reopen().await;
    let returned = h.now();
    h.store
        .enrol(&roster(&["cms", "log"]), returned)
        .await
        .unwrap();
    h.clock.shift(100);
    // A restart that changes nothing does not make anything younger.
    h.reopen().await;
    h.store
        .enrol(&roster(&["cms", "log"]), h.now())
        .await
        .unwrap();
    assert_eq!(h.claim("cms", 1).await[0].age_from, returned);
    assert_eq!(h.claim("log", 1).await[0].age_from, arrived);
    let fresh = h.now();
    h.pending("b", &["cms"]).await;
    assert_eq!(h.claim("cms", 1).await[0].age_from, fresh);
}

pub async fn a_crash_makes_running_deliveries_due<E: Engine>(mut h: Harness<E>) {
    let (wanted, mut fate) = handed("cms");
    let a = h.insert(event("one", "a"), vec![wanted]).await.id;
    filled(&mut fate);
    let b = h.pending("b", &["log"]).await;
    h.claim("log", 1).await;
    let started = h.now();
    h.crash().await;
    h.clock.shift(10);
    let taken = h.store.take_over(&roster(&["cms"]), h.now()).await.unwrap();
    assert_eq!(taken, 2, "of handlers that are not configured as well");
    assert_eq!(h.store.take_over(&roster(&["cms"]), h.now()).await, Ok(0));
    for (id, handler) in [(a, "cms"), (b, "log")] {
        let delivery = h.history(id).await.deliveries.remove(0);
        assert_eq!((delivery.status, delivery.attempts), (Status::Pending, 1));
        assert_eq!(delivery.next_at, Some(h.now()));
        let attempt = &delivery.history[0];
        assert_eq!((attempt.attempt, attempt.result), (1, AttemptResult::Lost));
        assert_eq!((attempt.started_at, attempt.ended_at), (started, None));
        let again = h.claim(handler, 1).await.remove(0);
        assert_eq!((again.attempt, again.failed), (2, 0));
    }
    assert_eq!(
        h.store.take_over(&roster(&["cms"]), h.now()).await,
        Ok(0),
        "what is running here is not lost"
    );
}

/// Claims, crashes, and takes over; answers when the delivery is due again.
async fn lose<E: Engine>(h: &mut Harness<E>, id: crate::event::EventId) -> Option<jiff::Timestamp> {
    assert_eq!(h.claim("cms", 1).await.len(), 1);
    h.crash().await;
    let taken = h.store.take_over(&roster(&["cms"]), h.now()).await;
    assert_eq!(taken, Ok(1));
    h.history(id).await.deliveries[0].next_at
}

pub async fn a_second_loss_in_a_row_backs_off<E: Engine>(mut h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    let wait = Duration::from_secs(60);
    assert_eq!(lose(&mut h, id).await, Some(h.now()));
    assert_eq!(lose(&mut h, id).await, Some(h.now() + wait));
    h.clock.shift(60);
    assert_eq!(lose(&mut h, id).await, Some(h.now() + wait));
    h.clock.shift(60);
    let key = h.claim("cms", 1).await[0].key();
    h.record(key, Verdict::RetryAt(h.now())).await.unwrap();
    assert_eq!(lose(&mut h, id).await, Some(h.now()), "no longer in a row");
}

pub async fn a_return_between_two_losses_changes_nothing<E: Engine>(mut h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    assert_eq!(lose(&mut h, id).await, Some(h.now()));
    let key = h.claim("cms", 1).await[0].key();
    h.record(key, Verdict::Returned).await.unwrap();
    let wait = Duration::from_secs(60);
    assert_eq!(lose(&mut h, id).await, Some(h.now() + wait));
}

pub async fn late_outcomes_of_a_dead_worker_are_not_ours<E: Engine>(mut h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    let old = h.claim("cms", 1).await[0].key();
    h.crash().await;
    assert_ne!(h.store.worker(), old.worker);
    h.store.take_over(&roster(&["cms"]), h.now()).await.unwrap();
    let late = h.record(old.clone(), Verdict::Succeeded).await;
    assert_eq!(late, Err(StoreError::NotOurs));
    let new = h.claim("cms", 1).await[0].key();
    let late = h.record(old, Verdict::Dead).await;
    assert_eq!(late, Err(StoreError::NotOurs));
    h.record(new, Verdict::Succeeded).await.unwrap();
    assert_eq!(h.stands(id, "cms").await, (Status::Succeeded, 2));
}

pub async fn removed_handlers_are_counted<E: Engine>(mut h: Harness<E>) {
    let all = roster(&["cms", "log", "done"]);
    assert!(h.store.enrol(&all, h.now()).await.unwrap().left.is_empty());
    for n in 0..3 {
        h.pending(&format!("{n}"), &["cms", "done"]).await;
    }
    for delivery in h.claim("done", 9).await {
        h.record(delivery.key(), Verdict::Succeeded).await.unwrap();
    }
    h.claim("cms", 1).await;
    h.reopen().await;
    let left = h
        .store
        .enrol(&roster(&["log"]), h.now())
        .await
        .unwrap()
        .left;
    assert_eq!(left, [(name("cms"), 3)]);
    h.reopen().await;
    assert!(h.store.enrol(&all, h.now()).await.unwrap().left.is_empty());
    h.store.take_over(&all, h.now()).await.unwrap();
    assert_eq!(h.claim("cms", 9).await.len(), 3);
}
