//! What is read: one function for each page.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use uuid::Uuid;

use super::again;
use super::answer::{Problem, page, see, told};
use super::door::Reader;
use super::event;
use super::events::{self, Search};
use super::forms;
use super::layout::{self, Frame, Place};
use super::overview;
use super::read;
use super::refusals::{self, Wanted};
use super::subject::{self, Subject};
use crate::event::EventId;
use crate::server::admin::AdminState;
use crate::server::error::Rejection;
use crate::store::archive::{EventFilter, EventSummary, Page};

type Pairs = Query<Vec<(String, String)>>;
type Shared = State<Arc<AdminState>>;
type Known = Extension<Reader>;

/// Events on one page of a search.
const EVENTS_MAX: u32 = 50;
/// Events on the axis of a media or job.
const AXIS_EVENTS_MAX: usize = 300;
/// A search may answer part by part; so many parts belong to one page.
const PARTS_MAX: usize = 4;

fn frame(state: &AdminState, reader: &Reader, pairs: &[(String, String)]) -> Frame {
    Frame {
        now: state.now(),
        csrf: state.sessions.form_token(reader.session.as_ref()),
        signed_in: reader.session.is_some(),
        notice: forms::notice(pairs),
        refresh: "",
    }
}

fn value<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let mut found = pairs
        .iter()
        .filter(|(known, value)| known == name && !value.is_empty());
    found.next().map(|(_, value)| value.as_str())
}

/// `GET /`.
pub(super) async fn overview(
    State(state): Shared,
    Extension(reader): Known,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let asked = value(&pairs, "minutes").and_then(|minutes| minutes.parse().ok());
    let known = |asked: &u32| overview::SPANS.iter().any(|(minutes, _)| minutes == asked);
    let minutes = asked.filter(known).unwrap_or(overview::SPANS[0].0);
    let found = read::overview(&state, minutes).await?;
    let frame = Frame {
        refresh: "attention tiles charts handlers below",
        ..frame(&state, &reader, &pairs)
    };
    let inside = overview::view(&frame, &found);
    Ok(page(layout::page(
        &frame,
        Place::Overview,
        "Overview",
        &inside,
    )))
}

/// `GET /events`.
pub(super) async fn events(
    State(state): Shared,
    Extension(reader): Known,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let frame = frame(&state, &reader, &pairs);
    let search = Search::new(forms::without_notice(pairs));
    let found = told(read::search(&state, &search, EVENTS_MAX, PARTS_MAX).await)?;
    let choices = read::choices(&state).await?;
    let inside = events::view(&frame, &search, &choices, &found);
    Ok(page(layout::page(&frame, Place::Events, "Events", &inside)))
}

/// `GET /events/{id}`.
pub(super) async fn event(
    State(state): Shared,
    Extension(reader): Known,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let history = match event_id(&id) {
        Some(id) => state.store()?.history(id).await?,
        None => None,
    };
    let history = history.ok_or(Rejection::NotFound)?;
    let frame = Frame {
        refresh: "again became",
        ..frame(&state, &reader, &pairs)
    };
    let handlers = read::configured(&state);
    let inside = event::view(&frame, &history, &handlers);
    let title = layout::short(&history.event.content.event_type);
    Ok(page(layout::page(
        &frame,
        Place::Elsewhere,
        &title,
        &inside,
    )))
}

/// An id, spelt as we spell it.
pub(super) fn event_id(text: &str) -> Option<EventId> {
    let id = text.parse::<EventId>().ok()?;
    (id.to_string() == text).then_some(id)
}

/// `GET /media/{id}`.
pub(super) async fn media(
    state: Shared,
    reader: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    of(state, reader, Subject::Media, &id).await
}

/// `GET /job/{id}`.
pub(super) async fn job(
    state: Shared,
    reader: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    of(state, reader, Subject::Job, &id).await
}

async fn of(
    State(state): Shared,
    Extension(reader): Known,
    subject: Subject,
    id: &str,
) -> Result<Response, Problem> {
    let filter = subject.filter(id);
    let archive = state.archive()?;
    let (mut events, mut after) = (Vec::<EventSummary>::new(), None);
    for _ in 0..PARTS_MAX {
        let limit = u32::try_from(AXIS_EVENTS_MAX - events.len()).unwrap_or(0);
        let found = archive.events(&filter, Page { limit, after }).await?;
        events.extend(found.events);
        after = found.next;
        if after.is_none() || events.len() >= AXIS_EVENTS_MAX {
            break;
        }
    }
    let frame = frame(&state, &reader, &[]);
    let inside = subject::view(&frame, subject, id, &events, after.is_some());
    Ok(page(layout::page(
        &frame,
        Place::Elsewhere,
        &layout::short(id),
        &inside,
    )))
}

