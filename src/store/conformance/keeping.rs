//! Promises of `purge`, `backlog` and `history`.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::{Backlog, Purge, Purged};
use super::{Engine, Harness, WINDOW, event, name, owed};
use crate::delivery::Verdict;
use crate::event::EventId;

/// Removes until the store says that there is no more.
async fn sweep<E: Engine>(h: &Harness<E>, finished: u64, dead: u64, limit: u32) -> Vec<Purged> {
    let purge = Purge {
        finished_before: h.now() - Duration::from_secs(finished),
        dead_before: h.now() - Duration::from_secs(dead),
    };
    let mut steps = Vec::new();
    loop {
        steps.push(h.store.purge(purge, limit).await.unwrap());
        if !steps.last().unwrap().more {
            return steps;
        }
        assert!(steps.len() < 100, "a sweep ends");
    }
}

async fn settle<E: Engine>(h: &Harness<E>, handler: &str, verdict: Verdict) {
    let key = h.claim(handler, 1).await[0].key();
    h.record(key, verdict).await.unwrap();
}

async fn is_there<E: Engine>(h: &Harness<E>, id: EventId) -> bool {
    h.store.history(id).await.unwrap().is_some()
}

pub async fn retention_removes_what_it_says<E: Engine>(mut h: Harness<E>) {
    let nobody = h.pending("nobody", &[]).await;
    let finished = h.pending("finished", &["done"]).await;
    settle(&h, "done", Verdict::Succeeded).await;
    let dead = h.pending("dead", &["broken", "done"]).await;
    settle(&h, "broken", Verdict::Dead).await;
    settle(&h, "done", Verdict::Succeeded).await;
    let waiting = h.pending("waiting", &["away", "broken"]).await;
    settle(&h, "broken", Verdict::Dead).await;
    let running = h.pending("running", &["busy"]).await;
    h.claim("busy", 1).await;
    h.clock.shift(20_000);
    let fresh = h.pending("fresh", &[]).await;

    let removed: u32 = sweep(&h, 10_000, 30_000, 100)
        .await
        .iter()
        .map(|p| p.removed)
        .sum();
    assert_eq!(removed, 2);
    assert!(!is_there(&h, nobody).await && !is_there(&h, finished).await);
    h.clock.shift(20_000);
    h.reopen().await;
    let removed: u32 = sweep(&h, 10_000, 30_000, 100)
        .await
        .iter()
        .map(|p| p.removed)
        .sum();
    assert_eq!(removed, 2);
    assert!(!is_there(&h, dead).await && !is_there(&h, fresh).await);
    assert!(is_there(&h, waiting).await && is_there(&h, running).await);
    let backlog = h.store.backlog().await.unwrap();
    assert_eq!(
        backlog[&name("broken")].dead,
        1,
        "the removed one does not count"
    );
    // A body that was removed is no duplicate of anything.
    assert!(!h.insert(event("one", "nobody"), vec![]).await.duplicate);
}

pub async fn retention_goes_on_past_what_stays<E: Engine>(h: Harness<E>) {
    let mut kept = Vec::new();
    for n in 0..30 {
        let wanted: &[&str] = if n % 3 == 0 { &["away"] } else { &[] };
        let id = h.pending(&format!("{n}"), wanted).await;
        if n % 3 == 0 {
            kept.push(id);
        }
    }
    h.clock.shift(20_000);
    let steps = sweep(&h, 10_000, 10_000, 4).await;
    assert_eq!(steps.iter().map(|step| step.removed).sum::<u32>(), 20);
    // The next sweep begins at the beginning: what stayed may go by then.
    for _ in 0..10 {
        settle(&h, "away", Verdict::Succeeded).await;
    }
    let steps = sweep(&h, 10_000, 10_000, 4).await;
    assert_eq!(steps.iter().map(|step| step.removed).sum::<u32>(), 10);
    for id in kept {
        assert!(!is_there(&h, id).await);
    }
}

