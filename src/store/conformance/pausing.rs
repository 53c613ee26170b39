//! Promises of `set_paused` and `handlers`.

use std::time::Duration;

use super::super::Backlog;
use super::super::archive::HandlerState;
use super::{Engine, Harness, name, roster};
use crate::delivery::Verdict;

pub async fn a_pause_lasts_until_the_resume<E: Engine>(mut h: Harness<E>) {
    let both = roster(&["cms", "log"]);
    let enrolled = h.store.enrol(&both, h.now()).await.unwrap();
    assert!(enrolled.paused.is_empty());
    let paused_at = h.now();
    let set = h.archive.set_paused(&name("cms"), true, paused_at).await;
    assert_eq!(set, Ok(Some(true)));
    h.clock.shift(10);
    let again = h.archive.set_paused(&name("cms"), true, h.now()).await;
    assert_eq!(again, Ok(Some(false)));
    h.crash().await;
    let handlers = h.archive.handlers().await.unwrap();
    assert_eq!(handlers[&name("cms")].paused_at, Some(paused_at));
    assert_eq!(handlers[&name("log")].paused_at, None);
    let enrolled = h.store.enrol(&both, h.now()).await.unwrap();
    assert_eq!(Vec::from_iter(enrolled.paused), [(name("cms"), paused_at)]);
    // One that is away and comes back is still held back.
    h.store.enrol(&roster(&["log"]), h.now()).await.unwrap();
    let enrolled = h.store.enrol(&both, h.now()).await.unwrap();
    assert_eq!(Vec::from_iter(enrolled.paused), [(name("cms"), paused_at)]);

    let set = h.archive.set_paused(&name("cms"), false, h.now()).await;
    assert_eq!(set, Ok(Some(true)));
    let again = h.archive.set_paused(&name("cms"), false, h.now()).await;
    assert_eq!(again, Ok(Some(false)));
    h.reopen().await;
    let enrolled = h.store.enrol(&both, h.now()).await.unwrap();
    assert!(enrolled.paused.is_empty());
}

pub async fn an_unknown_handler_is_not_paused<E: Engine>(h: Harness<E>) {
    let set = h.archive.set_paused(&name("nobody"), true, h.now()).await;
    assert_eq!(set, Ok(None));
    assert!(h.archive.handlers().await.unwrap().is_empty());
}

pub async fn age_counts_from_the_resume<E: Engine>(mut h: Harness<E>) {
    let both = roster(&["cms", "log"]);
    h.store.enrol(&both, h.now()).await.unwrap();
    let received = h.now();
    h.pending("a", &["cms", "log"]).await;
    h.archive
        .set_paused(&name("cms"), true, h.now())
        .await
        .unwrap();
    h.clock.shift(500_000);
    let resumed = h.now();
    h.archive
        .set_paused(&name("cms"), false, resumed)
        .await
        .unwrap();
    let delivery = h.claim("cms", 1).await.remove(0);
    assert_eq!(delivery.age_from, resumed);
    h.record(delivery.key(), Verdict::RetryAt(h.now()))
        .await
        .unwrap();
    assert_eq!(h.claim("log", 1).await[0].age_from, received);
    h.crash().await;
    h.store.enrol(&both, h.now()).await.unwrap();
    assert_eq!(h.claim("cms", 1).await[0].age_from, resumed);
}

pub async fn handlers_are_listed_with_what_waits<E: Engine>(h: Harness<E>) {
    h.store
        .enrol(&roster(&["cms", "idle"]), h.now())
        .await
        .unwrap();
    let received = h.now();
    h.pending("a", &["cms"]).await;
    h.pending("b", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    h.record(key, Verdict::Dead).await.unwrap();
    h.clock.shift(10);
    let removed_at = h.now();
    h.store.enrol(&roster(&["idle"]), h.now()).await.unwrap();
    h.clock
        .shift(Duration::from_secs(10).as_secs().cast_signed());
    let handlers = h.archive.handlers().await.unwrap();
    let expected = [
        (
            name("cms"),
            HandlerState {
                removed_at: Some(removed_at),
                paused_at: None,
                backlog: Backlog {
                    unfinished: 1,
                    dead: 1,
                    oldest: Some(received),
                },
            },
        ),
        (name("idle"), HandlerState::default()),
    ];
    assert_eq!(Vec::from_iter(handlers), expected);
}
