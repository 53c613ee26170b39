//! Promises of `events`, `tail` and `minutes`.

use std::collections::BTreeSet;
use std::time::Duration;

use globset::{Glob, GlobSetBuilder};
use jiff::Timestamp;

use super::super::archive::{EventFilter, Page, TailPosition};
use super::super::{DeliveryHistory, History, Purge};
use super::{Engine, Harness, WINDOW, event, name, owed, until};
use crate::delivery::{Status, Verdict};
use crate::event::{Event, EventId, NewEvent, Outcome};
use crate::request::SourceName;

/// What the test knows of an event that it stored.
#[derive(Debug, Clone)]
struct Known {
    id: EventId,
    at: Timestamp,
    content: NewEvent,
    deliveries: Vec<(&'static str, Status)>,
}

const TYPES: [&str; 5] = [
    "ProduceMediaComplete",
    "ProduceMediaStart",
    "FileMetaChanged",
    "SnapshotComplete",
    "Rare",
];

/// The `n`th event: few values of each field, so that combinations meet.
fn sample(n: usize) -> NewEvent {
    let mut sample = event(
        if n % 4 == 1 { "two" } else { "one" },
        &format!("{{\"n\":{n},\"word\":\"{}\"}}", ["Needle", "hay"][n % 2]),
    );
    sample.event_type = TYPES[if n % 29 == 7 { 4 } else { n % 4 }].into();
    sample.outcome = [Outcome::Succeeded, Outcome::Failed, Outcome::Other][n % 3];
    sample.media_id = (!n.is_multiple_of(5)).then(|| format!("m{}", n / 3));
    sample.job_id = (!n.is_multiple_of(6)).then(|| format!("j{}", n % 7));
    sample
}

/// Stores `count` events, some minutes in all, with deliveries in every status.
async fn fill<E: Engine>(h: &Harness<E>, from: usize, count: usize) -> Vec<Known> {
    let mut known = Vec::new();
    for n in from..from + count {
        let handlers: &[&'static str] = match n % 4 {
            0 => &["cms"],
            1 => &["audit", "cms"],
            2 => &["audit"],
            _ => &[],
        };
        let wanted = handlers.iter().map(|handler| owed(handler)).collect();
        let content = sample(n);
        let id = h.insert(content.clone(), wanted).await.id;
        let mut deliveries = Vec::new();
        for &handler in handlers {
            let status = match (n + handler.len()) % 5 {
                0 => Status::Pending,
                1 => Status::Running,
                2 => Status::Dead,
                _ => Status::Succeeded,
            };
            // What stays pending is put off, so that it is not claimed again.
            let verdict = match status {
                Status::Pending => Some(Verdict::RetryAt(h.now() + Duration::from_secs(900_000))),
                Status::Running => None,
                Status::Dead => Some(Verdict::Dead),
                Status::Succeeded => Some(Verdict::Succeeded),
            };
            let claimed = h.claim(handler, 1).await;
            if let Some(verdict) = verdict {
                h.record(claimed[0].key(), verdict).await.unwrap();
            }
            deliveries.push((handler, status));
        }
        known.push(Known {
            id,
            at: h.history(id).await.event.received_at,
            content,
            deliveries,
        });
        h.clock.shift(7);
    }
    known
}

type Holds = Box<dyn Fn(&Known) -> bool>;

/// Filters of one condition each, with what they mean.
fn conditions(start: Timestamp) -> Vec<(&'static str, EventFilter, Holds)> {
    fn with(set: impl FnOnce(&mut EventFilter)) -> EventFilter {
        let mut filter = EventFilter::default();
        set(&mut filter);
        filter
    }
    fn globs(patterns: &[&str]) -> globset::GlobSet {
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            globs.add(Glob::new(pattern).unwrap());
        }
        globs.build().unwrap()
    }
    fn stands(known: &Known, statuses: &[Status]) -> bool {
        let mut deliveries = known.deliveries.iter();
        deliveries.any(|(_, status)| statuses.contains(status))
    }
    let statuses = |wanted: &'static [Status]| {
        let filter = with(|f| f.statuses = Some(wanted.to_vec()));
        let holds: Holds = Box::new(move |known| stands(known, wanted));
        (filter, holds)
    };
    let (dead, is_dead) = statuses(&[Status::Dead]);
    let (open, is_open) = statuses(&[Status::Pending, Status::Running]);
    let (pending, is_pending) = statuses(&[Status::Pending]);
    let (running, is_running) = statuses(&[Status::Running]);
    let (unhappy, is_unhappy) = statuses(&[Status::Dead, Status::Pending]);
    let (succeeded, has_succeeded) = statuses(&[Status::Succeeded]);
    let (since, until) = (
        start + Duration::from_millis(140_001),
        start + Duration::from_millis(420_000),
    );
    vec![
        ("nothing", with(|_| ()), Box::new(|_| true)),
        (
            "a common type",
            with(|f| f.types = Some(globs(&["ProduceMedia*"]))),
            Box::new(|known| known.content.event_type.starts_with("ProduceMedia")),
        ),
        (
            "a rare type",
            with(|f| f.types = Some(globs(&["Rare"]))),
            Box::new(|known| known.content.event_type == "Rare"),
        ),
        (
            "no type there is",
            with(|f| f.types = Some(globs(&["Unheard*"]))),
            Box::new(|_| false),
        ),
        (
            "a source",
            with(|f| f.sources = Some(vec![SourceName::new("two").unwrap()])),
            Box::new(|known| known.content.source.as_str() == "two"),
        ),
        (
            "outcomes",
            with(|f| f.outcomes = Some(vec![Outcome::Failed, Outcome::Other])),
            Box::new(|known| known.content.outcome != Outcome::Succeeded),
        ),
        (
            "a media id",
            with(|f| f.media_id = Some("m4".into())),
            Box::new(|known| known.content.media_id.as_deref() == Some("m4")),
        ),
        (
            "a job id",
            with(|f| f.job_id = Some("j3".into())),
            Box::new(|known| known.content.job_id.as_deref() == Some("j3")),
        ),
        (
            "since",
            with(|f| f.since = Some(since)),
            Box::new(move |known| known.at >= since),
        ),
        (
            "until",
            with(|f| f.until = Some(until)),
            Box::new(move |known| known.at < until),
        ),
        ("dead", dead, is_dead),
        ("unfinished", open, is_open),
        ("pending", pending, is_pending),
        ("running", running, is_running),
        ("dead or pending", unhappy, is_unhappy),
        ("succeeded", succeeded, has_succeeded),
        (
            "a handler",
            with(|f| f.handler = Some(name("audit"))),
            Box::new(|known| known.deliveries.iter().any(|(name, _)| *name == "audit")),
        ),
        (
            "a handler's dead ones",
            with(|f| {
                f.handler = Some(name("cms"));
                f.statuses = Some(vec![Status::Dead]);
            }),
            Box::new(|known| known.deliveries.contains(&("cms", Status::Dead))),
        ),
        (
            "a text",
            with(|f| f.text = Some("nEEdle".into())),
            Box::new(|known| known.content.body.windows(6).any(|part| part == b"Needle")),
        ),
    ]
}

