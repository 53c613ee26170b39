//! Rows as no release of this program writes them.

use super::*;
use crate::delivery::{Status, Verdict};
use crate::store::StoreError;
use crate::store::archive::{EventFilter, Page};
use crate::store::conformance::{Harness, roster};
use crate::store::tools::{check, glance};

const ALL: Page = Page {
    limit: 100,
    after: None,
};

fn spoil(h: &Harness<Sqlite>, sql: &str) {
    by_hand(&h.engine.0.path().join("events.db"), sql);
}

#[tokio::test]
async fn counts_at_their_end_go_on() {
    let mut h = Harness::new(Sqlite::new());
    let id = h.pending("a", &["cms"]).await;
    for failed in ["4294967295", "4294967296", "-1", "'many'"] {
        spoil(
            &h,
            &format!("UPDATE deliveries SET failed = {failed}, lost = 4294967295"),
        );
        let delivery = h.claim("cms", 1).await.remove(0);
        assert!(delivery.failed < delivery.attempt, "{failed}");
        let again = Verdict::RetryAt(h.now());
        h.record(delivery.key(), again).await.unwrap();
        let stands = h.history(id).await.deliveries.remove(0);
        assert!(
            stands.failed <= stands.attempts,
            "an export can be imported"
        );
        h.claim("cms", 1).await;
        spoil(&h, "UPDATE deliveries SET lost = 4294967295");
        h.reopen().await;
        assert_eq!(h.store.take_over(&roster(&["cms"]), h.now()).await, Ok(1));
        h.clock.shift(3600);
        assert_eq!(h.stands(id, "cms").await.0, Status::Pending, "{failed}");
    }
}

#[tokio::test]
async fn a_delivery_that_lost_count_waits_alone_until_a_redelivery() {
    for attempts in ["4294967295", "4294967296", "-1", "'many'"] {
        let mut h = Harness::new(Sqlite::new());
        let spoilt = h.pending("spoilt", &["cms"]).await;
        let key = h.claim("cms", 1).await[0].key();
        h.record(key, Verdict::RetryAt(h.now())).await.unwrap();
        h.claim("cms", 1).await;
        let other = h.pending("other", &["cms", "audit"]).await;
        spoil(
            &h,
            &format!("UPDATE deliveries SET attempts = {attempts} WHERE event = 1"),
        );
        h.reopen().await;
        assert_eq!(h.store.take_over(&roster(&["cms"]), h.now()).await, Ok(1));
        let claimed = h.claim("cms", 9).await;
        assert_eq!(claimed.len(), 1, "{attempts}");
        assert_eq!(claimed[0].event.id, other);
        let found = h.archive.events(&EventFilter::default(), ALL).await;
        assert_eq!(found.unwrap().events.len(), 2, "{attempts}");
        let delivery = h.history(spoilt).await.deliveries.remove(0);
        assert_eq!(delivery.status, Status::Pending);
        let reason = delivery.reason.unwrap();
        assert!(reason.as_str().contains("counts anew"), "{reason}");

        let path = h.engine.0.path().join("events.db");
        let findings = check(&path, &mut |_| {}).unwrap();
        let told = findings.set_aside.join(" ");
        assert!(told.contains("events redeliver"), "{findings:?}");
        assert!(told.contains(&spoilt.to_string()), "{findings:?}");
        let what = crate::store::archive::Redeliver {
            events: crate::store::archive::Redelivery::One(spoilt),
            handlers: None,
            dry_run: false,
            first_due: h.now(),
            spacing: Duration::ZERO,
        };
        h.archive.redeliver(&what, h.now()).await.unwrap();
        assert_eq!(h.claim("cms", 9).await[0].attempt, 2, "{attempts}");
        let findings = check(&path, &mut |_| {}).unwrap();
        assert!(findings.set_aside.is_empty(), "{findings:?}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_left_out_alone() {
    let h = Harness::new(Sqlite::new());
    let spoilt = h.pending("spoilt", &["cms"]).await;
    let whole = h.pending("whole", &["cms"]).await;
    for column in ["source", "type", "verified", "outcome"] {
        spoil(
            &h,
            &format!("UPDATE events SET {column} = x'ff' WHERE row = 1"),
        );
        let found = h.archive.events(&EventFilter::default(), ALL).await;
        let found = found.unwrap().events;
        assert!(found.iter().any(|event| event.id == whole), "{column}");
        let history = h.store.history(spoilt).await;
        assert!(matches!(history, Err(StoreError::Rejected(_))), "{column}");
        h.history(whole).await;
    }
    let path = h.engine.0.path().join("events.db");
    let findings = check(&path, &mut |_| {}).unwrap();
    let told = findings.set_aside.join(" ");
    assert!(told.contains(&spoilt.to_string()), "{findings:?}");
    assert!(findings.problems.is_empty(), "{findings:?}");
    let claimed = h.claim("cms", 9).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].event.id, whole);
}

#[tokio::test]
async fn ids_of_earlier_releases_are_cut_in_lists() {
    let h = Harness::new(Sqlite::new());
    let id = h.pending("a", &["cms"]).await;
    let long = "UPDATE events SET media_id = replace(hex(zeroblob(100000)), '00', 'ü'),
        job_id = 'j', user_id = hex(zeroblob(100000))";
    spoil(&h, long);
    let found = h.archive.events(&EventFilter::default(), ALL).await;
    let event = found.unwrap().events.remove(0);
    let media = event.media_id.unwrap();
    assert!(media.len() < 520 && media.ends_with("ü…"), "{media}");
    assert!(event.user_id.unwrap().len() < 520);
    assert_eq!(event.job_id.as_deref(), Some("j"));
    let whole = h.history(id).await.event.content.media_id;
    assert_eq!(whole.unwrap().len(), 200_000, "the event itself keeps it");
}

#[tokio::test]
async fn a_glance_tells_what_waits_without_changing_anything() {
    let h = Harness::new(Sqlite::new());
    let path = h.engine.0.path().join("events.db");
    let empty = glance(&path).unwrap();
    assert_eq!((empty.newest, empty.pending.len()), (None, 0));
    assert!(glance(&h.engine.0.path().join("none.db")).is_err());
    h.pending("a", &["cms", "audit"]).await;
    h.clock.shift(60);
    let newest = h.pending("b", &["cms"]).await;
    let newest = h.history(newest).await.event.received_at;
    let key = h.claim("audit", 1).await[0].key();
    h.record(key, Verdict::Dead).await.unwrap();
    // A running one waits as well.
    h.claim("cms", 1).await;
    // The index's journal comes and goes.
    let ours = || {
        let mut files = files(h.engine.0.path());
        files.retain(|file| !file.to_string_lossy().contains("-search"));
        files
    };
    let before = ours();
    let seen = glance(&path).unwrap();
    assert_eq!(seen.newest, Some(newest));
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        let all = counts.iter().map(|(name, count)| format!("{name} {count}"));
        all.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(counts(&seen.pending), "cms 2");
    assert_eq!(counts(&seen.dead), "audit 1");
    assert!(seen.size.used_bytes > 0);
    assert_eq!(ours(), before);
    by_hand(&path, "PRAGMA application_id = 7");
    assert!(glance(&path).is_err(), "another program's file");
}
