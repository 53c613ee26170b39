//! Events: search, one with all that became of it, its raw body.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response as AxumResponse};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::history::HistoryView;
use super::query::{self, FilterWords, Nothing, Params, Query};
use super::views::{EventView, Problem};
use crate::event::EventId;
use crate::server::error::Rejection;
use crate::store::History;
use crate::store::archive::Page;

const LIMIT: u32 = 50;
const LIMIT_MAX: u32 = 500;

/// Which events, and which part of the answer.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    #[param(ignore)]
    filter: FilterWords,
    /// Events at the most; 50 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next` of the answer before, to go on.
    #[param(value_type = Option<String>, format = "uuid")]
    cursor: Option<EventId>,
}

impl Params for ListParams {
    const NAMES: &'static [&'static str] = &[
        "type", "source", "status", "handler", "outcome", "media_id", "job_id", "since", "until",
        "q", "limit", "cursor",
    ];

    fn take(&mut self, name: &str, value: String) -> Result<bool, Rejection> {
        match name {
            "limit" => {
                let limit = query::number(name, &value, (1, LIMIT_MAX))?;
                query::set(&mut self.limit, name, limit)?;
            }
            "cursor" => query::set(&mut self.cursor, name, query::cursor(name, &value)?)?,
            _ => return self.filter.take(name, value),
        }
        Ok(true)
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
struct Events<'e> {
    /// The events, newest first.
    #[schema(value_type = Vec<EventView>)]
    events: Vec<EventView<'e>>,
    /// Where to go on, as `cursor`; null at the end. A search is bounded in
    /// time, so that there may be a `next` after few events, or none.
    #[schema(value_type = Option<String>, format = "uuid", required)]
    next: Option<EventId>,
}

/// Events, newest first.
#[utoipa::path(
    get,
    path = "/api/events",
    operation_id = "list_events",
    tag = "events",
    params(FilterWords, ListParams),
    responses(
        (status = 200, description = "A page of events", body = Events),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(state): State<Arc<AdminState>>,
    Query(params): Query<ListParams>,
) -> Result<AxumResponse, Rejection> {
    let filter = params.filter.filter(state.now())?;
    let page = Page {
        limit: params.limit.unwrap_or(LIMIT),
        after: params.cursor,
    };
    let found = state.archive()?.events(&filter, page).await?;
    let events = Events {
        events: found.events.iter().map(EventView::new).collect(),
        next: found.next,
    };
    Ok(axum::Json(events).into_response())
}

/// An event and what became of it.
#[utoipa::path(
    get,
    path = "/api/events/{id}",
    operation_id = "get_event",
    tag = "events",
    params(("id" = uuid::Uuid, Path, description = "The id of the event, in lower case")),
    responses(
        (status = 200, description = "The event with its deliveries and their attempts", body = HistoryView),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such event", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn show(
    State(state): State<Arc<AdminState>>,
    id: Result<Path<String>, PathRejection>,
    _: Query<Nothing>,
) -> Result<AxumResponse, Rejection> {
    let history = find(&state, id).await?;
    Ok(axum::Json(HistoryView::new(&history)).into_response())
}

/// The raw body of an event, byte for byte.
#[utoipa::path(
    get,
    path = "/api/events/{id}/body",
    operation_id = "get_event_body",
    tag = "events",
    params(("id" = uuid::Uuid, Path, description = "The id of the event, in lower case")),
    responses(
        (status = 200, description = "The body as it was received", body = String, content_type = "application/octet-stream"),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such event", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn body(
    State(state): State<Arc<AdminState>>,
    id: Result<Path<String>, PathRejection>,
    _: Query<Nothing>,
) -> Result<AxumResponse, Rejection> {
    let history = find(&state, id).await?;
    let name = format!("attachment; filename=\"{}.body\"", history.event.id);
    let mut answer = history.event.content.body.into_response();
    let headers = answer.headers_mut();
    // Whatever it claims to be, nobody opens it here.
    let bytes = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, bytes);
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(answer)
}

/// What the store knows of the event that a path names, in any text.
async fn find(
    state: &AdminState,
    id: Result<Path<String>, PathRejection>,
) -> Result<History, Rejection> {
    let id = event_id(id)?;
    state.store()?.history(id).await?.ok_or(Rejection::NotFound)
}

/// The id that a path names.
pub(super) fn event_id(id: Result<Path<String>, PathRejection>) -> Result<EventId, Rejection> {
    let Ok(Path(text)) = id else {
        return Err(Rejection::NotFound);
    };
    let known = text.parse::<EventId>().ok();
    known
        .filter(|id| id.to_string() == text)
        .ok_or(Rejection::NotFound)
}
