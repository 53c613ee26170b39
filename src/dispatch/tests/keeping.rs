//! Retention by size and by room, over the real store.

use tempfile::TempDir;

use super::super::retention::{Keeper, Retention};
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::store::metrics::EarlyPurged;
use crate::store::{self, Opened, StoreConfig, StoreMetrics};

const DAY: Duration = Duration::from_hours(24);

struct Kept {
    _folder: TempDir,
    opened: Opened,
    clock: Arc<ManualClock>,
    retention: Retention,
    early: EarlyPurged,
}

impl Kept {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("events.db");
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let config = StoreConfig {
            path: path.clone(),
            dedup_window: Duration::from_hours(1),
            dedup_entries_max: 1000,
            clock: Arc::clone(&clock) as _,
            metrics: StoreMetrics::default(),
        };
        let opened = store::open(config, store::lock(&path).unwrap()).unwrap();
        Self {
            opened,
            clock,
            retention: Retention {
                finished: 30 * DAY,
                dead: 90 * DAY,
                bytes_max: None,
                disk_free_min: 0,
                path,
            },
            early: EarlyPurged::default(),
            _folder: folder,
        }
    }

    /// Stores an event of about 10 kB for `handlers`, pending.
    async fn arrive(&self, number: u32, handlers: &[&str]) -> EventId {
        let body = format!("{number}{}", " ".repeat(10_000));
        let mut event = testing::delivery(body.as_bytes()).event.content.clone();
        event.fingerprint = crate::event::fingerprint(&event.body);
        let owed = |name: &&str| Wanted {
            handler: HandlerName::new(name).unwrap(),
            slot: None,
        };
        let wanted = handlers.iter().map(owed).collect();
        let receipt = self.opened.store.insert(event, wanted).unwrap();
        timeout(PATIENCE, receipt)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .id
    }

    /// Events that nobody wants, one a minute.
    async fn many(&self, count: u32) -> Vec<EventId> {
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(self.arrive(number, &[]).await);
            self.clock.advance(Duration::from_mins(1));
        }
        ids
    }

    async fn kill(&self, handler: &str) {
        let free = [(HandlerName::new(handler).unwrap(), 1)];
        let now = self.clock.now();
        let claimed = self.opened.store.claim(&free, now).await.unwrap();
        let settlement = Settlement {
            verdict: Verdict::Dead,
            started_at: now,
            ended_at: now,
            reason: Some(Reason::new("no")),
            report: Report::default(),
        };
        let key = claimed.deliveries[0].key();
        self.opened.store.record(key, settlement).await.unwrap();
    }

    fn keeper(&self) -> Keeper {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Keeper::new(
            self.retention.clone(),
            &self.opened,
            clock,
            self.early.clone(),
        )
    }

    async fn used(&self) -> u64 {
        self.opened.archive.size().await.unwrap().used_bytes
    }

    /// Which of `ids` are there still.
    async fn left(&self, ids: &[EventId]) -> Vec<EventId> {
        let mut left = Vec::new();
        for id in ids {
            if self.opened.store.history(*id).await.unwrap().is_some() {
                left.push(*id);
            }
        }
        left
    }
}

#[tokio::test]
async fn the_oldest_finished_go_until_the_store_is_small_enough() {
    let mut kept = Kept::new();
    let waiting = kept.arrive(1000, &["away"]).await;
    let dead = kept.arrive(1001, &["broken"]).await;
    kept.kill("broken").await;
    let ids = kept.many(300).await;
    kept.clock.advance(DAY);
    assert_eq!(kept.keeper().sweep().await, 0, "there is no limit");
    let before = kept.used().await;
    let limit = before - 1_000_000;
    kept.retention.bytes_max = Some(limit);
    let removed = kept.keeper().sweep().await;
    assert!((60..=110).contains(&removed), "{removed}");
    assert!(kept.used().await <= limit);
    assert_eq!(kept.early.bytes.get(), removed);
    let left = kept.left(&ids).await;
    assert_eq!(left, ids[removed as usize..], "the oldest are gone");
    assert_eq!(kept.left(&[waiting, dead]).await.len(), 2);
    assert_eq!(kept.keeper().sweep().await, 0, "it is small enough");

    // However small it should be, those stay; and so do those of the window.
    kept.retention.bytes_max = Some(1);
    let young = kept.many(30).await;
    kept.keeper().sweep().await;
    assert!(kept.left(&ids).await.is_empty());
    assert_eq!(kept.left(&young).await, young);
    assert_eq!(kept.left(&[waiting, dead]).await.len(), 2);
    assert_eq!(kept.early.bytes.get(), 300);
}

#[tokio::test]
async fn a_disk_without_room_costs_what_is_older_than_a_day() {
    let mut kept = Kept::new();
    let dead = kept.arrive(1000, &["broken"]).await;
    kept.kill("broken").await;
    let waiting = kept.arrive(1001, &["away"]).await;
    let old = kept.many(50).await;
    kept.clock.advance(DAY);
    let young = kept.many(30).await;
    kept.clock.advance(Duration::from_hours(20));
    assert_eq!(kept.keeper().sweep().await, 0, "it is switched off");
    kept.retention.disk_free_min = 1 << 52;
    assert_eq!(kept.keeper().sweep().await, 50);
    assert!(kept.left(&old).await.is_empty());
    assert_eq!(kept.left(&young).await, young);
    assert_eq!(kept.left(&[waiting, dead]).await.len(), 2);
    assert_eq!((kept.early.disk.get(), kept.early.bytes.get()), (50, 0));
}