/// Both conditions in one filter, where no field is set twice.
fn both(a: &EventFilter, b: &EventFilter) -> Option<EventFilter> {
    fn either<T: Clone>(a: &Option<T>, b: &Option<T>) -> Result<Option<T>, ()> {
        match (a, b) {
            (Some(_), Some(_)) => Err(()),
            _ => Ok(a.clone().or_else(|| b.clone())),
        }
    }
    let filter = || -> Result<EventFilter, ()> {
        // A handler changes what a status means.
        either(
            &a.handler.as_ref().map(|_| ()),
            &b.statuses.as_ref().map(|_| ()),
        )?;
        either(
            &b.handler.as_ref().map(|_| ()),
            &a.statuses.as_ref().map(|_| ()),
        )?;
        Ok(EventFilter {
            types: either(&a.types, &b.types)?,
            sources: either(&a.sources, &b.sources)?,
            outcomes: either(&a.outcomes, &b.outcomes)?,
            statuses: either(&a.statuses, &b.statuses)?,
            handler: either(&a.handler, &b.handler)?,
            media_id: either(&a.media_id, &b.media_id)?,
            job_id: either(&a.job_id, &b.job_id)?,
            since: either(&a.since, &b.since)?,
            until: either(&a.until, &b.until)?,
            text: either(&a.text, &b.text)?,
        })
    };
    filter().ok()
}

