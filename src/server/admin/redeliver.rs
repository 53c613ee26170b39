//! New rounds for deliveries: of one event, or of all that a filter lets
//! through.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::events::event_id;
use super::input::JsonBody;
use super::query::{self, FilterWords, Nothing, Query, bad};
use super::views::{Problem, Time, Word};
use super::{AdminState, asker};
use crate::delivery::Status;
use crate::event::EventId;
use crate::request::HandlerName;
use crate::server::error::Rejection;
use crate::store::archive::{Page, Redeliver, Redelivered, Redelivery};

const LIMIT: u32 = 1_000;
const LIMIT_MAX: u32 = 10_000;
/// Deliveries a second.
const RATE: f64 = 50.0;
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1_000.0;
/// A first delivery later than this was not meant.
const FIRST_DUE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Which deliveries of one event.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedeliverOne {
    /// The handlers; those that have a delivery where it is not given. One
    /// that has none yet gets one.
    #[schema(min_items = 1, max_items = 64, value_type = Option<Vec<Word>>)]
    handlers: Option<Vec<String>>,
    /// Only deliveries that stand like this.
    status: Option<Words>,
}

/// One word, or several of which one has to hold.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
enum Words {
    /// One.
    One(Word),
    /// Several.
    Many(Vec<Word>),
}

impl Words {
    fn into_list(words: Option<Self>) -> Vec<String> {
        match words {
            None => Vec::new(),
            Some(Self::One(word)) => vec![word.0],
            Some(Self::Many(words)) => words.into_iter().map(|word| word.0).collect(),
        }
    }
}

/// Which deliveries of which events. At least one member of the filter has to
/// be there; `"type": ["*"]` says all events.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedeliverMany {
    /// Globs over the type.
    r#type: Option<Words>,
    /// The sources they came in by.
    source: Option<Words>,
    /// How the delivery stands; only such deliveries get a new round.
    status: Option<Words>,
    /// The handler whose delivery is meant; only its deliveries get a new round.
    #[schema(min_length = 1, max_length = 512)]
    handler: Option<String>,
    /// The sender's word about the job.
    outcome: Option<Words>,
    /// The media id, whole.
    #[schema(min_length = 1, max_length = 512)]
    media_id: Option<String>,
    /// The job id, whole.
    #[schema(min_length = 1, max_length = 512)]
    job_id: Option<String>,
    /// Received at this time or later: RFC 3339, or `15m`, `2h`, `2d` for so
    /// long ago.
    #[schema(min_length = 2, max_length = 64)]
    since: Option<String>,
    /// Received before this time, written like `since`.
    #[schema(min_length = 2, max_length = 64)]
    until: Option<String>,
    /// Text anywhere in the body, ASCII letters in either case.
    #[schema(min_length = 1, max_length = 256)]
    q: Option<String>,
    /// For these handlers; those that have a delivery where it is not given.
    #[schema(min_items = 1, max_items = 64, value_type = Option<Vec<Word>>)]
    handlers: Option<Vec<String>>,
    /// Count only.
    #[serde(default)]
    dry_run: bool,
    /// Events at the most; 1000 where it is not given.
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
    /// Deliveries a second; 50 where it is not given.
    #[schema(minimum = 0.001, maximum = 1000)]
    rate: Option<f64>,
    /// The `next` of the answer before, to go on.
    #[schema(value_type = Option<String>, format = "uuid")]
    cursor: Option<String>,
    /// The `next_due` of the answer before, to go on.
    #[schema(value_type = Option<String>, format = DateTime)]
    first_due: Option<String>,
}

/// What a redelivery did, or would do.
#[derive(Debug, Serialize, ToSchema)]
struct RedeliveredOne {
    /// Events that had a delivery changed.
    events: u64,
    /// Deliveries that are due again.
    deliveries: u64,
    /// Deliveries that were left alone, because they are running.
    running: u64,
}

/// What a redelivery did, or would do, and how to go on.
#[derive(Debug, Serialize, ToSchema)]
struct RedeliveredMany {
    /// Events that had a delivery changed.
    events: u64,
    /// Deliveries that are due again.
    deliveries: u64,
    /// Deliveries that were left alone, because they are running.
    running: u64,
    /// Where to go on, as `cursor`; null at the end.
    #[schema(value_type = Option<String>, format = "uuid", required)]
    next: Option<EventId>,
    /// When the first of the next part is due, as `first_due`.
    #[schema(value_type = String, format = DateTime)]
    next_due: Time,
}

