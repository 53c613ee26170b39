//! The handlers: what waits for them, and holding them back.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use utoipa::ToSchema;

use super::input::JsonBody;
use super::query::{Nothing, Query};
use super::views::{Problem, Time};
use super::{AdminState, asker};
use crate::dispatch::Dispatcher;
use crate::request::HandlerName;
use crate::server::error::Rejection;

/// What drives the handlers and can hold one back.
pub trait Lanes: Send + Sync + 'static {
    /// No attempt of this handler starts any more; those at work finish.
    fn pause(&self, handler: &HandlerName);

    /// Attempts start again.
    fn resume(&self, handler: &HandlerName);
}

impl Lanes for Dispatcher {
    fn pause(&self, handler: &HandlerName) {
        // Only configured handlers come here.
        Dispatcher::pause(self, handler);
    }

    fn resume(&self, handler: &HandlerName) {
        Dispatcher::resume(self, handler);
    }
}

/// A handler, and what waits for it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Handler)]
pub(in crate::server) struct HandlerView {
    /// Its name.
    pub(in crate::server) name: String,
    /// Its kind, where it is configured.
    #[schema(value_type = Option<String>, required)]
    pub(in crate::server) kind: Option<&'static str>,
    /// Whether it is configured now; what waits for one that is not waits for
    /// its return, or for a discard.
    pub(in crate::server) configured: bool,
    /// Since when it is held back.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub(in crate::server) paused_at: Option<Time>,
    /// Unfinished deliveries, those at work included.
    pub(in crate::server) pending: u64,
    /// Deliveries that were given up and not redelivered.
    pub(in crate::server) dead: u64,
    /// When the oldest event with an unfinished delivery was received.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub(in crate::server) oldest_pending_at: Option<Time>,
    /// Attempts that succeeded since the start of the process.
    pub(in crate::server) succeeded: u64,
    /// Attempts that failed since the start of the process.
    pub(in crate::server) failed: u64,
}

/// All handlers.
#[derive(Debug, Serialize, ToSchema)]
struct Handlers {
    /// Every handler that was ever configured, by name.
    handlers: Vec<HandlerView>,
}

/// Whether a handler is held back.
#[derive(Debug, Serialize, ToSchema)]
struct Paused {
    /// The handler.
    #[schema(value_type = String)]
    name: HandlerName,
    /// Since when it is held back.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    paused_at: Option<Time>,
    /// Whether this request changed anything.
    changed: bool,
}

/// What a discard did.
#[derive(Debug, Serialize, ToSchema)]
struct Discarded {
    /// The handler.
    #[schema(value_type = String)]
    name: HandlerName,
    /// Deliveries that were given up.
    discarded: u64,
}

/// Nothing is asked beside the path: an empty body, or `{}`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// All handlers, and what waits for them.
#[utoipa::path(
    get,
    path = "/api/handlers",
    operation_id = "list_handlers",
    tag = "handlers",
    responses(
        (status = 200, description = "Every handler that was ever configured here", body = Handlers),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(state): State<Arc<AdminState>>,
    _: Query<Nothing>,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    let handlers = state.handlers().await?;
    Ok(axum::Json(Handlers { handlers }))
}

/// Holds a handler back, across restarts. What is at work finishes.
#[utoipa::path(
    post,
    path = "/api/handlers/{name}/pause",
    operation_id = "pause_handler",
    tag = "handlers",
    params(("name" = String, Path, description = "The name of a configured handler")),
    request_body = Empty,
    responses(
        (status = 200, description = "It is held back", body = Paused),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such handler is configured", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pause(
    State(state): State<Arc<AdminState>>,
    name: Result<Path<String>, PathRejection>,
    _: Query<Nothing>,
    _: JsonBody<Empty>,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    set_paused(&state, name, true).await
}

/// Lets a handler go on.
#[utoipa::path(
    post,
    path = "/api/handlers/{name}/resume",
    operation_id = "resume_handler",
    tag = "handlers",
    params(("name" = String, Path, description = "The name of a configured handler")),
    request_body = Empty,
    responses(
        (status = 200, description = "It goes on", body = Paused),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such handler is configured", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn resume(
    State(state): State<Arc<AdminState>>,
    name: Result<Path<String>, PathRejection>,
    _: Query<Nothing>,
    _: JsonBody<Empty>,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    set_paused(&state, name, false).await
}

