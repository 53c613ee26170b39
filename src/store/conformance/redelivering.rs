//! Promises of `redeliver` and `discard`.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::archive::{EventFilter, Page, Redeliver, Redelivered, Redelivery};
use super::{DEADLINE, Engine, Harness, name};
use crate::delivery::{Status, Verdict};
use crate::event::EventId;

fn one(id: EventId, now: Timestamp) -> Redeliver {
    Redeliver {
        events: Redelivery::One(id),
        handlers: None,
        dry_run: false,
        first_due: now,
        spacing: Duration::ZERO,
    }
}

async fn redeliver<E: Engine>(h: &Harness<E>, what: &Redeliver) -> Redelivered {
    h.archive.redeliver(what, h.now()).await.unwrap()
}

fn did(events: u64, deliveries: u64, running: u64, next_due: Timestamp) -> Redelivered {
    Redelivered {
        events,
        deliveries,
        running,
        next: None,
        next_due,
    }
}

async fn counts<E: Engine>(h: &Harness<E>, handler: &str) -> (u64, u64) {
    let backlog = h.store.backlog().await.unwrap();
    let backlog = backlog.get(handler).copied().unwrap_or_default();
    (backlog.unfinished, backlog.dead)
}

/// An event whose delivery ended like this after one attempt.
async fn ended<E: Engine>(h: &Harness<E>, body: &str, handler: &str, verdict: Verdict) -> EventId {
    let id = h.pending(body, &[handler]).await;
    let key = h.claim(handler, 1).await[0].key();
    h.record(key, verdict).await.unwrap();
    id
}

pub async fn a_new_round_starts_anew<E: Engine>(mut h: Harness<E>) {
    let later = h.now() + Duration::from_secs(600);
    for (handler, verdict) in [
        ("waiting", Verdict::RetryAt(later)),
        ("done", Verdict::Succeeded),
        ("dead", Verdict::Dead),
    ] {
        let id = ended(&h, handler, handler, verdict).await;
        let before = h.history(id).await.deliveries.remove(0);
        h.clock.shift(10);
        let now = h.now();
        assert_eq!(redeliver(&h, &one(id, now)).await, did(1, 1, 0, now));
        let after = h.history(id).await.deliveries.remove(0);
        assert_eq!(after.status, Status::Pending, "{handler}");
        assert_eq!((after.attempts, after.failed), (1, 0), "{handler}");
        assert_eq!(after.next_at, Some(now), "{handler}");
        assert_eq!(after.age_from, Some(now), "{handler}");
        assert_eq!(after.reason, None, "that of the round before");
        assert_eq!(after.history, before.history, "{handler}");
        assert_eq!(counts(&h, handler).await, (1, 0), "{handler}");
        h.reopen().await;
        assert_eq!(counts(&h, handler).await, (1, 0), "{handler}");
        let claimed = h.claim(handler, 9).await;
        assert_eq!(claimed.len(), 1, "{handler}");
        assert_eq!((claimed[0].attempt, claimed[0].failed), (2, 0), "{handler}");
        assert_eq!(claimed[0].age_from, now, "{handler}");
        h.record(claimed[0].key(), Verdict::Succeeded)
            .await
            .unwrap();
        assert_eq!(counts(&h, handler).await, (0, 0), "{handler}");
    }
}

pub async fn what_is_running_is_left_alone<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["busy", "cms"]).await;
    let key = h.claim("busy", 1).await[0].key();
    let now = h.now();
    assert_eq!(redeliver(&h, &one(id, now)).await, did(1, 1, 1, now));
    assert_eq!(h.stands(id, "busy").await, (Status::Running, 1));
    h.record(key, Verdict::Succeeded).await.unwrap();
    assert_eq!(h.stands(id, "busy").await, (Status::Succeeded, 1));
}