pub async fn retention_spares_the_window<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &[]).await;
    h.clock.shift(10);
    assert_eq!(sweep(&h, 0, 0, 100).await[0].removed, 0);
    let copy = h.insert(event("one", "a"), vec![]).await;
    assert_eq!((copy.id, copy.duplicate), (id, true));
    h.clock.shift(WINDOW.as_secs().cast_signed());
    assert_eq!(sweep(&h, 0, 0, 100).await[0].removed, 1);
    // A clock that runs back over a removal brings nothing back.
    h.clock.shift(-60);
    assert!(!h.insert(event("one", "a"), vec![]).await.duplicate);
}

pub async fn retention_takes_no_more_than_its_limit<E: Engine>(h: Harness<E>) {
    for n in 0..150 {
        h.pending(&format!("{n}"), &[]).await;
    }
    h.clock.shift(20_000);
    let steps = sweep(&h, 10_000, 10_000, 70).await;
    let removed: Vec<u32> = steps.iter().map(|step| step.removed).collect();
    assert_eq!(removed, [70, 70, 10]);
}

async fn backlog_of<E: Engine>(h: &Harness<E>, handler: &str) -> (u64, u64, Option<Timestamp>) {
    let backlog = h.store.backlog().await.unwrap();
    let Backlog {
        unfinished,
        dead,
        oldest,
    } = backlog.get(handler).copied().unwrap_or_default();
    (unfinished, dead, oldest)
}

pub async fn the_backlog_counts<E: Engine>(h: Harness<E>) {
    assert!(h.store.backlog().await.unwrap().is_empty());
    let first = h.now();
    h.pending("a", &["cms", "log"]).await;
    h.clock.shift(10);
    let second = h.now();
    h.pending("b", &["cms"]).await;
    assert_eq!(backlog_of(&h, "cms").await, (2, 0, Some(first)));
    assert_eq!(backlog_of(&h, "log").await, (1, 0, Some(first)));
    let claimed = h.claim("cms", 2).await;
    assert_eq!(backlog_of(&h, "cms").await, (2, 0, Some(first)));
    h.record(claimed[0].key(), Verdict::RetryAt(h.now()))
        .await
        .unwrap();
    assert_eq!(backlog_of(&h, "cms").await, (2, 0, Some(first)));
    settle(&h, "cms", Verdict::Dead).await;
    assert_eq!(backlog_of(&h, "cms").await, (1, 1, Some(second)));
    h.record(claimed[1].key(), Verdict::Succeeded)
        .await
        .unwrap();
    assert_eq!(backlog_of(&h, "cms").await, (0, 1, None));
}

pub async fn the_backlog_is_right_after_a_restart<E: Engine>(mut h: Harness<E>) {
    let first = h.now();
    for n in 0..5 {
        h.pending(&format!("{n}"), &["cms"]).await;
        h.clock.shift(1);
    }
    settle(&h, "cms", Verdict::Dead).await;
    settle(&h, "cms", Verdict::Succeeded).await;
    h.claim("cms", 1).await;
    let oldest = Some(first + Duration::from_secs(2));
    assert_eq!(backlog_of(&h, "cms").await, (3, 1, oldest));
    h.reopen().await;
    assert_eq!(backlog_of(&h, "cms").await, (3, 1, oldest));
    h.crash().await;
    assert_eq!(backlog_of(&h, "cms").await, (3, 1, oldest));
}

pub async fn the_oldest_may_become_older_again<E: Engine>(h: Harness<E>) {
    let first = h.now();
    h.pending("a", &["cms"]).await;
    settle(&h, "cms", Verdict::Succeeded).await;
    h.clock.shift(10);
    h.pending("b", &["log"]).await;
    let second = h.now();
    assert_eq!(backlog_of(&h, "log").await, (1, 0, Some(second)));
    // A copy from another source makes the older event owe something.
    h.insert(event("two", "a"), vec![owed("log")]).await;
    assert_eq!(backlog_of(&h, "log").await, (2, 0, Some(first)));
}

pub async fn no_event_has_no_history<E: Engine>(h: Harness<E>) {
    assert!(!is_there(&h, EventId(Uuid::nil())).await);
    assert!(!is_there(&h, EventId(Uuid::max())).await);
}