/// Sends one event again.
#[utoipa::path(
    post,
    path = "/api/events/{id}/redeliver",
    operation_id = "redeliver_event",
    tag = "events",
    params(("id" = uuid::Uuid, Path, description = "The id of the event, in lower case")),
    request_body = RedeliverOne,
    responses(
        (status = 200, description = "What was done", body = RedeliveredOne),
        (status = 400, description = "The body cannot be read, or a handler is not configured", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such event", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn one(
    State(state): State<Arc<AdminState>>,
    id: Result<Path<String>, PathRejection>,
    _: Query<Nothing>,
    JsonBody(body): JsonBody<RedeliverOne>,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    let id = event_id(id)?;
    let handlers = state.configured(body.handlers)?;
    let words = FilterWords {
        statuses: Words::into_list(body.status),
        ..FilterWords::default()
    };
    let statuses = words.filter(state.now())?.statuses;
    let done = state.redeliver_one(id, handlers, statuses).await?;
    Ok(axum::Json(RedeliveredOne {
        events: done.events,
        deliveries: done.deliveries,
        running: done.running,
    }))
}

/// Sends many events again, newest first, at a bounded rate.
#[utoipa::path(
    post,
    path = "/api/redeliver",
    operation_id = "redeliver_events",
    tag = "events",
    request_body = RedeliverMany,
    responses(
        (status = 200, description = "What was done, or would be", body = RedeliveredMany),
        (status = 400, description = "The body cannot be read, names no filter, or a handler that is not configured", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn many(
    State(state): State<Arc<AdminState>>,
    _: Query<Nothing>,
    JsonBody(body): JsonBody<RedeliverMany>,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    let what = state.what(body)?;
    let done = state.redeliver(&what).await?;
    Ok(axum::Json(RedeliveredMany {
        events: done.events,
        deliveries: done.deliveries,
        running: done.running,
        next: done.next,
        next_due: Time(done.next_due),
    }))
}

fn joined<T: ToString>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(",")
}

/// Which events were asked for, for the log: names and times, and nothing that
/// a sender wrote but ids.
struct Described<'a>(&'a Redelivery);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ID_CHARS_MAX: usize = 64;
        let filter = match self.0 {
            Redelivery::One(id) => return write!(f, "id={id}"),
            Redelivery::Matching(filter, _) => filter,
        };
        let id = |id: &Option<String>| -> Option<String> {
            let short = id.as_ref()?.chars().take(ID_CHARS_MAX);
            Some(short.flat_map(char::escape_default).collect())
        };
        let all = [
            ("type", filter.types.as_ref().map(|_| "given".to_owned())),
            ("source", filter.sources.as_ref().map(|all| joined(all))),
            (
                "status",
                filter.statuses.as_ref().map(|all| {
                    let words: Vec<&str> = all.iter().map(|one| one.as_str()).collect();
                    words.join(",")
                }),
            ),
            ("handler", filter.handler.as_ref().map(ToString::to_string)),
            (
                "outcome",
                filter.outcomes.as_ref().map(|all| {
                    let words: Vec<&str> = all.iter().map(|one| one.as_str()).collect();
                    words.join(",")
                }),
            ),
            ("media_id", id(&filter.media_id)),
            ("job_id", id(&filter.job_id)),
            ("since", filter.since.map(|at| at.to_string())),
            ("until", filter.until.map(|at| at.to_string())),
            ("q", filter.text.as_ref().map(|_| "given".to_owned())),
        ];
        let given = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        for (number, (name, value)) in given.enumerate() {
            let between = if number > 0 { " " } else { "" };
            write!(f, "{between}{name}={value}")?;
        }
        Ok(())
    }
}