pub async fn a_named_handler_gets_a_delivery<E: Engine>(mut h: Harness<E>) {
    let id = ended(&h, "a", "cms", Verdict::Succeeded).await;
    h.clock.shift(5);
    let mut what = one(id, h.now());
    what.handlers = Some(vec![name("cms"), name("late")]);
    assert_eq!(redeliver(&h, &what).await, did(1, 2, 0, h.now()));
    assert_eq!(counts(&h, "late").await, (1, 0));
    h.crash().await;
    let claimed = h.claim("late", 9).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].attempt, claimed[0].event.id), (1, id));
    assert_eq!(claimed[0].age_from, h.now());
    assert!(h.archive.handlers().await.unwrap().contains_key("late"));
    // No handler ever gets a second one.
    h.record(claimed[0].key(), Verdict::Dead).await.unwrap();
    redeliver(&h, &what).await;
    assert_eq!(h.history(id).await.deliveries.len(), 2);
    assert_eq!(h.claim("late", 9).await[0].attempt, 2);
}

pub async fn other_handlers_are_left_alone<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["cms", "log"]).await;
    for handler in ["cms", "log"] {
        let key = h.claim(handler, 1).await[0].key();
        h.record(key, Verdict::Succeeded).await.unwrap();
    }
    let mut what = one(id, h.now());
    what.handlers = Some(vec![name("log")]);
    assert_eq!(redeliver(&h, &what).await, did(1, 1, 0, h.now()));
    assert_eq!(h.stands(id, "cms").await.0, Status::Succeeded);
    assert_eq!(h.stands(id, "log").await.0, Status::Pending);
    what.handlers = Some(vec![]);
    assert_eq!(redeliver(&h, &what).await, did(0, 0, 0, h.now()));
}

pub async fn rounds_are_spaced<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["a", "b", "c"]).await;
    let first = h.now() + Duration::from_secs(60);
    let what = Redeliver {
        first_due: first,
        spacing: Duration::from_millis(1500),
        ..one(id, h.now())
    };
    let after = first + Duration::from_millis(4500);
    assert_eq!(redeliver(&h, &what).await, did(1, 3, 0, after));
    let history = h.history(id).await;
    let due: Vec<_> = history.deliveries.iter().map(|d| d.next_at).collect();
    let at = |ms| Some(first + Duration::from_millis(ms));
    assert_eq!(due, [at(0), at(1500), at(3000)]);
    assert!(h.claim("a", 9).await.is_empty(), "not before its time");
    h.clock.shift(61);
    assert_eq!(h.claim("a", 9).await.len(), 1);
    assert!(h.claim("b", 9).await.is_empty());
}

pub async fn a_dry_run_changes_nothing<E: Engine>(h: Harness<E>) {
    let id = ended(&h, "a", "cms", Verdict::Dead).await;
    let before = h.history(id).await.deliveries.remove(0);
    let what = Redeliver {
        handlers: Some(vec![name("cms"), name("late")]),
        dry_run: true,
        spacing: Duration::from_secs(1),
        ..one(id, h.now())
    };
    let expected = did(1, 2, 0, h.now() + Duration::from_secs(2));
    assert_eq!(redeliver(&h, &what).await, expected);
    let after = h.history(id).await.deliveries;
    assert_eq!(after.len(), 1);
    assert_eq!(
        (after[0].status, &after[0].reason),
        (Status::Dead, &before.reason)
    );
    assert_eq!(counts(&h, "cms").await, (0, 1));
}

pub async fn a_new_round_wakes_the_claimer<E: Engine>(h: Harness<E>) {
    let id = ended(&h, "a", "cms", Verdict::Succeeded).await;
    let due = h.store.due();
    // What the insert left is no wake-up of the round.
    let _ = tokio::time::timeout(Duration::ZERO, due.notified()).await;
    redeliver(&h, &one(id, h.now())).await;
    let woken = tokio::time::timeout(DEADLINE, due.notified()).await;
    assert!(woken.is_ok(), "nobody was woken");
}

pub async fn a_new_round_dies_of_its_own_age<E: Engine>(h: Harness<E>) {
    let id = ended(&h, "a", "cms", Verdict::Dead).await;
    h.clock.shift(100_000);
    let first = h.now() + Duration::from_secs(50_000);
    let what = Redeliver {
        first_due: first,
        ..one(id, h.now())
    };
    redeliver(&h, &what).await;
    h.clock.shift(60_000);
    // It is as old as it has been due: a slow redelivery does not kill its end.
    assert_eq!(h.claim("cms", 1).await[0].age_from, first);
    let backlog = h.store.backlog().await.unwrap();
    let received = h.history(id).await.event.received_at;
    assert_eq!(backlog[&name("cms")].oldest, Some(received));
}