/// `GET /find`: to whatever the id is of.
pub(super) async fn find(State(state): Shared, Query(pairs): Pairs) -> Result<Response, Problem> {
    let Some(id) = value(&pairs, "id")
        .map(str::trim)
        .filter(|id| !id.is_empty())
    else {
        return Ok(see("/events"));
    };
    if let Some(known) = event_id(&id.to_lowercase())
        && state.store()?.history(known).await?.is_some()
    {
        return Ok(see(&format!("/events/{known}")));
    }
    for subject in [Subject::Media, Subject::Job] {
        let one = Page {
            limit: 1,
            after: None,
        };
        let filter: EventFilter = subject.filter(id);
        if !state
            .archive()?
            .events(&filter, one)
            .await?
            .events
            .is_empty()
        {
            return Ok(see(&subject.address(id)));
        }
    }
    if let Some(begun) = event_begun(&state, id).await? {
        return Ok(see(&format!("/events/{begun}")));
    }
    Ok(see(&layout::address("/events", [("q", id)])))
}

/// The one event whose id begins like this.
async fn event_begun(state: &AdminState, text: &str) -> Result<Option<EventId>, Rejection> {
    const DIGITS_MIN: usize = 8;
    const DIGITS: usize = 32;
    let digits = text.replace('-', "");
    let is_begun = (DIGITS_MIN..DIGITS).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    // The ids of a beginning are those between it with nothing but 0 after it
    // and it with nothing but f, and events are read in the order of their ids.
    let Some(last) = (is_begun.then(|| format!("{digits:f<DIGITS$}")))
        .and_then(|last| u128::from_str_radix(&last, 16).ok())
    else {
        return Ok(None);
    };
    let two = Page {
        limit: 2,
        after: last
            .checked_add(1)
            .map(|after| EventId(Uuid::from_u128(after))),
    };
    let found = state
        .archive()?
        .events(&EventFilter::default(), two)
        .await?;
    let digits = digits.to_lowercase();
    let mut begun = found.events.iter().filter(|event| {
        let id = event.id.0.simple().to_string();
        id.starts_with(&digits)
    });
    Ok(match (begun.next(), begun.next()) {
        (Some(event), None) => Some(event.id),
        _ => None,
    })
}

/// `GET /refusals`.
pub(super) async fn refusals(
    State(state): Shared,
    Extension(reader): Known,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let wanted = Wanted {
        source: value(&pairs, "source").map(str::to_owned),
        reason: value(&pairs, "reason").map(str::to_owned),
    };
    let (rows, totals) = read::refusals(&state, &wanted);
    let frame = Frame {
        refresh: "totals refused",
        ..frame(&state, &reader, &pairs)
    };
    let inside = refusals::view(&frame, &wanted, &rows, &totals);
    Ok(page(layout::page(
        &frame,
        Place::Refusals,
        "Refusals",
        &inside,
    )))
}

/// `GET /redeliver`: what would be sent again.
pub(super) async fn again(
    State(state): Shared,
    Extension(reader): Known,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let frame = frame(&state, &reader, &pairs);
    let search = Search::new(forms::without_notice(pairs));
    if search.is_everything() {
        return Ok(see("/events"));
    }
    let counted = told(read::count_again(&state, &search, again::LIMIT_MAX).await)?;
    let choices = read::choices(&state).await?;
    let inside = again::view(&frame, &search, &choices, &counted);
    Ok(page(layout::page(
        &frame,
        Place::Events,
        "Deliver again",
        &inside,
    )))
}

/// `GET /handlers/{name}/discard`: asks before it is done.
pub(super) async fn discard(
    State(state): Shared,
    Extension(reader): Known,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let handlers = state.archive()?.handlers().await?;
    let waiting = handlers.get(name.as_str()).ok_or(Rejection::NotFound)?;
    let frame = frame(&state, &reader, &[]);
    let inside = again::discard(&frame, &name, waiting.backlog.unfinished);
    Ok(page(layout::page(
        &frame,
        Place::Elsewhere,
        "Give up",
        &inside,
    )))
}
