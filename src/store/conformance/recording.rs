//! Promises of `record` and of the history.

use std::time::Duration;

use super::super::StoreError;
use super::{Engine, Harness};
use crate::delivery::{AttemptResult, DeliveryKey, HISTORY_FIRST, HISTORY_LAST, Status, Verdict};

pub async fn every_verdict_leads_to_its_status<E: Engine>(mut h: Harness<E>) {
    let later = h.now() + Duration::from_secs(5);
    let cases = [
        (
            Verdict::Succeeded,
            Status::Succeeded,
            None,
            Some(AttemptResult::Succeeded),
        ),
        (
            Verdict::RetryAt(later),
            Status::Pending,
            Some(later),
            Some(AttemptResult::Failed),
        ),
        (
            Verdict::Dead,
            Status::Dead,
            None,
            Some(AttemptResult::Failed),
        ),
        (
            Verdict::Stopped,
            Status::Pending,
            Some(h.now()),
            Some(AttemptResult::Stopped),
        ),
        (Verdict::Returned, Status::Pending, Some(h.now()), None),
    ];
    for (n, (verdict, status, next_at, result)) in cases.into_iter().enumerate() {
        let handler = format!("h{n}");
        let id = h.pending(&format!("{n}"), &[&handler]).await;
        let key = h.claim(&handler, 1).await[0].key();
        h.record(key, verdict).await.unwrap();
        h.crash().await;
        let delivery = h.history(id).await.deliveries.remove(0);
        assert_eq!(
            (delivery.status, delivery.next_at),
            (status, next_at),
            "{verdict:?}"
        );
        let attempts = u32::from(result.is_some());
        assert_eq!(delivery.attempts, attempts, "{verdict:?}");
        let results: Vec<_> = delivery.history.iter().map(|a| a.result).collect();
        assert_eq!(results, Vec::from_iter(result), "{verdict:?}");
        if let Some(attempt) = delivery.history.first() {
            assert_eq!(attempt.attempt, 1);
            assert_eq!(attempt.started_at, h.now());
            assert_eq!(attempt.ended_at, Some(h.now()));
            assert_eq!(attempt.report.0, Some(serde_json::json!({"status": 500})));
            assert_eq!(attempt.reason, delivery.reason);
            let failed = attempt.result != AttemptResult::Succeeded;
            assert_eq!(attempt.reason.is_some(), failed);
        }
    }
}

pub async fn a_key_that_does_not_hold_changes_nothing<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    let wrong = [
        DeliveryKey {
            attempt: 2,
            ..key.clone()
        },
        DeliveryKey {
            worker: crate::delivery::WorkerId(key.worker.0 + 1),
            ..key.clone()
        },
        DeliveryKey {
            handler: super::name("other"),
            ..key.clone()
        },
        DeliveryKey {
            row: key.row + 1,
            ..key.clone()
        },
    ];
    for wrong in wrong {
        let result = h.record(wrong.clone(), Verdict::Dead).await;
        assert_eq!(result, Err(StoreError::NotOurs), "{wrong:?}");
    }
    let delivery = h.history(id).await.deliveries.remove(0);
    assert_eq!(delivery.status, Status::Running);
    assert!(delivery.history.is_empty());
    h.record(key.clone(), Verdict::Succeeded).await.unwrap();
    let again = h.record(key, Verdict::Dead).await;
    assert_eq!(again, Err(StoreError::NotOurs));
    assert_eq!(h.stands(id, "cms").await, (Status::Succeeded, 1));
    assert_eq!(h.history(id).await.deliveries[0].history.len(), 1);
}

pub async fn what_was_returned_leaves_no_trace<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    for _ in 0..3 {
        let delivery = h.claim("cms", 1).await.remove(0);
        assert_eq!((delivery.attempt, delivery.failed), (1, 0));
        h.record(delivery.key(), Verdict::Returned).await.unwrap();
    }
    let delivery = h.history(id).await.deliveries.remove(0);
    assert_eq!((delivery.status, delivery.attempts), (Status::Pending, 0));
    assert!(delivery.history.is_empty() && delivery.reason.is_none());
}

pub async fn what_was_returned_keeps_the_last_reason<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    let key = h.claim("cms", 1).await[0].key();
    h.record(key, Verdict::RetryAt(h.now())).await.unwrap();
    let key = h.claim("cms", 1).await[0].key();
    h.record(key, Verdict::Returned).await.unwrap();
    let delivery = h.history(id).await.deliveries.remove(0);
    assert_eq!(delivery.reason.unwrap().as_str(), "status 500");
    assert_eq!(delivery.attempts, 1);
}

pub async fn the_history_keeps_the_first_and_the_last<E: Engine>(h: Harness<E>) {
    let id = h.pending("a", &["cms"]).await;
    let total = HISTORY_FIRST + HISTORY_LAST + 7;
    for n in 1..=total {
        let delivery = h.claim("cms", 1).await.remove(0);
        assert_eq!((delivery.attempt, delivery.failed), (n, n - 1));
        h.record(delivery.key(), Verdict::RetryAt(h.now()))
            .await
            .unwrap();
        let kept: Vec<u32> = h.history(id).await.deliveries[0]
            .history
            .iter()
            .map(|attempt| attempt.attempt)
            .collect();
        let expected: Vec<u32> = (1..=n)
            .filter(|&at| at <= HISTORY_FIRST || at + HISTORY_LAST > n)
            .collect();
        assert_eq!(kept, expected);
    }
}
