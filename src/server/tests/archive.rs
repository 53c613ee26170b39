//! The operator's side of a store, in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::delivery::{Reason, Status};
use crate::event::{EventId, Outcome};
use crate::request::{HandlerName, SourceName};
use crate::server::Lanes;
use crate::store::archive::{
    Archive, DeliverySummary, EventFilter, EventSummary, Found, HandlerState, Imported,
    MinuteCount, Page, Redeliver, Redelivered, StoreSize, Tail, TailPosition,
};
use crate::store::{History, StoreError};

/// Remembers what it was asked to do.
#[derive(Default)]
pub(super) struct FakeArchive {
    /// Oldest first.
    pub(super) events: Mutex<Vec<(EventSummary, Bytes)>>,
    pub(super) handlers: Mutex<BTreeMap<HandlerName, HandlerState>>,
    pub(super) redelivered: Mutex<Vec<Redeliver>>,
    pub(super) imported: Mutex<Vec<History>>,
    pub(super) minutes: Mutex<Vec<MinuteCount>>,
    /// How often the tail was read.
    pub(super) tail_reads: Mutex<u64>,
}

/// Remembers who was held back.
#[derive(Default)]
pub(super) struct FakeLanes(pub(super) Mutex<Vec<String>>);

impl Lanes for FakeLanes {
    fn pause(&self, handler: &HandlerName) {
        self.0.lock().unwrap().push(format!("pause {handler}"));
    }

    fn resume(&self, handler: &HandlerName) {
        self.0.lock().unwrap().push(format!("resume {handler}"));
    }
}

/// The id of the event with this number.
pub(super) fn id(number: u32) -> EventId {
    let text = format!("0199aa00-0000-7000-8000-{number:012}");
    text.parse().unwrap()
}

/// An event with this number, a dead delivery to `cms`, and a body.
pub(super) fn event(number: u32, body: &str) -> (EventSummary, Bytes) {
    let summary = EventSummary {
        id: id(number),
        received_at: Timestamp::from_second(1_000 + i64::from(number)).unwrap(),
        source: SourceName::new("default").unwrap(),
        event_type: "SnapshotComplete".to_owned(),
        event_time: Some("t".to_owned()),
        user_id: None,
        outcome: Outcome::Succeeded,
        media_id: Some(format!("m{number}")),
        job_id: None,
        duplicates: 1,
        body_bytes: body.len() as u64,
        notes: vec!["odd".to_owned()],
        deliveries: vec![DeliverySummary {
            handler: HandlerName::new("cms").unwrap(),
            status: Status::Dead,
            attempts: 3,
            next_at: None,
            reason: Some(Reason::new("status 500")),
        }],
    };
    (summary, Bytes::copy_from_slice(body.as_bytes()))
}

impl FakeArchive {
    pub(super) fn store(&self, event: (EventSummary, Bytes)) {
        self.events.lock().unwrap().push(event);
    }
}

#[async_trait]
impl Archive for FakeArchive {
    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Found, StoreError> {
        let events = self.events.lock().unwrap();
        let mut all = events
            .iter()
            .rev()
            .filter(|(event, _)| page.after.is_none_or(|after| event.id < after))
            .filter(|(event, body)| filter.admits(event, body))
            .map(|(event, _)| event.clone());
        let events: Vec<_> = all.by_ref().take(page.limit as usize).collect();
        let next = all.next().and(events.last().map(|event| event.id));
        Ok(Found { events, next })
    }

    async fn tail(&self, position: Option<TailPosition>, limit: u32) -> Result<Tail, StoreError> {
        *self.tail_reads.lock().unwrap() += 1;
        let events = self.events.lock().unwrap();
        let from = position.map_or(events.len(), |position| position.0 as usize);
        let new = &events[from..];
        let skipped = new.len().saturating_sub(limit as usize);
        Ok(Tail {
            events: new[skipped..].to_vec(),
            position: TailPosition(events.len() as i64),
            skipped: skipped as u64,
        })
    }

    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteCount>, StoreError> {
        let minutes = self.minutes.lock().unwrap();
        let new = minutes.iter().filter(|count| count.minute >= since);
        Ok(new.cloned().collect())
    }

    async fn redeliver(&self, what: &Redeliver, now: Timestamp) -> Result<Redelivered, StoreError> {
        self.redelivered.lock().unwrap().push(what.clone());
        Ok(Redelivered {
            events: 1,
            deliveries: 2,
            running: 3,
            next: Some(id(7)),
            next_due: now,
        })
    }

    async fn handlers(&self) -> Result<BTreeMap<HandlerName, HandlerState>, StoreError> {
        Ok(self.handlers.lock().unwrap().clone())
    }

    async fn set_paused(
        &self,
        handler: &HandlerName,
        paused: bool,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        let mut handlers = self.handlers.lock().unwrap();
        let state = handlers.entry(handler.clone()).or_default();
        let changed = state.paused_at.is_some() != paused;
        if changed {
            state.paused_at = paused.then_some(now);
        }
        Ok(Some(changed))
    }

    async fn discard(&self, handler: &HandlerName, _: Timestamp) -> Result<u64, StoreError> {
        let mut handlers = self.handlers.lock().unwrap();
        let state = handlers.entry(handler.clone()).or_default();
        Ok(std::mem::take(&mut state.backlog.unfinished))
    }

    async fn import(&self, events: Vec<History>) -> Result<Imported, StoreError> {
        let mut imported = self.imported.lock().unwrap();
        let mut done = Imported::default();
        for event in events {
            match imported
                .iter()
                .find(|known| known.event.id == event.event.id)
            {
                None => {
                    imported.push(event);
                    done.added += 1;
                }
                Some(known) if known.event.content.body == event.event.content.body => {
                    done.known += 1;
                }
                Some(_) => return Err(StoreError::Rejected("another body".to_owned())),
            }
        }
        Ok(done)
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        Ok(StoreSize {
            file_bytes: 4,
            used_bytes: 3,
            wal_bytes: 2,
            disk_free_bytes: 1,
        })
    }
}
