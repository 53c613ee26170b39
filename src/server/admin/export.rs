//! Events out of this store, to be kept or to be put into another one.

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use axum::Extension;
use axum::body::Body as AxumBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response as AxumResponse};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, info};

use super::AdminState;
use super::history::HistoryView;
use super::query::{FilterWords, Query};
use super::views::Problem;
use crate::event::{EventId, json};
use crate::server::connection::{Connection, Streaming};
use crate::server::error::Rejection;
use crate::store::archive::{EventFilter, Page};
use crate::store::{Archive, Store, StoreError};

/// Exports at the same time.
const EXPORTS_MAX: usize = 4;
/// Ids that are looked up at once.
const PAGE: u32 = 100;
/// After so long without an event an empty line is written: a client that hung
/// up is only noticed by writing to it.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// Room for the exports at work.
#[derive(Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS_MAX)))
    }
}

/// Events with all that became of them, one on each line, newest first. Empty
/// lines mean nothing. An event that cannot be read is left out, and the log
/// says so. An export that fails on its way breaks off the
/// connection.
#[utoipa::path(
    get,
    path = "/api/export",
    operation_id = "export_events",
    tag = "events",
    params(FilterWords),
    responses(
        (status = 200, description = "One event a line, as `/api/events/{id}` shows it, always with `body_base64`", body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn export(
    State(state): State<Arc<AdminState>>,
    Extension(connection): Extension<Arc<Connection>>,
    Query(words): Query<FilterWords>,
) -> Result<AxumResponse, Rejection> {
    let filter = words.filter(state.now())?;
    let place = Arc::clone(&state.exports.0).try_acquire_owned();
    let place =
        place.map_err(|_| Rejection::Busy("as many exports run as can: try again later"))?;
    let mut export = Export {
        store: Arc::clone(state.store()?),
        archive: Arc::clone(state.archive()?),
        filter,
        ids: Vec::new().into_iter(),
        rest: Rest::From(None),
        _place: place,
        _streaming: connection.streaming(),
    };
    // What fails at once is an answer of its own.
    export.turn_page().await?;
    info!(peer = %connection.peer(), "an export was asked for");
    let lines = stream::try_unfold(export, async |mut export| {
        let line = export.line().await.inspect_err(|error| {
            debug!(%error, "an export broke off");
        })?;
        Ok::<_, StoreError>(line.map(|line| (line, export)))
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, AxumBody::from_stream(lines)).into_response())
}

/// An export on its way. It holds the ids of one page and one event.
struct Export {
    store: Arc<dyn Store>,
    archive: Arc<dyn Archive>,
    filter: EventFilter,
    ids: vec::IntoIter<EventId>,
    rest: Rest,
    _place: OwnedSemaphorePermit,
    _streaming: Streaming,
}

/// Where an export goes on after the page in hand.
enum Rest {
    /// After this event, or at the newest.
    From(Option<EventId>),
    /// Nowhere.
    End,
}

impl Export {
    /// The next line; an empty one where nothing was found for a while.
    async fn line(&mut self) -> Result<Option<Bytes>, StoreError> {
        let began = Instant::now();
        loop {
            if let Some(id) = self.ids.next() {
                let history = match self.store.history(id).await {
                    // It must not keep all older ones from being exported; the
                    // store's log line names it.
                    Err(StoreError::Rejected(_)) => continue,
                    history => history?,
                };
                // One that was purged in the meantime is left out.
                if let Some(history) = history {
                    let view = HistoryView::exported(&history);
                    let line = serde_json::to_string(&view)
                        .map_err(|error| StoreError::Rejected(error.to_string()))?;
                    return Ok(Some(one_line(line).into()));
                }
            } else if matches!(self.rest, Rest::End) {
                return Ok(None);
            } else if began.elapsed() > QUIET_MAX {
                return Ok(Some(Bytes::from_static(b"\n")));
            } else {
                self.turn_page().await?;
            }
        }
    }

    async fn turn_page(&mut self) -> Result<(), StoreError> {
        let Rest::From(after) = self.rest else {
            return Ok(());
        };
        let page = Page { limit: PAGE, after };
        let found = self.archive.events(&self.filter, page).await?;
        let ids: Vec<EventId> = found.events.iter().map(|event| event.id).collect();
        self.ids = ids.into_iter();
        self.rest = match found.next {
            Some(next) => Rest::From(Some(next)),
            None => Rest::End,
        };
        Ok(())
    }
}

/// The line with its end. A body stands in it as it was sent, and may have been
/// sent over several lines.
fn one_line(json: String) -> String {
    let mut line = match json.contains(['\n', '\r']) {
        true => json::minify(&json).into_owned(),
        false => json,
    };
    line.push('\n');
    line
}