impl AdminState {
    /// Opens a new round for one event's deliveries: for these handlers, or
    /// for those that have one and are still configured. With `statuses` only
    /// for those whose delivery stands like that.
    pub(in crate::server) async fn redeliver_one(
        &self,
        id: EventId,
        handlers: Option<Vec<HandlerName>>,
        statuses: Option<Vec<Status>>,
    ) -> Result<Redelivered, Rejection> {
        let known = self.store()?.history(id).await?;
        let known = known.ok_or(Rejection::NotFound)?;
        let configured = |name: &HandlerName| self.handler(name.as_str()).is_some();
        let handlers = match (handlers, statuses) {
            (Some(handlers), None) => handlers,
            (asked, statuses) => known
                .deliveries
                .into_iter()
                .filter(|one| {
                    statuses
                        .as_ref()
                        .is_none_or(|all| all.contains(&one.status))
                })
                .map(|one| one.handler)
                .filter(|name| {
                    asked
                        .as_ref()
                        .map_or(configured(name), |all| all.contains(name))
                })
                .collect(),
        };
        let what = Redeliver {
            events: Redelivery::One(id),
            handlers: Some(handlers),
            dry_run: false,
            first_due: self.now(),
            spacing: Duration::ZERO,
        };
        self.redeliver(&what).await
    }

    /// Opens new rounds, or counts them.
    pub(in crate::server) async fn redeliver(
        &self,
        what: &Redeliver,
    ) -> Result<Redelivered, Rejection> {
        let done = self.archive()?.redeliver(what, self.now()).await?;
        if !what.dry_run {
            let handlers = what.handlers.as_ref().map(|names| joined(names));
            info!(
                peer = asker::peer().map(tracing::field::display),
                filter = %Described(&what.events),
                handlers,
                events = done.events,
                deliveries = done.deliveries,
                "redelivery was asked for"
            );
        }
        Ok(done)
    }

    /// The names of handlers, each of which has to be configured.
    pub(in crate::server) fn configured(
        &self,
        names: Option<Vec<String>>,
    ) -> Result<Option<Vec<HandlerName>>, Rejection> {
        let Some(names) = names else {
            return Ok(None);
        };
        if names.is_empty() {
            return Err(bad("handlers", "is empty: leave it out to mean all"));
        }
        let names: BTreeSet<String> = names.into_iter().collect();
        let known = |name: &String| match self.handler(name) {
            Some(handler) => Ok(handler.name.clone()),
            None => Err(self.no_such_handler(name)),
        };
        names.iter().map(known).collect::<Result<_, _>>().map(Some)
    }

    fn no_such_handler(&self, name: &str) -> Rejection {
        let all = self.parts.handlers.iter();
        let all: Vec<_> = all.map(|handler| handler.name.as_str()).collect();
        let name = &name[..name.floor_char_boundary(64)];
        bad(
            "handlers",
            format!("`{name}` is not configured; there are {}", all.join(", ")),
        )
    }

    fn what(&self, body: RedeliverMany) -> Result<Redeliver, Rejection> {
        let now = self.now();
        let words = FilterWords {
            types: Words::into_list(body.r#type),
            sources: Words::into_list(body.source),
            statuses: Words::into_list(body.status),
            handler: body.handler,
            outcomes: Words::into_list(body.outcome),
            media_id: body.media_id,
            job_id: body.job_id,
            since: body.since,
            until: body.until,
            q: body.q,
        };
        if words.is_empty() {
            return Err(Rejection::BadRequest(
                "write what to redeliver, such as \"status\": [\"dead\"]; \"type\": [\"*\"] says everything"
                    .to_owned(),
            ));
        }
        let filter = words.filter(now)?;
        let limit = body.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(bad(
                "limit",
                format!("write a number from 1 to {LIMIT_MAX}"),
            ));
        }
        let rate = body.rate.unwrap_or(RATE);
        if !(RATE_MIN..=RATE_MAX).contains(&rate) {
            let problem = format!("write a number from {RATE_MIN} to {RATE_MAX}");
            return Err(bad("rate", problem));
        }
        let after = body.cursor.map(|text| query::cursor("cursor", &text));
        let first_due = match body.first_due {
            None => now,
            Some(text) => {
                let due = text.parse().ok();
                due.filter(|due| *due <= now + FIRST_DUE_MAX)
                    .ok_or_else(|| bad("first_due", "write the `next_due` of the answer before"))?
            }
        };
        let after = after.transpose()?;
        Ok(Redeliver {
            events: Redelivery::Matching(Box::new(filter), Page { limit, after }),
            handlers: self.configured(body.handlers)?,
            dry_run: body.dry_run,
            first_due,
            spacing: Duration::from_secs_f64(1.0 / rate),
        })
    }
}
