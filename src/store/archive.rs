//! What an operator asks of a store: find events, count them, send them again,
//! hold a handler back, move events from one store to another.
//!
//! [`Archive`] is the contract; the same engine keeps it that keeps
//! [`Store`](super::Store), which is the line's own side. Nothing here may slow
//! the line: searches are bounded in time, changes go in small commits.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use globset::GlobSet;
use jiff::Timestamp;

use super::{Backlog, History, StoreError};
use crate::delivery::{Reason, Status};
use crate::event::{EventId, Outcome};
use crate::request::{HandlerName, SourceName};

/// Finds what is stored, and changes what operators may change.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// The events that `filter` lets through, newest first, from `page` on.
    ///
    /// Bounded in time: where a filter matches little and nothing narrows it
    /// down, the answer may hold fewer events than a page, or none, and still
    /// say where to go on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Found, StoreError>;

    /// What was stored after `position`, oldest first, at most `limit` events;
    /// what is more than that is left out and counted, the newest are kept.
    /// `None` as a position means "from now on", and answers no event.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn tail(&self, position: Option<TailPosition>, limit: u32) -> Result<Tail, StoreError>;

    /// How many events were stored in each minute from the minute of `since`
    /// on, by source, type and outcome. Reaches back a week at most, and may lag
    /// by a few seconds, more after the store grew without this program. Rare
    /// types beyond the first few thousand are counted together as `other`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteCount>, StoreError>;

    /// Opens a new round for deliveries: each is due again, its attempt numbers
    /// go on, its age and its failed attempts start anew. What is running is
    /// left alone. A handler that is named and has no delivery of an event gets
    /// one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what was changed before stays changed.
    async fn redeliver(&self, what: &Redeliver, now: Timestamp) -> Result<Redelivered, StoreError>;

    /// Every handler that was ever configured here, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn handlers(&self) -> Result<BTreeMap<HandlerName, HandlerState>, StoreError>;

    /// Remembers that a handler is held back, or no longer, across restarts.
    /// The age of what waits counts from the resume on. Answers whether
    /// anything changed; `None` where no such handler was ever configured.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn set_paused(
        &self,
        handler: &HandlerName,
        paused: bool,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError>;

    /// Gives up what waits for a handler that is gone for good: its pending
    /// deliveries are dead, with the reason `discarded`. Answers how many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn discard(&self, handler: &HandlerName, now: Timestamp) -> Result<u64, StoreError>;

    /// Puts events back that another store exported, with their ids, times and
    /// deliveries. Events whose id is there already are left as they are. All are
    /// looked at before the first is put in.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what was put in before stays.
    /// [`StoreError::Rejected`] where an id is there with another body, does not
    /// say when, or where there would be too many handlers; nothing was put in
    /// then, unless another import came in between.
    async fn import(&self, events: Vec<History>) -> Result<Imported, StoreError>;

    /// How large the store is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn size(&self) -> Result<StoreSize, StoreError>;
}

/// Which events are asked for. Everything that is set has to hold.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Globs over the type.
    pub types: Option<GlobSet>,
    /// The source it came in by, any of these.
    pub sources: Option<Vec<SourceName>>,
    /// The sender's word about the job, any of these.
    pub outcomes: Option<Vec<Outcome>>,
    /// A delivery stands like this, any of these.
    pub statuses: Option<Vec<Status>>,
    /// A delivery is for this handler; together with `statuses` it is this
    /// handler's delivery that has to stand like that.
    pub handler: Option<HandlerName>,
    /// The media id, whole.
    pub media_id: Option<String>,
    /// The job id, whole.
    pub job_id: Option<String>,
    /// Received at this time or later.
    pub since: Option<Timestamp>,
    /// Received before this time.
    pub until: Option<Timestamp>,
    /// Anywhere in the body, ASCII letters in either case.
    pub text: Option<String>,
}

impl EventFilter {
    /// Whether the filter lets an event through.
    pub fn admits(&self, event: &EventSummary, body: &[u8]) -> bool {
        self.admits_head(event)
            && (self.text.as_ref()).is_none_or(|text| contains_text(body, text.as_bytes()))
    }

    /// Whether everything but the text lets an event through: what can be said
    /// without reading its body.
    pub fn admits_head(&self, event: &EventSummary) -> bool {
        fn same(wanted: &Option<String>, found: &Option<String>) -> bool {
            wanted.is_none() || wanted == found
        }
        fn among<T: PartialEq>(wanted: &Option<Vec<T>>, found: &T) -> bool {
            (wanted.as_ref()).is_none_or(|wanted| wanted.contains(found))
        }
        same(&self.media_id, &event.media_id)
            && same(&self.job_id, &event.job_id)
            && among(&self.sources, &event.source)
            && among(&self.outcomes, &event.outcome)
            && self.since.is_none_or(|since| event.received_at >= since)
            && self.until.is_none_or(|until| event.received_at < until)
            && (self.types.as_ref()).is_none_or(|types| types.is_match(&event.event_type))
            && self.admits_deliveries(&event.deliveries)
    }