/// Everything that a filter finds, page by page.
async fn all<E: Engine>(h: &Harness<E>, filter: &EventFilter, limit: u32) -> Vec<EventId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = Page { limit, after };
        let found = h.archive.events(filter, page).await.unwrap();
        assert!(found.events.len() <= limit as usize);
        ids.extend(found.events.iter().map(|event| event.id));
        match found.next {
            Some(next) => {
                assert!(after.is_none_or(|after| next < after), "it goes on");
                after = Some(next);
            }
            None => return ids,
        }
    }
}

/// Holds every condition, and every two of them, against what is known.
async fn check<E: Engine>(h: &Harness<E>, start: Timestamp, known: &[Known]) {
    let conditions = conditions(start);
    for (at, (a_name, a, a_holds)) in conditions.iter().enumerate() {
        for (b_name, b, b_holds) in &conditions[..=at] {
            let single = a_name == b_name;
            let Some(filter) = (if single { Some(a.clone()) } else { both(a, b) }) else {
                continue;
            };
            let mut expected: Vec<EventId> = known
                .iter()
                .filter(|known| a_holds(known) && b_holds(known))
                .map(|known| known.id)
                .collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            // Pages of one now and then, of many mostly.
            let limit = if single { 3 } else { 50 };
            let found = all(h, &filter, limit).await;
            assert_eq!(found, expected, "{a_name}, {b_name}");
        }
    }
}

/// Waits until nothing lags any more: every event is counted in its minute.
async fn settled<E: Engine>(h: &Harness<E>, events: usize) {
    until("every event is counted", async || {
        let counts = h.archive.minutes(Timestamp::UNIX_EPOCH).await.unwrap();
        counts.iter().map(|count| count.events).sum::<u64>() == events as u64
    })
    .await;
}

pub async fn every_filter_finds_what_it_means<E: Engine>(mut h: Harness<E>) {
    let start = h.now();
    let known = fill(&h, 0, 90).await;
    check(&h, start, &known).await;
    settled(&h, known.len()).await;
    check(&h, start, &known).await;
    h.reopen().await;
    check(&h, start, &known).await;
}

pub async fn what_was_stored_is_found_at_once<E: Engine>(h: Harness<E>) {
    for n in 0..40 {
        let mut content = sample(n);
        content.media_id = Some(format!("only-{n}"));
        content.event_type = format!("Type{n}");
        let id = h.insert(content, vec![]).await.id;
        let by_media = EventFilter {
            media_id: Some(format!("only-{n}")),
            ..EventFilter::default()
        };
        assert_eq!(all(&h, &by_media, 10).await, [id]);
        let mut types = GlobSetBuilder::new();
        types.add(Glob::new(&format!("Type{n}")).unwrap());
        let by_type = EventFilter {
            types: Some(types.build().unwrap()),
            ..EventFilter::default()
        };
        assert_eq!(all(&h, &by_type, 10).await, [id]);
    }
}