pub async fn an_event_that_is_gone_gets_no_round<E: Engine>(h: Harness<E>) {
    let mut what = one(EventId(Uuid::max()), h.now());
    what.handlers = Some(vec![name("cms")]);
    assert_eq!(redeliver(&h, &what).await, did(0, 0, 0, h.now()));
    assert!(h.store.backlog().await.unwrap().is_empty());
}

pub async fn what_is_discarded_is_dead<E: Engine>(mut h: Harness<E>) {
    let tried = ended(&h, "a", "gone", Verdict::RetryAt(h.now())).await;
    let busy = h.pending("b", &["gone", "other"]).await;
    let taken = h.claim("gone", 9).await;
    let key = taken
        .iter()
        .find(|one| one.event.id == tried)
        .unwrap()
        .key();
    h.record(key, Verdict::Returned).await.unwrap();
    let before = h.history(tried).await.deliveries.remove(0);

    assert_eq!(h.archive.discard(&name("gone"), h.now()).await, Ok(1));
    let after = h.history(tried).await.deliveries.remove(0);
    assert_eq!(after.status, Status::Dead);
    assert_eq!(after.reason.unwrap().as_str(), "discarded");
    assert_eq!(after.history, before.history, "untouched");
    assert_eq!(h.stands(busy, "gone").await.0, Status::Running, "at work");
    assert_eq!(h.stands(busy, "other").await.0, Status::Pending);
    assert_eq!(counts(&h, "gone").await, (1, 1));
    h.reopen().await;
    assert_eq!(counts(&h, "gone").await, (1, 1));
    assert!(h.claim("gone", 9).await.is_empty());
    assert_eq!(h.archive.discard(&name("gone"), h.now()).await, Ok(0));
    // What was given up can be asked for again.
    redeliver(&h, &one(tried, h.now())).await;
    assert_eq!(h.claim("gone", 9).await.len(), 1);
    assert_eq!(counts(&h, "gone").await, (2, 0));
}

pub async fn a_discard_of_many_leaves_none<E: Engine>(h: Harness<E>) {
    let mut receipts = Vec::new();
    for n in 0..700 {
        let wanted = vec![super::owed("gone")];
        let event = super::event("one", &n.to_string());
        receipts.push(h.store.insert(event, wanted).unwrap());
    }
    for receipt in receipts {
        super::resolved(receipt).await.unwrap();
    }
    assert_eq!(h.archive.discard(&name("gone"), h.now()).await, Ok(700));
    assert_eq!(counts(&h, "gone").await, (0, 700));
}

/// New rounds for what `filter` finds, at most `limit` events.
fn matching(filter: EventFilter, limit: u32, now: Timestamp) -> Redeliver {
    let page = Page { limit, after: None };
    Redeliver {
        events: Redelivery::Matching(Box::new(filter), page),
        handlers: None,
        dry_run: false,
        first_due: now,
        spacing: Duration::from_secs(1),
    }
}

/// Seven events, each with a delivery for `cms` that is dead where its number
/// is even, and one for `log` that is dead.
async fn seven<E: Engine>(h: &Harness<E>) -> Vec<EventId> {
    let mut ids = Vec::new();
    for n in 0..7 {
        let id = h.pending(&format!("{n}"), &["cms", "log"]).await;
        let verdict = match n % 2 {
            0 => Verdict::Dead,
            _ => Verdict::Succeeded,
        };
        for (handler, verdict) in [("cms", verdict), ("log", Verdict::Dead)] {
            let key = h.claim(handler, 1).await[0].key();
            h.record(key, verdict).await.unwrap();
        }
        ids.push(id);
        h.clock.shift(1);
    }
    ids
}