    /// Whether one delivery is for the handler and stands as it is asked for.
    fn admits_deliveries(&self, deliveries: &[DeliverySummary]) -> bool {
        if self.handler.is_none() && self.statuses.is_none() {
            return true;
        }
        deliveries.iter().any(|delivery| {
            let handler = self.handler.as_ref();
            let statuses = self.statuses.as_ref();
            handler.is_none_or(|handler| *handler == delivery.handler)
                && statuses.is_none_or(|statuses| statuses.contains(&delivery.status))
        })
    }
}

/// Whether `text` stands anywhere in `body`, ASCII letters in either case.
pub fn contains_text(body: &[u8], text: &[u8]) -> bool {
    let Some(first) = text.first() else {
        return true;
    };
    let Some(last_start) = body.len().checked_sub(text.len()) else {
        return false;
    };
    let starts = &body[..=last_start];
    memchr::memchr2_iter(
        first.to_ascii_lowercase(),
        first.to_ascii_uppercase(),
        starts,
    )
    .any(|at| body[at..at + text.len()].eq_ignore_ascii_case(text))
}

/// Which part of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Events at the most.
    pub limit: u32,
    /// Only events older than this one; what [`Found::next`] said before.
    pub after: Option<EventId>,
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The events, newest first.
    pub events: Vec<EventSummary>,
    /// Where to go on; `None` where nothing older matches.
    pub next: Option<EventId>,
}

/// An event as a list shows it.
#[derive(Debug, Clone)]
pub struct EventSummary {
    /// Its public id.
    pub id: EventId,
    /// When it was stored.
    pub received_at: Timestamp,
    /// The source it came in by.
    pub source: SourceName,
    /// Its type.
    pub event_type: String,
    /// `EventTime`, the text as sent.
    pub event_time: Option<String>,
    /// `UserId` as text.
    pub user_id: Option<String>,
    /// The sender's word about the job.
    pub outcome: Outcome,
    /// Its media id.
    pub media_id: Option<String>,
    /// Its job id.
    pub job_id: Option<String>,
    /// How often the same body came again.
    pub duplicates: u64,
    /// The size of its body.
    pub body_bytes: u64,
    /// What was odd about it.
    pub notes: Vec<String>,
    /// Its deliveries, by handler name.
    pub deliveries: Vec<DeliverySummary>,
}

/// A delivery as a list shows it.
#[derive(Debug, Clone)]
pub struct DeliverySummary {
    /// The handler.
    pub handler: HandlerName,
    /// Where it stands.
    pub status: Status,
    /// The highest attempt number so far.
    pub attempts: u32,
    /// When it is tried next, where it is `pending`.
    pub next_at: Option<Timestamp>,
    /// Why it is not `succeeded`, where there is a reason.
    pub reason: Option<Reason>,
}

/// How far a tail has read. Means nothing to another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailPosition(pub i64);

/// What came since a position.
#[derive(Debug, Clone)]
pub struct Tail {
    /// The events with their bodies, oldest first.
    pub events: Vec<(EventSummary, Bytes)>,
    /// From where to go on.
    pub position: TailPosition,
    /// Events between the positions that are not among `events`.
    pub skipped: u64,
}

/// Events of one minute that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinuteCount {
    /// When the minute began.
    pub minute: Timestamp,
    /// Their source.
    pub source: SourceName,
    /// Their type.
    pub event_type: String,
    /// Their outcome.
    pub outcome: Outcome,
    /// How many there were.
    pub events: u64,
}

/// Which deliveries get a new round.
#[derive(Debug, Clone)]
pub struct Redeliver {
    /// Of which events.
    pub events: Redelivery,
    /// For which handlers; `None` means those that have a delivery already.
    pub handlers: Option<Vec<HandlerName>>,
    /// Count only.
    pub dry_run: bool,
    /// When the first of them is due; the current time, unless an earlier call
    /// is gone on with.
    pub first_due: Timestamp,
    /// How far apart they are due, so that a destination is not flooded.
    pub spacing: Duration,
}

/// Of which events deliveries get a new round.
#[derive(Debug, Clone)]
pub enum Redelivery {
    /// Of this one.
    One(EventId),
    /// Of those that a filter lets through, newest first. Where it asks for a
    /// status, or for a handler, only such deliveries get a new round.
    Matching(Box<EventFilter>, Page),
}

/// What a redelivery did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redelivered {
    /// Events that had a delivery changed.
    pub events: u64,
    /// Deliveries that are due again.
    pub deliveries: u64,
    /// Deliveries that were left alone, because they are running.
    pub running: u64,
    /// Where to go on; `None` where nothing older matches.
    pub next: Option<EventId>,
    /// When the one after the last is due.
    pub next_due: Timestamp,
}