/// Gives up what waits for a handler that is gone for good.
#[utoipa::path(
    post,
    path = "/api/handlers/{name}/discard",
    operation_id = "discard_handler",
    tag = "handlers",
    params(("name" = String, Path, description = "The name of a handler that is no longer configured")),
    request_body = Empty,
    responses(
        (status = 200, description = "What waited is dead", body = Discarded),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such handler was ever configured", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The handler is configured", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn discard(
    State(state): State<Arc<AdminState>>,
    name: Result<Path<String>, PathRejection>,
    _: Query<Nothing>,
    _: JsonBody<Empty>,
) -> Result<axum::Json<impl Serialize>, Rejection> {
    let Path(name) = name.map_err(|_| Rejection::NotFound)?;
    let (name, discarded) = state.discard(&name).await?;
    Ok(axum::Json(Discarded { name, discarded }))
}

async fn set_paused(
    state: &AdminState,
    name: Result<Path<String>, PathRejection>,
    paused: bool,
) -> Result<axum::Json<Paused>, Rejection> {
    let Path(name) = name.map_err(|_| Rejection::NotFound)?;
    let (name, paused_at, changed) = state.set_paused(&name, paused).await?;
    Ok(axum::Json(Paused {
        name,
        paused_at: paused_at.map(Time),
        changed,
    }))
}

impl AdminState {
    /// Every handler that was ever configured, by name.
    pub(in crate::server) async fn handlers(&self) -> Result<Vec<HandlerView>, Rejection> {
        let stored = self.archive()?.handlers().await?;
        let configured = self.parts.handlers.iter();
        let names: BTreeSet<HandlerName> = stored
            .keys()
            .cloned()
            .chain(configured.map(|handler| handler.name.clone()))
            .collect();
        let view = |name: HandlerName| {
            let info = self.handler(name.as_str());
            let state = stored.get(&name).cloned().unwrap_or_default();
            let attempts = self.parts.dispatch.attempts(&name).unwrap_or_default();
            HandlerView {
                kind: info.map(|info| info.kind),
                configured: info.is_some(),
                paused_at: state.paused_at.map(Time),
                pending: state.backlog.unfinished,
                dead: state.backlog.dead,
                oldest_pending_at: state.backlog.oldest.map(Time),
                succeeded: attempts.succeeded,
                failed: attempts.failed,
                name: name.to_string(),
            }
        };
        Ok(names.into_iter().map(view).collect())
    }

    /// Holds a configured handler back, or lets it go on: in the store first,
    /// so that a restart in between changes nothing. Answers since when it is
    /// held back, and whether that is new.
    pub(in crate::server) async fn set_paused(
        &self,
        name: &str,
        paused: bool,
    ) -> Result<(HandlerName, Option<Timestamp>, bool), Rejection> {
        let handler = self.handler(name).ok_or_else(|| unknown(name))?;
        let handler = handler.name.clone();
        let lanes = self.parts.readiness.lanes().ok_or(Rejection::NotReady)?;
        let (archive, now) = (self.archive()?, self.now());
        let changed = archive.set_paused(&handler, paused, now).await?;
        let changed = changed.ok_or_else(|| unknown(name))?;
        match paused {
            true => lanes.pause(&handler),
            false => lanes.resume(&handler),
        }
        let peer = asker::peer().map(tracing::field::display);
        match paused {
            true => info!(peer, %handler, changed, "a handler was paused"),
            false => info!(peer, %handler, changed, "a handler was resumed"),
        }
        let paused_at = match (paused, changed) {
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => {
                let known = archive.handlers().await?;
                known.get(&handler).and_then(|state| state.paused_at)
            }
        };
        Ok((handler, paused_at, changed))
    }

    /// Gives up what waits for a handler that is no longer configured. Answers
    /// how many deliveries that were.
    pub(in crate::server) async fn discard(
        &self,
        name: &str,
    ) -> Result<(HandlerName, u64), Rejection> {
        if self.handler(name).is_some() {
            return Err(Rejection::Conflict(format!(
                "handler `{name}` is configured: only what waits for one that is gone can be discarded"
            )));
        }
        let archive = self.archive()?;
        let stored = archive.handlers().await?;
        let (handler, _) = stored.get_key_value(name).ok_or_else(|| unknown(name))?;
        let discarded = archive.discard(handler, self.now()).await?;
        let peer = asker::peer().map(tracing::field::display);
        warn!(peer, %handler, discarded, "what waited for a removed handler was given up");
        Ok((handler.clone(), discarded))
    }
}

fn unknown(name: &str) -> Rejection {
    let name = &name[..name.floor_char_boundary(64)];
    Rejection::Unknown(format!("no handler `{name}` is known"))
}