pub async fn a_filter_says_which_deliveries<E: Engine>(h: Harness<E>) {
    let ids = seven(&h).await;
    let filter = EventFilter {
        statuses: Some(vec![Status::Dead]),
        handler: Some(name("cms")),
        ..EventFilter::default()
    };
    let now = h.now();
    let dry = Redeliver {
        dry_run: true,
        ..matching(filter.clone(), 100, now)
    };
    let found = redeliver(&h, &dry).await;
    assert_eq!((found.events, found.deliveries), (4, 4));
    assert_eq!(counts(&h, "cms").await, (0, 4), "counted only");

    // Page by page, the newest first, and the spacing goes on.
    let mut what = matching(filter, 3, now);
    let first = redeliver(&h, &what).await;
    assert_eq!((first.events, first.deliveries), (3, 3));
    assert_eq!(first.next_due, now + Duration::from_secs(3));
    if let Redelivery::Matching(_, page) = &mut what.events {
        page.after = Some(first.next.expect("there is one more"));
    }
    what.first_due = first.next_due;
    let second = redeliver(&h, &what).await;
    assert_eq!(
        (second.events, second.deliveries, second.next),
        (1, 1, None)
    );
    for (at, n) in [6, 4, 2, 0].into_iter().enumerate() {
        let deliveries = h.history(ids[n]).await.deliveries;
        let due = now + Duration::from_secs(at as u64);
        assert_eq!(deliveries[0].next_at, Some(due), "{n}");
        assert_eq!(deliveries[1].status, Status::Dead, "the other handler's");
    }
    assert_eq!(h.stands(ids[1], "cms").await, (Status::Succeeded, 1));
    assert_eq!(
        (counts(&h, "cms").await, counts(&h, "log").await),
        ((4, 0), (0, 7))
    );
}

pub async fn a_filter_over_events_takes_all_that_they_have<E: Engine>(h: Harness<E>) {
    let ids = seven(&h).await;
    let everything = || matching(EventFilter::default(), 1000, h.now());
    let dry = Redeliver {
        handlers: Some(vec![name("late"), name("log")]),
        dry_run: true,
        ..everything()
    };
    let found = redeliver(&h, &dry).await;
    assert_eq!((found.events, found.deliveries), (7, 14));
    // A filter over deliveries asks for such as there are.
    let filter = EventFilter {
        statuses: Some(vec![Status::Dead, Status::Pending]),
        ..EventFilter::default()
    };
    let what = Redeliver {
        handlers: Some(vec![name("late")]),
        ..matching(filter, 1000, h.now())
    };
    assert_eq!(redeliver(&h, &what).await.deliveries, 0);
    assert_eq!(h.history(ids[0]).await.deliveries.len(), 2);
    let done = redeliver(&h, &everything()).await;
    assert_eq!((done.events, done.deliveries, done.next), (7, 14, None));
    assert_eq!(
        (counts(&h, "cms").await, counts(&h, "log").await),
        ((7, 0), (7, 0))
    );
}

/// More than one page of a search and more than one commit.
pub async fn a_filter_may_match_many<E: Engine>(h: Harness<E>) {
    let mut receipts = Vec::new();
    for n in 0..700 {
        let wanted = vec![super::owed("cms")];
        let event = super::event("one", &n.to_string());
        receipts.push(h.store.insert(event, wanted).unwrap());
    }
    for receipt in receipts {
        super::resolved(receipt).await.unwrap();
    }
    let first = h.now() + Duration::from_secs(1);
    let mut what = matching(EventFilter::default(), 600, first);
    let mut events = 0;
    // A search is bounded in time, so it may take several calls.
    loop {
        let done = redeliver(&h, &what).await;
        events += done.events;
        what.first_due = done.next_due;
        let Redelivery::Matching(_, page) = &mut what.events else {
            unreachable!("it was made so");
        };
        page.after = done.next;
        page.limit -= u32::try_from(done.events).unwrap();
        if page.limit == 0 || done.next.is_none() {
            break;
        }
    }
    assert_eq!(events, 600);
    assert_eq!(what.first_due, first + Duration::from_secs(600));
    assert_eq!(counts(&h, "cms").await, (700, 0));
    assert_eq!(
        h.claim("cms", 1000).await.len(),
        100,
        "the oldest are as they were"
    );
}