pub async fn pages_are_whole_beside_inserts<E: Engine>(h: Harness<E>) {
    let start = h.now();
    let known = fill(&h, 0, 60).await;
    for (condition, filter, holds) in conditions(start) {
        let expected: Vec<EventId> = (known.iter().rev())
            .filter(|known| holds(known))
            .map(|known| known.id)
            .collect();
        let (mut seen, mut after, mut fresh) = (Vec::new(), None, BTreeSet::new());
        loop {
            let page = Page { limit: 4, after };
            let found = h.archive.events(&filter, page).await.unwrap();
            seen.extend(found.events.iter().map(|event| event.id));
            // What comes meanwhile is newer than all of it.
            let body = format!("beside {condition} {}", fresh.len());
            fresh.insert(h.insert(event("two", &body), vec![owed("late")]).await.id);
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        seen.retain(|id| known.iter().any(|known| known.id == *id));
        assert_eq!(seen, expected, "{condition}");
        // Out of the way of the conditions that follow.
        h.clock.shift(60 * 60 * 24);
    }
}

pub async fn a_summary_says_what_the_event_says<E: Engine>(h: Harness<E>) {
    let content = sample(1);
    let id = h
        .insert(content.clone(), vec![owed("cms"), owed("audit")])
        .await
        .id;
    h.insert(content.clone(), vec![]).await;
    let key = h.claim("cms", 1).await[0].key();
    let retry_at = h.now() + Duration::from_secs(60);
    h.record(key, Verdict::RetryAt(retry_at)).await.unwrap();
    h.claim("audit", 1).await;
    until("the copy is counted", async || {
        h.history(id).await.duplicates == 1
    })
    .await;
    let page = Page {
        limit: 1,
        after: None,
    };
    let found = (h.archive.events(&EventFilter::default(), page).await).unwrap();
    assert_eq!(found.next, None, "there is nothing older");
    let [event] = &found.events[..] else {
        panic!("one event: {found:?}");
    };
    assert_eq!((event.id, event.received_at), (id, h.now()));
    assert_eq!(event.source, content.source);
    assert_eq!(event.event_type, content.event_type);
    assert_eq!(event.event_time, content.event_time);
    assert_eq!(event.user_id, content.user_id);
    assert_eq!(event.outcome, content.outcome);
    assert_eq!(event.media_id, content.media_id);
    assert_eq!(event.job_id, content.job_id);
    assert_eq!(event.notes, content.notes);
    assert_eq!(event.duplicates, 1);
    assert_eq!(event.body_bytes, content.body.len() as u64);
    let [audit, cms] = &event.deliveries[..] else {
        panic!("two deliveries by name: {event:?}");
    };
    assert_eq!(
        (audit.handler.as_str(), audit.status, audit.attempts),
        ("audit", Status::Running, 1)
    );
    assert_eq!((audit.next_at, cms.next_at), (None, Some(retry_at)));
    assert_eq!(
        (cms.handler.as_str(), cms.status, cms.attempts),
        ("cms", Status::Pending, 1)
    );
    assert_eq!(cms.reason.as_ref().unwrap().as_str(), "status 500");
}

/// The `known` of another store, so much earlier, with ids that say so.
fn exported(known: &Known, earlier: i64) -> (Known, History) {
    // Not to be claimed by the test.
    let next_at = known.at + Duration::from_secs(900_000);
    let at = known.at - jiff::SignedDuration::from_secs(earlier);
    let ms = at.as_millisecond().cast_unsigned();
    let id = uuid::Builder::from_unix_timestamp_millis(ms, &rand::random()).into_uuid();
    let mut content = known.content.clone();
    let body = format!("{} earlier", String::from_utf8_lossy(&content.body));
    content.body = body.into_bytes().into();
    rand::fill(&mut content.fingerprint[..]);
    let copy = Known {
        id: EventId(id),
        at,
        content: content.clone(),
        // Nothing arrives at work.
        deliveries: (known.deliveries.iter())
            .map(|(handler, status)| match status {
                Status::Running => (*handler, Status::Pending),
                status => (*handler, *status),
            })
            .collect(),
    };
    let deliveries = copy.deliveries.iter().map(|(handler, status)| {
        let pending = *status == Status::Pending;
        DeliveryHistory {
            handler: name(handler),
            status: *status,
            attempts: 1,
            failed: 0,
            age_from: None,
            next_at: pending.then_some(next_at),
            reason: None,
            history: Vec::new(),
        }
    });
    let history = History {
        event: Event {
            id: copy.id,
            row: 0,
            received_at: at,
            content,
        },
        duplicates: 0,
        deliveries: deliveries.collect(),
    };
    (copy, history)
}

/// Imported events have old ids and new places: the order is that of the ids.
pub async fn imported_events_stand_where_they_belong<E: Engine>(mut h: Harness<E>) {
    let start = h.now();
    let mut known = fill(&h, 0, 40).await;
    // Some before all others, some in between; newest first, as an export has them.
    let (copies, histories): (Vec<_>, Vec<_>) = (known[..30].iter().rev())
        .map(|known| exported(known, 150))
        .unzip();
    h.archive.import(histories).await.unwrap();
    known.extend(copies);
    check(&h, start, &known).await;
    known.extend(fill(&h, 100, 20).await);
    check(&h, start, &known).await;
    settled(&h, known.len()).await;
    check(&h, start, &known).await;
    h.reopen().await;
    check(&h, start, &known).await;
}

pub async fn what_was_removed_is_not_found<E: Engine>(h: Harness<E>) {
    let start = h.now();
    let mut known = fill(&h, 0, 60).await;
    settled(&h, known.len()).await;
    h.clock.shift(WINDOW.as_secs().cast_signed() + 10);
    let purge = Purge {
        finished_before: h.now(),
        dead_before: Timestamp::UNIX_EPOCH,
    };
    while h.store.purge(purge, 7).await.unwrap().more {}
    let finished = |known: &Known| {
        let mut statuses = known.deliveries.iter().map(|(_, status)| status);
        statuses.all(|status| *status == Status::Succeeded)
    };
    let before = known.len();
    known.retain(|known| !finished(known));
    assert!(known.len() < before);
    check(&h, start, &known).await;
    known.extend(fill(&h, 100, 10).await);
    check(&h, start, &known).await;
}

pub async fn a_tail_gives_what_came_since<E: Engine>(h: Harness<E>) {
    fill(&h, 0, 3).await;
    let tail = h.archive.tail(None, 10).await.unwrap();
    assert!(tail.events.is_empty() && tail.skipped == 0);
    let tail = h.archive.tail(Some(tail.position), 10).await.unwrap();
    assert!(tail.events.is_empty() && tail.skipped == 0, "nothing came");
    let known = fill(&h, 3, 7).await;
    let ids = |tail: &super::super::archive::Tail| -> Vec<EventId> {
        tail.events.iter().map(|(event, _)| event.id).collect()
    };
    let expected: Vec<EventId> = known.iter().map(|known| known.id).collect();
    let all = h.archive.tail(Some(tail.position), 7).await.unwrap();
    assert_eq!((ids(&all), all.skipped), (expected.clone(), 0));
    for ((event, body), known) in all.events.iter().zip(&known) {
        assert_eq!(body, &known.content.body);
        assert_eq!(event.event_type, known.content.event_type);
    }
    let newest = h.archive.tail(Some(tail.position), 3).await.unwrap();
    assert_eq!(
        (ids(&newest), newest.skipped),
        (expected[4..].to_vec(), 4),
        "the newest are kept and the others counted"
    );
    assert_eq!(newest.position, all.position);
    let none = h.archive.tail(Some(tail.position), 0).await.unwrap();
    assert_eq!((none.events.len(), none.skipped), (0, 7));
    // A duplicate is no event, and a position of another store does no harm.
    h.insert(sample(5), vec![]).await;
    let after = h.archive.tail(Some(all.position), 5).await.unwrap();
    assert_eq!((after.events.len(), after.skipped), (0, 0));
    let foreign = Some(TailPosition(all.position.0 + 1_000_000));
    let found = h.archive.tail(foreign, 5).await.unwrap();
    assert_eq!(
        (found.events.len(), found.skipped, found.position),
        (0, 0, all.position)
    );
}

pub async fn minutes_are_counted<E: Engine>(mut h: Harness<E>) {
    let known = fill(&h, 0, 40).await;
    settled(&h, 40).await;
    let minute = |at: Timestamp| at.as_second().div_euclid(60) * 60;
    let mut expected = std::collections::BTreeMap::new();
    for known in &known {
        let content = &known.content;
        let key = (
            minute(known.at),
            content.source.as_str().to_owned(),
            content.event_type.clone(),
            content.outcome.as_str(),
        );
        *expected.entry(key).or_insert(0) += 1;
    }
    h.reopen().await;
    settled(&h, 40).await;
    let since = known[20].at;
    for since in [Timestamp::UNIX_EPOCH, since] {
        let counts = h.archive.minutes(since).await.unwrap();
        let counted: std::collections::BTreeMap<_, u64> = counts
            .into_iter()
            .map(|count| {
                let key = (
                    count.minute.as_second(),
                    count.source.as_str().to_owned(),
                    count.event_type,
                    count.outcome.as_str(),
                );
                (key, count.events)
            })
            .collect();
        let mut expected = expected.clone();
        expected.retain(|(at, ..), _| *at >= minute(since));
        assert_eq!(counted, expected);
    }
}