/// A handler, as the store knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlerState {
    /// Since when it is no longer configured.
    pub removed_at: Option<Timestamp>,
    /// Since when it is held back.
    pub paused_at: Option<Timestamp>,
    /// What waits for it.
    pub backlog: Backlog,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events that are new here.
    pub added: u64,
    /// Events that were here already.
    pub known: u64,
}

/// How large a store is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// The database file.
    pub file_bytes: u64,
    /// What of it is in use.
    pub used_bytes: u64,
    /// The log beside it.
    pub wal_bytes: u64,
    /// What is free on its disk.
    pub disk_free_bytes: u64,
}

#[cfg(test)]
mod tests {
    use globset::{Glob, GlobSetBuilder};

    use super::*;

    fn event() -> EventSummary {
        let delivery = |handler: &str, status| DeliverySummary {
            handler: HandlerName::new(handler).unwrap(),
            status,
            attempts: 1,
            next_at: None,
            reason: None,
        };
        EventSummary {
            id: "0199aa00-0000-7000-8000-000000000001".parse().unwrap(),
            received_at: Timestamp::from_second(1_000).unwrap(),
            source: SourceName::new("default").unwrap(),
            event_type: "SnapshotComplete".to_owned(),
            event_time: None,
            user_id: None,
            outcome: Outcome::Succeeded,
            media_id: Some("m1".to_owned()),
            job_id: None,
            duplicates: 0,
            body_bytes: 2,
            notes: Vec::new(),
            deliveries: vec![
                delivery("cms", Status::Dead),
                delivery("audit", Status::Succeeded),
            ],
        }
    }

    fn types(globs: &[&str]) -> Option<GlobSet> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(Glob::new(glob).unwrap());
        }
        Some(set.build().unwrap())
    }

    #[test]
    fn each_member_of_a_filter_decides() {
        type Change = fn(&mut EventFilter);
        let cases: [(&str, Change, Change); 9] = [
            (
                "types",
                |f| f.types = types(&["No", "Snap*"]),
                |f| f.types = types(&["Snap"]),
            ),
            (
                "sources",
                |f| f.sources = Some(vec![SourceName::new("default").unwrap()]),
                |f| f.sources = Some(vec![SourceName::new("other").unwrap()]),
            ),
            (
                "outcomes",
                |f| f.outcomes = Some(vec![Outcome::Failed, Outcome::Succeeded]),
                |f| f.outcomes = Some(vec![Outcome::Failed]),
            ),
            (
                "statuses",
                |f| f.statuses = Some(vec![Status::Dead]),
                |f| f.statuses = Some(vec![Status::Pending, Status::Running]),
            ),
            (
                "handler",
                |f| f.handler = Some(HandlerName::new("cms").unwrap()),
                |f| f.handler = Some(HandlerName::new("search").unwrap()),
            ),
            (
                "media_id",
                |f| f.media_id = Some("m1".to_owned()),
                |f| f.media_id = Some("m".to_owned()),
            ),
            (
                "since",
                |f| f.since = Some(Timestamp::from_second(1_000).unwrap()),
                |f| f.since = Some(Timestamp::from_second(1_001).unwrap()),
            ),
            (
                "until",
                |f| f.until = Some(Timestamp::from_second(1_001).unwrap()),
                |f| f.until = Some(Timestamp::from_second(1_000).unwrap()),
            ),
            (
                "text",
                |f| f.text = Some("BODY".to_owned()),
                |f| f.text = Some("bodies".to_owned()),
            ),
        ];
        for (name, lets_through, keeps_away) in cases {
            let (mut good, mut bad) = (EventFilter::default(), EventFilter::default());
            lets_through(&mut good);
            keeps_away(&mut bad);
            assert!(good.admits(&event(), b"a Body"), "{name}");
            assert!(!bad.admits(&event(), b"a Body"), "{name}");
        }
        let job = EventFilter {
            job_id: Some("j".to_owned()),
            ..EventFilter::default()
        };
        assert!(!job.admits(&event(), b""), "no job id is not any job id");
    }

    #[test]
    fn a_status_is_the_handlers_own_where_one_is_named() {
        let filter = |handler: &str, status| EventFilter {
            handler: Some(HandlerName::new(handler).unwrap()),
            statuses: Some(vec![status]),
            ..EventFilter::default()
        };
        assert!(filter("cms", Status::Dead).admits(&event(), b""));
        assert!(!filter("audit", Status::Dead).admits(&event(), b""));
    }

    #[test]
    fn text_is_found_wherever_it_stands() {
        for (body, text, found) in [
            ("abc", "", true),
            ("", "", true),
            ("", "a", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("xxABC", "abc", true),
            ("abcxx", "ABC", true),
            ("aab", "ab", true),
            ("{\"k\":1}", "\"K\":1}", true),
            ("\u{c4}", "\u{e4}", false),
        ] {
            let contains = contains_text(body.as_bytes(), text.as_bytes());
            assert_eq!(contains, found, "{text:?} in {body:?}");
        }
    }
}
